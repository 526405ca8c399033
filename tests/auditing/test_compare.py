"""Two audits side by side: what is seen, what is not claimed under the null.

And what is not like with like.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy.stats import binom

from memberscope.auditing import Plan, audit_signals, compare
from memberscope.auditing.documents.result import Control
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.errors import InputError
from memberscope.reports import comparison_schema, format_comparison_json, render_comparison
from memberscope.statistics import auc_difference
from memberscope.targets import StoredSignals
from memberscope.types import Access, ThreatModel

ROOT = Path(__file__).resolve().parents[2]
FEW = ("gap", "logit", "entropy")


def pair(n: int, shifts: tuple[float, ...], seed: int, shared: float = 0.8) -> list[StoredSignals]:
    """Releases on the same records, one a shift.

    Which keep `shared` of the variance of a record's logit.
    """
    rng = np.random.default_rng([seed, n])
    member, labels, record = (
        np.arange(2 * n) < n,
        rng.integers(0, 2, 2 * n),
        rng.standard_normal(2 * n),
    )
    ids = np.array([f"r{i}" for i in range(2 * n)])
    found = []
    for shift in shifts:
        outputs = np.zeros((2 * n, 2))
        noise = rng.standard_normal(2 * n)
        outputs[np.arange(2 * n), labels] = (
            shared**0.5 * record + (1 - shared) ** 0.5 * noise + shift * member
        )
        found.append(
            StoredSignals(
                "logits", outputs, labels, member, ids, {}, None, digest=f"{seed} {shift}"
            )
        )
    return found


def audited(signals: StoredSignals, **changes):
    return audit_signals(signals, plan=Plan(**{"attacks": FEW, "restrictions": (), **changes}))


def found_in(comparison, attack, metric, access="probabilities", fpr=None):
    return next(
        e
        for e in comparison.compared
        if (e.attack, e.metric, e.access, e.fpr) == (attack, metric, access, fpr)
    )


@pytest.fixture(scope="module")
def releases():
    return [
        audited(signals) for signals in (*pair(500, (0.3, 1.5), 0), pair(500, (0.3, 0.9), 0)[1])
    ]


def test_each_audits_own_interval_stands_beside_its_number(releases):
    """One number has one interval: that of the report; only the difference has its own."""
    results = releases[:2]
    bare = [entry.model_copy(update={"arrays": None}) for entry in results]
    for audits in (results, bare):
        seen = 0
        for entry in compare(audits).compared:
            for result, shown in zip(audits, (entry.before, entry.after), strict=True):
                own = [
                    one
                    for one in result.estimates
                    if (one.attack, one.access, one.metric)
                    == (entry.attack, entry.access, entry.metric)
                    and one.fpr == entry.fpr
                    and one.threshold in (None, "best")
                    and one.group is None
                ]
                if entry.attack is not None:
                    assert [(one.value, one.low, one.high) for one in own] == [
                        (shown.value, shown.low, shown.high)
                    ]
                    seen += 1
            gain = entry.difference
            assert gain.low <= gain.value <= gain.high
        assert seen > 10


def test_a_release_that_leaks_more_is_seen_with_paired_intervals(releases):
    found = compare(releases[:2])
    assert (
        found.verdict == "LEAKS_MORE"
        and "release 2 leaks more than release 1: the AUC of the strongest attack rose"
        in found.reason
    )
    assert found.obstacles == [] and found.notes == []
    one = found_in(found, "logit", "auc")
    before, after = (result.arrays.comparable["logit@probabilities"] for result in releases[:2])
    paired = auc_difference(after, before, releases[0].arrays.member)
    assert one.method == "paired DeLong" and (one.difference.low, one.difference.high) == (
        paired.low,
        paired.high,
    )
    assert one.after.value - one.before.value == pytest.approx(one.difference.value)
    assert "resamples records in both at once" in found_in(found, "logit", "tpr", fpr=0.1).method
    assert {entry.metric for entry in found.compared if entry.claim} == {"auc", "tpr"}
    assert {entry.fpr for entry in found.compared if entry.claim} == {None, 0.01}


def test_the_other_way_round_it_leaks_less(releases):
    found = compare([releases[1], releases[0]])
    assert found.verdict == "NOT_MORE"
    assert found.reason.startswith(
        "release 2 leaks less than release 1: the AUC of the strongest attack fell from"
    )
    assert "cannot be excluded" not in found.reason


def test_where_nothing_was_shown_it_says_what_could_have_been_missed():
    before, after = (audited(signals) for signals in pair(300, (0.6, 0.6), 4))
    found = compare([before, after])
    assert found.verdict == "NOT_MORE" and "is not shown to leak more" in found.reason
    assert "An increase cannot be excluded: by up to" in found.reason


def test_the_verdict_is_that_of_the_lower_limits_corrected_for_two_claims():
    """Holm's first step over two claims at 95% is a limit at 97.5%.

    Which the same audits at that confidence give.
    """
    signals = pair(500, (0.3, 0.8), 3)
    usual, strict = (
        [audited(entry, confidence=level) for entry in signals] for level in (0.95, 0.975)
    )
    lows = [entry.difference.low for entry in compare(strict).compared if entry.claim]
    assert len(lows) == 2 and max(lows) > 0.01
    for margin in (0.0, max(lows) - 1e-3, max(lows) + 1e-3, 0.5):
        found = compare(usual, margin=margin)
        assert (found.verdict == "LEAKS_MORE") is (margin < max(lows)), margin
        assert all(
            entry.difference.low > margin
            for entry in found.compared
            if entry.claim and entry.p_value < 0.025
        )


def test_a_margin_forgives(releases):
    gain = found_in(compare(releases[:2]), "strongest", "auc").difference
    assert compare(releases[:2], margin=gain.high).verdict == "NOT_MORE"
    with pytest.raises(InputError, match="margin of at least 0"):
        compare(releases[:2], margin=1.0)


def redrawn(result, signals: StoredSignals):
    """The result with the scores that two attacks would give on `signals`.

    So that many audits cost little.
    """
    true = signals.outputs[np.arange(len(signals.labels)), signals.labels]
    scores = {"logit": true, "gap": (true > 0).astype(float)}
    scored = tuple(
        replace(entry, scores=scores[entry.attack], budgets=None, stages=None)
        for entry in result.arrays.scored
    )
    arrays = replace(
        result.arrays, scored=scored, comparable={entry.name: entry.scores for entry in scored}
    )
    return result.model_copy(
        update={
            "arrays": arrays,
            "digests": {**result.digests, "arrays": digest_audit_arrays(arrays)},
        }
    )


@pytest.mark.parametrize("same_records", [True, False])
def test_equal_releases_are_rarely_said_to_leak_more(same_records):
    """The family's error is one half of 5%, on the same records and on others."""
    template = audited(pair(120, (0.8, 0.8), 0)[0], attacks=("gap", "logit"), fprs=(0.1,))
    other = template.model_copy(update={"digests": {**template.digests, "records": "others"}})
    verdicts, planted, runs = [], [], 80
    for seed in range(runs):
        first, second, leaky = pair(120, (0.8, 0.8, 1.5), 1000 + seed, 0.8 if same_records else 0.0)
        before = redrawn(template if same_records else other, first)
        verdicts.append(compare([before, redrawn(template, second)]).verdict)
        # The power is far above its bound, the error is close to its own
        if seed < 30:
            planted.append(compare([before, redrawn(template, leaky)]).verdict)
    assert set(verdicts) <= {"LEAKS_MORE", "NOT_MORE"}
    assert verdicts.count("LEAKS_MORE") <= binom.ppf(0.999, runs, 0.025)
    assert planted.count("LEAKS_MORE") > (0.9 if same_records else 0.3) * len(planted)


