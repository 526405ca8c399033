"""The result on disk and on screen.

Schema, safety of hostile names, JUnit, arrays, records, terminal.
"""

from __future__ import annotations

import csv
import io
import json
import stat
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from memberscope.attacks import list_attacks
from memberscope.auditing import hash_ids
from memberscope.auditing.documents.result import NotRun
from memberscope.errors import InputError
from memberscope.reports import (
    explain,
    explain_record,
    format_result_json,
    list_topics,
    print_summary,
    read_arrays,
    read_result,
    read_verified,
    render_junit,
    render_report,
    result_schema,
    write_all,
    write_arrays,
    write_junit,
)
from memberscope.reports.formats.markdown_parts import write_missing
from memberscope.reports.page.audience_sections import build_sections
from memberscope.reports.page.chart_data import build_charts
from memberscope.reports.page.standards_annex import compose_annex_paragraph, read_standards
from memberscope.reports.select import (
    describe_threat,
    group_partial_attacks,
    group_skipped_attacks,
    list_skipped_attacks,
)
from memberscope.statistics import roc

ROOT = Path(__file__).resolve().parents[2]


def test_results_fit_the_schema_in_the_repository(result, clean):
    stored = json.loads((ROOT / "schema" / "result.schema.json").read_text())
    assert stored == json.loads(json.dumps(result_schema())), "run `make schema`"
    for entry in (result, clean):
        jsonschema.Draft202012Validator(stored).validate(json.loads(format_result_json(entry)))
    broken = json.loads(format_result_json(result))
    broken["verdict"] = "MAYBE"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(stored).validate(broken)


def test_the_document_has_what_the_contract_promises(result):
    document = json.loads(format_result_json(result))
    wanted = "format tool verdict threat_models findings estimates not_run cost environment digests"
    assert set(wanted.split()) <= set(document)
    assert {"null", "blind"} <= set(document["controls"])
    promised = "attack access restriction target group metric fpr prior threshold value low high confidence method"
    assert set(promised.split()) | {"n_members", "n_non_members", "queries"} <= set(
        document["estimates"][0]
    )


def test_folder_round_trip(result, tmp_path):
    write_all(result, tmp_path)
    again, arrays = read_result(tmp_path), read_arrays(tmp_path)
    assert format_result_json(again) == format_result_json(result)
    np.testing.assert_array_equal(arrays.ids, result.arrays.ids)
    for name, values in result.arrays.comparable.items():
        np.testing.assert_array_equal(arrays.comparable[name], values)
    assert not list(tmp_path.glob(".*"))


def test_records_are_private_and_safe_in_a_spreadsheet(result, tmp_path):
    write_all(result, tmp_path)
    path = tmp_path / "records.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "arrays.safetensors").stat().st_mode) == 0o600
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == len(result.arrays.member)
    assert all(row["id"][0] not in "=+-@" for row in rows)
    assert {entry.record for entry in result.exposed} <= {row["hash"] for row in rows}
    leading = result.diagnostics.leading
    one = {row["hash"]: row for row in rows}[result.exposed[0].record]
    assert float(one[f"risk:{leading.attack}@{leading.access}"]) == pytest.approx(
        result.exposed[0].posterior
    )


def test_no_records_means_no_ids_anywhere(result, tmp_path):
    write_all(result, tmp_path, records=False)
    assert not (tmp_path / "records.csv").exists()
    for path in tmp_path.iterdir():
        assert b"secret-" not in path.read_bytes(), path.name


def test_an_audit_without_ids_is_verified_like_one_with_them(result, clean, tmp_path):
    """The null control is drawn by ids, so without them its draw is kept."""
    for name, entry in (("leaky", result), ("clean", clean)):
        write_all(entry, tmp_path / name, records=False)
        judged, arrays = read_verified(tmp_path / name)
        assert (judged.verdict, judged.controls) == (entry.verdict, entry.controls)
        write_arrays(arrays, tmp_path / "again.safetensors", ids=False)
        again = read_arrays(tmp_path / "again.safetensors")
        assert (again.null_draw == arrays.null_draw).all() and arrays.null_draw.any()
        assert not arrays.null_draw[arrays.member].any()


def test_ids_of_an_earlier_run_do_not_stay_where_none_are_asked_for(result, tmp_path):
    write_all(result, tmp_path)
    write_all(result, tmp_path, records=False)
    assert not (tmp_path / "records.csv").exists()


