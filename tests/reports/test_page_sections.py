"""What the report says in words: the summary, what may be said, and tables with merged rows."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import memberscope
from memberscope import Plan
from memberscope.auditing import STRONGEST, Policy
from memberscope.auditing.documents.diagnostics import DetectableRate
from memberscope.auditing.documents.policy import Claim
from memberscope.reports import render_report, write_all
from memberscope.reports.page.attack_tables import build_attack_tables
from memberscope.reports.page.audience_sections import build_sections
from memberscope.reports.page.chart_data import build_charts
from memberscope.reports.page.glossary import read_glossary
from memberscope.reports.page.statements import compose_statements
from memberscope.reports.page.summary import build_longer_table, build_summary
from memberscope.reports.select import find_worst_group, list_missing_searches
from memberscope.targets import FunctionTarget


def read_page(result, **given) -> str:
    """The page of a result without the marks that keep options on one line."""
    return drop_option_marks(render_report(result, **given))


def drop_option_marks(page: str) -> str:
    return re.sub(r'<span class="option">(.*?)</span>', r"\1", page)


def change_environment(result, **values):
    kept = {name: value for name, value in result.environment.items() if "longer" not in name}
    kept |= values
    return result.model_copy(
        update={"environment": {name: value for name, value in kept.items() if value}}
    )


def vary_verdict(result, clean, verdict):
    """The results of the three verdicts; nothing decided is a failure that is open."""
    if verdict == "PASS":
        return clean
    if verdict == "FAIL":
        return result
    findings = [replace(entry, verdict="INCONCLUSIVE") for entry in result.findings[:1]]
    return result.model_copy(
        update={"verdict": "INCONCLUSIVE", "findings": [*findings, *result.findings[1:]]}
    )


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_three_sentences_of_evidence_for_each_verdict(result, clean, verdict):
    chosen = vary_verdict(result, clean, verdict)
    said = compose_statements(change_environment(chosen, date="2026-03-01"))
    assert len(said) == 3 and all(
        sentence.strip().endswith(".") or "”" in sentence[-2:] for sentence in said
    )
    assert said[0].startswith("On 2026-03-01 the model") and "800 records" in said[0]
    # Each verdict has words that no other has
    words = {
        "PASS": "No attack that ran exceeded",
        "FAIL": "evidence that a limit",
        "INCONCLUSIVE": "could not decide",
    }
    assert [name for name, text in words.items() if text in said[1]] == [verdict]
    assert not re.search(r"\b(complies|compliant|safe|anonymous)\b", " ".join(said))
    assert "policy “gate”" in said[1]


def test_a_failure_is_stated_with_its_number_and_a_pass_with_its_power(result, clean):
    failed = next(entry for entry in result.findings if entry.verdict == "FAIL")
    assert f"{100 * failed.estimate.value:.3g}%" in compose_statements(result)[1]
    assert failed.claim in compose_statements(result)[1]
    seen = [DetectableRate(0.1, 0.3, 0.4321, 1, {})]
    found = clean.diagnostics.model_copy(update={"minimum_detectable_tpr": seen})
    assert "43.2% or more" in compose_statements(clean.model_copy(update={"diagnostics": found}))[1]
    limited = clean.model_copy(update={"limited": True})
    assert "limited pass" in compose_statements(limited)[1]


def test_the_power_is_one_card_that_names_the_group_of_a_limit(clean):
    seen = [DetectableRate(0.1, 0.9, 0.9876, 1, {}), DetectableRate(0.1, 0.3, 0.4321, 1, {})]
    found = clean.diagnostics.model_copy(update={"minimum_detectable_tpr": seen})
    limits = (Claim(0.1, 0.9, "sex"), Claim(0.1, 0.3))
    policy = replace(clean.plan.policy, max_tpr=limits)
    plan = clean.plan.model_copy(update={"policy": policy})
    page = render_report(clean.model_copy(update={"diagnostics": found, "plan": plan}))
    card = page.split("Smallest leak this audit would notice")[1].split("</div>")[0]
    assert page.count("Smallest leak this audit would notice") == 1
    assert card.index("43.2%") < card.index("98.8%")
    assert "in one value of sex" in card


def test_extreme_scores_do_not_squeeze_the_others_into_one_bar(result):
    entry = result.arrays.scored[0]
    # Certain answers have logits of hundreds
    scores = np.linspace(-3, 3, len(entry.scores))
    scores[::50] = 690.0
    arrays = replace(result.arrays, scored=(replace(entry, scores=scores),))
    drawn = build_charts(result.model_copy(update={"arrays": arrays}))["histograms"][entry.name]
    assert max(drawn["x"]) < 12 and sum(share > 0 for share in drawn["members"]) > 15
    assert sum(drawn["members"]) == pytest.approx(1, abs=0.01)


def test_without_a_policy_nothing_is_judged(result):
    bare = result.model_copy(update={"verdict": None, "findings": []})
    said = compose_statements(bare)
    assert "neither passes nor fails" in said[2] and len(said) == 3
    assert "No policy was given, so nothing was judged" in render_report(bare)
    assert "memberscope audit … --policy standard" in read_page(bare)


def test_a_date_is_the_audits_or_none(result):
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result.environment["date"])
    assert f"On {result.environment['date']} the model" in compose_statements(result)[0]
    undated = change_environment(result, date="")
    assert compose_statements(undated)[0].startswith("The model")
    page = render_report(undated)
    assert "does not name the day" in page and not re.search(
        r"\b20\d\d-\d\d-\d\d\b", page.split("s-annex")[0]
    )


def test_the_summary_names_the_worst_group_the_exposed_and_the_command(result, tmp_path):
    found = build_summary(result, lambda verb: "--signals s.csv", "out")
    worst, n_groups = find_worst_group(result)
    assert (found.worst, found.n_groups) == (worst, n_groups)
    found_by = [
        (entry.value, entry.attack)
        for entry in result.estimates
        if entry.group and (entry.metric, entry.fpr, entry.threshold) == ("tpr", worst.fpr, "best")
        if (entry.access, entry.restriction) == (worst.access, worst.restriction)
    ]
    strongest = [value for value, attack in found_by if attack == STRONGEST]
    # No attack by group may find more than what is shown
    assert worst.value == max(strongest) == max(found_by)[0] and n_groups == len(strongest)
    assert [record for record, _ in found.exposed] == [row.record for row in result.exposed[:3]]
    restricted = "--restrict top:1+round:2 --out memberscope-restricted"
    assert found.step.command == f"memberscope audit --signals s.csv {restricted}"
    write_all(result, tmp_path / "mine")
    page = drop_option_marks((tmp_path / "mine" / "report.html").read_text())
    assert f"memberscope audit … {restricted}" in page


def test_the_typed_arguments_stand_in_the_command(clean):
    limited = clean.model_copy(update={"limited": True})
    page = read_page(limited, arguments=lambda verb: "--model m.skops", out="out")
    assert "memberscope audit --model m.skops --recipe" in page


def test_attacks_with_the_same_numbers_share_a_row(result):
    best, transferred = build_attack_tables(result)
    named = [name for row in best.rows for name in row[0].split(", ")]
    ran = {entry.attack for entry in result.estimates if entry.metric == "auc"} - {"strongest"}
    assert set(named) == ran
    assert len({row[1:] for row in best.rows}) == len(best.rows) < len(named)
    areas = [float(row[2].split(" ")[0]) for row in best.rows]
    assert areas == sorted(areas, reverse=True)
    assert all(len(row) == len(table.head) for table in (best, transferred) for row in table.rows)


def test_attacks_that_order_records_alike_share_a_curve(result):
    roc = build_charts(result)["roc"]
    assert set(roc["same"]) == set(roc["curves"])
    named = [name for leader, others in roc["same"].items() for name in (leader, *others)]
    assert sorted(named) == sorted(entry.name for entry in result.arrays.scored if entry.declared)
    leader, others = next((pair for pair in roc["same"].items() if pair[1]), (None, []))
    member = result.arrays.member
    order = [result.arrays.comparable[name] for name in (leader, *others)]
    # The same curve comes from the same order of records
    ranks = [np.unique(-values, return_inverse=True)[1] for values in order]
    assert leader is not None and all((rank == ranks[0]).all() for rank in ranks)
    assert len(member) == len(ranks[0])


def test_a_negative_gap_is_no_advantage_of_the_gap_attack(result):
    gap = result.diagnostics.generalisation_gap
    below = replace(gap, value=-0.04, low=-0.05, high=-0.01)
    unclear = replace(gap, value=-0.02, low=-0.05, high=0.01)
    above = replace(gap, value=0.2, low=0.15, high=0.25)

    def tell(entry):
        found = result.diagnostics.model_copy(update={"generalisation_gap": entry})
        return build_sections(result.model_copy(update={"diagnostics": found}))[0].sentences[0]

    assert "no sign of overfitting" in tell(below) and "gap attack" not in tell(below)
    assert "gap attack" in tell(above) and "cannot tell" in tell(unclear)


def test_searches_that_did_not_run_are_shown_as_such(result):
    missing = list_missing_searches(result)
    assert {"boundary", "noise"} <= {name for names, _ in missing for name in names.split(", ")}
    page = render_report(result)
    assert "Leakage by query budget" in page and "Label-only searches did not run" in page
    assert "the predicted label; label-only searches did not run" in page
    ran = result.model_copy(
        update={"not_run": [entry for entry in result.not_run if "search" not in entry.why]}
    )
    assert len(list_missing_searches(ran)) <= len(missing)


def audit_small(**changes):
    rng = np.random.default_rng(0)
    sides = [(rng.normal(size=(60, 3)), rng.integers(0, 2, 60)) for _ in range(2)]

    def answer(x):
        p = 1 / (1 + np.exp(-np.asarray(x)[:, 0]))
        return np.stack([1 - p, p], axis=1)

    plan = Plan(attacks=("gap", "logit", "boundary", "noise"), fprs=(0.1,), **changes)
    target = FunctionTarget(answer, n_classes=2)
    return memberscope.audit(target, *sides, plan=plan, progress=False)


def test_the_report_says_what_a_longer_audit_adds_and_how_long_it_takes():
    quick = audit_small()
    rows = {row[0].text: row[1] for row in build_longer_table(quick).rows}
    assert list(rows) == ["--effort normal", "--effort thorough"]
    for words in rows.values():
        assert re.search(
            r"searches of \d+ queries for each record.*, about \d+(\.\d)? (s|min|h)$", words
        )
    page = render_report(quick)
    assert all(words in page for words in rows.values())
    # In the summary, too, and not among the versions
    assert page.count(rows["--effort normal"]) == 2 and "longer_audit" not in page
    normal = audit_small(effort="normal", search_queries=20)
    assert build_longer_table(normal) is None
    page = read_page(normal)
    assert "No other --effort would run more" in page
    # A model was given, and its searches were made
    assert "stored answers" not in page and "switched off" not in page
    off = audit_small(search_queries=0)
    assert build_longer_table(off) is None
    assert "switched off (search_queries is 0)" in render_report(off)


def test_a_result_that_does_not_know_what_is_longer_names_the_command(result):
    old = change_environment(result)
    assert build_longer_table(old) is None and "memberscope plan with" in render_report(old)


def test_the_annex_has_the_groups_and_the_glossary_the_words(result):
    page = render_report(result)
    annex = page.split('id="s-annex"')[1].split('id="s-limits"')[0]
    groups = {entry.group for entry in result.estimates if entry.group}
    assert sum(f"{entry.n_members:,}" in annex for entry in result.estimates if entry.group) > 0
    assert "class=cat" in annex and len(groups) > 2
    terms = [entry["term"] for entry in read_glossary()]
    assert len(set(terms)) == len(terms) and all(f"<dt>{term}</dt>" in page for term in terms)


def test_the_sentences_that_readers_stumbled_over_are_gone(result, clean):
    for entry in (result, clean):
        page = render_report(entry)
        for words in (
            "This audit would have seen",
            "smallest true share",
            "false positives really got",
            "found, and accused, at the global threshold",
            "turns exactly this into membership",
            "separation d",
            "records to the model, one query a record",
        ):
            assert words not in page, words


def test_numbers_of_queries_are_written_to_be_read(result):
    many = result.model_copy(update={"cost": replace(result.cost, queries=947_475)})
    said = build_sections(many)[3].sentences[-1]
    assert "947475" not in said and "945,875 more for searches" in said


def test_every_value_names_its_column(result):
    page = render_report(result)
    body = page.split("<main", 1)[1]
    cells = re.findall(r"<td([^>]*)>", body)
    assert len(cells) > 100 and all('data-label="' in attributes for attributes in cells)
    heads = re.findall(r"<th(\s[^>]*)?>", body)
    assert len(heads) > 50 and all("scope=" in attributes for attributes in heads)
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["fpr"] == 0.05


def test_a_policy_is_named_as_it_was_given():
    found = audit_small(policy=Policy("house rules", (Claim(0.1, 0.9),)))
    assert "“house rules”" in compose_statements(found)[1]
