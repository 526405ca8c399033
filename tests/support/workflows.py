"""Run the steps of a CI job as a runner would, as far as a machine without one can.

Shell steps run for real, in order, in the job's folder. Conditions are evaluated in the subset of
expressions that the templates use. Actions of others are told to a function of the test.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
Step = Mapping[str, Any]


class Runner:
    """A runner of one job: the folder, the event, and what the steps have said so far.

    `uses` is called with each step that runs an action of somebody else's. `context` are the
    objects of expressions, such as `{"github": {...}, "inputs": {...}}`.
    """

    def __init__(
        self,
        folder: Path,
        path: str,
        context: Mapping[str, Mapping[str, Any]],
        uses: Callable[[Step, Path], None],
    ) -> None:
        self.folder, self.uses, self.failed = folder, uses, False
        self.context = {"inputs": {}, "steps": {}, **{k: dict(v) for k, v in context.items()}}
        self.files = {name: folder.parent / f"{folder.name}.{name}" for name in ("summary", "out")}
        self.environment = {
            **os.environ,
            "PATH": path,
            "COLUMNS": "100",
            "GITHUB_STEP_SUMMARY": str(self.files["summary"]),
            "GITHUB_OUTPUT": str(self.files["out"]),
        }
        self.codes: dict[str, int] = {}
        self.said: dict[str, str] = {}

    @property
    def summary(self) -> str:
        """What the job showed on its page."""
        file = self.files["summary"]
        return file.read_text() if file.exists() else ""

    def run(self, steps: list[Step], **environment: str) -> int:
        """Run the steps; 1 if the job failed, as the runner tells it."""
        self.environment |= environment
        for step in steps:
            ran = self.evaluate(str(step.get("if", "success()")))
            outcome = "skipped"
            if ran:
                code = self._run_step(step)
                outcome = "success" if code == 0 else "failure"
                self.failed |= code != 0 and not step.get("continue-on-error", False)
            if "id" in step:
                self.context["steps"][step["id"]] = {"outcome": outcome}
        return int(self.failed)

    def _run_step(self, step: Step) -> int:
        name = str(step.get("name", step.get("uses")))
        if "run" not in step:
            self.uses({**step, "with": self._fill(step.get("with", {}))}, self.folder)
            return 0
        done = subprocess.run(
            ["bash", "-e", "-c", self._fill_text(step["run"])],
            cwd=self.folder,
            env={**self.environment, **self._fill(step.get("env", {}))},
            capture_output=True,
            text=True,
            check=False,
        )
        self.codes[name], self.said[name] = done.returncode, done.stdout + done.stderr
        return done.returncode

    def _fill(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {key: self._fill_text(str(value)) for key, value in values.items()}

    def _fill_text(self, text: str) -> str:
        return EXPRESSION.sub(lambda found: self._write(self.evaluate(found[1])), text)

    @staticmethod
    def _write(value: object) -> str:
        return (
            "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        )

    def evaluate(self, text: str) -> Any:
        """Evaluate an expression of GitHub, in the subset that the templates use."""
        inner = EXPRESSION.fullmatch(text.strip())
        words = (inner[1] if inner else text).strip()
        words = words.replace("&&", " and ").replace("||", " or ")
        words = re.sub(r"!(?!=)", " not ", words)
        # Names with a hyphen are attributes of inputs and outputs
        words = re.sub(r"(?<=[.\w])-(?=[a-z])", "_", words)
        names = {
            "success": lambda: not self.failed,
            "cancelled": lambda: False,
            "hashFiles": lambda name: "x" if (self.folder / name).is_file() else "",
        }
        return eval(words.strip(), {"__builtins__": {}}, names | self._list_objects())

    def _list_objects(self) -> dict[str, Any]:
        return {name: _make_object(value) for name, value in self.context.items()}


class _Object(SimpleNamespace):
    """An object of an expression; what it lacks is null, as for the runner."""

    def __getattr__(self, name: str) -> Any:
        return None if name.startswith("__") else _Object()

    def __bool__(self) -> bool:
        return bool(vars(self))

    def __str__(self) -> str:
        return ""


def _make_object(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return _Object(**{key.replace("-", "_"): _make_object(part) for key, part in value.items()})
