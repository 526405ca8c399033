"""Read requests to a language model and write its answers anew, whole or as streams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson

from memberscope.errors import TargetError
from memberscope.guard.hashing.canonical import RecordForm, canonicalise_records
from memberscope.guard.hashing.canonical_text import fold_text_records
from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.event_streams import EventStream
from memberscope.guard.rewriting.request_caps import RequestCaps
from memberscope.guard.rewriting.request_parser import CAPS, ParsedQuery, read_request
from memberscope.guard.rewriting.text_answers import restrict_text_answer
from memberscope.guard.rewriting.text_requests import parse_text_query
from memberscope.outputs.texts import ShownTokens
from memberscope.types import Ints, OutputDefence
from memberscope.wire import Batch

# What stands in an event of a stream in the place of a server's error, which may quote the prompt
FAILED = {
    "error": {"type": "urn:memberscope:guard:upstream-failed", "message": "Model Server Error"}
}


@dataclass(frozen=True)
class TextExchange:
    """Requests and answers of completions and chat; each prompt is one record.

    >>> from memberscope.outputs import parse_restriction
    >>> exchange = TextExchange(ServingConfig(protocol="openai"), RecordForm(width=1))
    >>> query = exchange.query(b'{"prompt": ["A  b", "c"], "logprobs": 2}', parse_restriction("label"))
    >>> query.batch.array.tolist(), query.body
    ([['a b'], ['c']], b'{"prompt":["A  b","c"]}')
    """

    serving: ServingConfig
    form: RecordForm
    caps: RequestCaps = CAPS

    def query(self, body: bytes, defence: OutputDefence | None) -> ParsedQuery:
        """Read the texts of a request, and build the body for the server.

        Raises:
            RequestRefused: It is not what the protocol says (400), holds too much (413), is about
                another model (404), or has prompts that are no texts (422).
        """
        document, _ = read_request(body, self.caps)
        shown = None if defence is None else ShownTokens.of(defence)
        try:
            texts, asked, streams = parse_text_query(document, self.serving, shown)
            self.caps.check_records(len(texts))
            batch = fold_text_records(canonicalise_records(_build_text_batch(texts), self.form))
            return ParsedQuery(batch, orjson.dumps(asked), streams)
        # Whatever a document lacks or nests too deep is a malformed request, never a fault of ours
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise RequestRefused("malformed-request") from None

    def answer(self, body: bytes, n: int, defence: OutputDefence) -> tuple[bytes, Ints]:
        """Apply `defence` to an answer about n prompts; no classes are known of texts (n,).

        Raises:
            TargetError: It cannot be read, or is about more or fewer prompts.
        """
        document = _load_text_answer(body)
        written = restrict_text_answer(document, ShownTokens.of(defence), self.count_most(n))
        _require_choices(document, n)
        return orjson.dumps(written), self.tops(body, n)

    def stream(self, n: int, defence: OutputDefence) -> EventStream:
        """Build what applies `defence` to the stream of an answer about n prompts."""
        shown, most = ShownTokens.of(defence), self.count_most(n)

        def rewrite(document: object) -> object:
            if isinstance(document, dict) and "error" in document and "choices" not in document:
                return FAILED
            return restrict_text_answer(document, shown, most)

        return EventStream(rewrite)

    def count_most(self, n: int) -> int:
        """Count the choices that an answer about n prompts may have."""
        return n * self.serving.texts.max_samples

    def read_tops(self, body: bytes, n: int) -> Ints:
        """Check that an answer that passes as it is, is about n prompts.

        Raises:
            TargetError: It is not.
        """
        _require_choices(_load_text_answer(body), n)
        return self.tops(body, n)

    def tops(self, body: bytes, n: int) -> Ints:
        """Give the classes (n,) of an answer: a text has none, so that all are -1."""
        return np.full(n, -1, dtype=np.int64)


def _build_text_batch(texts: list[str]) -> Batch:
    """Build the records (n, 1) of texts."""
    array = np.empty((len(texts), 1), dtype=object)
    array[:, 0] = texts
    return Batch(array)


def _load_text_answer(body: bytes) -> object:
    """Parse the JSON of an answer.

    Raises:
        TargetError: It is none.
    """
    try:
        found: object = orjson.loads(body)
    except ValueError:
        raise TargetError(
            f"Expected JSON from the server, got {len(body)} bytes that are none. Check the server."
        ) from None
    return found


def _require_choices(document: object, n: int) -> None:
    """Refuse an answer that has not the same number of choices for each of n prompts.

    Raises:
        TargetError: It has another number.
    """
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices or len(choices) % n:
        raise TargetError(
            f"Expected choices about {n} prompts from the server, got others. Check the server."
        )