def test_more_than_two_releases_have_a_trend_and_a_baseline(releases):
    previous, first = compare(releases), compare(releases, baseline="first", names=["a", "b", "c"])
    assert previous.verdict == "NOT_MORE" and first.verdict == "LEAKS_MORE"
    assert (first.before, first.after) == ("a", "c") and (previous.before, previous.after) == (
        "release 2",
        "release 3",
    )
    assert [point.release for point in first.trend if point.metric == "auc"] == ["a", "b", "c"]
    page = render_comparison(first)
    assert page.count('<svg class="plot trend"') == 2 and page.count('<circle class="value" cx') > 6
    assert '<svg class="plot trend"' not in render_comparison(compare(releases[:2]))


def test_without_scores_the_intervals_are_independent_and_it_says_so(releases):
    bare = [result.model_copy(update={"arrays": None}) for result in releases[:2]]
    found, paired = compare(bare), compare(releases[:2])
    assert (
        any("scores of both audits are missing" in note for note in found.notes)
        and found.verdict == "LEAKS_MORE"
    )
    assert any(
        "scores of one audit are missing" in note for note in compare([bare[0], releases[1]]).notes
    )
    one, two = (found_in(entry, "logit", "auc").difference for entry in (found, paired))
    assert one.high - one.low > 1.3 * (two.high - two.low) and one.value == pytest.approx(two.value)


