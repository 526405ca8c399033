"""Wrap a served language model as a target: what it says about the tokens of given texts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError, TargetError
from memberscope.facts import read_target_facts
from memberscope.targets.http.ledger import LedgerQuery, QuerySpending
from memberscope.targets.http.pipeline import SendingLimits
from memberscope.targets.http.texts.prompts import PromptWriter
from memberscope.targets.http.texts.proof import (
    ServerProof,
    prove_server,
    recheck_known_text,
)
from memberscope.targets.http.texts.server_facts import refuse_different_tokens
from memberscope.targets.http.texts.session import QuestionBlock, TextSession
from memberscope.targets.http.texts.stored_answers import (
    StoredAnswer,
    join_stored_answers,
    pack_texts,
    pack_token_answer,
    unpack_texts,
    unpack_token_answer,
)
from memberscope.targets.http.transport import strip_url
from memberscope.texts import TextRecord, TokenSignals
from memberscope.types import Access, Floats, Signal, Task
from memberscope.wire import (
    Sampling,
    TextEndpoint,
    TokenAnswer,
    TokenPrompt,
    build_generation_request,
    check_token_answer,
    join_server_path,
    read_generations,
)

# Questions after which the known text is asked about again
RECHECKED = 500


class TextServerTarget:
    """The language model behind a `TextEndpoint`.

    Before the first record it proves on a known text that the server really tells the
    log-probabilities of given tokens, and refuses it otherwise. Queries are booked in `ledger` as
    those of `HttpTarget` are, so that a resumed run pays only for what is missing; where each token
    costs a request (llama.cpp), each token is a query. `base` is the model before fine-tuning: a
    target of its own, which must be served as this one is.

    >>> target = TextServerTarget(TextEndpoint("http://localhost:8080", "llama.cpp"))
    >>> target.task, target.access.word, target.costly
    ('text', 'token_probabilities', True)
    """

    task: Task = "text"
    signal: Signal = "loss"
    n_classes = 1
    costly = True
    hides = False
    # What a server runs cannot be known; the ledger stores its answers instead
    digest: str | None = None
    n_parameters: int | None = None

    def __init__(
        self,
        endpoint: TextEndpoint,
        *,
        ledger: str | Path | None = None,
        query_budget: int | None = None,
        base: Any = None,
    ) -> None:
        """Declare the target; nothing is sent before the first query.

        Raises:
            InputError: httpx2 is missing, or the base is the same served model.
        """
        self.endpoint, self.query_budget, self.base = endpoint, query_budget, base
        if read_target_facts(base).identity == endpoint.identity:
            raise InputError(
                "Expected the model before fine-tuning as base, got the target itself. Give the "
                "endpoint that serves the base."
            )
        # Called with the number of records of the present query that are answered
        self.told: Callable[[int], None] | None = None
        self.access = endpoint.access
        self.identity = endpoint.identity
        # So many records take part in one call; each costs a question a token where tokens are forced
        self.rows_a_query = 64 if endpoint.serving.once_a_token else 4096
        self._session = TextSession(endpoint, ledger)
        self.ledger = self._session.ledger_file
        self._lock = threading.Lock()
        # How often each content was asked about in this run
        self._asked: Counter[bytes] = Counter()
        self._proof: ServerProof | None = None
        self._writer: PromptWriter | None = None
        self._model: str | None = None
        self._since_check = 0

    @property
    def tokens_identity(self) -> str | None:
        """What must agree between models that are compared, None before the first query."""
        return None if self._proof is None else self._proof.facts.identity

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about texts that were cut."""
        writer = self._writer
        if writer is None or not writer.cut:
            return ()
        return (
            f"{len(writer.cut)} texts of more than {writer.longest} tokens were cut to the "
            "server's context.",
        )

    def prove(self) -> str:
        """Prove once what the server answers, and that the base is served in the same way.

        The questions are about a text of their own, so that no budget counts them. It gives the
        facts that must agree between models.

        Raises:
            TargetError: The server does not answer as its protocol says.
            InputError: The base is served in another way; the message says in which.
        """
        if self._proof is None:
            portal, _ = self._session.open()
            proof = portal.call(prove_server(self._session, self.endpoint, self._score))
            self._refuse_other_base(proof.facts.identity)
            self._writer = PromptWriter(self._session, self.endpoint, proof.facts)
            self._proof = proof
            # Nothing is left that the first answer alone should show
            self._session.understood = self.access >= Access.TOKEN_PROBABILITIES
        return self._proof.facts.identity

    def _refuse_other_base(self, identity: str) -> None:
        """Refuse a base whose tokens are not the target's, as far as they are known."""
        if isinstance(self.base, TextServerTarget):
            self.base.prove()
        theirs = read_target_facts(self.base).tokens_identity
        if theirs is not None:
            refuse_different_tokens(identity, theirs, "the base")

    def query(self, x: Any, *, owners: Sequence[str] | None = None) -> Floats:
        """Give minus the mean log-probability (n, 1) of the scored tokens of each text, in nats.

        Raises:
            MemberscopeError: As of `measure_tokens`.
        """
        return -self.measure_tokens(x, owners=owners).mean_log_probability()[:, None]

    def measure_tokens(self, x: Any, *, owners: Sequence[str] | None = None) -> TokenSignals:
        """Measure what the server says about the tokens of n texts.

        `owners` (n,) names the record of the audit that each query is spent for.

        Raises:
            TargetError: The server cannot be reached, fails, answers something else than the
                log-probabilities of all tokens, or changes its answers.
            InputError: A budget is used up, or the base or a record does not fit.
        """
        records: list[TextRecord] = list(x)
        if self.access < Access.TOKEN_PROBABILITIES:
            raise InputError(
                "Expected a server that scores given texts, got openai-chat, which only continues "
                "them. Run attacks on generations, or choose another --protocol."
            )
        self.prove()
        portal, _ = self._session.open()
        with self._count_queries(records) as numbers:
            return portal.call(self._measure(records, numbers, owners))

    def generate(
        self, prompts: Sequence[str], n: int, max_tokens: int, seed: int
    ) -> list[list[str]]:
        """Sample `n` continuations of each prompt, of up to `max_tokens` tokens.

        Raises:
            TargetError: The server cannot be reached, fails, or gives fewer.
            InputError: A budget is used up.
        """
        chat = self.endpoint.protocol == "openai-chat"
        sampling = Sampling(n, max_tokens, seed)
        model = self.endpoint.model_name
        self.prove()
        portal, _ = self._session.open()
        with self._count_queries([f"{sampling}{prompt}" for prompt in prompts]) as numbers:
            block = QuestionBlock(
                queries=[LedgerQuery(key, key[:16]) for key in numbers],
                address=_locate_generation(self.endpoint),
                size=1,
                ask=lambda places: build_generation_request(
                    prompts[places[0]], sampling, model, chat=chat
                ),
                read=lambda document, _: [pack_texts(read_generations(document, n))],
                record=range(len(prompts)),
                told=self.told,
            )
            packed = portal.call(self._session.collect_answers(block, self._limits))
        return [unpack_texts(texts) for texts in packed]

    def spent(self) -> QuerySpending:
        """Give what was sent and answered, in this run and the earlier ones of the same ledger."""
        return self._session.open()[1].spent().result()

    def close(self) -> None:
        """Close the connections and the ledger; the next query opens them again."""
        self._session.close()

    def __enter__(self) -> TextServerTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _limits(self) -> SendingLimits:
        return SendingLimits(self.query_budget, self.endpoint.max_queries)

    @contextmanager
    def _count_queries(self, contents: Sequence[object]) -> Iterator[list[bytes]]:
        """Key each query by its content and the number of earlier queries about it.

        What failed may be asked again as the same query.
        """
        # The k-th query about one content is another query than the first: servers may be random
        keys = []
        with self._lock:
            for content in contents:
                text = f"{self.identity}{content!r}".encode("utf-8", "surrogatepass")
                fingerprint = blake2b(text, digest_size=16).digest()
                keys.append(fingerprint + self._asked[fingerprint].to_bytes(4, "big"))
                self._asked[fingerprint] += 1
        try:
            yield keys
        except BaseException:
            with self._lock:
                self._asked.subtract(Counter(key[:16] for key in keys))
            raise

    async def _measure(
        self, records: list[TextRecord], keys: list[bytes], owners: Sequence[str] | None
    ) -> TokenSignals:
        """Prove the server, write the prompts, and collect the answers about them."""
        assert self._writer is not None and self._proof is not None
        prompts = await self._writer.write_prompts(records)
        once = self.endpoint.serving.once_a_token
        places: list[tuple[int, int | None]] = [
            (row, position)
            for row, prompt in enumerate(prompts)
            for position in (range(prompt.start, len(prompt.ids)) if once else (None,))
        ]
        spenders = [
            key[:16]
            if owners is None
            else blake2b(str(owners[row]).encode(), digest_size=16).digest()
            for row, key in enumerate(keys)
        ]
        self._refuse_small_budget(Counter(row for row, _ in places))
        queries = [
            LedgerQuery(_key_position(keys[row], position), spenders[row])
            for row, position in places
        ]
        told = self.told
        block = QuestionBlock(
            queries=queries,
            address=self.endpoint.serving.locate(self.endpoint.url),
            size=self.endpoint.rows_a_request,
            ask=lambda asked: self._ask([_take_position(prompts, *places[k]) for k in asked]),
            read=lambda document, asked: [
                pack_token_answer(check_token_answer(answer))
                for answer in self._read(
                    document, [_take_position(prompts, *places[k]) for k in asked]
                )
            ],
            record=[row for row, _ in places],
            told=told and (lambda done: told(done * len(records) // max(1, len(places)))),
        )
        stored = [
            unpack_token_answer(packed)
            for packed in await self._session.collect_answers(block, self._limits)
        ]
        self._since_check += len(places)
        if self._since_check >= RECHECKED:
            self._since_check = 0
            await recheck_known_text(self._proof, self._score)
        return _join_records(stored, [row for row, _ in places], len(records))

    async def _score(self, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Score prompts that are no records."""
        serving = self.endpoint.serving
        path = serving.locate("")
        return self._read(await self._session.post_document(path, self._ask(prompts)), prompts)

    def _ask(self, prompts: Sequence[TokenPrompt]) -> dict[str, object]:
        return self.endpoint.serving.ask(prompts, self.endpoint.model_name)

    def _read(self, document: Any, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Read the answers about prompts, which must come from one model.

        Raises:
            TargetError: They do not, or are not about all tokens.
        """
        name = document.get("model") if isinstance(document, dict) else None
        if isinstance(name, str):
            self._model = self._model or name
            if name != self._model:
                raise TargetError(
                    f"Expected answers of the model {self._model[:80]}, got one of {name[:80]}: "
                    "the model was replaced meanwhile. Name one with --model-name."
                )
        try:
            return self.endpoint.serving.read(document, prompts)
        except TargetError as error:
            where = strip_url(self.endpoint.url)
            raise TargetError(f"{error} (Asked {where}.)") from None

    def _refuse_small_budget(self, queries: Counter[int]) -> None:
        """Refuse a budget that the longest record exceeds, before anything is sent.

        Raises:
            InputError: It is too small.
        """
        most = max(queries.values(), default=0)
        if self.query_budget is not None and most > self.query_budget:
            raise InputError(
                f"Expected a query budget of at least {most}, since llama.cpp's server is asked "
                f"once a token, got {self.query_budget}. Raise --query-budget, or leave out long "
                "texts."
            )


def _locate_generation(endpoint: TextEndpoint) -> str:
    """Locate where continuations are asked for."""
    chat = endpoint.protocol == "openai-chat"
    return join_server_path(endpoint.url, "/v1/chat/completions" if chat else "/v1/completions")


def _take_position(prompts: Sequence[TokenPrompt], row: int, position: int | None) -> TokenPrompt:
    """Give the prompt of a record, at one position where tokens are forced."""
    prompt = prompts[row]
    if position is None:
        return prompt
    return replace(prompt, position=position)


def _key_position(key: bytes, position: int | None) -> bytes:
    """Key the question about one token of a record."""
    if position is None:
        return key
    return blake2b(key[:16] + position.to_bytes(4, "big"), digest_size=16).digest() + key[16:]


def _join_records(stored: list[StoredAnswer], rows: list[int], n: int) -> TokenSignals:
    """Join the stored answers into the signals of n records.

    Raises:
        InputError: A record has no scored token.
    """
    parts: list[list[StoredAnswer]] = [[] for _ in range(n)]
    for answer, row in zip(stored, rows, strict=True):
        parts[row].append(answer)
    joined = [join_stored_answers(part) for part in parts]
    counts = np.array([len(answer.log_probability) for answer in joined], np.int64)
    if not counts.all():
        raise InputError(
            f"Expected records with a token to score behind a first one, got {(counts == 0).sum()} "
            f"of {n} without. Leave them out."
        )
    whole = join_stored_answers(joined)
    return TokenSignals(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        log_probability=whole.log_probability,
        is_top=whole.is_top,
    )
