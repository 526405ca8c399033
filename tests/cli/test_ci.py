"""The jobs of CI: what `init --ci` writes, the action of this repository and its hooks.

They are valid by the public schemas, and their steps run in order in a clean copy of a repository,
with the real command: a first release, an equal one, a pull request, a worse release that would
replace the baseline, and what was kept when it cannot be had.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_socket import serve_command
from commands import run_command
from workflows import Runner

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = Path(".github") / "workflows" / "memberscope.yml"
ANSWERS = {
    "title": "m",
    "who": "w",
    "access": "probabilities",
    "queries": "1",
    "prior": "0.1",
    "harm": "low",
}
POLICY = "max_tpr = [{ fpr = 0.05, tpr = 0.6 }]"
# Attacks and levels enough for a verdict
ATTACKS = 'attacks = ["gap", "loss", "confidence"]\n'
LEVELS = 'restrictions = ["none"]\n\n[policy]'
WORSE = 1.2  # passes the policy, and leaks more than a release that shifts nothing
FAILING = 5.0  # fails the policy
# The first answers from what a test keeps, as GitHub would; jq is what gh has inside
GH = """#!/bin/sh
[ -n "$GH_TOKEN" ] || exit 4
case "$1 $2" in
"api repos/o/r/actions/artifacts?name=memberscope-kept&per_page=100")
    [ ! -e "$KEPT/down" ] && [ "$3" = --jq ] && exec jq -r "$4" "$KEPT/artifacts.json" ;;
"run download")
    [ "$4 $5 $6 $7 $8" = "--repo o/r --name memberscope-kept --dir" ] && exec cp -R "$KEPT/$3" "$9" ;;
esac
echo "HTTP 502: Bad Gateway" >&2
exit 1
"""


def init(
    folder: Path, system: str, *more: str, target: str = "s.csv"
) -> subprocess.CompletedProcess[str]:
    answers = [word for name, value in ANSWERS.items() for word in (f"--{name}", value)]
    return run_command("init", *answers, "--target", target, "--ci", system, *more, cwd=folder)


def write_signals(path: Path, shift: float, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    member, labels = np.arange(600) < 300, rng.integers(0, 2, 600)
    logit = 2.0 + rng.standard_normal(600) + shift * member
    p = 1 / (1 + np.exp(-np.where(labels == 1, logit, -logit)))
    x = rng.standard_normal(600)
    rows = [
        f"r{i},{int(member[i])},{labels[i]},{1 - p[i]:.9f},{p[i]:.9f},{x[i]:.6f}"
        for i in range(600)
    ]
    path.write_text("\n".join(["id,member,label,p0,p1,x0", *rows]) + "\n")


def make_repository(folder: Path, system: str) -> Path:
    folder.mkdir()
    done = init(folder, system)
    assert done.returncode == 0, done.stderr
    text = (folder / "audit.toml").read_text()
    text = text.replace('# features = ["x0", "x1"]', 'features = ["x0"]')
    text = re.sub(r"^use = .*$", POLICY, text, flags=re.MULTILINE)
    text = text.replace("\n[policy]", LEVELS, 1) + ATTACKS
    (folder / "audit.toml").write_text(text)
    return folder


def validate(file: Path, schema: str) -> None:
    """Whether a file is valid by a schema that check-jsonschema comes with."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Iterator[Path]:
    """The commands of a runner: memberscope, gh, and a pip that notes what it was asked."""
    folder = tmp_path_factory.mktemp("tools")
    scripts = {
        "pip": f'#!/bin/sh\necho "$@" >> {folder}/pip.txt\n',
        "python": f'#!/bin/sh\necho "$@" >> {folder}/pip.txt\n',
        "gh": GH,
    }
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    with serve_command(folder / "memberscope"):
        yield folder


