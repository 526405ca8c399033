"""Draw text canaries, which coins put into the training data or leave out, and plant them.

References:
    [1] A. Panda et al., "Privacy Auditing of Large Language Models", ICLR 2025, arXiv:2503.06808
        (new tokens).
    [2] M. Meeus et al., "The Canary's Echo: Auditing Privacy Risks of LLM-Generated Synthetic
        Text", 2025, arXiv:2502.14921 (a prefix like other texts, and an unlikely suffix).
    [3] N. Carlini et al., "The Secret Sharer", USENIX Security 2019, arXiv:1802.08232
        (repetitions).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from memberscope.errors import InputError
from memberscope.recipes.texts.suffixes import (
    SuffixSource,
    choose_unlikely,
    cut_prefix,
    list_used_tokens,
)
from memberscope.recipes.texts.survival import (
    WHY,
    Survival,
    build_text_encoder,
    check_survival,
    find_context,
    inspect_canary,
)
from memberscope.texts import Chat, Completion, TextRecord, read_scored_text

TextKind = Literal["random", "unlikely", "new-token", "own"]
FEWEST = 10  # canaries; even with these a perfect attack shows little
REPETITIONS = (1, 4, 16)
CANDIDATES = 8  # suffixes of which a given model's least likely one is taken
TRIES = 25  # suffixes drawn for one prefix before another prefix is taken


@dataclass(frozen=True)
class CanarySettings:
    """What canaries are drawn, and how often each is repeated if it is in.

    `random` canaries end in `suffix_tokens` tokens that are each as likely as any other;
    `unlikely` ones in the least likely of several such ends, as a given model finds; `new-token`
    ones in a token that no text uses. `own` ones are given. `max_length` is the most tokens that
    training reads of a text.
    """

    n: int = 300
    kind: TextKind = "random"
    repetitions: tuple[int, ...] = REPETITIONS
    suffix_tokens: int = 10
    max_length: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class TextCanary:
    """A canary as it is `scored` and as it is `trained` on, so many `repetitions` if `inside`.

    `tokens` of it are scored.
    """

    scored: TextRecord
    trained: TextRecord
    tokens: int
    repetitions: int
    inside: bool


class DrawnCanaries(NamedTuple):
    """Canaries, and what the check of their way to the training found."""

    canaries: tuple[TextCanary, ...]
    survival: Survival


class _Pair(NamedTuple):
    """A canary as it is scored, as it is trained on, and its token ids."""

    scored: TextRecord
    trained: TextRecord
    ids: tuple[int, ...]


def draw_text_canaries(
    texts: Sequence[TextRecord],
    tokenizer: Any,
    settings: CanarySettings,
    *,
    own: Sequence[TextRecord] | None = None,
    model: Any = None,
    avoid: Sequence[TextRecord] = (),
) -> DrawnCanaries:
    """Draw canaries like the training `texts`, and flip a fair coin for each.

    How often a canary is repeated is drawn apart from its coin, in classes of equal size.

    Args:
        texts: Texts of the training, or others of their kind, whose beginnings canaries take.
        tokenizer: The tokenizer of the training.
        settings: What is drawn.
        own: The user's canaries, for the kind `own`.
        model: A text target, for the kind `unlikely`: which suffixes it finds unlikely.
        avoid: Further texts whose tokens are not new, for the kind `new-token`.

    Raises:
        InputError: There are too few canaries or texts, or canaries would not reach the training.
    """
    _refuse_settings(settings, own, model)
    if not len(texts) or isinstance(texts[0], Chat):
        raise InputError(
            f"Expected texts, or prompts with completions, to draw canaries like them, got "
            f"{'chats' if len(texts) else 'none'}. Write chats out by their template."
        )
    if own is not None:
        pairs = [_place_own(record, texts[0]) for record in own]
    else:
        drawing = _Drawing(tokenizer, [*texts, *avoid], settings)
        pairs = _draw_pairs(texts, drawing, settings, model)
    scored, trained = [pair.scored for pair in pairs], [pair.trained for pair in pairs]
    survival = check_survival(scored, trained, tokenizer, settings.max_length)
    survival.refuse_losses()
    encoder, m = build_text_encoder(tokenizer), len(pairs)
    # Streams of their own: neither repetition nor text tells anything of the coins
    coins = np.random.default_rng([settings.seed, 1]).random(m) < 0.5
    classes = np.random.default_rng([settings.seed, 2]).permutation(
        np.arange(m) % len(settings.repetitions)
    )
    canaries = []
    for k, pair in enumerate(pairs):
        found = encoder.encode_record(pair.scored)
        # Of a whole text nothing predicts the first token, unless another stands before it
        first = max(found.first, 0 if found.prefix else 1)
        canaries.append(
            TextCanary(
                pair.scored,
                pair.trained,
                len(found.body) - first,
                settings.repetitions[classes[k]],
                bool(coins[k]),
            )
        )
    return DrawnCanaries(tuple(canaries), survival)


def plant_text_canaries(
    texts: Sequence[TextRecord], canaries: Sequence[TextCanary], seed: int
) -> list[TextRecord]:
    """Put the copies of the canaries that are in between the texts, at random places.

    >>> canary = TextCanary(Completion("a", " b"), "a b", 1, 2, True)
    >>> sorted(plant_text_canaries(["one", "two"], [canary], 0))
    ['a b', 'a b', 'one', 'two']
    """
    copies = [one.trained for one in canaries if one.inside for _ in range(one.repetitions)]
    rng, n = np.random.default_rng([seed, 3]), len(texts) + len(copies)
    # Copies of one canary must not follow each other, so they are shuffled too
    copies = [copies[k] for k in rng.permutation(len(copies))]
    planted = np.zeros(n, bool)
    planted[rng.permutation(n)[: len(copies)]] = True
    remaining, added = iter(texts), iter(copies)
    return [next(added) if here else next(remaining) for here in planted]


def _refuse_settings(
    settings: CanarySettings, own: Sequence[TextRecord] | None, model: Any
) -> None:
    """Refuse settings that cannot be met.

    Raises:
        InputError: They cannot.
    """
    if settings.kind not in get_args(TextKind):
        raise InputError(
            f"Expected text canaries that are {', '.join(get_args(TextKind))}, got "
            f"{settings.kind!r}. Choose one of these."
        )
    if (settings.kind == "own") != (own is not None):
        raise InputError(
            "Expected canaries of your own with --kind own alone, got "
            f"{'none' if own is None else 'some'} with {settings.kind}. Give --own FILE with it."
        )
    if settings.kind == "unlikely" and model is None:
        raise InputError(
            "Expected a model that tells which suffixes are unlikely, got none. Give --model, or "
            "use random canaries."
        )
    n = settings.n if own is None else len(own)
    if n < FEWEST:
        raise InputError(
            f"Expected at least {FEWEST} canaries, got {n}: fewer show nothing. Add canaries."
        )
    repetitions = settings.repetitions
    if (
        not repetitions
        or min(repetitions) < 1
        or len(set(repetitions)) < len(repetitions)
        or settings.suffix_tokens < 1
    ):
        raise InputError(
            f"Expected different numbers of repetitions and suffixes of at least one token, got "
            f"{', '.join(map(str, repetitions)) or 'none'} and {settings.suffix_tokens} tokens. "
            "Give, for example, --repetitions 1,4,16."
        )


def _place_own(record: TextRecord, like: TextRecord) -> _Pair:
    """Place a canary of the user's own among texts of another form.

    Raises:
        InputError: It does not say what its prompt is, though the training has prompts.
    """
    if isinstance(record, Chat) or (isinstance(like, Completion) and isinstance(record, str)):
        raise InputError(
            f"Expected canaries as prompts with completions, like the training records, got "
            f"{'chats' if isinstance(record, Chat) else 'texts'}. A canary in a prompt would not "
            "be learned; give prompt and completion."
        )
    if isinstance(record, Completion) and isinstance(like, str):
        return _Pair(record, record.prompt + record.completion, ())
    return _Pair(record, record, ())


def _build_pair(record: TextRecord, suffix: str) -> tuple[TextRecord, TextRecord] | None:
    """Build a canary of the beginning of a record and a suffix; None where it has no beginning."""
    prefix = cut_prefix(read_scored_text(record))
    if not prefix.strip() or not suffix:
        return None
    end = f" {suffix}"
    if isinstance(record, Completion):
        scored = Completion(record.prompt + prefix, end)
        # In the completion, since training on completions does not learn prompts
        return scored, Completion(record.prompt, prefix + end)
    return Completion(prefix, end), prefix + end


def _draw_pairs(
    texts: Sequence[TextRecord], drawing: _Drawing, settings: CanarySettings, model: Any
) -> list[_Pair]:
    """Draw canaries that survive, each with the beginning of another text as long as there are any.

    Raises:
        InputError: Too many do not survive, or there are too few unused tokens.
    """
    order = drawing.source.rng.permutation(len(texts))
    groups: list[list[_Pair]] = []
    place = 0
    while len(groups) < settings.n:
        # Most prefixes must work: otherwise canaries would be drawn from a few odd texts
        if place > 5 * len(groups) + 20:
            raise InputError(drawing.explain_failures(place))
        group = drawing.draw_group(texts[order[place % len(order)]])
        place += 1
        if group:
            groups.append(group)
        elif drawing.source.exhausted:
            raise InputError(
                f"Expected {settings.n} tokens that the texts do not use and the tokenizer reads "
                f"as one, got {len(groups)}. Draw fewer canaries, or use random ones."
            )
    chosen = [0] * len(groups)
    if settings.kind == "unlikely":
        chosen = choose_unlikely([[one.scored for one in group] for group in groups], model)
    return [group[k] for group, k in zip(groups, chosen, strict=True)]


class _Drawing:
    """Draws of canaries with one tokenizer, and what became of them."""

    def __init__(
        self, tokenizer: Any, texts: Sequence[TextRecord], settings: CanarySettings
    ) -> None:
        self.settings = settings
        self.encoder = build_text_encoder(tokenizer)
        self.longest = find_context(tokenizer, settings.max_length)
        self.is_new = settings.kind == "new-token"
        used = list_used_tokens(texts, self.encoder) if self.is_new else set()
        self.source = SuffixSource(tokenizer, np.random.default_rng([settings.seed, 0]), used)
        self.unused = self.source.iterate_unused()
        self.fates: Counter[str] = Counter()
        self.taken: set[tuple[int, ...]] = set()

    def draw_group(self, record: TextRecord) -> list[_Pair]:
        """Draw the candidates of one canary with the beginning of a record; empty if none works."""
        wanted = CANDIDATES if self.settings.kind == "unlikely" else 1
        group: list[_Pair] = []
        for suffix in self._iterate_suffixes(TRIES * wanted):
            built = _build_pair(record, suffix)
            if built is None:
                self.fates["short"] += not cut_prefix(read_scored_text(record))
                continue
            passage = inspect_canary(*built, self.encoder, self.longest)
            self.fates[passage.fate] += 1
            # A prefix that is too long stays so with any suffix
            if passage.fate == "cut":
                break
            if passage.fate == "survives" and self._is_wanted(passage.ids):
                self.taken.add(passage.ids)
                group.append(_Pair(*built, passage.ids))
                if len(group) == wanted:
                    return group
        return []

    def _iterate_suffixes(self, n: int) -> Iterator[str]:
        """Give the texts that canaries may end with: at most `n`, or all unused tokens left."""
        if self.is_new:
            return self.unused
        return (self.source.draw_text(self.settings.suffix_tokens) for _ in range(n))

    def _is_wanted(self, ids: tuple[int, ...]) -> bool:
        """Tell whether the ids of a suffix are new, and one unused token where that is wanted."""
        if ids in self.taken:
            return False
        return not self.is_new or (len(ids) == 1 and ids[0] not in self.source.used)

    def explain_failures(self, n: int) -> str:
        """Explain why too few canaries could be drawn from the beginnings of `n` texts."""
        failed = {why: k for why, k in self.fates.items() if why != "survives" and k}
        most = max(failed, key=failed.__getitem__, default="short")
        why = WHY.get(most, "have no beginning to take, as their texts are too short")
        return (
            f"Expected canaries that the training reads as they are, got {sum(failed.values())} of "
            f"{self.fates.total()} drawn that do not, from {n} texts; {failed.get(most, 0)} {why}. "
            "Use the training's tokenizer and longer texts, or raise --max-length."
        )
