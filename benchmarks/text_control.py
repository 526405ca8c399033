"""How often the control of reference fine-tunes is wrong, on simulated losses.

`python benchmarks/text_control.py [RUNS]` draws losses of a target and of its references with the
spreads that `text_finetunes.py` measures, and counts how often the control fails references that
were trained like the target (at most 1%), and how often it lets pass references of one epoch
beside a target of four, or the reverse. Numbers of texts and of references are varied.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import aims
from memberscope.auditing.collect.text_references import explain_other_training
from memberscope.auditing.collect.training_comparison import compare_training
from memberscope.recipes import build_balanced_design

# Nats a token that a text of one's own gains, and that all texts gained since the base model
FOUR, ONE = (0.268, 0.75), (0.095, 0.52)
# Spread over texts, of a text between fine-tunes, and of a whole fine-tune
DIFFICULTY, NOISE, LEVEL = 0.5, 0.06, 0.01
SIZES, FLEETS = (50, 100, 400, 1600), (2, 4, 8)


def draw_losses(
    rng: np.random.Generator, rows: np.ndarray, training: tuple, base: np.ndarray
) -> np.ndarray:
    """Draw mean log-probabilities (m, n) of models trained on `rows`."""
    gain, progress = training
    level = LEVEL * rng.normal(size=(len(rows), 1))
    # Gains differ between texts, by half of their mean
    own = gain * rows * rng.gamma(4, 0.25, rows.shape[1])
    return base + progress + own + level + NOISE * rng.normal(size=rows.shape)


def count_failures(n: int, m: int, kinds: tuple, runs: int) -> float:
    """Count the share of runs in which the control fails."""
    rng, failed = np.random.default_rng([n, m]), 0
    unit = np.arange(n) // 2
    for _ in range(runs):
        pairs = [build_balanced_design(n, n // 2, 2, rng, unit=unit) for _ in range(m // 2)]
        inside = np.concatenate(pairs)
        member = build_balanced_design(n, n // 2, 1, rng, unit=unit)
        base = rng.normal(-4.5, DIFFICULTY, n)
        target = draw_losses(rng, member, kinds[0], base)[0]
        references = draw_losses(rng, inside, kinds[1], base)
        found = compare_training(target, member[0], references, inside, 0.95, unit)
        failed += explain_other_training(found) is not None
    return failed / runs


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    kinds = {
        "trained alike, 4 epochs": (FOUR, FOUR),
        "trained alike, 1 epoch": (ONE, ONE),
        "target 4 epochs, references 1": (FOUR, ONE),
        "target 1 epoch, references 4": (ONE, FOUR),
    }
    print("| target and references | texts | references | control fails | |")
    print("| --- | ---: | ---: | ---: | --- |")
    for words, pair in kinds.items():
        for n in SIZES:
            for m in FLEETS:
                share = 100 * count_failures(n, m, pair, runs)
                # Two references of 25 texts each are few to tell training by
                enough = {"at_least": 95.0} if n >= 100 else {}
                limits = {"at_most": 1.0} if pair[0] == pair[1] else enough
                name = f"{words}, {n} texts, {m} references: control fails"
                print(
                    f"| {words} | {n} | {m} | {share:.1f}% | {aims.judge(name, share, '%', **limits)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
