"""How much of a collection was used, and was anything near it used, on Location-30.

Writes docs/sets-share-location30.md.

Each split deals 1,500 suspect, 1,500 held-out and 1,500 other records. Groups of four reference
models are trained on half of the first two kinds, in complementary pairs; targets on a share of the
suspect records, filled up with others, so that every model sees 1,500. The same models are read by
the formulas that ML Privacy Meter publishes for DUCI and RaMIA, written anew here.

    python benchmarks/set_share.py [splits]
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import data
from memberscope import Records
from memberscope.attacks import RMIA, RobustLiRA
from memberscope.auditing.sets import score_references
from memberscope.recipes import SGD, TorchRecipe, build_balanced_design
from memberscope.statistics import auc_value, estimate_auc, roc, tpr_at_fpr
from memberscope.statistics.sets import estimate_share, score_ranges
from memberscope.types import Evidence

SIZE, REFERENCES, GROUPS, TARGETS, OUTSIDE = 1_500, 4, 3, 2, 3
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
VERSIONS, CHANGED = (
    8,
    (22, 45, 90),
)  # versions of a record, and the bits of 446 in which they differ
DROPS = (0.0, 0.25, 0.5, 0.75)
DROP = 0.75  # the product's own
PAGE = Path(__file__).resolve().parent.parent / "docs" / "sets-share-location30.md"


def network() -> Any:
    """One hidden layer of 256."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(446, 256), torch.nn.Tanh(), torch.nn.Linear(256, 30))


@dataclass(frozen=True, eq=False)
class Split:
    """Records in a random order, and models: groups of references, targets by share, outside."""

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray
    models: list[Any]

    def rows(self, kind: str) -> np.ndarray:
        """Positions of models: `references`, `targets` or `outside`."""
        ends = np.cumsum([0, GROUPS * REFERENCES, len(SHARES) * TARGETS, OUTSIDE])
        place = ("references", "targets", "outside").index(kind)
        return np.arange(ends[place], ends[place + 1])


def train_split(seed: int) -> Split:
    """Train every model of a split together."""
    x, y = data.location30()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    x, y, n = x[order], y[order].astype(np.int64), SIZE
    rows = []
    for _ in range(GROUPS):
        design = build_balanced_design(2 * n, n, REFERENCES, rng)
        rows += list(np.pad(design, ((0, 0), (0, len(y) - 2 * n))))
    for share in np.repeat(SHARES, TARGETS):
        used = np.zeros(len(y), dtype=bool)
        used[rng.choice(n, int(share * n), replace=False)] = True
        used[2 * n + rng.choice(n, n - int(share * n), replace=False)] = True
        rows.append(used)
    for _ in range(OUTSIDE):
        used = np.zeros(len(y), dtype=bool)
        used[2 * n + rng.choice(len(y) - 2 * n, n, replace=False)] = True
        rows.append(used)
    recipe = TorchRecipe(network, SGD(0.1), epochs=50, batch_size=64)
    pool = Records(x, y, np.arange(len(y)).astype(str))
    seeds = [1000 * seed + k for k in range(len(rows))]
    return Split(x, y, np.array(rows), list(recipe.many(pool, np.array(rows), seeds)))


def read_logits(model: Any, x: np.ndarray, y: np.ndarray, temperature: float = 1) -> np.ndarray:
    """The logit-scaled confidence (n,) of the true class."""
    outputs = np.asarray(model.query(x), dtype=np.float64) / temperature
    rows = np.arange(len(y))
    own = outputs[rows, y].copy()
    outputs[rows, y] = -np.inf
    return own - np.logaddexp.reduce(outputs, axis=1)


def build_evidence(
    signal: Any, target: np.ndarray, references: np.ndarray, inside: np.ndarray
) -> Evidence:
    """Evidence of one number a record."""
    n = len(target)
    hidden = np.full(n, -1, dtype=np.int8)
    return Evidence(
        signal,
        target[:, None, None],
        np.zeros(n, dtype=np.int64),
        hidden,
        references=references[:, :, None, None],
        inside=inside,
    )


# What ML Privacy Meter publishes, in its own order of steps


