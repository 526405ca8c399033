"""The CI job that `init --ci` writes.

It audits on a schedule and on release, judges, compares with the last release and keeps reports.
"""

from __future__ import annotations

import shlex
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
NOTES = """# memberscope: does the model leak who was in its training data, and does this release leak more than the last?
# What this job keeps of an audit holds no records and no ids (--no-records), but membership and scores by row number: whoever may
# read it may read them. Take arrays.safetensors out of what is kept, and comparisons use wider intervals.
# The model, the records and what audit.toml names must be where the job runs; add a step that fetches them.
"""
GITHUB = """name: memberscope
on:
  schedule:
    - cron: "17 3 * * 1"
  release:
    types: [published]
  workflow_dispatch:
permissions:
  actions: read
  contents: read
jobs:
  audit:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - name: Install
        run: |
          pip install {packages}
          if [ -f requirements.txt ]; then pip install -r requirements.txt; fi
      - name: Audit
        run: |
          memberscope audit {config} --out memberscope-out --no-records
      - name: Judge
        if: ${{{{ !cancelled() }}}}
        run: memberscope check memberscope-out --junit memberscope.xml
      - name: Fetch the last release's audit
        if: ${{{{ !cancelled() }}}}
        env:
          GH_TOKEN: ${{{{ github.token }}}}
        run: gh run download --name memberscope-last --dir memberscope-last || echo "None is kept yet."
      - name: Compare with it
        if: ${{{{ !cancelled() }}}}
        run: |
          if [ -f memberscope-last/result.json ]; then
            memberscope compare memberscope-last memberscope-out --out comparison.html --json comparison.json
          fi
      - name: Keep this audit if it is of a release, or the first
        if: ${{{{ !cancelled() }}}}
        run: |
          if [ ! -f memberscope-last/result.json ] || [ "$GITHUB_EVENT_NAME" = release ]; then
            mkdir memberscope-keep
            cp memberscope-out/result.json memberscope-out/arrays.safetensors memberscope-keep/
          fi
      - uses: actions/upload-artifact@v4
        if: ${{{{ !cancelled() }}}}
        with:
          name: memberscope-last
          path: memberscope-keep
          if-no-files-found: ignore
      - uses: actions/upload-artifact@v4
        if: ${{{{ !cancelled() }}}}
        with:
          name: memberscope-report
          path: |
            memberscope-out/report.html
            memberscope.xml
            comparison.html
            comparison.json
"""
GITLAB = """memberscope:
  image: python:3.12
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
    - if: $CI_COMMIT_TAG
  # The last release's audit is kept in a cache of its own; runners of one project must share it.
  cache:
    key: memberscope-last
    paths: [memberscope-last/]
    when: always
  before_script:
    - pip install {packages}
    - if [ -f requirements.txt ]; then pip install -r requirements.txt; fi
  script:
    - worst=0
    - |
      memberscope audit {config} --out memberscope-out --no-records || worst=$?
    - memberscope check memberscope-out --junit memberscope.xml || worst=$?
    - |
      if [ -f memberscope-last/result.json ]; then
        memberscope compare memberscope-last memberscope-out --out comparison.html --json comparison.json || worst=$?
      fi
    - |
      if [ -f memberscope-out/result.json ] && {{ [ -n "$CI_COMMIT_TAG" ] || [ ! -f memberscope-last/result.json ]; }}; then
        mkdir -p memberscope-last
        cp memberscope-out/result.json memberscope-out/arrays.safetensors memberscope-last/
      fi
    - exit $worst
  artifacts:
    when: always
    paths: [memberscope-out/report.html, memberscope.xml, comparison.html, comparison.json]
    reports:
      junit: memberscope.xml
"""
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
    body = GITHUB if system == "github" else GITLAB
    return NOTES + body.format(packages=_list_packages(target), config=shlex.quote(config))


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
