"""Compare whole audits of this code with those of another commit, to the bit.

`python benchmarks/compare_versions.py COMMIT [scene ...]`: small audits with reference models, a
population, groups, units, 779 columns, stored probabilities and losses alone are run by both. All
arrays (scores, folds, posteriors) are compared byte by byte, and all estimates, controls and
findings number by number. The models of the recipe do not depend on their seed, since the seeds of
reference models were drawn in another way before they could be added to a fleet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N = 150  # members, and as many others
ROOT = Path(__file__).resolve().parent.parent
TOLD = ("value", "low", "high", "n_members", "n_non_members", "queries", "method", "confidence")
NAMED = (
    "attack",
    "access",
    "restriction",
    "target",
    "group",
    "metric",
    "fpr",
    "prior",
    "threshold",
)


def build_plan(**more: Any) -> Any:
    """A plan that both versions know: every search and estimate by number."""
    from memberscope import Plan
    from memberscope.types import Access, ThreatModel

    known = Plan.__dataclass_fields__
    newer = {"boundary_queries": 20, "all_estimates": True}
    return Plan(
        threat=ThreatModel(access=Access.PROBABILITIES),
        search_queries=20,
        fprs=(0.1,),
        restrictions=("round:2",),
        folds=4,
        **more,
        **{name: value for name, value in newer.items() if name in known},
    )


def draw_records(columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of numbers, a quarter of them whole, and three classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * N, columns))
    x[:, ::4] = np.round(3 * x[:, ::4])
    noise = 3 * rng.gumbel(size=(2 * N, 3))
    return x, (x[:, :8] @ rng.normal(size=(8, 3)) + noise).argmax(axis=1)


def train(x: np.ndarray, y: np.ndarray) -> Any:
    """Boosted trees, which need no seed."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(x, y)


def audit_model(columns: int, seed: int, **more: Any) -> Any:
    """Audit boosted trees."""
    import memberscope

    x, y = draw_records(columns, seed)
    options = {"plan": build_plan(), "policy": "demo"} | more
    return memberscope.audit(train(x[:N], y[:N]), (x[:N], y[:N]), (x[N:], y[N:]), **options)


def audit_with_references(population: bool) -> Any:
    """Audit with a recipe, and perhaps with records that no model saw."""
    from memberscope.recipes import Execution

    return audit_model(
        12,
        3,
        plan=build_plan(references=6 if population else 4),
        recipe=lambda records, seed: train(records.x, records.y),
        population=draw_records(12, 9) if population else None,
        execution=Execution("sequential"),
    )


def audit_groups() -> Any:
    """Audit by site and sex."""
    import memberscope
    from memberscope.types import Records

    x, y = draw_records(10, 4)
    rng = np.random.default_rng(1)
    groups = {"site": rng.integers(0, 6, 2 * N).astype(str), "sex": rng.choice(["f", "m"], 2 * N)}
    ids = np.array([f"r{i}" for i in range(2 * N)])
    sides = [
        Records(x[s], y[s], ids[s], groups={name: codes[s] for name, codes in groups.items()})
        for s in (slice(0, N), slice(N, None))
    ]
    model = train(x[:N], y[:N])
    return memberscope.audit(model, *sides, plan=build_plan(), policy="standard")


def audit_stored(signal: str) -> Any:
    """Audit stored probabilities with features, or losses alone."""
    from memberscope.auditing import audit_signals
    from memberscope.targets import StoredSignals

    rng, member = np.random.default_rng(6), np.arange(2 * N) < N
    losses = signal == "loss"
    labels = rng.integers(0, 5, 2 * N)
    logits = rng.normal(size=(2 * N, 5))
    logits[np.arange(2 * N), labels] += 1 + member
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    outputs = rng.exponential(1 + 0.4 * ~member)[:, None] if losses else p
    return audit_signals(
        StoredSignals(
            signal=signal,
            outputs=np.round(outputs, 3),
            labels=labels,
            member=member,
            ids=np.array([f"r{i}" for i in range(2 * N)]),
            groups={"site": rng.integers(0, 5, 2 * N).astype(str)},
            features=None if losses else rng.normal(size=(2 * N, 6)),
            digest="benchmark",
        ),
        plan=build_plan(assume_exchangeable=losses),
        policy="demo",
    )


def list_people() -> tuple[np.ndarray, np.ndarray]:
    """People with three records each, of the members and of the others."""
    people = np.array([f"p{i // 3}" for i in range(2 * N)])
    return people[:N], people[N:]


SCENES: dict[str, Callable[[], Any]] = {
    "references": lambda: audit_with_references(population=False),
    "population": lambda: audit_with_references(population=True),
    "groups": audit_groups,
    "unit": lambda: audit_model(10, 5, unit=list_people()),
    "wide": lambda: audit_model(779, 0),
    "stored": lambda: audit_stored("probabilities"),
    "losses": lambda: audit_stored("loss"),
}


def run_scenes(folder: Path, source: Path, names: list[str]) -> None:
    """Run the scenes by the code in `source`, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, __file__, "--write", str(folder), *names]
    subprocess.run(command, env=environment, check=True)


def write_scenes(folder: Path, names: list[str]) -> None:
    """Run the scenes by the code that is imported."""
    from memberscope.reports import write_all

    for name in names:
        write_all(SCENES[name](), folder / name)


def compare_results(before: Path, after: Path) -> str:
    """Say in how many arrays and numbers two results differ."""
    from safetensors.numpy import load_file

    first, second = (load_file(folder / "arrays.safetensors") for folder in (before, after))
    other = [
        name
        for name in sorted(first.keys() | second.keys())
        if name not in first
        or name not in second
        or (first[name].dtype, first[name].tobytes())
        != (second[name].dtype, second[name].tobytes())
    ]
    old, new = (json.loads((folder / "result.json").read_text()) for folder in (before, after))
    rows = [
        {tuple(str(entry.get(key)) for key in NAMED): entry for entry in result["estimates"]}
        for result in (old, new)
    ]
    differ = [
        key
        for key in rows[0].keys() | rows[1].keys()
        if any(rows[0].get(key, {}).get(word) != rows[1].get(key, {}).get(word) for word in TOLD)
    ]
    rest = [part for part in ("controls", "findings", "verdict") if old[part] != new[part]]
    return (
        f"{len(first)} arrays, {len(other)} differ {other[:5] or ''}; {len(rows[0])} estimates, "
        f"{len(differ)} differ {differ[:3] or ''}; other parts that differ: {rest or 'none'}"
    )


def main() -> None:
    """Compare all scenes, or those named."""
    commit, names = sys.argv[1], sys.argv[2:] or list(SCENES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkout = folder / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(checkout), commit], check=True)
        try:
            for scene in names:
                run_scenes(folder / "before", checkout / "src", [scene])
                run_scenes(folder / "after", ROOT / "src", [scene])
                found = compare_results(folder / "before" / scene, folder / "after" / scene)
                print(f"{scene}: {found}", flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_scenes(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