def test_other_records_are_compared_with_independent_intervals(releases):
    other = audited(pair(400, (0.3, 1.5), 9)[1])
    found = compare([releases[0], other])
    assert (
        any(
            note.startswith("The records, or which of them were members, differ")
            for note in found.notes
        )
        and found.verdict == "LEAKS_MORE"
    )
    assert "independent" in found_in(found, "logit", "auc").method
    swapped = replace(pair(500, (0.3, 1.5), 0)[1], member=np.arange(1000) >= 500)
    assert any(
        "which of them were members, differ" in note
        for note in compare([releases[0], audited(swapped)]).notes
    )


def test_an_attack_of_one_audit_only_is_named_and_not_part_of_the_strongest(releases):
    signals = pair(500, (0.3, 1.5), 0)
    weak = audited(signals[0], attacks=("gap",))
    found = compare([weak, releases[1]])
    assert any(
        note.startswith("Ran only after") and "entropy, logit" in note for note in found.notes
    )
    assert found_in(found, "strongest", "auc", "label").reached_by == ("gap", "gap")
    bare = compare([weak.model_copy(update={"arrays": None}), releases[1]])
    assert bare.verdict == "INCONCLUSIVE" and "strongest" not in {
        entry.attack for entry in bare.compared
    }
    other = compare(
        [audited(signals[0], attacks=("entropy",)), audited(signals[1], attacks=("logit",))]
    )
    assert other.verdict == "INCONCLUSIVE" and "No attack ran in both" in other.reason


def changed(result, **parts):
    return result.model_copy(update=parts)


def test_what_is_not_like_with_like_is_one_sentence_each(releases):
    before, after = releases[:2]
    plan = after.plan.model_copy(
        update={
            "threat": replace(after.plan.threat, prior=0.2),
            "versions": {**after.plan.versions, "logit": 99},
        }
    )
    last = replace(after.threat_models[-1], references=16, query_budget=7)
    other = changed(
        after,
        plan=plan,
        tool=after.tool.model_copy(update={"version": "9.9"}),
        threat_models=[*after.threat_models[:-1], last],
    )
    notes = compare([before, other]).notes
    for words in (
        "Another prior: 0.01",
        "reference models 0 before, 16 after",
        "unlimited before, 7",
        "Other tool versions",
        "later version",
    ):
        assert len([note for note in notes if words in note]) == 1, words
    assert "logit" not in {entry.attack for entry in compare([before, other]).compared}


def test_another_access_or_restriction_or_a_failed_control_is_no_verdict(releases):
    signals = pair(500, (0.3, 1.5), 0)
    labels = audited(signals[1], threat=ThreatModel(access=Access.LABEL))
    found = compare([releases[0], labels])
    assert found.verdict == "INCONCLUSIVE" and "access differs" in found.reason
    assert found_in(found, "gap", "auc", "label").difference.value > 0, (
        "what both have is still shown"
    )
    restricted = audited(signals[1], threat=ThreatModel(restriction="round:1"))
    assert (
        "restriction in force differs: none before, round:1 after"
        in compare([releases[0], restricted]).reason
    )
    broken = changed(
        releases[1], controls={**releases[1].controls, "blind": Control(False, "They differ.")}
    )
    assert "blind control failed after" in compare([releases[0], broken]).reason


def test_results_that_cannot_be_compared_are_refused(releases):
    with pytest.raises(InputError, match="at least two audits"):
        compare(releases[:1])
    with pytest.raises(InputError, match="same result twice"):
        compare([releases[0], releases[0]])
    with pytest.raises(InputError, match="got others"):
        compare([releases[0], changed(releases[1], arrays=releases[0].arrays)])


def test_the_same_model_audited_again_differs_by_nothing(releases):
    again = audited(pair(500, (0.3, 1.5), 0)[0])
    found = compare([releases[0], again])
    assert found.verdict == "NOT_MORE" and any(
        "the model is the same" in note for note in found.notes
    )
    assert all(entry.difference.value == 0 for entry in found.compared)


def test_comparisons_fit_the_schema_in_the_repository(releases):
    stored = json.loads((ROOT / "schema" / "comparison.schema.json").read_text())
    assert stored == json.loads(json.dumps(comparison_schema())), "run `make schema`"
    document = json.loads(format_comparison_json(compare(releases)))
    jsonschema.Draft202012Validator(stored).validate(document)
    document["verdict"] = "FINE"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(stored).validate(document)


def test_the_same_comparison_is_the_same_bytes(releases):
    assert format_comparison_json(compare(releases)) == format_comparison_json(compare(releases))


def people(seed: int, correlation: float) -> tuple[list[StoredSignals], np.ndarray]:
    """Two equal releases on 60 members and 60 others of ten records each.

    Which rise and fall together under one model.
    """
    rng = np.random.default_rng([seed, 9])
    unit = np.arange(1200) // 10
    member, ids = np.arange(1200) < 600, np.array([f"r{i}" for i in range(1200)])
    found = []
    for release in (0, 1):
        own, noise = rng.standard_normal(120)[unit], rng.standard_normal(1200)
        outputs = np.zeros((1200, 2))
        outputs[:, 0] = correlation**0.5 * own + (1 - correlation) ** 0.5 * noise + 0.8 * member
        found.append(
            StoredSignals(
                "logits",
                outputs,
                np.zeros(1200, int),
                member,
                ids,
                {},
                None,
                digest=f"{seed} {release}",
            )
        )
    return found, unit


