"""From a model and its records to an answer: leaky and clean models, every field, every refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import gaussian_signals
from scipy.special import ndtr
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import memberscope
from memberscope.auditing import (
    Claim,
    Plan,
    Policy,
    audit_signals,
    judge_again,
    load_policy,
    recompute_estimates,
    restore_ranking,
    verify_arrays,
)
from memberscope.auditing.documents.plan_document import PlanDocument
from memberscope.auditing.verdict.recompute import restore_plan, restore_settings
from memberscope.errors import InputError
from memberscope.reports import format_result_json
from memberscope.targets import StoredSignals
from memberscope.types import Access, Records, ThreatModel

DECLARED = Plan(assume_exchangeable=True)


@pytest.fixture(scope="module")
def leaky():
    return audit_signals(
        gaussian_signals(1500, 1.5, n_features=4),
        threat=ThreatModel(access=Access.LOGITS),
        policy="demo",
    )


def find(result, **conditions):
    conditions = {"group": None, "restriction": None} | conditions
    return [
        e
        for e in result.estimates
        if all(getattr(e, name) == value for name, value in conditions.items())
    ]


def test_a_leak_fails_and_the_numbers_are_right(leaky):
    assert leaky.verdict == "FAIL"
    (auc,) = find(leaky, attack="logit", access="logits", metric="auc")
    assert auc.low < ndtr(1.5 / 2**0.5) < auc.high
    (tpr,) = find(leaky, attack="logit", access="logits", metric="tpr", fpr=0.05, threshold="best")
    assert abs(tpr.value - ndtr(-1.645 + 1.5)) < 0.08 and tpr.low < tpr.value < tpr.high


def test_declared_access_and_every_weaker_level_are_audited():
    signals = gaussian_signals(400, 1.0)
    for access, levels in ((Access.LABEL, 1), (Access.PROBABILITIES, 2), (Access.LOGITS, 3)):
        plan = replace(DECLARED, restrictions=(), attacks=("gap", "loss", "logit"))
        result = audit_signals(signals, threat=ThreatModel(access=access), plan=plan)
        assert [threat.access for threat in result.threat_models] == list(Access)[:levels]
        assert {e.access for e in result.estimates} == {
            level.word for level in list(Access)[:levels]
        }


def test_a_level_that_the_model_does_not_offer_is_said_not_to_have_run():
    signals = gaussian_signals(400, 1.0)
    result = audit_signals(
        signals, threat=ThreatModel(access=Access.WHITE_BOX), plan=DECLARED, policy="demo"
    )
    assert any(entry.access == "white_box" for entry in result.not_run)
    assert result.verdict in ("PASS", "FAIL"), "judged at the highest level there is"


def test_no_leak_gives_chance_within_its_interval_nearly_always():
    covered, total = 0, 0
    for seed in range(25):
        result = audit_signals(
            gaussian_signals(200, 0.0, seed),
            plan=replace(DECLARED, attacks=("logit", "loss_per_class"), restrictions=()),
        )
        for entry in find(result, metric="auc"):
            if entry.attack != "strongest":
                covered, total = covered + (entry.low <= 0.5 <= entry.high), total + 1
    assert covered >= 0.88 * total


def test_every_estimate_is_whole(leaky):
    for entry in leaky.estimates:
        assert entry.low <= entry.value <= entry.high, entry
        assert np.isfinite([entry.value, entry.low, entry.high]).all()
        assert (
            entry.n_members > 0
            and entry.n_non_members > 0
            and entry.method
            and 0 < entry.confidence < 1
        )
    metrics = {entry.metric for entry in leaky.estimates}
    assert metrics >= {
        "auc",
        "tpr",
        "ppv",
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "fpr",
        "fnr",
        "advantage",
    }
    assert {entry.threshold for entry in leaky.estimates} == {None, "best", "transferred"}


def test_priors_groups_and_classes_are_reported(leaky):
    assert {entry.prior for entry in find(leaky, metric="ppv", attack="logit")} == {0.01, 0.1, 0.5}
    groups = {entry.group for entry in leaky.estimates if entry.group}
    assert groups == {"class=0", "class=1", "sex=f", "sex=m"}
    leading = leaky.diagnostics.leading
    own = find(
        leaky,
        attack=leading.attack,
        access="logits",
        metric="tpr",
        group="sex=f",
        fpr=0.1,
        threshold="best",
    )
    given = find(
        leaky,
        attack=leading.attack,
        access="logits",
        metric="fpr",
        group="sex=f",
        fpr=0.1,
        threshold="transferred",
    )
    assert len(own) == len(given) == 1
    assert (
        own[0].n_members < find(leaky, attack="logit", access="logits", metric="auc")[0].n_members
    )


def test_transferred_thresholds_are_not_better_than_the_best_ones(leaky):
    (best,) = find(
        leaky, attack="logit", access="logits", metric="balanced_accuracy", threshold="best"
    )
    (moved,) = find(
        leaky, attack="logit", access="logits", metric="balanced_accuracy", threshold="transferred"
    )
    assert moved.value <= best.value + 0.01 and "optimistic" in best.method


def test_only_the_policys_numbers_are_not_exploratory(leaky):
    claimed = [entry for entry in leaky.estimates if not entry.exploratory]
    assert [(entry.attack, entry.metric, entry.fpr) for entry in claimed] == [
        ("strongest", "tpr", 0.05)
    ]


def test_the_strongest_interval_holds_for_all_candidates(leaky):
    (top,) = find(leaky, attack="strongest", access="logits", metric="tpr", fpr=0.05)
    singles = [
        e
        for e in find(leaky, metric="tpr", fpr=0.05, threshold="best")
        if e.access in ("label", "logits")
    ]
    assert top.value >= max(entry.value for entry in singles) - 1e-12
    assert top.low <= top.value and "simultaneous over" in top.method
    assert top.high >= max(entry.high for entry in singles if entry.attack != "strongest")


def test_same_inputs_same_document_apart_from_time_and_environment():
    results = [
        audit_signals(gaussian_signals(300, 1.0, n_features=3), policy="demo") for _ in range(2)
    ]
    fixed = [
        format_result_json(
            entry.model_copy(
                update={"cost": results[0].cost, "environment": results[0].environment}
            )
        )
        for entry in results
    ]
    assert fixed[0] == fixed[1]


def test_records_in_another_order_give_the_same_auc():
    signals = gaussian_signals(300, 1.0)
    order = np.random.default_rng(0).permutation(600)
    moved = replace(
        signals,
        outputs=signals.outputs[order],
        labels=signals.labels[order],
        member=signals.member[order],
        ids=signals.ids[order],
        groups={name: values[order] for name, values in signals.groups.items()},
    )
    plan = replace(DECLARED, attacks=("loss",))
    first, second = (
        find(audit_signals(s, plan=plan), attack="loss", metric="auc")[0].value
        for s in (signals, moved)
    )
    assert first == second


def test_estimates_follow_from_the_stored_arrays(leaky):
    assert verify_arrays(leaky, leaky.arrays) == []
    tampered = leaky.model_copy(
        update={"estimates": [replace(leaky.estimates[0], value=0.123), *leaky.estimates[1:]]}
    )
    assert any("estimates differ" in sentence for sentence in verify_arrays(tampered, leaky.arrays))
    swapped = replace(leaky.arrays, member=~leaky.arrays.member)
    assert verify_arrays(leaky, swapped)


def test_the_plan_survives_the_document(leaky):
    again = restore_plan(leaky)
    assert again.digest() == leaky.digests["plan"] and again.policy == load_policy("demo")
    ranking = restore_ranking(leaky, leaky.arrays)
    found = recompute_estimates(leaky.arrays, ranking, restore_settings(leaky))
    assert len(found) == len(leaky.estimates)


def test_how_models_were_trained_stands_in_the_plan_as_it_was_decided():
    choice = {"engine": "own", "stack": 2, "note": "by hand", "parts": [1, 0.5]}
    written = Plan(seed=3).document(choice).model_dump(mode="json")
    assert written["execution"] == choice and restore_written(written) == Plan(seed=3)
    assert "execution" not in Plan().document().model_dump(mode="json")


def restore_written(written):
    return Plan.restore(PlanDocument.model_validate(written))


def test_another_policy_judges_stored_scores(leaky):
    lenient = Policy("lenient", (Claim(0.05, 0.95),))
    assert judge_again(leaky, leaky.arrays, lenient).verdict == "PASS"
    assert judge_again(leaky, leaky.arrays, None).verdict == "FAIL"


def test_verdict_pass_states_its_power_and_wide_intervals_are_inconclusive():
    plan = replace(DECLARED, restrictions=())
    clean = audit_signals(
        gaussian_signals(3000, 0.0), plan=plan, policy=Policy("p", (Claim(0.05, 0.12),))
    )
    assert clean.verdict == "PASS" and "fails a model with a probability of 80% if" in clean.reason
    assert clean.diagnostics.minimum_detectable_tpr[0].tpr > 0.12
    assert "come from one source was declared, not checked" in clean.reason
    few = audit_signals(
        gaussian_signals(100, 0.0), plan=plan, policy=Policy("p", (Claim(0.05, 0.06),))
    )
    assert (
        few.verdict == "INCONCLUSIVE" and "cannot tell whether more than 6% are found" in few.reason
    )


def test_clean_models_hardly_ever_fail():
    policy = Policy("tight", (Claim(0.1, 0.1), Claim(0.05, 0.05)))
    plan = replace(
        DECLARED, attacks=("gap", "logit", "entropy", "quantile_class", "loss_per_class")
    )
    failed = sum(
        audit_signals(gaussian_signals(150, 0.0, s), plan=plan, policy=policy).verdict == "FAIL"
        for s in range(40)
    )
    assert failed <= 5  # 0.1% quantile of 40 at 2.5%


def test_no_policy_no_verdict():
    result = audit_signals(gaussian_signals(200, 1.0), plan=DECLARED)
    assert result.verdict is None and result.findings == []


def test_a_required_attack_that_did_not_run_is_inconclusive():
    policy = Policy("p", (Claim(0.05, 0.9),), require=("quantile",))
    result = audit_signals(gaussian_signals(300, 0.0), plan=DECLARED, policy=policy)
    assert result.verdict == "INCONCLUSIVE"
    assert any(
        finding.verdict == "NOT_RUN" and finding.attack == "quantile" for finding in result.findings
    )


def test_a_required_attack_must_resolve_the_claims_rate():
    policy = Policy("p", (Claim(0.01, 0.9),), require=("quantile_class",))
    few, enough = (
        audit_signals(gaussian_signals(n, 0.0), plan=DECLARED, policy=policy) for n in (400, 600)
    )
    assert few.verdict == "INCONCLUSIVE" and enough.verdict == "PASS"
    (finding,) = [finding for finding in few.findings if finding.attack == "quantile_class"]
    assert finding.verdict == "NOT_RUN" and "cannot resolve" in finding.rule


def test_losses_alone_run_what_they_can():
    scene = gaussian_signals(400, 1.0)
    margin = scene.outputs[np.arange(800), scene.labels]
    loss = StoredSignals(
        "loss", np.log1p(np.exp(-margin))[:, None], scene.labels, scene.member, scene.ids
    )
    result = audit_signals(loss, plan=DECLARED)
    assert {entry.attack for entry in result.estimates} == {
        "strongest",
        "loss",
        "loss_per_class",
        "quantile_class",
    }
    assert {"gap", "confidence", "entropy"} <= {entry.attack for entry in result.not_run}


def test_declared_coins_give_a_one_run_bound_and_nothing_else_does():
    signals = gaussian_signals(1000, 3.0)
    declared = replace(DECLARED, attacks=("logit", "logit_per_class"), restrictions=())
    plain = audit_signals(signals, plan=declared)
    assert not find(plain, metric="epsilon_lower") and find(plain, metric="epsilon_empirical")
    assert all("not a bound" in entry.method for entry in find(plain, metric="epsilon_empirical"))
    plan = replace(declared, assignment="independent_coins")
    bounds = find(audit_signals(signals, plan=plan), metric="epsilon_lower")
    assert {entry.attack for entry in bounds} == {"logit"} and all(
        entry.value > 1 for entry in bounds
    )
    null = find(audit_signals(gaussian_signals(1000, 0.0), plan=plan), metric="epsilon_lower")
    assert all(entry.value < 0.6 for entry in null)


def test_a_model_in_memory():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 6)), rng.integers(0, 3, 600)
    tree = memberscope.audit(
        DecisionTreeClassifier(random_state=0).fit(x[:300], y[:300]),
        (x[:300], y[:300]),
        (x[300:], y[300:]),
        policy="demo",
    )
    assert tree.diagnostics.train_accuracy.value == 1.0
    assert tree.diagnostics.generalisation_gap.value > 0.5
    assert tree.diagnostics.records_per_parameter.n_parameters > 100
    searches = sum(entry.mean for entry in tree.diagnostics.searches.values())
    assert tree.cost.queries == 632 + round(600 * searches), (
        "each record once, 32 of them twice, and the searches"
    )
    assert len(tree.exposed) == 30 and all(len(entry.record) == 12 for entry in tree.exposed)
    assert "member:0" not in format_result_json(tree), "no id in the document"


def test_torch_model_in_memory():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 6)).astype(np.float32), rng.integers(0, 3, 300)
    module = torch.nn.Linear(6, 3)
    plan = Plan(
        attacks=("gap", "boundary", "loss", "logit"),
        search_queries=16,
        threat=ThreatModel(access=Access.LOGITS),
    )
    result = memberscope.audit(module, (x[:150], y[:150]), (x[150:], y[150:]), plan=plan)
    levels = [(threat.access.word, threat.restriction) for threat in result.threat_models]
    tried = [("probabilities", "top:1"), ("probabilities", "round:2")]
    assert levels == [("label", None), *tried, ("probabilities", None), ("logits", None)]


def test_overlap_is_counted_and_dropped():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 4)), rng.integers(0, 2, 400)
    x[200:210] = x[:10]
    model = LogisticRegression().fit(x[:200], y[:200])
    sides = ((x[:200], y[:200]), (x[200:], y[200:]))
    plan = Plan(attacks=("gap", "loss"))
    kept = memberscope.audit(model, *sides, plan=plan)
    assert kept.diagnostics.overlap.exact == 10 and kept.diagnostics.n_non_members == 200
    assert kept.diagnostics.overlap.examples[0].kind == "exact"
    dropped = memberscope.audit(model, *sides, plan=replace(plan, drop_overlap=True))
    assert dropped.diagnostics.n_non_members == 190 and dropped.diagnostics.overlap.dropped == 10


def small():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), rng.integers(0, 2, 80)
    return LogisticRegression().fit(x, y), x, y


def test_bad_input_is_one_sentence():
    model, x, y = small()
    good = (x[:40], y[:40])
    with pytest.raises(InputError, match="non-members, got an empty set"):
        memberscope.audit(model, good, (x[:0], y[:0]))
    with pytest.raises(InputError, match="only class 1"):
        memberscope.audit(model, (x[y == 1][:9], y[y == 1][:9]), (x[y == 1][9:], y[y == 1][9:]))
    with pytest.raises(InputError, match="one length"):
        memberscope.audit(model, (x[:40], y[:39]), good)
    with pytest.raises(InputError, match="among the model's classes 0, 1, got 'a'"):
        memberscope.audit(model, (x[:40], np.array(["a"] * 40)), good)
    with pytest.raises(InputError, match="one class a record, got shape"):
        memberscope.audit(model, (x[:40], np.zeros((40, 2))), good)
    with pytest.raises(InputError, match="0-based class numbers"):
        memberscope.audit(model.predict_proba, (x[:40], np.array(["a"] * 40)), good, n_classes=2)
    with pytest.raises(InputError, match="among the model's classes 0, 1, got '7'"):
        memberscope.audit(model, (x[:40], np.append(y[:39], 7)), (x[40:], y[40:]))
    with pytest.raises(InputError, match="at least 10 members"):
        memberscope.audit(model, (x[:5], np.array([0, 1, 0, 1, 0])), (x[40:], y[40:]))


def named(x, y, ids):
    return Records(x, y, np.array(ids))


def test_ids_that_repeat_or_stand_on_both_sides():
    model, x, y = small()
    with pytest.raises(InputError, match="3 ids on both sides, first 'a0'"):
        memberscope.audit(
            model,
            named(x[:40], y[:40], [f"a{i}" for i in range(40)]),
            named(x[40:], y[40:], [f"a{i}" if i < 3 else f"b{i}" for i in range(40)]),
        )
    with pytest.raises(InputError, match="1 repeated ids, first 'same'"):
        memberscope.audit(
            model,
            named(x[:40], y[:40], ["same", "same", *(f"a{i}" for i in range(38))]),
            named(x[40:], y[40:], [f"b{i}" for i in range(40)]),
        )


def test_rates_that_the_records_do_not_resolve_are_refused_before_any_query():
    model, x, y = small()
    asked = []

    class Watched:
        access, signal, n_classes, digest, n_parameters = (
            Access.PROBABILITIES,
            "probabilities",
            2,
            None,
            None,
        )

        def query(self, inputs):
            asked.append(len(inputs))
            return model.predict_proba(inputs)

    sides = ((x[:40], y[:40]), (x[40:], y[40:]))
    with pytest.raises(
        InputError, match=r"at least 1000 non-members for an FPR of 0\.001, got 40.*at least 0\.025"
    ):
        memberscope.audit(Watched(), *sides, plan=Plan(fprs=(0.001,)))
    with pytest.raises(InputError, match="at least 100 non-members"):
        memberscope.audit(Watched(), *sides, policy="standard")
    assert asked == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": 2}, "at least 3 folds"),
        ({"confidence": 1.5}, "confidence"),
        ({"priors": (0.0,)}, "strictly between 0 and 1"),
        ({"attacks": ("none",)}, "attack among"),
        ({"threat": ThreatModel(query_budget=0)}, "query budget"),
    ],
)
def test_bad_plans(change, words):
    with pytest.raises(InputError, match=words):
        Plan(**change)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("max_tpr = []", "at least one"),
        ("max_tpr = [{ fpr = 0.1, tpr = 0.01 }]", "at least the fpr"),
        ("max_tpr = [{ fpr = 0.1 }]", "max_tpr ="),
        ("max_roc = 0.6", "max_roc"),
    ],
)
def test_bad_policies(tmp_path, table, words):
    path = tmp_path / "p.toml"
    path.write_text(f"[policy]\n{table}\n")
    with pytest.raises(InputError, match=words):
        load_policy(str(path))
    with pytest.raises(InputError, match="one of demo"):
        load_policy("nonesuch")


def test_random_outputs_are_reported():
    model, x, y = small()
    rng = np.random.default_rng(0)

    def noisy(inputs):
        p = np.clip(
            model.predict_proba(inputs)[:, 1] + rng.normal(0, 0.05, len(inputs)), 0.01, 0.99
        )
        return np.stack([1 - p, p], axis=1)

    result = memberscope.audit(noisy, (x[:40], y[:40]), (x[40:], y[40:]), n_classes=2)
    assert (
        result.controls["determinism"].passed is False
        and "answered differently" in result.controls["determinism"].why
    )


def test_data_frames_words_and_missing_values():
    pd = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    rng = np.random.default_rng(0)
    n = 600
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "job": rng.choice(["clerk", "smith", "nurse"], n),
            "income": rng.lognormal(size=n),
        },
        index=rng.permutation(n),
    )
    frame.loc[frame.index[::9], "income"] = np.nan
    y = pd.Series(rng.choice(["yes", "no"], n), index=frame.index)
    encode = make_column_transformer((OrdinalEncoder(), ["job"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=30)).fit(
        frame[:300], y[:300]
    )
    result = memberscope.audit(model, (frame[:300], y[:300]), (frame[300:], y[300:]), policy="demo")
    assert result.diagnostics.class_sizes == {
        "no": int((y == "no").sum()),
        "yes": int((y == "yes").sum()),
    }
    assert result.diagnostics.train_accuracy.value == pytest.approx(
        (model.predict(frame[:300]) == y[:300]).mean()
    )
    assert result.controls["blind"].passed is True
    (auc,) = find(result, attack="logit", metric="auc")
    assert auc.low > 0.6


def test_sparse_records():
    from scipy import sparse

    rng = np.random.default_rng(0)
    x, y = sparse.random(300, 40, 0.2, format="csr", random_state=0), rng.integers(0, 2, 300)
    model = LogisticRegression(C=100).fit(x[:150], y[:150])
    result = memberscope.audit(model, (x[:150], y[:150]), (x[150:], y[150:]))
    assert result.diagnostics.train_accuracy.value > result.diagnostics.test_accuracy.value


def test_classes_that_do_not_start_at_zero_are_the_models_own():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.choice([3, 5, 9], 200)
    model = DecisionTreeClassifier(random_state=0).fit(x[:100], y[:100])
    plan = Plan(attacks=("gap", "loss"))
    result = memberscope.audit(model, (x[:100], y[:100]), (x[100:], y[100:]), plan=plan)
    assert result.diagnostics.train_accuracy.value == 1.0
    assert set(result.diagnostics.class_sizes) == {"3", "5", "9"}


def test_labels_of_both_sides_are_read_in_one_way():
    """Names or positions for all.

    A class that the model does not know never counts as another that one side lacks.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.choice([0, 1, 2, 4], 200)
    model = DecisionTreeClassifier(random_state=0).fit(x[:100], y[:100])
    rare = np.where(y == 4, 3, y)
    with pytest.raises(InputError, match="among the model's classes 0, 1, 2, 4, got '3'"):
        memberscope.audit(model, (x[:100], y[:100]), (x[100:], rare[100:]))
    later = DecisionTreeClassifier(random_state=0).fit(x[:100], rare[:100] + 1)
    by_position, by_name = (
        memberscope.audit(
            later,
            (x[:100], labels[:100]),
            (x[100:], labels[100:]),
            plan=Plan(attacks=("gap", "loss", "loss_per_class")),
        )
        for labels in (rare, rare + 1)
    )
    assert by_position.estimates == by_name.estimates


def test_a_budget_of_one_query_is_kept():
    model, x, y = small()
    threat = ThreatModel(query_budget=1)
    result = memberscope.audit(model, (x[:40], y[:40]), (x[40:], y[40:]), threat=threat)
    assert result.cost.queries == 80 and result.controls["determinism"].passed is None
