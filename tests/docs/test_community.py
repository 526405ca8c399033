"""What a repository's host reads: forms of issues, the workflow, and the pages beside them."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
KINDS = ["markdown", "textarea", "input", "dropdown", "checkboxes"]
# What GitHub's documentation of issue forms requires
FORM = {
    "type": "object",
    "required": ["name", "description", "body"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 3},
        "description": {"type": "string", "minLength": 3},
        "title": {"type": "string"},
        "labels": {"type": "array", "items": {"type": "string"}},
        "body": {
            "type": "array",
            "minItems": 1,
            "contains": {"properties": {"type": {"enum": KINDS[1:]}}},
            "items": {
                "type": "object",
                "required": ["type", "attributes"],
                "additionalProperties": False,
                "properties": {
                    "type": {"enum": KINDS},
                    "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
                    "attributes": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "label": {"type": "string"},
                            "description": {"type": "string"},
                            "placeholder": {"type": "string"},
                            "value": {"type": "string"},
                            "render": {"type": "string"},
                            "options": {"type": "array", "minItems": 1},
                        },
                    },
                    "validations": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"required": {"type": "boolean"}},
                    },
                },
            },
        },
    },
}
FORMS = sorted(
    path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"
)


def test_there_are_forms_for_what_goes_wrong_and_for_what_is_missing():
    assert [path.stem for path in FORMS] == ["bug", "idea"]
    config = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text())
    assert config.keys() == {"blank_issues_enabled"}
    assert (GITHUB / "PULL_REQUEST_TEMPLATE.md").is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_valid(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(form, FORM)
    ids = [entry["id"] for entry in form["body"] if "id" in entry]
    assert len(set(ids)) == len(ids)
    labels = [entry["attributes"].get("label") for entry in form["body"]]
    assert all(label for label, entry in zip(labels, form["body"], strict=True) if "id" in entry)


def test_the_workflow_builds_checks_and_tests_the_package():
    found = yaml.safe_load((GITHUB / "workflows" / "package.yml").read_text(encoding="utf-8"))
    # YAML reads the key `on` as true
    assert found.keys() == {"name", True, "permissions", "jobs"}
    assert found["permissions"] == {"contents": "read"}
    steps = [step.get("run", "") for job in found["jobs"].values() for step in job["steps"]]
    for words in (
        "hatchling build",
        "pip check",
        "memberscope --version",
        "make test",
        "make lint",
    ):
        assert any(words in step for step in steps), words


def test_a_report_of_a_weakness_has_an_address_that_is_not_public():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "private" in page and "public issue" in page
