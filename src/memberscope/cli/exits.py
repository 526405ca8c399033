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
