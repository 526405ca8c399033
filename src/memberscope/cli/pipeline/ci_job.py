"""The CI job that `init --ci` writes.

It audits pull requests, on a schedule and each release, judges with waivers and a baseline, and
keeps the baseline and the results of all releases.
"""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

from memberscope.errors import InputError

SYSTEMS = ("github", "gitlab")
EXTRAS = {
    ".onnx": "onnx",
    ".pt": "torch",
    ".pth": "torch",
    ".safetensors": "torch",
    ".parquet": "parquet",
    ".txt": "boost",
    ".lgb": "boost",
    ".lgbm": "boost",
}
BESIDE = {
    ".json": " xgboost",
    ".ubj": " xgboost",
    ".keras": " keras torch",
}  # packages that no extra brings
INCLUDE = "Add to .gitlab-ci.yml: include: memberscope.gitlab-ci.yml"


def choose_job_file(system: str) -> Path:
    """Choose the file of the job, from the repository's root.

    Where there is a .gitlab-ci.yml already, it is a file beside it, to be included by it.

    Raises:
        InputError: The CI system is not known, or the file is there.
    """
    if system not in SYSTEMS:
        raise InputError(
            f"Expected --ci {' or '.join(SYSTEMS)}, got {system!r}. Choose one of them."
        )
    path = Path(".github") / "workflows" / "memberscope.yml"
    if system == "gitlab":
        path = (
            Path("memberscope.gitlab-ci.yml")
            if Path(".gitlab-ci.yml").exists()
            else Path(".gitlab-ci.yml")
        )
    if path.exists():
        raise InputError(
            f"Expected no {str(path)!r}, which is there. Move it away; --force does not replace it."
        )
    return path


def render_job(system: str, config: str, target: str) -> str:
    """Write the job for a configuration file of this name.

    It installs what the model's file needs.

    >>> 'pip install "memberscope[onnx]"' in render_job("gitlab", "audit.toml", "model.onnx")
    True
    """
    # Jobs are full of braces, so what is filled in is marked by signs that they do not have
    place = files("memberscope.cli.pipeline") / "jobs" / f"{system}.yml"
    text = place.read_text(encoding="utf-8").replace("@PACKAGES@", _list_packages(target))
    return text.replace("@CONFIG@", shlex.quote(config))


def _list_packages(target: str) -> str:
    """List what pip installs to audit `target`.

    A model file or folder, a module:factory, an endpoint or a table of signals.

    >>> _list_packages("https://model"), _list_packages("model.ubj"), _list_packages("mine:build")
    ('"memberscope[http]"', '"memberscope" xgboost', '"memberscope"')
    """
    suffix = Path(target).suffix.lower()
    extra = EXTRAS.get(suffix, "" if suffix or ":" in target else "hf")
    if target.startswith(("http://", "https://")):
        suffix, extra = "", "http"
    return f'"memberscope[{extra}]"' if extra else f'"memberscope"{BESIDE.get(suffix, "")}'
