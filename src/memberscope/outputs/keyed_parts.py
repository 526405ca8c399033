"""Give the randomised parts of a chain their secret key, or take it away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from memberscope.outputs.chain import flatten_chain, join_parts
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.noise_keys import derive_noise_key
from memberscope.types import OutputDefence

RandomisedDefence = OutputNoise | MemGuard | HampOutput


def list_randomised_parts(defence: OutputDefence) -> list[RandomisedDefence]:
    """List the parts whose answers depend on a key or a seed.

    >>> from memberscope.outputs.chain import parse_restriction
    >>> [part.name for part in list_randomised_parts(parse_restriction("noise:0.5:7+round:2"))]
    ['noise:0.5:7']
    """
    return [part for part in flatten_chain(defence) if isinstance(part, RandomisedDefence)]


def with_noise_key(defence: OutputDefence, key: bytes) -> OutputDefence:
    """Give every randomised part without a seed of its own the secret `key` (16 to 64 bytes).

    >>> from memberscope.outputs.chain import parse_restriction
    >>> with_noise_key(parse_restriction("noise:0.5+top:1"), bytes(32)).name
    'noise:0.5+top:1'
    """
    return _replace_randomised(
        defence, lambda part: part if part.seed is not None else replace(part, key=key)
    )


def without_noise_keys(defence: OutputDefence) -> OutputDefence:
    """Take keys and seeds away.

    >>> from memberscope.outputs.chain import parse_restriction
    >>> without_noise_keys(parse_restriction("memguard:1:300:crossed:7")).name
    'memguard:1:300:crossed'
    """
    return _replace_randomised(defence, lambda part: replace(part, key=None, seed=None))


def derive_part_keys(defence: OutputDefence, purpose: str) -> OutputDefence:
    """Replace each secret key by one derived for `purpose`; seeds stay."""
    return _replace_randomised(
        defence,
        lambda part: (
            part if part.key is None else replace(part, key=derive_noise_key(part.key, purpose))
        ),
    )


def _replace_randomised(
    defence: OutputDefence, change: Callable[[RandomisedDefence], RandomisedDefence]
) -> OutputDefence:
    """Replace each randomised part by what `change` makes of it."""
    return join_parts(
        [
            change(part) if isinstance(part, RandomisedDefence) else part
            for part in flatten_chain(defence)
        ]
    )