def score_published_rmia(
    p: np.ndarray, refs: np.ndarray, seen: np.ndarray, z: np.ndarray, z_refs: np.ndarray, a: float
) -> np.ndarray:
    """RMIA as published: the largest half of the models' values without the record; one of few."""
    count = max(len(refs) // 2, 1)

    def average(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        if count > 1:
            return np.sort(values * ~inside, axis=0)[::-1][:count].mean(axis=0)
        return np.where(inside, (values + a - 1) / a, values).mean(axis=0)

    def ratio(own: np.ndarray, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return own / ((1 + a) / 2 * average(values, inside) + (1 - a) / 2)

    others = np.sort(ratio(z, z_refs, np.zeros_like(z_refs, dtype=bool)))
    return np.searchsorted(others, ratio(p, refs, seen), "left") / len(others)


def estimate_with_one_threshold(
    target: np.ndarray, references: np.ndarray, seen: np.ndarray
) -> float:
    """The formula of DUCI: calls (n,) of the target, rates and threshold of references (m, n)."""
    scores, inside = references.ravel(), seen.ravel()
    order = np.argsort(-scores)
    tpr = np.cumsum(inside[order]) / inside.sum()
    fpr = np.cumsum(~inside[order]) / (~inside).sum()
    # Equal scores are called together
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    best = ends[np.argmax((tpr - fpr)[ends])]
    threshold = scores[order][best]
    called = float((target >= threshold).mean())
    return float((called - fpr[best]) / (tpr[best] - fpr[best]))


def estimate_published_share(p: np.ndarray, z: np.ndarray, seen: np.ndarray) -> float:
    """DUCI as published, of `p` (1 + m, n), the target first, and `z` of the population.

    Each reference is attacked with the others; one threshold from all of their scores.
    """
    m, a = len(seen), 0.3
    if m > 2:
        found = []
        for tried in np.arange(0.1, 1.05, 0.1):
            scores = score_published_rmia(p[1], p[2:], seen[1:], z[1], z[2:], tried)
            found.append((auc_value(roc(scores, seen[0])), tried))
        a = max(found)[1]
    target = score_published_rmia(p[0], p[1:], seen, z[0], z[1:], a)
    scores = []
    for i in range(m):
        others = np.arange(m) != i
        scores.append(
            score_published_rmia(p[1 + i], p[1:][others], seen[others], z[1 + i], z[1:][others], a)
        )
    return estimate_with_one_threshold(target, np.array(scores), seen)


def estimate_with_others(evidence: Evidence) -> float:
    """The formula of DUCI with `lira_robust`: each reference is attacked with all the others."""
    assert evidence.references is not None and evidence.inside is not None
    inside, rng = evidence.inside, np.random.default_rng(0)
    scores = [RobustLiRA().score(evidence, rng)]
    for i in range(len(inside)):
        others = np.arange(len(inside)) != i
        left = replace(
            evidence,
            target=evidence.references[i],
            references=evidence.references[others],
            inside=inside[others],
        )
        scores.append(RobustLiRA().score(left, rng))
    found = np.array(scores)[:, :SIZE]
    return estimate_with_one_threshold(found[0], found[1:], inside[:, :SIZE])


def measure_shares(split: Split) -> list[tuple[float, ...]]:
    """Measure each target with each group of references.

    True share, value, limits, whether held-out limits hold 0, the published value, seconds of both,
    and the published formula with our attack.
    """
    both = np.arange(2 * SIZE)
    spare = np.arange(3 * SIZE, len(split.y))
    logits = np.array([read_logits(model, split.x, split.y) for model in split.models])
    suspect = both < SIZE
    found = []
    for group in range(GROUPS):
        rows = split.rows("references")[group * REFERENCES :][:REFERENCES]
        inside = split.inside[rows][:, both]
        for share, k in zip(np.repeat(SHARES, TARGETS), split.rows("targets"), strict=True):
            started = time.process_time()
            evidence = build_evidence(
                "logit_confidence", logits[k, both], logits[np.ix_(rows, both)], inside
            )
            scores = score_references(RobustLiRA(), evidence, np.random.default_rng(0))
            ours = estimate_share(scores, suspect, ~suspect)
            control = estimate_share(scores, ~suspect)
            middle = time.process_time()
            p = 1 / (1 + np.exp(-logits[np.append(k, rows)]))
            theirs = estimate_published_share(p[:, :SIZE], p[:, spare], inside[:, :SIZE])
            seconds = (middle - started, time.process_time() - middle)
            value = np.nan if ours.value is None else ours.value
            limits = (ours.low, ours.high, control.low <= 0)
            same = estimate_with_others(evidence)
            found.append((share, value, *limits, theirs, *seconds, same))
    return found


def make_versions(x: np.ndarray, changed: int, rng: np.random.Generator) -> np.ndarray:
    """Versions (k, n, f) of records: the centre, the record itself, and others as far from it."""

    def change(rows: np.ndarray) -> np.ndarray:
        columns = np.argsort(rng.random(rows.shape), axis=1)[:, :changed]
        out = rows.copy()
        places = (np.arange(len(rows))[:, None], columns)
        out[places] = 1 - out[places]
        return out

    centre = change(x)
    return np.stack([centre, x, *(change(centre) for _ in range(VERSIONS - 2))])


def measure_near(split: Split, changed: int, seed: int) -> dict[str, list[np.ndarray]]:
    """AUC, TPR at 1% and 10% of each range score: of targets that saw the suspects, and none.

    `seconds` has those of processor time that our default and the published formula take from the
    logits to the scores of ranges.
    """
    n = 2 * SIZE
    versions = make_versions(split.x[:n], changed, np.random.default_rng(seed))
    flat, y = versions.reshape(-1, versions.shape[2]), np.tile(split.y[:n], VERSIONS)
    ranges, member = np.tile(np.arange(n), VERSIONS), np.tile(np.arange(n) < SIZE, VERSIONS)
    spare = (split.x[-200:], split.y[-200:])
    targets, outside = split.rows("targets"), split.rows("outside")
    read = {
        k: [
            read_logits(split.models[k], *part, temperature)
            for temperature in (2, 1)
            for part in ((flat, y), spare)
        ]
        for k in (*targets[-TARGETS:], *targets[:TARGETS], *outside)
    }
    nobody = [np.zeros((OUTSIDE, size), dtype=bool) for size in (len(y), len(spare[1]))]
    found: dict[str, list[np.ndarray]] = {}
    for what, chosen in (("used", targets[-TARGETS:]), ("unused", targets[:TARGETS])):
        for k in chosen:
            begun = time.process_time()
            # As log-probabilities of two classes, the true one and all others
            own, z = (
                build_evidence(
                    "log_confidence",
                    -np.logaddexp(0, -read[k][i]),
                    -np.logaddexp(0, -np.array([read[j][i] for j in outside])),
                    nobody[i],
                )
                for i in (0, 1)
            )
            attack = RMIA("offline", a=0.3)
            scores = attack.score(replace(own, population=z), np.random.default_rng(0))
            score_ranges(scores[:, None], member, ranges, drop=DROP)
            scored = time.process_time()
            table = {"one record, the centre": scores[:n]}
            for drop in DROPS:
                name = "mean of all versions" if drop == 0 else f"lowest {drop:.0%} left out"
                table[name] = score_ranges(scores[:, None], member, ranges, drop=drop).values[:, 0]
            begun_again = time.process_time()
            p, z_p = (
                1 / (1 + np.exp(-np.array([read[j][i] for j in (k, *outside)]))) for i in (2, 3)
            )
            theirs = score_published_rmia(p[0], p[1:], nobody[0], z_p[0], z_p[1:], 0.3)
            theirs = theirs.reshape(VERSIONS, n)
            half = int((1 - 0.5) * VERSIONS)
            table["ML Privacy Meter: RMIA, 50% left out"] = np.sort(theirs, axis=0)[-half:].mean(0)
            seconds = (scored - begun, time.process_time() - begun_again)
            found.setdefault("seconds", []).append(np.array(seconds))
            for name, values in table.items():
                curve = roc(values, np.arange(n) < SIZE)
                interval = estimate_auc(values, np.arange(n) < SIZE).limits(1 - 0.01 / 60)
                rates = [tpr_at_fpr(curve, fpr).value for fpr in (0.01, 0.1)]
                row = [interval.value, *rates, interval.low <= 0.5 <= interval.high]
                found.setdefault(f"{what}|{name}", []).append(np.array(row))
    return found


def describe_shares(rows: np.ndarray) -> list[str]:
    """The table of shares, and the line below it."""
    lines = [
        "| true share | estimates | mean | RMSE | limits of 95% hold it | mean width | as published: "
        "mean | RMSE | its formula, our attack: mean | RMSE |",
        "|" + " --- |" * 10,
    ]

    def describe(name: str, part: np.ndarray) -> str:
        true, value, low, high, _, theirs, *_, same = part.T
        held = int(((low <= true + 1e-9) & (true <= high + 1e-9)).sum())
        three = (value, np.clip(theirs, 0, 1), np.clip(same, 0, 1))
        errors = [np.sqrt(((got - true) ** 2).mean()) for got in three]
        means = ["" if name == "all" else f"{got.mean():.3f}" for got in three]
        cells = [f"{mean} | {error:.4f}" for mean, error in zip(means, errors, strict=True)]
        width = f"{(high - low).mean():.3f}"
        return f"| {name} | {len(part)} | {cells[0]} | {held} | {width} | {' | '.join(cells[1:])} |"

    lines += [describe(f"{share:g}", rows[rows[:, 0] == share]) for share in SHARES]
    lines.append(describe("all", rows))
    ratio = rows[:, 6].sum() / rows[:, 7].sum()
    return [
        *lines,
        "",
        f"Of the held-out records the same estimate's limits hold 0, without any widening, in "
        f"{int(rows[:, 4].sum())} of {len(rows)}. An estimate with its limits and that control takes "
        f"{rows[:, 6].mean() * 1000:.0f} ms of processor time, {ratio:.1f} times that of the "
        "published formula.",
    ]


def describe_near(found: dict[int, dict[str, list[np.ndarray]]]) -> list[str]:
    """The table of ranges: targets that saw the suspect records, and what holds without use."""
    heads = [f"{changed} bits: AUC, TPR at 1%, at 10%" for changed in found]
    lines = [
        f"| score of a range | {' | '.join(heads)} |",
        "| --- |" + " --- |" * len(heads),
    ]
    names = [key.split("|")[1] for key in next(iter(found.values())) if key.startswith("used")]
    for name in names:
        cells = []
        for rows in found.values():
            auc, low, high, _ = np.mean(rows[f"used|{name}"], axis=0)
            cells.append(f"{auc:.3f}, {low:.3f}, {high:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    unused = [
        row
        for rows in found.values()
        for key, part in rows.items()
        if key.startswith("unused")
        for row in part
    ]
    held, mean = int(sum(row[3] for row in unused)), float(np.mean([row[0] for row in unused]))
    ours, theirs = np.mean([row for rows in found.values() for row in rows["seconds"]], axis=0)
    return [
        *lines,
        "",
        f"Targets that saw none of the records: mean AUC {mean:.4f}; {held} of {len(unused)} "
        f"intervals hold one half (each at {1 - 0.01 / 60:.3%}, 99% for sixty together).",
        "",
        f"From the answers of target and references to the scores of {2 * SIZE:,} ranges, the lowest "
        f"{DROP:.0%} left out, takes {ours * 1000:.0f} ms of processor time, and the published formula "
        f"{theirs * 1000:.0f} ms: {ours / theirs:.2f} times as long.",
    ]


def main() -> None:
    splits = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    started = time.process_time()
    shares: list[tuple[float, ...]] = []
    near: dict[int, dict[str, list[np.ndarray]]] = {changed: {} for changed in CHANGED}
    for seed in range(splits):
        split = train_split(seed)
        shares += measure_shares(split)
        for changed in CHANGED:
            for key, rows in measure_near(split, changed, seed).items():
                near[changed].setdefault(key, []).extend(rows)
        print("\n".join(describe_shares(np.array(shares))), flush=True)
        print("\n".join(describe_near(near)), flush=True)
        print(f"{seed + 1} of {splits} splits, {time.process_time() - started:.0f} s", flush=True)
        # After each split, since all of them take a while
        write_page(seed + 1, np.array(shares), near)


def write_page(
    splits: int, shares: np.ndarray, near: dict[int, dict[str, list[np.ndarray]]]
) -> None:
    """Write the page of so many splits."""
    text = INTRODUCTION.format(
        splits=splits,
        models=splits * (GROUPS * REFERENCES + len(SHARES) * TARGETS + OUTSIDE),
        shares="\n".join(describe_shares(shares)),
        near="\n".join(describe_near(near)),
    )
    PAGE.write_text(text, encoding="utf-8")


INTRODUCTION = """# Shares and ranges on Location-30

Written by `python benchmarks/set_share.py`: {splits} random splits of Location-30 into 1,500 suspect, 1,500 held-out and 1,500
other records, {models} networks of one hidden layer of 256, each trained on 1,500 records for 50 epochs.

## How much was used

Targets were trained on a share of the suspect records, filled up with other records that no reference model saw. Four reference
models, in two complementary pairs, saw half of the suspect and held-out records each; `lira_robust` makes the calls. Each target is
read with three groups of references, so that estimates are not independent. The published formula is that of ML Privacy Meter
(RMIA, each reference attacked with the other three, one threshold), written anew here, on the same models and cut to [0, 1]; beside
it, the same formula with `lira_robust`.

{shares}

Reference models share half of their records with one another, and a target shares fewer with them, so the attack errs a little more
often on it. Held-out records show that, and the limits are widened by it. `lira_robust` allows for how many models it has, so that
leaving one model of a pair out alone does it no harm here; for attacks that average, such as `base`, it does
(`tests/auditing/test_set_share.py`).

## Was anything near it used

Each record has 8 versions: the centre, the record that targets were trained on, and six others; all differ from the centre in as
many bits of 446. `rmia_offline` (a = 0.3) scores the versions with three models that saw none of the records; the population are 200 further records.

{near}
"""

if __name__ == "__main__":
    main()