def with_arrays(result, **changes):
    arrays = replace(result.arrays, **changes)
    return result.model_copy(
        update={
            "arrays": arrays,
            "digests": {**result.digests, "arrays": digest_audit_arrays(arrays)},
        }
    )


def test_equal_releases_on_people_of_ten_records_are_rarely_said_to_leak_more():
    """Without units the same comparisons raise an alarm far too often."""
    template = audited(pair(600, (0.8, 0.8), 0)[0], attacks=("logit",), fprs=(0.1,))
    template = with_arrays(
        template, scored=tuple(e for e in template.arrays.scored if e.level == "probabilities")
    )
    alarms, runs = {True: 0, False: 0}, 40
    for seed in range(runs):
        signals, unit = people(seed, 0.6)
        for by_unit in alarms:
            before, after = (
                with_arrays(redrawn(template, one), unit=unit if by_unit else None)
                for one in signals
            )
            alarms[by_unit] += compare([before, after]).verdict == "LEAKS_MORE"
    assert alarms[True] <= binom.ppf(0.999, runs, 0.025)
    assert alarms[False] > 0.1 * runs


def trained(template, seed: int, spread: float, gain: float = 0.0, n_targets: int = 4):
    """Two audits of one recipe on the same records.

    Each with further targets that differ from training to training.
    """
    rng = np.random.default_rng([seed, 4])
    n, fixed = 600, template.arrays.member
    record = rng.standard_normal(n)
    entry = template.arrays.scored[0]

    def scores(member: np.ndarray, shift: float) -> np.ndarray:
        return (
            0.8**0.5 * record
            + 0.2**0.5 * rng.standard_normal(n)
            + (shift + spread * rng.standard_normal()) * member
        )

    found = []
    for shift in (0.8, 0.8 + gain):
        own = scores(fixed, shift)
        targets = {}
        for k in range(n_targets):
            side = rng.permutation(fixed)
            other = (replace(entry, scores=scores(side, shift)),)
            comparable = {entry.name: other[0].scores}
            targets[f"target {k}"] = replace(
                template.arrays, member=side, scored=other, comparable=comparable, targets={}
            )
        whole = (replace(entry, scores=own),)
        found.append(
            with_arrays(template, scored=whole, comparable={entry.name: own}, targets=targets)
        )
    return found


@pytest.fixture(scope="module")
def alone():
    """An audit of 300 members and 300 others under one attack at one level."""
    result = audited(pair(300, (0.8,), 0)[0], attacks=("logit",), fprs=(0.1,))
    scored = tuple(
        replace(e, budgets=None, stages=None)
        for e in result.arrays.scored
        if e.level == "probabilities"
    )
    return with_arrays(result, scored=scored)


def test_two_trainings_of_one_recipe_are_rarely_said_to_leak_more(alone):
    """The further targets show how much trainings differ.

    Without them the verdict says that it is about two models.
    """
    verdicts, runs = {"trainings": [], "models": []}, 40
    for seed in range(runs):
        both = trained(alone, seed, 0.3)
        for scope, given in (
            ("trainings", both),
            ("models", [with_arrays(one, targets={}) for one in both]),
        ):
            found = compare(given)
            assert found.scope == scope
            verdicts[scope].append(found.verdict)
    assert verdicts["trainings"].count("LEAKS_MORE") <= binom.ppf(0.999, runs, 0.025)
    assert verdicts["models"].count("LEAKS_MORE") > 0.2 * runs


def test_what_is_compared_is_said_and_a_leak_beyond_the_trainings_is_seen(alone):
    leaky = trained(alone, 0, 0.05, gain=1.0)
    found = compare(leaky)
    assert (
        found.verdict == "LEAKS_MORE"
        and "4 further target models before and 4 after" in found.reason
    )
    one = found_in(found, "logit", "auc").difference
    assert "variance between trainings, from 4 and 4" in found_in(found, "logit", "auc").method
    bare = compare([with_arrays(entry, targets={}) for entry in leaky])
    assert "Two models are compared, not two training procedures" in bare.reason
    narrow = found_in(bare, "logit", "auc").difference
    assert one.low < narrow.low and one.value == narrow.value
    half = compare([leaky[0], with_arrays(leaky[1], targets={})])
    assert half.scope == "trainings" and "4 further target models before and 0 after" in half.reason
