"""The CycloneDX bill, by the schema that cyclonedx-python-lib brings."""

from __future__ import annotations

import json

import pytest

from memberscope.reports.formats.cyclonedx import render_cyclonedx
from memberscope.reports.formats.key_numbers import list_key_estimates

schema = pytest.importorskip("cyclonedx.schema")
validation = pytest.importorskip("cyclonedx.validation.json")


def read_component(result) -> dict:
    (component,) = json.loads(render_cyclonedx(result))["components"]
    return component


def test_every_verdict_fits_the_strict_schema(case):
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    text = render_cyclonedx(case)
    assert validator.validate_str(text) is None
    broken = text.replace('"slice"', '"slices"').replace('"bom-ref": "model"', '"ref": 1')
    assert validator.validate_str(broken) is not None


def test_the_card_has_each_number_with_its_interval(result):
    component = read_component(result)
    assert component["type"] == "machine-learning-model"
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    wanted = list_key_estimates(result)
    assert len(metrics) == len(wanted)
    for found, entry in zip(metrics, wanted, strict=True):
        limits = found["confidenceInterval"]
        assert float(found["value"]) == entry.value
        assert (float(limits["lowerBound"]), float(limits["upperBound"])) == (entry.low, entry.high)
        assert f"{entry.n_members} members" in found["slice"]


@pytest.mark.parametrize(
    ("name", "verdict", "open_points"),
    [
        ("fail", "FAIL", "FAIL"),
        ("pass", "PASS", None),
        ("limited", "PASS (limited)", "PASS (limited)"),
        ("unjudged", "not judged, as no policy was given", "NOT_RUN"),
    ],
)
def test_the_verdict_and_what_is_open_are_in_it(cases, name, verdict, open_points):
    component = read_component(cases[name])
    said = {entry["name"]: entry["value"] for entry in component["properties"]}
    assert said["memberscope:verdict"] == verdict and said["memberscope:n_members"] == "800"
    found = component["modelCard"]["considerations"]["ethicalConsiderations"]
    assert {entry["name"].partition(":")[0] for entry in found} == ({open_points} - {None})
    assert all(entry["mitigationStrategy"] for entry in found)


def test_the_same_result_has_the_same_serial_number_and_another_another(result, clean):
    texts = [render_cyclonedx(entry) for entry in (result, result.model_copy(), clean)]
    assert texts[0] == texts[1]
    numbers = {json.loads(text)["serialNumber"] for text in texts}
    assert len(numbers) == 2


def test_texts_hold_no_controls(cases):
    text = render_cyclonedx(cases["harsh"])
    assert "\\u001b" not in text and "\u202e" not in text and "\\n" not in text
