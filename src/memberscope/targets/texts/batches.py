"""Put texts of similar length into batches that fit into the memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.errors import TargetError
from memberscope.types import Ints

MOST_TOKENS = {"cpu": 8_192, "cuda": 131_072}  # more in a batch gain no speed
CPU_BYTES = 256 << 20  # of a batch on a processor, where larger ones leave the caches


@dataclass(eq=False)
class TokenBudget:
    """How many tokens, padding included, one batch may hold; less after memory ran out.

    >>> budget = TokenBudget(8)
    >>> [rows.tolist() for rows in budget.split_batches([3, 1, 4, 4])]
    [[2, 3], [0, 1]]
    """

    tokens: int
    rows: int | None = None

    def split_batches(self, lengths: Sequence[int]) -> Iterator[Ints]:
        """Yield the positions of each batch, longest texts first.

        Too little memory then shows at once.
        """
        order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
        start = 0
        while start < len(order):
            longest = lengths[order[start]]
            step = max(1, self.tokens // max(longest, 1))
            step = min(step, self.rows or step)
            yield order[start : start + step]
            start += step

    def run_batches(self, lengths: Sequence[int], run: Callable[[Ints], None]) -> None:
        """Run each batch; where the memory does not suffice, in halves.

        Raises:
            TargetError: It does not even suffice for one text.
        """
        waiting = list(self.split_batches(lengths))[::-1]
        while waiting:
            rows = waiting.pop()
            try:
                run(rows)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                longest = max(lengths[row] for row in rows)
                if len(rows) == 1:
                    raise TargetError(
                        f"Expected memory for one text of {longest} tokens, got: "
                        f"{str(error).splitlines()[0]}. Give a smaller max_length, or another "
                        "device."
                    ) from error
                # Remembered for the batches of later calls
                self.tokens = max(1, longest * len(rows) // 2)
                half = len(rows) // 2
                waiting += [rows[half:], rows[:half]]


def choose_token_budget(model: Any, rows: int | None = None) -> TokenBudget:
    """Choose the tokens of a batch by the free memory and the size of one token's outputs."""
    config = model.config
    device = str(model.device).split(":")[0]
    width = int(getattr(config, "vocab_size", 0) or 50_000)
    hidden = int(getattr(config, "hidden_size", 0) or 1024)
    # The outputs, once more in single precision, and some activations of one layer
    each = 8 * width + 64 * hidden
    free = _find_free_bytes(device)
    most = MOST_TOKENS.get(device, MOST_TOKENS["cpu"])
    return TokenBudget(int(min(most, max(1, free // each))), rows)


def _find_free_bytes(device: str) -> int:
    """Find the bytes that a batch may take on a device: a part of those that are free."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0]) // 4
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on all systems
        free = 8 * CPU_BYTES
    return min(CPU_BYTES, free // 8)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell an error of too little memory from others."""
    words = str(error).lower()
    return "out of memory" in words or "can't allocate memory" in words
