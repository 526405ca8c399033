"""The schedule of an audit: which attack runs at which level on which signal, or why not."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.result import NotRun
from memberscope.signals import SignalRequest
from memberscope.types import Attack

# Sources of signals that take more than the one answer that every record is asked for
MEASURED = ("search", "white_box", "custom", "generations")


@dataclass(frozen=True)
class Job:
    """One attack at one level, with the signal that it reads there."""

    attack: Attack
    level: Level
    request: SignalRequest

    @property
    def needs_references(self) -> bool:
        """Whether the attack compares the target with reference models."""
        return any(self.attack.needs.references)


@dataclass(frozen=True)
class Schedule:
    """The levels of an audit, weakest first, the jobs there, and what does not run, with reasons.

    It is known before anything is asked. What turns out to be impossible only when the model is
    asked (a model that fails on moved records, too few reference models that trained) is added to
    `not_run` of the result when it happens.
    """

    levels: tuple[Level, ...]
    jobs: tuple[Job, ...]
    not_run: tuple[NotRun, ...]

    @property
    def runs(self) -> list[tuple[Attack, Level]]:
        """Each attack with its level."""
        return [(job.attack, job.level) for job in self.jobs]

    def list_reference_requests(self) -> tuple[SignalRequest, ...]:
        """List the signals that reference models have to show, each once."""
        return tuple(dict.fromkeys(job.request for job in self.jobs if job.needs_references))

    def list_target_requests(self) -> tuple[SignalRequest, ...]:
        """List the signals that further target models have to show, each once.

        Those of reference models, and what is measured for attacks without them.
        """
        return tuple(
            dict.fromkeys(
                job.request
                for job in self.jobs
                if job.needs_references or job.request.spec.source in MEASURED
            )
        )

    def list_measured_requests(self) -> tuple[SignalRequest, ...]:
        """List the signals that are measured of the target itself, each once."""
        return tuple(
            dict.fromkeys(job.request for job in self.jobs if job.request.spec.source in MEASURED)
        )
