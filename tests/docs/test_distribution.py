"""What `pip install memberscope` brings: wheel and sdist, built here and installed alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DATA = {".toml", ".j2", ".css", ".js", ".json", ".yml", ".typed"}  # suffixes of what is not code


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def list_closure(names: list[str]) -> dict[str, Distribution]:
    """The installed distributions of some requirements, and of what these require in turn."""
    found: dict[str, Distribution] = {}
    pending = [Requirement(name) for name in names]
    while pending:
        wanted = pending.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if key not in found:
            try:
                found[key] = distribution(wanted.name)
            except PackageNotFoundError:
                pytest.skip(f"needs {wanted.name}")
            pending += map(Requirement, found[key].requires or ())
    return found


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory):
    """An environment with the wheel and its requirements alone, which stand here already."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, symlinks=True, with_pip=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for found in list_closure(PROJECT["dependencies"]).values():
        for file in found.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    (wheel,) = built.glob("*.whl")
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, env=build_environment(folder))
    return folder


def build_environment(folder: Path) -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MEMBERSCOPE", "PIP"))
    }
    return kept | {"HOME": str(folder), "PIP_CONFIG_FILE": os.devnull}


def run_in(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [str(folder / "bin" / command[0]), *command[1:]],
        cwd=folder,
        env=build_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_the_schemas(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "memberscope").rglob("*")
        if path.is_file() and (path.suffix == ".py" or path.suffix in DATA)
    }
    assert wanted - names == set()
    assert {name.rpartition("/")[2] for name in names if "share/memberscope/schema" in name} == {
        path.name for path in (ROOT / "schema").iterdir()
    }
    shipped = {name for name in names if name.startswith("memberscope/")}
    assert {"memberscope/auditing/policies/standard.toml", "memberscope/py.typed"} <= shipped
    assert any(name.endswith("report.html.j2") for name in shipped)
    # Nothing else, such as tests or what a run left behind
    assert all(name.startswith(("memberscope/", "memberscope-")) for name in names)


def test_the_sdist_builds_the_same_wheel(built, tmp_path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert (source / "tests").is_dir() and (source / "CHANGELOG.md").is_file()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "d")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (again,), (wheel,) = (tmp_path / "d").glob("*.whl"), built.glob("*.whl")
    listed = [
        sorted((entry.filename, entry.CRC) for entry in zipfile.ZipFile(path).infolist())
        for path in (again, wheel)
    ]
    assert listed[0] == listed[1]


def test_an_environment_of_its_own_is_consistent_and_the_command_runs(clean):
    assert "No broken requirements" in run_in(clean, "pip", "check")
    said = run_in(clean, "memberscope", "--version")
    assert said == f"memberscope {PROJECT['version']}\n"
    assert "gap" in run_in(clean, "memberscope", "list", "attacks")
    assert "standard" in run_in(clean, "memberscope", "list", "policies")


def test_the_core_needs_no_extra(clean):
    """A small audit of a scikit-learn model writes a whole report without torch and the others."""
    code = """
import numpy as np, memberscope, importlib.util
assert not any(map(importlib.util.find_spec, ("torch", "lightgbm", "pandas", "starlette")))
from sklearn.tree import DecisionTreeClassifier
rng = np.random.default_rng(0)
x, y = rng.normal(size=(400, 4)), rng.integers(0, 2, 400)
model = DecisionTreeClassifier(random_state=0).fit(x[:200], y[:200])
plan = memberscope.Plan(attacks=("gap", "loss"), policy=memberscope.load_policy("demo"))
result = memberscope.audit(model, (x[:200], y[:200]), (x[200:], y[200:]), plan=plan)
memberscope.write_all(result, "out")
print(result.verdict)
"""
    assert run_in(clean, "python", "-c", code).strip() in ("FAIL", "INCONCLUSIVE", "PASS")
    assert (clean / "out" / "report.html").stat().st_size > 10_000


def test_versions_of_python_agree():
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert least is not None
    listed = [
        int(entry.rpartition(".")[2])
        for entry in PROJECT["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", entry)
    ]
    assert listed == list(range(int(least[1]), max(listed) + 1))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    checked = re.search(r"^VERSIONS := (.*)$", makefile, re.MULTILINE)
    assert checked is not None and checked[1].split() == [f"3.{minor}" for minor in listed]
    workflow = (ROOT / ".github" / "workflows" / "package.yml").read_text(encoding="utf-8")
    assert all(f'"3.{minor}"' in workflow for minor in listed)


def test_every_extra_is_on_the_page_of_installing():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    for extra in PROJECT["optional-dependencies"].keys() - {"dev", "docs"}:
        assert f"| `{extra}` |" in page
