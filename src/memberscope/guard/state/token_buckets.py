"""Find the buckets that a request draws from, and format Retry-After."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from memberscope.guard.policy.tables import ClientLimits, RateLimit
from memberscope.guard.state.interface import AnyBucket, Bucket, RecordBuckets


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


def format_retry_after(seconds: float) -> str | None:
    """Format Retry-After in whole seconds, at least 1; None where waiting does not help.

    >>> format_retry_after(0.2), format_retry_after(61.5), format_retry_after(float("inf"))
    ('1', '62', None)
    """
    return None if math.isinf(seconds) else str(max(1, math.ceil(seconds)))
