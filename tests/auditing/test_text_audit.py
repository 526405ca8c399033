"""A whole audit of a language model: what runs, what falls away and why, and what is found."""

from __future__ import annotations

from io import StringIO

import pytest
from language_models import draw_texts, make_text_target
from rich.console import Console

import memberscope
from memberscope.auditing import Plan, Policy, verify_result
from memberscope.auditing.documents.plan import fit_plan_to_task
from memberscope.auditing.documents.policy import AucClaim
from memberscope.cli.main import run
from memberscope.errors import InputError
from memberscope.reports.terminal import print_summary
from memberscope.types import Access, Needs, SignalSpec, ThreatModel, list_access_levels

MEMBERS, OTHERS = draw_texts(400, 1), draw_texts(400, 2)
WHOLE = ThreatModel(access=Access.VOCABULARY)


@pytest.fixture(scope="module")
def leaky():
    return memberscope.audit(
        make_text_target(MEMBERS), MEMBERS, OTHERS, threat=WHOLE, policy="demo"
    )


@pytest.fixture(scope="module")
def clean():
    return memberscope.audit(make_text_target(), MEMBERS, OTHERS, threat=WHOLE, policy="demo")


def _areas(result):
    return {
        entry.attack: entry
        for entry in result.estimates
        if entry.metric == "auc" and entry.group is None
    }


def test_attacks_run_at_the_weakest_level_that_feeds_them(leaky):
    areas = _areas(leaky)
    assert areas["loss"].access == "token_probabilities"
    assert areas["min_k_plus_plus"].access == "vocabulary"
    assert {"zlib", "min_k", "wbc", "ez", "base_difference", "token_dynamics"} <= set(areas)


def test_the_base_model_shows_what_the_loss_hides(leaky):
    areas = _areas(leaky)
    # The gain is .5 a token, the shared noise 1 and the models' own .2: over 20 tokens the loss
    # differs by 2.2 standard deviations, the difference to the base by 7.9
    assert areas["loss"].low < 0.94 and areas["loss"].high > 0.94
    assert areas["base_difference"].value > 0.999
    assert leaky.verdict == "FAIL"


def test_nothing_is_found_where_nothing_was_learned(clean):
    inside = [entry for entry in _areas(clean).values() if entry.attack != "strongest"]
    assert all(entry.low - 0.03 < 0.5 < entry.high + 0.03 for entry in inside)
    assert clean.verdict != "FAIL"


def test_what_only_classes_have_falls_away_with_a_reason(leaky):
    reasons = {entry.attack: entry.why for entry in leaky.not_run}
    for name in ("gap", "entropy", "loss_per_class", "boundary", "shokri"):
        assert "texts have no classes" in reasons[name]
    assert "fitted" not in leaky.controls
    assert leaky.plan.task == "text"


def test_requirements_of_classes_are_not_asked_of_texts(leaky):
    assert not [f for f in leaky.findings if f.claim.startswith("The policy requires the attack")]


def test_a_stored_result_is_verified_and_says_that_leakage_is_understated(leaky, clean):
    for result in (leaky, clean):
        judgement = verify_result(result, result.arrays)
        assert judgement.reason == result.reason
        assert "no reference fine-tune was trained" in judgement.reason
    cut = clean.reason.partition(" Leakage is likely")[0]
    with pytest.raises(InputError, match="other findings"):
        verify_result(clean.model_copy(update={"reason": cut}), clean.arrays)


def test_a_required_attack_stands_for_the_same_one_on_texts(leaky):
    policy = Policy("own", max_auc=(AucClaim(0.9),), require=("gap", "rmia"))
    findings = verify_result(leaky, leaky.arrays, policy).findings
    missing = [f.attack for f in findings if f.claim.startswith("The policy requires the attack")]
    assert missing == ["rmia_gamma1_t1"]
    plan = fit_plan_to_task(Plan(attacks=("loss", "lira", "rmia", "base")), "text")
    assert plan.attacks == ("loss", "lira", "rmia_gamma1_t1", "base_t1")


def test_the_one_class_of_texts_is_no_group(leaky):
    assert not [name for name in leaky.diagnostics.groups_too_small if name.startswith("class")]


def test_the_blind_control_reads_the_texts(leaky):
    assert leaky.controls["blind"].passed is True
    dated = [f"{text} in 2019" for text in MEMBERS]
    shifted = memberscope.audit(
        make_text_target(dated), dated, [f"{text} in 2023" for text in OTHERS], policy="demo"
    )
    assert shifted.controls["blind"].passed is False
    assert shifted.verdict == "INCONCLUSIVE"


