"""Draw the charts of a result with matplotlib, on axes of the caller's or on new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from memberscope.auditing import Result
from memberscope.errors import InputError
from memberscope.reports.notebook.tables import build_roc_points
from memberscope.reports.page import build_group_rows
from memberscope.statistics import auc_value, roc

SHOWN = 5  # curves that can still be told apart
LEAST = 1e-4  # rate at which logarithmic axes begin, where there are that many records


@dataclass(frozen=True, eq=False)
class Plots:
    """The charts of one result."""

    result: Result

    def roc(
        self,
        attacks: Sequence[str] | str | None = None,
        *,
        access: str | None = None,
        ax: Any = None,
        log: bool = True,
    ) -> Any:
        """Draw the ROC of some attacks, or of the five with the largest area.

        Args:
            attacks: Names of attacks that ran.
            access: The level to draw them at; None takes each at its highest.
            ax: The axes of matplotlib to draw on; None makes new ones.
            log: Whether the axes are logarithmic, which shows the low rates.

        Returns:
            The axes.

        Raises:
            InputError: matplotlib is not installed, or an attack did not run.
        """
        names = [attacks] if isinstance(attacks, str) else attacks or _choose_attacks(self.result)
        curves = [build_roc_points(self.result, name, access) for name in names]
        ax = _open_axes(ax)
        for curve in curves:
            ax.plot(curve.fpr, curve.tpr, label=f"{curve.attack} ({curve.access})")
        n_others = self.result.diagnostics.n_non_members
        least = max(LEAST, 1 / n_others) if log else 0.0
        ax.plot([least, 1], [least, 1], color="0.6", linestyle=":", label="chance")
        if log:
            ax.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
        ax.set(xlabel="false-positive rate", ylabel="members found", title=self.result.title)
        ax.legend()
        return ax

    def groups(self, *, ax: Any = None, most: int = 20) -> Any:
        """Draw the largest AUC of an attack in each class and group, the most exposed on top.

        Args:
            ax: The axes of matplotlib to draw on; None makes new ones.
            most: How many groups to draw at most.

        Returns:
            The axes.

        Raises:
            InputError: matplotlib is not installed, or no group is large enough.
        """
        leading = self.result.diagnostics.leading
        rows = [] if leading is None else build_group_rows(self.result, leading)[:most]
        areas = [row.auc for row in rows if row.auc is not None]
        if leading is None or not areas:
            raise InputError(
                "Expected a class or group with ten members and ten non-members, got none. Audit "
                "more records."
            )
        ax = _open_axes(ax)
        values = np.array([(entry.value, entry.low, entry.high) for entry in areas])
        place = np.arange(len(areas))[::-1]
        limits = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        ax.errorbar(values[:, 0], place, xerr=limits, fmt="o", capsize=3)
        ax.axvline(0.5, color="0.6", linestyle=":")
        ax.set_yticks(place, [str(entry.group) for entry in areas])
        ax.set(xlabel="AUC of the strongest attack in the group", title=self.result.title)
        return ax


def build_plots(result: Result) -> Plots:
    """Build the charts of a result; nothing is drawn yet."""
    return Plots(result)


def _choose_attacks(result: Result) -> list[str]:
    """Choose the attacks with the largest area; none without arrays, which the curve refuses."""
    arrays = result.arrays
    if arrays is None:
        return [""]
    areas: dict[str, float] = {}
    for entry in arrays.scored:
        if entry.declared:
            area = auc_value(roc(arrays.comparable[entry.name], arrays.member))
            areas[entry.attack] = max(area, areas.get(entry.attack, 0.0))
    return sorted(areas, key=lambda name: -areas[name])[:SHOWN]


def _open_axes(ax: Any) -> Any:
    """Give the axes to draw on, new ones where none are given.

    Raises:
        InputError: matplotlib is not installed.
    """
    if ax is not None:
        return ax
    if find_spec("matplotlib") is None:
        raise InputError(
            "Expected matplotlib for a chart, got none installed. Run: pip install "
            "'memberscope[plot]'"
        )
    from matplotlib import pyplot

    return pyplot.subplots()[1]
