"""Prove on a known text that a server tells the log-probabilities of given tokens.

Some servers answer such a request with status 200 and the value of one token that they generated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memberscope.errors import TargetError
from memberscope.targets.http.texts.server_facts import (
    KNOWN_TEXT,
    ServerFacts,
    hash_tokens,
    read_server_facts,
    tokenize_text,
)
from memberscope.targets.http.texts.session import TextSession
from memberscope.types import Access, Floats
from memberscope.wire import (
    Sampling,
    TextEndpoint,
    TokenAnswer,
    TokenPrompt,
    build_generation_request,
    check_token_answer,
    read_generations,
)

# Largest difference between two answers to one request, in nats
TOLERANCE = 1e-3
# Tokens of the known text that are forced: each costs a request
FORCED = 6
Score = Callable[[Sequence[TokenPrompt]], Awaitable[list[TokenAnswer]]]


@dataclass(frozen=True, eq=False)
class ServerProof:
    """What was proven: the facts of a server, and its values (t,) for the known `prompt`."""

    facts: ServerFacts
    prompt: TokenPrompt
    values: Floats


async def prove_server(session: TextSession, endpoint: TextEndpoint, score: Score) -> ServerProof:
    """Prove that a server answers as its protocol says, and read what it tells of itself.

    Raises:
        MemberscopeError: It does not; the message says in what.
    """
    facts = await read_server_facts(session, endpoint)
    if endpoint.access < Access.TOKEN_PROBABILITIES:
        await _prove_generations(session, endpoint)
        return ServerProof(facts, TokenPrompt(KNOWN_TEXT), np.empty(0))
    ids: tuple[int, ...] = ()
    if endpoint.serving.once_a_token:
        ids = tuple((await tokenize_text(session, endpoint.protocol, KNOWN_TEXT, None)).ids)
    prompt = TokenPrompt(KNOWN_TEXT, ids)
    first = await _score_known_text(prompt, score)
    values = _join_values(first)
    # The second time twice in one request, where requests of the audit have several texts
    again = (
        [[answer] for answer in await score([prompt, prompt])]
        if endpoint.rows_a_request > 1
        else [await _score_known_text(prompt, score)]
    )
    for second in again:
        refuse_changed_values(values, _join_values(second), "in two calls")
    # A server that makes values up, or scores something else, shows it by a constant
    if len(values) < 2 or np.ptp(values) < TOLERANCE:
        raise TargetError(
            f"Expected different log-probabilities of the tokens of a known text, got "
            f"{len(values)} that are alike. Look at one answer of the server."
        )
    if ids:
        await _prove_forced_values(session, endpoint, prompt, score)
    elif facts.tokenizer == ServerFacts("").tokenizer:
        facts = _add_returned_tokens(facts, first[0])
    return ServerProof(facts, prompt, values)


async def _prove_generations(session: TextSession, endpoint: TextEndpoint) -> None:
    """Prove that a server continues texts, with top tokens if that many were declared.

    Raises:
        TargetError: It does not.
    """
    sampling = Sampling(n=1, max_tokens=4, seed=0)
    asked = build_generation_request(KNOWN_TEXT, sampling, endpoint.model_name, chat=True)
    if endpoint.top_k is not None:
        asked |= {"logprobs": True, "top_logprobs": endpoint.top_k}
    answer = await session.post_document(endpoint.serving.locate(""), asked)
    read_generations(answer, 1)
    told = answer["choices"][0].get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    if endpoint.top_k is not None and not content:
        raise TargetError(
            f"Expected the {endpoint.top_k} most probable tokens beside each generated one, got "
            "none. Leave out --top-k."
        )


async def _score_known_text(prompt: TokenPrompt, score: Score) -> list[TokenAnswer]:
    """Score the known text, or its first tokens where each costs a request."""
    if not prompt.ids:
        return await score([prompt])
    places = range(1, min(FORCED, len(prompt.ids) - 1) + 1)
    return [answer for place in places for answer in await score([replace(prompt, position=place)])]


async def recheck_known_text(proof: ServerProof, score: Score) -> None:
    """Check that the server still says of the known text what it said when it was proven.

    Raises:
        TargetError: It does not.
    """
    now = _join_values(await _score_known_text(proof.prompt, score))
    refuse_changed_values(proof.values, now, "during the audit")


def _join_values(answers: list[TokenAnswer]) -> Floats:
    for answer in answers:
        check_token_answer(answer)
    return np.array([value for answer in answers for value in answer.log_probability])


def refuse_changed_values(before: Floats, now: Floats, when: str) -> None:
    """Refuse log-probabilities (t,) of the known text that changed.

    Raises:
        TargetError: They differ by more than the tolerance.

    >>> refuse_changed_values(np.array([-1.0]), np.array([-1.0005]), "in two calls")
    """
    if before.shape != now.shape:
        raise TargetError(
            f"Expected log-probabilities of {len(before)} tokens of a known text again, got "
            f"{len(now)} {when}. Check what the server runs."
        )
    largest = float(np.abs(before - now).max(initial=0.0))
    if largest > TOLERANCE:
        raise TargetError(
            f"Expected the same log-probabilities of a known text to {TOLERANCE:g}, got values "
            f"that differ by {largest:.3g} nats {when}. Turn off prefix caching or random "
            "answers, and serve one model."
        )


async def _prove_forced_values(
    session: TextSession, endpoint: TextEndpoint, prompt: TokenPrompt, score: Score
) -> None:
    """Prove that the value of a forced token is the model's own, without the bias.

    Raises:
        TargetError: It is not what the list of most probable tokens says without any bias.
    """
    free: dict[str, object] = {
        "prompt": list(prompt.ids[:FORCED]),
        "n_predict": 1,
        "n_probs": 5,
        "temperature": 0,
    }
    free |= {} if endpoint.model_name is None else {"model": endpoint.model_name}
    answer = await session.post_document("/completion", free)
    try:
        tops = answer["completion_probabilities"][0]["top_logprobs"]
        token, value = int(tops[-1]["id"]), float(tops[-1]["logprob"])
    except (KeyError, IndexError, TypeError, ValueError):
        raise TargetError(
            "Expected the most probable tokens under n_probs from llama.cpp's server, got "
            "something else. Use a newer server, or check --url."
        ) from None
    chosen = replace(prompt, ids=(*prompt.ids[:FORCED], token), position=FORCED)
    (forced,) = await score([chosen])
    difference = abs(forced.log_probability[0] - value)
    if not difference <= TOLERANCE:
        raise TargetError(
            f"Expected the log-probability of a forced token to be {value:.4f} as without bias, "
            f"got {forced.log_probability[0]:.4f}. Turn off post-sampling probabilities."
        )


def _add_returned_tokens(facts: ServerFacts, answer: TokenAnswer) -> ServerFacts:
    """Add the tokens that came back, where the server does not tokenise by itself."""
    tokens = list(answer.tokens)
    first = str(tokens[0])
    # vLLM names no token before the first one that is predicted
    known = first == "" or KNOWN_TEXT.startswith(first)
    return replace(facts, tokenizer=hash_tokens(tokens), bos="none" if known else first)