def test_a_disk_that_fills_while_the_folder_is_written_leaves_it_as_it_was(
    result, clean, tmp_path, monkeypatch
):
    from memberscope.reports.files import audit_folder as folder

    def full(*arguments):
        raise InputError("Expected room")

    write_all(clean, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(folder, "write_result", full)
    with pytest.raises(InputError):
        write_all(result, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_exposed_records_stand_by_their_position_among_non_members(result):
    leading = result.diagnostics.leading
    scores = result.arrays.comparable[f"{leading.attack}@{leading.access}"]
    top = result.exposed[0]
    i = hash_ids(result.arrays.ids).index(top.record)
    others = scores[~result.arrays.member]
    assert np.mean(others < scores[i]) - 0.001 <= top.score <= np.mean(others <= scores[i]) + 0.001
    assert all(0 < entry.score < 1 for entry in result.exposed)


def test_ids_only_when_asked(result):
    assert "secret-" not in render_report(result)
    assert "secret-" in render_report(result, show_ids=True)


def test_hostile_names_stay_text(result):
    page = render_report(result)
    assert "<script>alert" not in page and "<img" not in page
    assert "&lt;script&gt;alert" in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert "<" not in data and json.loads(data)["priors"]


def test_page_is_small_offline_and_strict(result):
    page = render_report(result)
    assert len(page.encode()) < 2_000_000
    head = page[: page.index("<title>")]
    assert "default-src 'none'" in head and "unsafe-inline" not in head and "sha256-" in head
    assert 'style="' not in page.split("<script>")[0]
    for banned in ('src="http', 'href="http', "@import", "url(http"):
        assert banned not in page


def test_roc_corners_are_exact(result):
    drawn = build_charts(result)["roc"]
    name, line = next(iter(drawn["curves"].items()))
    curve = roc(result.arrays.comparable[name], result.arrays.member)
    for fpr, tpr in list(zip(drawn["fpr"], line["tpr"], strict=True))[:40]:
        exact = curve.tp[curve.fp <= round(fpr * curve.n_non_members)].max() / curve.n_members
        assert tpr == pytest.approx(exact, rel=1e-3, abs=1e-9)


def test_junit(result, clean, tmp_path):
    write_junit(result, tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert int(suite.get("tests")) == len(result.findings) == len(suite.findall("testcase"))
    assert int(suite.get("failures")) == len(suite.findall(".//failure")) == 1
    passed = ElementTree.fromstring(render_junit(clean).split("\n", 1)[1])
    assert passed.get("failures") == passed.get("errors") == "0"
    undecided = replace(result.findings[0], verdict="INCONCLUSIVE")
    other = ElementTree.fromstring(
        render_junit(result.model_copy(update={"findings": [undecided]})).split("\n", 1)[1]
    )
    assert other.get("errors") == "1", "what is not decided is never shown as passed"


@pytest.mark.parametrize("width", [80, 160])
def test_terminal_summary(result, width):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=False)
    print_summary(result, console, Path("out"), verbose=True)
    text = console.export_text()
    assert text.startswith("FAIL") and "blind: ok" in text and "power:" in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "complete JSON"),
        (lambda text: text.replace("memberscope-result/2", "memberscope-result/1"), "Audit again"),
        (lambda text: text.replace('"verdict": "FAIL"', '"verdict": "FINE"', 1), "schema says"),
        (lambda text: "[]", "of this version"),
    ],
)
def test_damaged_results_are_one_sentence(result, tmp_path, change, words):
    (tmp_path / "result.json").write_text(change(format_result_json(result)))
    with pytest.raises(InputError, match=words):
        read_result(tmp_path)


def test_missing_and_damaged_arrays(result, tmp_path):
    for read in (read_arrays, read_result):
        with pytest.raises(InputError, match="holds none"):
            read(tmp_path)
    write_all(result, tmp_path)
    path = tmp_path / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="complete arrays"):
        read_arrays(tmp_path)


@pytest.mark.parametrize("part", ["plan", "diagnostics"])
def test_results_without_a_part_are_one_sentence(result, tmp_path, part):
    write_all(result, tmp_path)
    document = json.loads((tmp_path / "result.json").read_text())
    document[part] = {}
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"as the schema says, got Field required at {part}."):
        read_result(tmp_path)


@pytest.mark.parametrize("topic", list_topics())
def test_the_command_of_each_topic_is_one_that_the_command_line_takes(topic):
    import shlex

    import typer

    from memberscope.cli.main import app

    command = explain(topic).rsplit("See it: ", 1)[1].split(";")[0]
    program, verb, *arguments = shlex.split(command, comments=True)
    verbs = typer.main.get_command(app).commands
    assert program == "memberscope"
    verbs[verb].make_context(verb, arguments)


