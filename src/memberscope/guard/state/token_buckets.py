"""Find the buckets that a request draws from, and format Retry-After."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from memberscope.guard.policy.tables import ClientLimits, RateLimit
from memberscope.guard.state.interface import AnyBucket, Bucket, RecordBuckets, Taken


def build_buckets(
    client: str,
    kind: str,
    allowed: ClientLimits,
    total: RateLimit | None,
    records: Sequence[int],
    throttle: RateLimit | None,
    *,
    share: tuple[str, str] = ("", ""),
) -> list[AnyBucket]:
    """List the buckets of a request about `records` (n,) by `client`, of the class `kind`.

    Records and client are keyed hashes of 64 bits.

    One for the client, one for all clients together and one for a throttle lose n tokens; one for
    each different record of this client loses as many as the record occurs. The class is part of
    the key: whoever is moved to another class starts with that class's budget. New buckets of
    records are kept at the expense of `share`.

    >>> allowed = ClientLimits(per_client="100/h", per_record="5/d")
    >>> found = build_buckets("ff", "default", allowed, RateLimit.of("9/s"), [1, 1, 2], None)
    >>> [(bucket.key, bucket.n) for bucket in found[:-1]], found[-1].key, found[-1].times
    ([('c:default:ff', 3), ('a:', 3)], 'r:default:ff', [2, 1])
    """
    n = len(records)
    if not n:
        return []
    whole = [(f"c:{kind}:{client}", allowed.per_client), ("a:", total), (f"t:{client}", throttle)]
    buckets: list[AnyBucket] = [Bucket(key, rate, n) for key, rate in whole if rate is not None]
    if allowed.per_record is not None:
        # Most requests are about one record, for which a Counter is not needed
        times = {int(records[0]): 1} if n == 1 else Counter(map(int, records))
        buckets.append(
            RecordBuckets(
                f"r:{kind}:{client}",
                allowed.per_record,
                list(times),
                list(times.values()),
                share if share[0] else (client, client),
            )
        )
    return buckets


def format_rate_policies(allowed: ClientLimits) -> bytes:
    """Write RateLimit-Policy [1], a structured field (RFC 9651): the budgets of a class of clients.

    References:
        1. draft-ietf-httpapi-ratelimit-headers-10: RateLimit header fields for HTTP.

    >>> format_rate_policies(ClientLimits(per_client="100/h", per_record="5/d"))
    b'"client";q=100;w=3600;qu="records", "record";q=5;w=86400;qu="records"'
    """
    rates = (("client", allowed.per_client), ("record", allowed.per_record))
    policies = [
        f'"{name}";q={rate.n};w={math.ceil(rate.seconds)};qu="records"'
        for name, rate in rates
        if rate is not None
    ]
    return ", ".join(policies).encode()


def format_rate_limit(rate: RateLimit, taken: Taken) -> bytes:
    """Write RateLimit, what is left of the client's budget.

    What is left of other budgets is not said: that of all clients together would tell about others.

    >>> format_rate_limit(RateLimit.of("100/h"), Taken(True, full_after=36.0))
    b'"client";r=99;t=36'
    """
    owed = min(taken.full_after, rate.seconds)
    # A part of a token allows nothing; sums of refills err in the last digits
    left = math.floor(rate.n * (1.0 - owed / rate.seconds) + 1e-6)
    return b'"client";r=%d;t=%d' % (left, math.ceil(owed))


def format_retry_after(seconds: float) -> str | None:
    """Format Retry-After in whole seconds, at least 1; None where waiting does not help.

    >>> format_retry_after(0.2), format_retry_after(61.5), format_retry_after(float("inf"))
    ('1', '62', None)
    """
    return None if math.isinf(seconds) else str(max(1, math.ceil(seconds)))