def test_texts_on_both_sides_are_counted():
    both = [*OTHERS[:20], *OTHERS[20:]]
    result = memberscope.audit(
        make_text_target(MEMBERS), MEMBERS, [*both[20:], *[text.upper() for text in MEMBERS[:20]]]
    )
    assert result.diagnostics.overlap.exact == 20


def test_an_adversary_with_less_access_gets_fewer_attacks():
    result = memberscope.audit(make_text_target(MEMBERS), MEMBERS, OTHERS)
    assert result.plan.threat.access == "token_probabilities"
    assert "min_k_plus_plus" not in _areas(result)


def test_a_result_is_verified_from_its_files(leaky, tmp_path, monkeypatch, capsys):
    memberscope.write_all(leaky, tmp_path)
    assert memberscope.load(tmp_path).verdict == leaky.verdict
    monkeypatch.setattr("sys.argv", ["memberscope", "verify", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 0, capsys.readouterr()
    report = (tmp_path / "report.html").read_text()
    assert "log-probabilities of given tokens" in report


def test_the_same_audit_gives_the_same_scores(leaky):
    again = memberscope.audit(
        make_text_target(MEMBERS), MEMBERS, OTHERS, threat=WHOLE, policy="demo"
    )
    assert again.digests == leaky.digests


def test_access_of_a_classifier_becomes_that_of_texts():
    for access in list_access_levels("classification"):
        fitted = fit_plan_to_task(Plan(threat=ThreatModel(access=access)), "text")
        assert fitted.threat.access.ladder == "text"
        assert fitted.threat.access.at("classification") == access


def test_named_attacks_stay_those_that_were_named():
    fitted = fit_plan_to_task(Plan(attacks=("loss", "gap")), "text")
    assert [attack.name for attack in fitted.chosen()] == ["loss"]
    assert [attack.name for attack in fitted.list_foreign_attacks()] == ["gap"]


def test_a_restriction_of_classes_is_refused():
    with pytest.raises(InputError, match="Expected no-logprobs, top:k or round:n"):
        memberscope.audit(
            make_text_target(MEMBERS),
            MEMBERS,
            OTHERS,
            threat=ThreatModel(restriction="temperature:2"),
        )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "got none"),
        (["a text", ""], "empty"),
        ([1, 2], "int|text"),
    ],
)
def test_texts_that_cannot_be_scored_are_refused(members, words):
    with pytest.raises(InputError, match=words):
        memberscope.audit(make_text_target(), members, OTHERS)


def test_the_same_texts_on_both_sides_are_refused():
    with pytest.raises(InputError, match="same 400"):
        memberscope.audit(make_text_target(), MEMBERS, list(MEMBERS))


def test_a_changed_copy_is_a_query_more(leaky):
    areas = _areas(leaky)
    assert (areas["loss"].queries, areas["lowercase"].queries) == (1, 2)
    # Each record, each in lower case, and some twice; the base model is the adversary's own
    assert leaky.cost.queries == 800 + 800 + 32


def test_an_attack_sees_the_vocabulary_only_where_it_is_granted():
    seen = {}

    class Peek:
        version = 1

        def __init__(self, name, access):
            self.name = name
            self.needs = Needs(access, ("tokens",), SignalSpec("tokens"), tasks=("text",))

        def score(self, evidence, rng):
            seen[self.name] = evidence.tokens.has_part("moments")
            return evidence.tokens.mean_log_probability()

    attacks = [
        Peek("given", Access.TOKEN_PROBABILITIES),
        Peek("whole", Access.VOCABULARY),
    ]
    memberscope.audit(make_text_target(), MEMBERS[:60], OTHERS[:60], threat=WHOLE, attacks=attacks)
    assert seen == {"given": False, "whole": True}


def test_reports_of_texts_do_not_speak_of_classes(leaky, clean, tmp_path):
    for result in (leaky, clean):
        memberscope.write_all(result, tmp_path)
        page = (tmp_path / "report.html").read_text()
        for word in ("Classes and groups", "gap attack", "<th>class", ">class<", "No class or"):
            assert word not in page
        assert "Groups, the most exposed first" in page and "minus the mean log-prob" in page


def test_what_would_be_written_out_stands_in_a_table(leaky, tmp_path):
    memberscope.write_all(leaky, tmp_path)
    assert "Texts written out with probability" in (tmp_path / "report.html").read_text()
    console = Console(file=StringIO(), width=120)
    print_summary(leaky, console, verbose=True)
    said = console.file.getvalue()
    rate = next(row for row in leaky.diagnostics.extraction.rates if row.n == 100)
    assert "Written out with probability" in said and f"{rate.n:,}" in said
