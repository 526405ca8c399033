"""The dashboard and the rules.

Every metric they name is exported, Prometheus reads them, and the rules fire when they should.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from memberscope.cli.guard.dashboard import write_dashboard
from memberscope.errors import InputError
from memberscope.guard.alerting.prometheus import FAULTS, LOST, REASONS, Metrics

HERE = Path(__file__).resolve().parent
FOLDER = files("memberscope.guard") / "grafana"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool: tests/system-packages.sh installs it"
)
NAME = re.compile(r"\bmemberscope_guard_\w+")


def expressions() -> dict[str, str]:
    """Each query of the dashboard, by its panel and letter."""
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return {
        f"{panel['title']} {one['refId']}": one["expr"]
        for panel in board["panels"]
        for one in panel.get("targets", [])
    }


def rules() -> str:
    return (FOLDER / "rules.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Names of samples of a guard that has seen one of everything."""
    metrics = Metrics()
    metrics.request("query", 200, 0.1)
    metrics.would(429)
    metrics.policy("a" * 64, 0.0)
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        sample.name
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_panel_asks_for_metrics_that_are_exported(exported):
    for panel, query in expressions().items():
        named = set(NAME.findall(query))
        assert named and named <= exported, (panel, named - exported)


def test_every_rule_asks_for_metrics_that_are_exported(exported):
    named = set(NAME.findall(rules()))
    assert named and named <= exported


def test_every_metric_has_a_panel(exported):
    shown = set(NAME.findall(" ".join(expressions().values())))
    assert exported - shown == set()


def test_labels_in_queries_have_values_that_a_guard_gives():
    text = rules() + " ".join(expressions().values())
    assert set(re.findall(r'which="(\w+)"', text)) <= set(FAULTS)
    assert set(re.findall(r'where="(\w+)"', text)) <= set(LOST)
    for pattern in re.findall(r'reason=~"([^"]+)"', text):
        assert [reason for reason in REASONS if re.fullmatch(pattern, reason)]


def test_panels_have_names_and_do_not_overlap():
    panels = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)) and max(x for x, _ in places) == 23
    assert (
        len({panel["id"] for panel in panels})
        == len({panel["title"] for panel in panels})
        == len(panels)
    )
    assert all(panel["description"] for panel in panels if panel["type"] != "row")


def promtool(*words: str) -> None:
    assert PROMTOOL is not None
    found = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr


@needs_promtool
def test_prometheus_reads_every_query_of_the_dashboard(tmp_path):
    queries = [
        query.replace("$__rate_interval", "5m").replace("$job", "guard")
        for query in expressions().values()
    ]
    group = {
        "name": "panels",
        "rules": [{"record": f"panel:{i}", "expr": query} for i, query in enumerate(queries)],
    }
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [group]}))  # JSON is YAML
    promtool("check", "rules", "--lint-fatal", str(tmp_path / "panels.yml"))


@needs_promtool
def test_prometheus_reads_the_rules(tmp_path):
    (tmp_path / "rules.yml").write_text(rules())
    promtool("check", "rules", "--lint-fatal", str(tmp_path / "rules.yml"))


@needs_promtool
def test_rules_fire_when_they_should_and_only_then():
    promtool("test", "rules", str(HERE / "rules_test.yml"))


@needs_promtool
def test_every_rule_is_seen_to_fire():
    told = set(
        re.findall(r"alertname: (\w+)\n +exp_alerts:\n", (HERE / "rules_test.yml").read_text())
    )
    assert told == set(re.findall(r"- alert: (\w+)", rules()))


@needs_promtool
def test_prometheus_accepts_what_a_guard_exposes():
    assert PROMTOOL is not None
    metrics = Metrics()
    metrics.request("query", 200, 0.1)
    found = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=metrics.exposition(), capture_output=True, timeout=60
    )
    assert found.returncode in (0, 3), found.stderr  # 3 is for opinions on names
    assert b"error" not in found.stderr


def call(*words: str):
    app = typer.Typer()
    app.command()(write_dashboard)
    return CliRunner().invoke(app, list(words))


def test_the_files_are_written_and_changed_ones_are_not_replaced_unasked(tmp_path):
    found = call("--out", str(tmp_path))
    assert found.exit_code == 0 and "rules.yml" in found.stdout
    assert (tmp_path / "rules.yml").read_text() == rules()
    assert json.loads((tmp_path / "dashboard.json").read_text())["uid"] == "memberscope-guard"
    assert call("--out", str(tmp_path)).exit_code == 0, "the same again changes nothing"
    (tmp_path / "rules.yml").write_text("groups: []\n")
    refused = call("--out", str(tmp_path))
    assert isinstance(refused.exception, InputError) and "got one" in str(refused.exception)
    assert (tmp_path / "rules.yml").read_text() == "groups: []\n"
    assert call("--out", str(tmp_path), "--overwrite").exit_code == 0
    assert (tmp_path / "rules.yml").read_text() == rules()
