"""Unfold and parse bodies: short ones at once, long ones in a thread, one at a time.

orjson and numpy hold the interpreter's lock while they work on one value after the other, so that
the thread alone protects nobody: what bounds a wait are the caps on bytes and values, which bound
each of the steps. Between steps other requests go on. Clients take turns for the thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from memberscope.guard.admission.admit import Visit
from memberscope.guard.asgi.bodies import SHORT, RequestBody, find_unfolded_bound, unfold_body
from memberscope.guard.asgi.compiled_policy import Rules
from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.request_parser import ParsedQuery
from memberscope.guard.rewriting.text_exchange import TextExchange
from memberscope.types import OutputDefence


async def parse_query(
    rules: Rules, visit: Visit, body: RequestBody, defence: OutputDefence | None
) -> ParsedQuery:
    """Unfold a body and read its records; the visit learns how long it was unfolded.

    The answer will get `defence`.

    Raises:
        RequestRefused: It is not what the protocol says (400), too long or of too many values
            (413), in a coding that is not read (415), or took too long to parse (503).
    """
    if len(body.raw) <= SHORT:
        short = body.raw if body.coding is None else _unfold_short(rules, visit, body)
        if short is not None:
            return _read_query(rules, short, defence)
    limits = rules.policy.limits
    turn = rules.admission.enter_parsing(visit)
    try:
        async with asyncio.timeout(limits.parse_timeout), turn:
            # What others of this client cost by now may leave it nothing
            bound = find_unfolded_bound(body, limits.max_body_bytes, limits.max_unfold)
            visit.hold(bound, again=True)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                _find_executor(), _parse_whole, rules, visit, body, defence
            )
    except TimeoutError:
        # Not the client's fault: what a body may hold is capped, so that the guard was too busy
        raise RequestRefused("overloaded", (("retry-after", "1"),)) from None


def _unfold_short(rules: Rules, visit: Visit, body: RequestBody) -> bytes | None:
    """Unfold a body to a few bytes, or give None where it unfolds to more."""
    try:
        found = unfold_body(body, min(SHORT, rules.policy.limits.max_body_bytes), SHORT)
    except RequestRefused as refused:
        if refused.problem == "content-too-large":
            return None
        raise
    visit.size = max(visit.size, len(found))
    return found


def _parse_whole(
    rules: Rules, visit: Visit, body: RequestBody, defence: OutputDefence | None
) -> ParsedQuery:
    """Unfold and parse a body of any length that is allowed."""
    limits = rules.policy.limits
    # Counted before it is unfolded: what is refused in between was unfolded as far
    visit.size = find_unfolded_bound(body, limits.max_body_bytes, limits.max_unfold)
    found = unfold_body(body, limits.max_body_bytes, limits.max_unfold)
    visit.size = max(len(body.raw), len(found))
    return _read_query(rules, found, defence)


def _read_query(rules: Rules, body: bytes, defence: OutputDefence | None) -> ParsedQuery:
    """Read the records of a request whose answer gets `defence`."""
    if isinstance(rules.exchange, TextExchange):
        return rules.exchange.query(body, defence)
    return rules.exchange.query(body, restricted=defence is not None)


@cache
def _find_executor() -> ThreadPoolExecutor:
    """Find this process's thread for long bodies."""
    return ThreadPoolExecutor(1, thread_name_prefix="memberscope-parse")