class Hub:
    """A repository on GitHub: what its runs kept, and a runner for each event."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder, self.tools = folder, tools
        self.home = make_repository(folder / "repository", "github")
        self.job = yaml.safe_load((self.home / WORKFLOW).read_text())
        self.kept, self.turn, self.uploads = folder / "kept", 0, []
        self.kept.mkdir()
        self.artifacts: list[dict] = []
        self.write_artifacts()

    def write_artifacts(self) -> None:
        """Newest first, as the server lists them."""
        text = json.dumps({"total_count": len(self.artifacts), "artifacts": self.artifacts[::-1]})
        (self.kept / "artifacts.json").write_text(text)

    def add_artifact(self, run: int, *, head: int = 1, expired: bool = False) -> None:
        about = {"id": run, "repository_id": 1, "head_repository_id": head}
        self.artifacts.append(
            {"expired": expired, "created_at": f"2026-01-{run:02}", "workflow_run": about}
        )
        self.write_artifacts()

    def use(self, step, folder: Path) -> None:
        name, _, _ = step["uses"].partition("@")
        given = step["with"]
        if name == "actions/upload-artifact":
            self.uploads.append(given["name"])
        kept = name == "actions/upload-artifact" and given["name"] == "memberscope-kept"
        if kept and any((folder / given["path"]).iterdir()):
            shutil.copytree(folder / given["path"], self.kept / str(self.turn))
            self.add_artifact(self.turn)

    def run(self, event: str, shift: float, seed: int = 0, ref: str = "main", **inputs) -> Runner:
        self.turn += 1
        self.uploads = []
        folder = self.folder / f"turn{self.turn}"
        shutil.copytree(self.home, folder)
        if shift >= 0:
            write_signals(folder / "s.csv", shift, seed)
        repository = {"full_name": "o/r"}
        github = {
            "event_name": event,
            "ref": ref,
            "run_id": self.turn,
            "token": "token",
            "repository": "o/r",
            "event": {"pull_request": {"head": {"repo": repository}}},
        }
        runner = Runner(
            folder,
            f"{self.tools}:{os.environ['PATH']}",
            {"github": github, "inputs": inputs},
            self.use,
        )
        assert runner.evaluate(self.job["jobs"]["audit"]["if"])
        runner.run(
            self.job["jobs"]["audit"]["steps"],
            KEPT=str(self.kept),
            GITHUB_EVENT_NAME=event,
            GITHUB_REPOSITORY="o/r",
            GITHUB_REF_NAME=ref,
        )
        return runner

    def read_kept(self) -> dict[str, bytes]:
        """The results in the newest artifact."""
        newest = self.kept / str(self.artifacts[-1]["workflow_run"]["id"])
        return {
            path.relative_to(newest).as_posix(): path.read_bytes()
            for path in newest.rglob("result.json")
        }


needs_jq = pytest.mark.skipif(
    shutil.which("jq") is None, reason="needs jq, which is part of gh: run tests/system-packages.sh"
)


@needs_jq
def test_github_keeps_a_baseline_that_no_worse_release_replaces(tmp_path, tools):
    hub = Hub(tmp_path, tools)
    first = hub.run("release", 0.0, ref="v1")
    assert first.failed is False, first.said
    assert "No release is kept yet." in first.said["Fetch what earlier runs kept"]
    assert "Kept as the baseline" in first.said["Judge"]
    assert hub.uploads == ["memberscope-kept", "memberscope-report"]
    for name in ("memberscope.sarif", "memberscope.xml", "summary.md"):
        assert (first.folder / name).stat().st_size > 0
    assert "PASS" in first.summary
    kept = hub.read_kept()
    assert sorted(kept) == ["memberscope-last/result.json", "memberscope-releases/v1/result.json"]
    baseline = kept["memberscope-last/result.json"]

    equal = hub.run("release", 0.0, seed=1, ref="team/v2 <b>")
    assert equal.failed is False, equal.said
    assert "The baseline in memberscope-last stays" in equal.said["Judge"]
    assert (equal.folder / "comparison.html").is_file()
    kept = hub.read_kept()
    assert kept["memberscope-last/result.json"] == baseline
    # A name that had to be changed ends in its checksum, so that no two tags share one
    assert any(name.startswith("memberscope-releases/team_v2__b_-") for name in kept)
    assert len(kept) == 3

    n = len(hub.artifacts)
    for event in ("pull_request", "release"):
        worse = hub.run(event, WORSE, ref="v3")
        assert worse.failed is True and worse.codes["Audit"] == 0
        assert worse.codes["Judge"] == 1 and "PASS:" in worse.said["Judge"]
        assert "LEAKS MORE" in worse.said["Judge"] and worse.summary
        assert worse.codes["Draw the comparison with the baseline"] == 0
    assert len(hub.artifacts) == n + 1, "a pull request keeps nothing"
    kept = hub.read_kept()
    assert kept["memberscope-last/result.json"] == baseline
    assert "memberscope-releases/v3/result.json" in kept, "the history has every release"

    refused = hub.run("workflow_dispatch", FAILING, start=True)
    assert refused.failed and refused.codes["Judge"] == 1
    assert hub.read_kept()["memberscope-last/result.json"] == baseline, "it is put back"

    forced = hub.run("workflow_dispatch", WORSE, start=True)
    assert forced.failed is False, forced.said
    assert hub.read_kept()["memberscope-last/result.json"] != baseline
    assert len(hub.read_kept()) == 4


@needs_jq
def test_github_stops_where_what_was_kept_cannot_be_had(tmp_path, tools):
    hub = Hub(tmp_path, tools)
    hub.add_artifact(20, head=2)
    assert hub.run("schedule", 0.0).failed is False, "what a fork kept is none of ours"
    hub.artifacts[-1]["expired"] = True
    hub.write_artifacts()
    lost = hub.run("release", WORSE, ref="v2")
    assert lost.failed and "The baseline has expired" in lost.said["Fetch what earlier runs kept"]
    assert "Audit" not in lost.codes and hub.uploads == ["memberscope-report"]
    (hub.kept / "down").touch()
    down = hub.run("release", WORSE, ref="v2")
    assert down.failed and "Bad Gateway" in down.said["Fetch what earlier runs kept"]
    assert "Audit" not in down.codes and "memberscope-kept" not in hub.uploads
    (hub.kept / "down").unlink()
    again = hub.run("workflow_dispatch", 0.0, start=True)
    assert again.failed is False and "Kept as the baseline" in again.said["Judge"]


@needs_jq
def test_github_takes_waivers_and_fails_when_nothing_can_be_audited(tmp_path, tools):
    hub = Hub(tmp_path, tools)
    file = hub.home / "audit.toml"
    file.write_text(file.read_text().replace("tpr = 0.6", "tpr = 0.1"))
    failing = hub.run("release", WORSE, ref="v1")
    assert failing.failed and failing.codes["Audit"] == 0 and failing.codes["Judge"] == 1
    assert list(hub.read_kept()) == ["memberscope-releases/v1/result.json"]
    entry = 'claim = "max_tpr"\nreason = "r"\nowner = "Ada"\nexpires = 9999-01-31\n'
    (hub.home / "waivers.toml").write_text(f"[[waiver]]\n{entry}")
    waived = hub.run("pull_request", WORSE)
    assert waived.failed is False and "WAIVED: No attack" in waived.said["Judge"]
    broken = hub.run("release", -1.0, ref="v2")
    assert broken.failed and broken.codes["Audit"] == 2 and "Judge" not in broken.codes
    assert list(hub.read_kept()) == ["memberscope-releases/v1/result.json"]


def test_what_github_runs_is_safe(tmp_path):
    home = make_repository(tmp_path / "repository", "github")
    text = (home / WORKFLOW).read_text()
    job = yaml.safe_load(text)
    validate(home / WORKFLOW, "github-workflows")
    # YAML 1.1 reads the key `on` as true
    assert set(job[True]) == {"pull_request", "schedule", "release", "workflow_dispatch"}
    assert job["permissions"] == {"actions": "read", "contents": "read", "security-events": "write"}
    for step in job["jobs"]["audit"]["steps"]:
        # What somebody else may write, such as the name of a branch, must not become a script
        assert "${{" not in step.get("run", "")
    fork = {"event_name": "pull_request", "repository": "o/r"}
    fork["event"] = {"pull_request": {"head": {"repo": {"full_name": "x/r"}}}}
    runner = Runner(home, "", {"github": fork}, lambda step, folder: None)
    assert runner.evaluate(job["jobs"]["audit"]["if"]) is False


class Registry(BaseHTTPRequestHandler):
    """The registry of packages of a project on GitLab."""

    packages: dict[str, bytes]
    down: bool

    def do_GET(self) -> None:
        found = self.packages.get(self.path)
        self.answer(503 if self.down else 404 if found is None else 200, found or b"{}")

    def do_PUT(self) -> None:
        self.packages[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(503 if self.down else 201, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        status = status if self.headers["JOB-TOKEN"] == "token" else 401
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry():
    handler = type("OneRegistry", (Registry,), {"packages": {}, "down": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Lab:
    """A project on GitLab: its registry, and a runner for each pipeline."""

    def __init__(self, folder: Path, tools: Path, server: ThreadingHTTPServer) -> None:
        self.folder, self.tools, self.server, self.turn = folder, tools, server, 0
        self.home = make_repository(folder / "repository", "gitlab")
        self.job = yaml.safe_load((self.home / ".gitlab-ci.yml").read_text())["memberscope"]

    @property
    def registry(self):
        return self.server.RequestHandlerClass

    def run(
        self, source: str, shift: float, seed: int = 0, tag: str = "", **more: str
    ) -> tuple[int, str, Path]:
        self.turn += 1
        folder = self.folder / f"turn{self.turn}"
        shutil.copytree(self.home, folder)
        write_signals(folder / "s.csv", shift, seed)
        known = {
            **os.environ,
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "CI_API_V4_URL": f"http://127.0.0.1:{self.server.server_port}/api/v4",
            "CI_PROJECT_ID": "7",
            "CI_JOB_TOKEN": "token",
            "CI_PIPELINE_SOURCE": source,
            **({"CI_COMMIT_TAG": tag} if tag else {}),
            **more,
        }
        script = "\n".join([*self.job["before_script"], *self.job["script"]])
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=known,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, folder

    def read_kept(self) -> dict[str, bytes]:
        """The results in what is kept."""
        (text,) = self.registry.packages.values()
        file, folder = self.folder / "read.tar.gz", self.folder / "read"
        shutil.rmtree(folder, ignore_errors=True)
        file.write_bytes(text)
        shutil.unpack_archive(file, folder, filter="data")
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("result.json")
        }


def test_gitlab_keeps_a_baseline_that_no_worse_release_replaces(tmp_path, tools, registry):
    lab = Lab(tmp_path, tools, registry)
    validate(lab.home / ".gitlab-ci.yml", "gitlab-ci")
    rules = {rule["if"] for rule in lab.job["rules"]}
    sources = ("merge_request_event", "schedule", "web")
    (of_request,) = (rule for rule in rules if "merge_request_event" in rule)
    assert of_request.endswith(
        "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_MERGE_REQUEST_PROJECT_ID"
    )
    others = {f'$CI_PIPELINE_SOURCE == "{source}"' for source in sources[1:]}
    assert rules == {of_request, *others, "$CI_COMMIT_TAG"}
    code, text, folder = lab.run("push", 0.0, tag="v1")
    assert code == 0 and "No release is kept yet." in text and "Kept as the baseline" in text
    reports = [name for name in lab.job["artifacts"]["paths"] if not name.startswith("comparison")]
    assert len(reports) == 4 and all((folder / name).is_file() for name in reports)
    assert lab.job["artifacts"]["reports"]["junit"] in reports
    kept = lab.read_kept()
    assert sorted(kept) == ["memberscope-last/result.json", "memberscope-releases/v1/result.json"]
    baseline = kept["memberscope-last/result.json"]

    code, text, folder = lab.run("schedule", 0.0, seed=1)
    assert code == 0 and "NOT MORE" in text and (folder / "comparison.json").is_file()
    for source, tag in (("merge_request_event", ""), ("push", "team/v2")):
        code, text, _ = lab.run(source, WORSE, tag=tag)
        assert code == 1 and "PASS:" in text and "LEAKS MORE" in text
        names = [name for name in lab.read_kept() if "/team_v2-" in name]
        assert bool(names) == bool(tag)
    assert lab.read_kept()["memberscope-last/result.json"] == baseline

    code, text, _ = lab.run("web", FAILING, MEMBERSCOPE_START="true")
    assert code == 1 and lab.read_kept()["memberscope-last/result.json"] == baseline
    code, text, _ = lab.run("web", WORSE, MEMBERSCOPE_START="true")
    assert code == 0 and lab.read_kept()["memberscope-last/result.json"] != baseline
    assert len(lab.read_kept()) == 3


def test_gitlab_stops_where_what_was_kept_cannot_be_had(tmp_path, tools, registry):
    lab = Lab(tmp_path, tools, registry)
    lab.registry.down = True
    code, text, folder = lab.run("push", 0.0, tag="v1")
    assert code == 2 and "got the status 503" in text
    assert not (folder / "memberscope-out").exists() and lab.registry.packages == {}
    lab.registry.down = False
    code, text, _ = lab.run("push", 0.0, tag="v1", CI_JOB_TOKEN="stale")
    assert code == 2 and "got the status 401" in text
    (lab.home / "audit.toml").write_text("[target]\nsignals = 'none.csv'\n")
    code, text, _ = lab.run("push", 0.0, tag="v1")
    assert code == 2 and "none.csv" in text and lab.registry.packages == {}


def test_the_action_of_this_repository_judges_and_tells_its_exit_code(tmp_path, tools):
    validate(ROOT / "action.yml", "github-actions")
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(step.get("shell") == "bash" or "uses" in step for step in steps)
    home = make_repository(tmp_path / "repository", "github")
    for turn, (shift, code) in enumerate(((0.0, 0), (WORSE, 1))):
        folder = tmp_path / f"turn{turn}"
        shutil.copytree(home, folder)
        write_signals(folder / "s.csv", shift)
        if turn:
            shutil.copytree(tmp_path / "turn0" / "last", folder / "last")
        inputs = {name: str(about["default"]) for name, about in action["inputs"].items()}
        given = {"extras": "onnx", "keep-baseline": "last", "baseline": "last" if turn else ""}
        github = {"action_path": "/action"}
        runner = Runner(
            folder,
            f"{tools}:{os.environ['PATH']}",
            {"github": github, "inputs": inputs | given},
            lambda step, folder: None,
        )
        assert runner.run(steps) == code, runner.said
        assert runner.files["out"].read_text() == f"exit-code={code}\n" and runner.summary
    assert "install /action[onnx]" in (tools / "pip.txt").read_text()
    assert (tmp_path / "turn1" / "last" / "result.json").read_bytes() == (
        tmp_path / "turn0" / "last" / "result.json"
    ).read_bytes()


def test_the_hooks_run_what_they_say(tmp_path, tools):
    command = [sys.executable, "-m", "pre_commit", "validate-manifest"]
    subprocess.run([*command, ROOT / ".pre-commit-hooks.yaml"], check=True)
    hooks = {
        hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    }
    folder = make_repository(tmp_path / "repository", "github")
    write_signals(folder / "s.csv", 0.0)

    def run_hook(name: str) -> int:
        # What pre-commit does with `language: python` and no file names
        hook = hooks[name]
        assert hook["pass_filenames"] is False
        return run_command(*hook["entry"].split()[1:], *hook["args"], cwd=folder).returncode

    assert run_hook("memberscope-check") == 2, "there is no audit yet"
    assert run_hook("memberscope-plan") == 0
    assert run_command("audit", "audit.toml", cwd=folder).returncode == 0
    assert run_hook("memberscope-check") == 0
    # Another folder's file is not the one that the hook reads
    pattern = hooks["memberscope-plan"]["files"]
    assert re.search(pattern, "audit.toml") and not re.search(pattern, "models/audit.toml")
    (folder / "audit.toml").write_text("[target]\nsignal = 's.csv'\n")
    assert run_hook("memberscope-plan") == 2


def test_no_file_that_is_there_is_replaced(tmp_path):
    (tmp_path / ".gitlab-ci.yml").write_text("mine: {}\n")
    done = init(tmp_path, "gitlab")
    assert done.returncode == 0 and "include: memberscope.gitlab-ci.yml" in done.stdout
    assert (tmp_path / ".gitlab-ci.yml").read_text() == "mine: {}\n"
    assert "memberscope" in yaml.safe_load((tmp_path / "memberscope.gitlab-ci.yml").read_text())
    (tmp_path / "memberscope.gitlab-ci.yml").write_text("mine too\n")
    before = (tmp_path / "audit.toml").read_text()
    done = init(tmp_path, "gitlab", "--force", target="other.csv")
    assert done.returncode == 2 and "which is there" in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "memberscope.gitlab-ci.yml").read_text() == "mine too\n"
    assert (tmp_path / "audit.toml").read_text() == before
    done = init(tmp_path, "jenkins", "--force")
    assert done.returncode == 2 and "Expected --ci github or gitlab, got 'jenkins'" in done.stderr


@pytest.mark.parametrize("name", ["audit.toml", "my audit.toml", "a'b: #c.toml"])
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_any_name_of_the_configuration_reaches_the_command(tmp_path, system, name):
    done = init(tmp_path, system, name)
    assert done.returncode == 0, done.stderr
    if system == "github":
        steps = yaml.safe_load((tmp_path / WORKFLOW).read_text())["jobs"]["audit"]["steps"]
        script = next(step["run"] for step in steps if step.get("name") == "Audit")
    else:
        job = yaml.safe_load((tmp_path / ".gitlab-ci.yml").read_text())["memberscope"]
        script = next(line for line in job["script"] if "memberscope audit" in line)
    stub = 'memberscope() { printf "%s" "$2"; }; '
    shown = subprocess.run(
        ["bash", "-e", "-c", stub + script], capture_output=True, text=True, check=True
    )
    assert shown.stdout == name


@pytest.mark.parametrize("system", ["github", "gitlab"])
@pytest.mark.parametrize(
    ("target", "installed"),
    [
        ("model.onnx", '"memberscope[onnx]"'),
        ("https://a/b.onnx", '"memberscope[http]"'),
        ("m.skops", '"memberscope"'),
    ],
)
def test_the_extras_that_the_model_needs_are_installed(tmp_path, system, target, installed):
    assert init(tmp_path, system, target=target).returncode == 0
    file = tmp_path / (WORKFLOW if system == "github" else ".gitlab-ci.yml")
    text = file.read_text()
    assert f"pip install {installed}\n" in text and "@" not in re.sub(r"\S+@v\d|\"\$@\"", "", text)