def test_every_topic_is_answered_with_a_command():
    wanted = {"needs-leak", "sensitive", "evaluation", "defences", "access", "overfitting"}
    wanted |= {
        "only-overfitted",
        "high-accuracy",
        "hard-labels",
        "null",
        "blind",
        "tpr",
        "ppv",
        "pass",
        "fail",
        "inconclusive",
    }
    assert wanted <= set(list_topics())
    tasks = ("classification", "text", "regression", "forecast", "multilabel", "table")
    attacks = {name for task in tasks for name in list_attacks(task)}
    for name in (*sorted(attacks), "lira_offline_proxy", *list_topics()):
        assert "See it: memberscope" in explain(name) and len(explain(name).splitlines()) <= 12
    with pytest.raises(InputError, match="topic among"):
        explain("astrology")


def test_a_record_is_explained_by_id_or_hash(result):
    arrays = result.arrays
    by_id = explain_record(arrays, str(arrays.ids[0]), 0.01)
    assert "is a member of class" in by_id and "logit@logits" in by_id
    assert "secret-" in explain_record(arrays, result.exposed[0].record, 0.01)
    with pytest.raises(InputError, match="id or hash"):
        explain_record(arrays, "nobody", 0.01)


def test_a_record_without_a_class_is_not_given_one(result):
    groups = {**result.arrays.group_values, "class": ("regression",)}
    codes = {**result.arrays.groups, "class": np.zeros(len(result.arrays.ids), dtype=np.int64)}
    arrays = replace(result.arrays, group_values=groups, groups=codes)
    said = explain_record(arrays, str(arrays.ids[0]), 0.01)
    assert "is a member. At a prior" in said and "class" not in said.splitlines()[0]


def test_reports_say_whether_reference_models_were_used(result):
    assert (
        "can train" not in describe_threat(result)
        and "No reference models were trained." in build_sections(result)[-1].sentences[1]
    )
    assert "Not part of this audit: attacks with reference models" in render_report(result)
    plan = result.plan.model_copy(update={"views": ["identity", "flip"]})
    threats = [replace(threat, references=7) for threat in result.threat_models]
    estimates = [replace(entry, queries=2) for entry in result.estimates]
    trained = result.model_copy(
        update={"threat_models": threats, "plan": plan, "estimates": estimates}
    )
    assert "used up to 2 for each" in describe_threat(
        trained
    ) and "who can train 7 models like it" in compose_annex_paragraph(trained)
    assert "about each record 2 times" in build_sections(trained)[3].sentences[-1]
    assert "Not part of this audit: label-only search" in render_report(trained)


def test_attacks_that_did_not_run_for_one_reason_share_a_line_and_none_is_left_out(result):
    lines = [*group_skipped_attacks(result), *group_partial_attacks(result)]
    named = [name for names, _, _ in lines for name in names.split(", ")]
    assert {name for entry in result.not_run for name in entry.attack.split(", ")} == {*named}
    assert sum("Expected reference models, got none" in why for *_, why in lines) == len(
        {entry.access for entry in result.not_run if "reference" in entry.why}
    )
    stream = io.StringIO()
    print_summary(result, Console(file=stream, width=400), verbose=True)
    assert all(
        name in stream.getvalue() and name in render_report(result)
        for name in ("lira_robust", "shokri_statistics")
    )


def test_attacks_that_miss_a_rate_alone_are_no_attacks_that_did_not_run(result):
    own = [entry for entry in result.not_run if ", " not in entry.attack]
    missed = NotRun("loss, gap", "logits", "Too few non-members for a false-positive rate of 0.1%.")
    seen = result.model_copy(update={"not_run": [*own, missed]})
    skipped = list_skipped_attacks(seen)
    assert skipped and not {"loss", "gap"} & set(skipped)
    assert ("loss, gap", "logits", missed.why) in group_partial_attacks(seen)
    # One number wherever they are counted
    said, stream = f"{len(skipped)} attacks", io.StringIO()
    print_summary(seen, Console(file=stream, width=200))
    assert f"{said} not run" in stream.getvalue()
    page = render_report(seen)
    assert f"{said} did not run" in page and f"Did not run: {said}, listed" in page
    assert "What ran, but not at every level" in page and missed.why in page
    assert write_missing(seen).startswith(f"{len(skipped)}: ")


def test_annex_speaks_of_evidence_and_never_of_compliance(result):
    text = compose_annex_paragraph(result)
    assert "does not by itself establish compliance" in text and "%" in text
    assert all(entry["status"] == "seen" and entry["quote"] for entry in read_standards())
    ids = " ".join(entry["id"] for entry in read_standards())
    for wanted in ("GDPR", "EDPB", "HIPAA", "NIST", "MITRE", "OWASP"):
        assert wanted in ids
