"""Numbers that clients write as words, which many servers read as the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.sketching.sketcher import Sketcher
from memberscope.wire.batch import Batch


@pytest.mark.parametrize(("kind", "shape"), [("tabular", (4,)), ("image", (4, 4))])
def test_numbers_written_as_words_are_the_same_records(kind, shape):
    records = np.random.default_rng(0).normal(size=(100, *shape)).round(3)
    sketcher = Sketcher.fit(kind, Batch(records), Secret("k", bytes(32)))
    written = sketcher.sketch(Batch(records[:5].astype(str).astype(object)))
    assert all(
        np.array_equal(left, right)
        for left, right in zip(sketcher.sketch(Batch(records[:5])), written, strict=True)
    )
