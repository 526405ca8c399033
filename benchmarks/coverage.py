"""Coverage and mean width of the TPR's interval beside an oracle who knows the threshold, as a table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "statistics"))
from families import Gaussian, shift_for

from memberscope.statistics import clopper_pearson, roc, tpr_at_fpr


def main() -> None:
    rng = np.random.default_rng(0)
    print("| n a side | FPR | TPR | ties | coverage | mean width | oracle's width |\n|" + " --- |" * 7)
    for n in (50, 500, 5000):
        for fpr in (0.1, 0.01, 0.001):
            for tpr in (0.0, 0.01, 0.5):
                for steps in (0, 2):
                    if n * fpr < 1:
                        continue
                    family, runs = Gaussian(shift_for(tpr, fpr), steps), 400
                    cut = family.threshold(fpr)
                    truth, _ = family.rates_at(cut)
                    hits, width, oracle = 0, 0.0, 0.0
                    for _ in range(runs):
                        scores, member = family.draw(n, rng)
                        found = tpr_at_fpr(roc(scores, member), fpr)
                        low, high = clopper_pearson(int((scores[:n] >= cut).sum()), n)
                        hits += found.low <= truth <= found.high
                        width, oracle = width + (found.high - found.low) / runs, oracle + float(high - low) / runs
                    ties = "half units" if steps else "none"
                    print(f"| {n} | {fpr:g} | {tpr:g} | {ties} | {hits / runs:.3f} | {width:.4f} | {oracle:.4f} |", flush=True)


if __name__ == "__main__":
    main()
