"""The blind control for texts: planted years, another source, and random splits of one source.

Run `python benchmarks/text_blind.py [runs] [name of one case]`; 300 runs of each case by default.
The folder of the data is named by MEMBERSCOPE_DATA (../shared/data by default). Every text is cut
to 200 characters, its features are computed once, and each run draws 300 + 300 texts anew:

- years: random halves of Stack Exchange, with a year from 2021 to 2024 put at a random place of
  30% of the members, which are cut so that all texts have one length;
- source: members from Wikipedia, non-members from Stack Exchange;
- random: random halves of Stack Exchange.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from data import texts
from memberscope.auditing.controls.text_blind import run_text_blind_control
from memberscope.auditing.controls.text_features import TextFeatures, extract_text_features
from memberscope.auditing.documents.result import Control
from memberscope.statistics import clopper_pearson

LENGTH, SIDE, PLANTED = 200, 300, 90
FPRS = (0.01,)
CASES = ("years", "source", "random")


def with_year(text: str, rng: np.random.Generator) -> str:
    """The text with a year between two of its words, still of the common length."""
    words = text[: LENGTH - 5].split(" ")
    words.insert(int(rng.integers(len(words) + 1)), str(rng.integers(2021, 2025)))
    return " ".join(words)


def stored_features() -> TextFeatures:
    """Features of 1,000 Stack Exchange texts, the same with years, and 1,000 of Wikipedia."""
    rng = np.random.default_rng(0)
    plain = texts("stackexchange")
    dated = [with_year(text, rng) for text in plain]
    return extract_text_features([text[:LENGTH] for text in plain + dated + texts("wikipedia")])


def run_case(case: str, features: TextFeatures, seed: int) -> Control:
    """The control on one draw of a case."""
    rng = np.random.default_rng([seed, CASES.index(case)])
    rows = rng.permutation(1000)[: 2 * SIDE]
    if case == "years":
        rows[:PLANTED] += 1000
    elif case == "source":
        rows[:SIDE] = 2000 + rng.permutation(1000)[:SIDE]
    return run_text_blind_control(features.take(rows), np.arange(2 * SIDE) < SIDE, fprs=FPRS)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    cases = sys.argv[2:] or CASES
    started = time.process_time()
    features = stored_features()
    print(f"features of 3,000 texts: {time.process_time() - started:.1f} s of processor")
    for case in cases:
        started = time.process_time()
        found = []
        for seed in range(runs):
            found.append(run_case(case, features, seed))
            if seed % 50 == 49:
                failed = sum(control.passed is False for control in found)
                print(f"{case}: {failed} of {seed + 1}", file=sys.stderr, flush=True)
        spent = time.process_time() - started
        failed = sum(control.passed is False for control in found)
        below = sum(bool(control.details["below"]) for control in found)
        low, high = clopper_pearson(failed, runs, 0.95)
        aucs = [control.value for control in found if control.value is not None]
        smallest = [control.smallest_detectable or 1.0 for control in found]
        print(
            f"{case}: INCONCLUSIVE in {failed} of {runs} ({float(low):.1%} to {float(high):.1%}), "
            f"surely below one half in {below}; AUC {min(aucs):.3f} to {max(aucs):.3f}; smallest "
            f"AUC noticed {np.mean(smallest):.3f}; {spent:.0f} s of processor",
            flush=True,
        )


if __name__ == "__main__":
    main()
