"""Find texts that stand on both sides under different ids, exactly or nearly.

Exact copies are equal after case is folded and white space is one blank. Near copies share at least
half of their runs of nine characters (their resemblance, [1]), which holds for texts without
blanks between words as well. Each text keeps the smallest hashes of its runs; texts that have some
of the very smallest in common are compared, so that most pairs never are, and the resemblance is
estimated from the smallest hashes of both together. It is exact for texts of up to 128 different
runs, and has a standard error of at most 0.045 above.

References:
    [1] A. Z. Broder, "On the resemblance and containment of documents", Compression and Complexity
        of Sequences, 1997.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memberscope.auditing.subject.duplicate_surplus import (
    Surplus,
    measure_exact_surplus,
    measure_near_surplus,
)
from memberscope.auditing.subject.duplicates import (
    MOST_EDGES,
    Overlap,
    find_exact_pairs,
    find_nearest_pairs,
    mark_repeated_keys,
    sample_positions,
)
from memberscope.auditing.subject.feature_matrix import Keys, mix_keys
from memberscope.auditing.subject.text_hashes import (
    hash_character_ngrams,
    hash_texts,
    normalise_text,
    read_full_text,
)
from memberscope.texts import TextRecord
from memberscope.types import Bools, Floats, Ints

SHINGLE = 9  # characters a run
RESEMBLANCE = 0.5  # share of runs in common from which two texts are near copies
SKETCH = 128  # smallest hashes that are kept of a text
SHARED = 32  # smallest of them, by which texts are found to compare
FEWEST_SHARED = 4  # of a pair's SHARED; near copies have 16 on average
LINKS = 10  # texts that a text is linked to by one hash, so that common phrases cost little
MOST_TEXTS = 100_000  # a side, in the near search
NONE = np.iinfo(np.uint64).max  # fills the sketches of short texts


def find_text_overlap(
    texts: Sequence[TextRecord],
    member: Bools,
    seed: int = 0,
    *,
    unit: Ints | None = None,
    apart: Bools | None = None,
) -> Overlap:
    """Find duplicates between members and non-members among `texts` (n,).

    Texts of one `unit` (n,) count as no copies of each other, since a unit has one side. Records
    `apart` (n,), such as copies that were inserted on purpose, are left out of what is expected by
    chance.

    >>> find_text_overlap(["a b", "c", "d", "A  B"], np.array([True, True, True, False])).exact
    array([[3, 0]])
    """
    plain = [normalise_text(read_full_text(record)) for record in texts]
    keys, n = hash_texts(plain), len(plain)
    code = np.arange(n) if unit is None else np.unique(unit, return_inverse=True)[1]
    counted = np.ones(n, dtype=bool) if apart is None else ~apart
    exact, involved = find_exact_pairs(keys, member)
    compared = np.concatenate(
        [sample_positions(np.flatnonzero(member == side), keys, MOST_TEXTS) for side in (1, 0)]
    )
    edges = _find_near_texts(plain, keys, compared)
    edges = edges[(code[edges[:, 0]] != code[edges[:, 1]]) & counted[edges].all(axis=1)]
    crossing = member[edges[:, 0]] != member[edges[:, 1]]
    involved[edges[crossing].ravel()] = True
    surplus = [_measure_copies(keys, member, code, counted, seed)]
    n_members, n_others = int(member.sum()), int((~member).sum())
    seen = (int(member[compared].sum()), int((~member[compared]).sum()))
    # The near search compared a part of all pairs, and its count is scaled to all of them
    if crossing.any():
        scale = n_members * n_others / (seen[0] * seen[1])
        chosen = compared[counted[compared]]
        surplus.append(
            measure_near_surplus(edges, chosen, member, scale, n_others, seed, unit=code)
        )
    sides = [np.flatnonzero(member == side) for side in (True, False)]
    own = np.unique(edges[~crossing])
    within = [int(mark_repeated_keys(keys[side]).sum()) for side in sides]
    near_within = [int(np.isin(side, own).sum()) for side in sides]
    pairs = find_nearest_pairs(edges[crossing], member, exact[:, 0])
    return Overlap(
        exact,
        pairs,
        seen,
        involved,
        tuple(surplus),
        (within[0], within[1]),
        (near_within[0], near_within[1]),
    )


def _measure_copies(keys: Keys, member: Bools, code: Ints, counted: Bools, seed: int) -> Surplus:
    """Measure the surplus of equal texts, of which each unit `code` (n,) has one."""
    where = np.flatnonzero(counted)
    # A unit that repeats a text says nothing of how often texts of two units are equal
    pairs = np.column_stack([keys[where], code[where].astype(np.uint64)])
    once = where[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
    found = measure_exact_surplus(keys[once], member[once], seed, unit=code[once])
    inside = keys[where[member[where]]]
    all_copies = int(np.isin(keys[where[~member[where]]], inside).sum())
    # What was counted once stands for all copies of its unit
    scale = all_copies / max(found.found, 1)
    return replace(
        found,
        found=all_copies,
        expected=found.expected * scale,
        value=found.value * scale,
        high=int(np.ceil(found.high * scale)),
    )


def _find_near_texts(plain: Sequence[str], keys: Keys, compared: Ints) -> Ints:
    """Find near pairs (e, 2) among the positions `compared` (c,) that are not equal."""
    none = np.empty((0, 2), dtype=np.int64)
    # Two equal texts are near the same others; the order is random and the same for all hashes
    order = compared[np.argsort(mix_keys(keys[compared]), kind="stable")]
    sketches = np.full((len(order), SKETCH), NONE, np.uint64)
    for row, position in enumerate(order):
        smallest = _sketch_text(plain[position])
        sketches[row, : len(smallest)] = smallest
    pairs = _find_candidates(sketches[:, :SHARED])
    edges = order[pairs[_estimate_resemblance(sketches, pairs) >= RESEMBLANCE]]
    edges = edges[keys[edges[:, 0]] != keys[edges[:, 1]]]
    # So many near pairs say nothing of copies
    return none if len(edges) > MOST_EDGES else edges.astype(np.int64).reshape(-1, 2)


def _sketch_text(text: str) -> Keys:
    """Give the smallest different hashes (at most SKETCH) of a text's runs, in order."""
    hashes = hash_character_ngrams(text, SHINGLE)
    if len(hashes) > 8 * SKETCH:
        # Long texts are cut before they are sorted; repeated runs may leave too few
        low = hashes[hashes < np.uint64(4 * SKETCH * (NONE // len(hashes)))]
        smallest = np.unique(low)[:SKETCH]
        if len(smallest) == SKETCH:
            return smallest
    return np.unique(hashes)[:SKETCH]


def _find_candidates(sketches: Keys) -> Ints:
    """Find pairs of rows (p, 2) that have at least FEWEST_SHARED hashes of (n, s) in common."""
    n, width = sketches.shape
    values, rows = sketches.ravel(), np.repeat(np.arange(n), width)
    there = values != NONE
    values, rows = values[there], rows[there]
    order = np.argsort(values, kind="stable")
    values, rows = values[order], rows[order]
    found = []
    # Rows are in order within a hash, so that the earlier row comes first
    for step in range(1, min(LINKS, len(values) - 1) + 1):
        same = np.flatnonzero(values[step:] == values[:-step])
        found.append(rows[same] * n + rows[same + step])
    pairs, counts = np.unique(np.concatenate(found or [rows[:0]]), return_counts=True)
    # The shortest texts have fewer hashes than others share
    sizes = (sketches != NONE).sum(axis=1)
    first, second = pairs // n, pairs % n
    enough = counts >= np.minimum(FEWEST_SHARED, np.minimum(sizes[first], sizes[second]))
    return np.column_stack([first[enough], second[enough]])


def _estimate_resemblance(sketches: Keys, pairs: Ints) -> Floats:
    """Estimate the share of runs (p,) that both texts of each pair have, of those either has."""
    shares = np.zeros(len(pairs))
    block = 20_000
    for start in range(0, len(pairs), block):
        part = pairs[start : start + block]
        both = np.sort(np.hstack([sketches[part[:, 0]], sketches[part[:, 1]]]), axis=1)
        fresh = np.ones(both.shape, dtype=bool)
        fresh[:, 1:] = both[:, 1:] != both[:, :-1]
        real = both != NONE
        # The smallest hashes of both texts together are among the smallest of each
        kept = real & (np.cumsum(fresh, axis=1) <= SKETCH)
        of_either = (kept & fresh).sum(axis=1)
        shares[start : start + block] = (kept & ~fresh).sum(axis=1) / np.maximum(of_either, 1)
    return shares
