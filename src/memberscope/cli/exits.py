"""Exit codes of the verbs that judge.

0 pass, 1 policy failed, 3 inconclusive, limited or not judged.
"""

from __future__ import annotations

PASSED, FAILED, OPEN = 0, 1, 3


def exit_of_verdict(verdict: str | None, *, limited: bool, accept_limited: bool) -> int:
    """Give the exit code of a verdict.

    A limited PASS is open unless it is accepted, and so is whatever was not judged.

    >>> exit_of_verdict("PASS", limited=True, accept_limited=False), exit_of_verdict("PASS", limited=True, accept_limited=True)
    (3, 0)
    """
    if verdict == "PASS":
        return OPEN if limited and not accept_limited else PASSED
    return FAILED if verdict == "FAIL" else OPEN


def exit_of_baseline(verdict: str | None) -> int:
    """Give the exit code of a comparison with a baseline; 0 without one.

    >>> exit_of_baseline("LEAKS_MORE"), exit_of_baseline("INCONCLUSIVE"), exit_of_baseline(None)
    (1, 3, 0)
    """
    if verdict in (None, "NOT_MORE"):
        return PASSED
    return FAILED if verdict == "LEAKS_MORE" else OPEN


def find_strictest_exit(*codes: int) -> int:
    """Find the exit code that says the worst: a failure before what is open, and that before 0.

    >>> find_strictest_exit(0, 3, 1), find_strictest_exit(3, 0)
    (1, 3)
    """
    return next((code for code in (FAILED, OPEN) if code in codes), PASSED)
