"""Turn requests into records, and outputs into answers, as pure functions.

Answers keep the server's form. Where classes are hidden, templated JSON and MLflow get objects
`{name: score}`, and the Open Inference Protocol a BYTES tensor of its classification extension; an
endpoint declared with `top_k` reads both back exactly. One score for two classes is answered as one
where both may be seen.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from memberscope.errors import InputError, TargetError
from memberscope.guard.hashing.canonical import (
    UNDECLARED,
    RecordForm,
    UnreadableRecord,
    canonicalise_records,
)
from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.number_answers import NumberForm, defend_numbers
from memberscope.guard.rewriting.request_caps import RequestCaps
from memberscope.guard.rewriting.request_parser import (
    CAPS,
    ParsedQuery,
    parse_mlflow_query,
    parse_template_query,
    parse_v2_query,
    read_request,
)
from memberscope.guard.rewriting.response_writer import (
    NUMPY,
    Pairs,
    copy_answer_metadata,
    find_single_shape,
    list_visible_classes,
    read_answer_outputs,
    read_v2_tensors,
    write_plain_answers,
    write_single_scores,
    write_tensor_answer,
)
from memberscope.guard.rewriting.single_answers import (
    NO_OUTPUTS,
    find_single_tensor,
    is_plain_score_list,
    pick_single_pairs,
)
from memberscope.outputs import Chain, pick_top_classes
from memberscope.types import Floats, Ints, OutputDefence
from memberscope.wire import (
    Batch,
    DeclaredOutputs,
    Step,
    TemplatedJSON,
    build_document,
    merge_documents,
    parse_path,
    pick_value,
)


@dataclass(frozen=True, eq=False)
class Answer:
    """Answer of a server about n records.

    `outputs` (n, k), or labels (n, 1), and the rest that may pass: for v2 further tensors and what
    the answer says of itself, else values with their paths. `single` is the shape of one record's
    answer where the server gave one score for two classes, and `form` that of predicted numbers.
    """

    outputs: Floats
    name: str = ""
    beside: tuple[dict[str, object], ...] = ()
    says: tuple[tuple[str, str], ...] = ()
    kept: tuple[tuple[tuple[Step, ...], Any], ...] = ()
    single: tuple[int, ...] | None = None
    form: NumberForm | None = None


@dataclass(frozen=True)
class Exchange:
    """Read requests and answers of the served model, and write them anew.

    >>> exchange = Exchange.of(ServingConfig(protocol="mlflow", n_classes=2))
    >>> query = exchange.query(b'{"inputs": [[1, 2]]}', restricted=True)
    >>> len(query.batch), query.body
    (1, b'{"inputs":[[1,2]]}')
    >>> from memberscope.outputs import parse_restriction
    >>> exchange.answer(b'{"predictions": [[0.26, 0.74]], "trace": 7}', 1, parse_restriction("round:1"))[0]
    b'{"predictions":[[0.3,0.7]]}'
    """

    serving: ServingConfig
    declared: DeclaredOutputs
    template: bytes = b""
    place: tuple[Step, ...] = ()
    alone: bool = False
    path: tuple[Step, ...] = ()
    also: tuple[tuple[Step, ...], ...] = ()
    form: RecordForm = UNDECLARED
    passes_unreadable: bool = False
    caps: RequestCaps = CAPS

    @classmethod
    def of(
        cls,
        serving: ServingConfig,
        form: RecordForm | None = None,
        *,
        passes_unreadable: bool = False,
        caps: RequestCaps = CAPS,
    ) -> Exchange:
        """Build the exchange that a policy declares.

        `form` is that of records, which `serving` declares where there is no sketch. Records of
        another form are refused, unless it `passes_unreadable` ones. `caps` are what a request may
        hold.
        """
        found = cls._declared(serving)
        return replace(
            found, form=form or serving.form, passes_unreadable=passes_unreadable, caps=caps
        )

    @classmethod
    def _declared(cls, serving: ServingConfig) -> Exchange:
        endpoint = serving.endpoint("http://upstream")
        if serving.protocol == "v2":
            return cls(serving, endpoint.declared)
        served = endpoint.serving
        path = parse_path(serving.answer or ("predictions" if serving.protocol == "mlflow" else ""))
        also = tuple(map(parse_path, serving.also))
        if not isinstance(served, TemplatedJSON):
            return cls(serving, endpoint.declared, path=path, also=also)
        place, hole = served._place()
        return cls(
            serving,
            endpoint.declared,
            served.body.encode(),
            place,
            hole in ("$record", "$row"),
            path,
            also,
        )

    def query(self, body: bytes, *, restricted: bool) -> ParsedQuery:
        """Read the records of a request, and build the body for the server.

        Where answers are `restricted`, only the declared output is asked for.

        Raises:
            RequestRefused: It is not what the protocol says (400), in a form that is not read (415),
                holds too much (413), or has records that the sketch cannot read (422).
        """
        document, odd = read_request(body, self.caps)
        try:
            query = self._query(document, odd, restricted)
            # Before anything is made of the records
            self.caps.check_records(len(query.batch))
            return ParsedQuery(self._canonicalise(query.batch), query.body)
        # Whatever a document lacks or nests too deep is a malformed request, never a fault of ours
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            OverflowError,
            RecursionError,
            MemoryError,
        ):
            raise RequestRefused("malformed-request") from None
        except (TargetError, InputError):
            raise RequestRefused("malformed-request") from None

    def _canonicalise(self, batch: Batch) -> Batch:
        """Bring records to canonical form.

        Raises:
            RequestRefused: They cannot be (422), or are not the declared columns (400).
        """
        try:
            return canonicalise_records(batch, self.form)
        except UnreadableRecord as error:
            # Two records in the place of one are refused in any case
            if error.misplaced and self.serving.columns:
                raise RequestRefused("malformed-request") from None
            if not self.passes_unreadable:
                raise RequestRefused("unreadable-record") from None
        # As it came: budgets count it by its values, and the monitor tells that it has no sketch
        return batch

    def _query(self, document: Any, odd: bool, restricted: bool) -> ParsedQuery:
        if self.serving.protocol == "mlflow":
            return parse_mlflow_query(document, odd, self.caps)
        if self.serving.protocol == "json":
            return parse_template_query(
                document, odd, (self.template, self.place, self.alone), self.caps
            )
        # Without a declared output the server's choice of one stands
        asked = [self.serving.answer, *self.serving.also] if self.serving.answer else []
        return parse_v2_query(document, odd, asked if restricted else None, self.caps)

    def read(self, body: bytes, n: int) -> Answer:
        """Read an answer about n records.

        Raises:
            TargetError: It cannot be read, or is not what was declared.
        """
        return self._read_document(_load_answer(body), n)

    def _read_document(self, document: Any, n: int) -> Answer:
        """Read an answer about n records from its JSON."""
        # The protocols without tensors answer with a list, or with one value for a single record
        if self.serving.protocol != "v2":
            found = pick_value(document, self.path)
            # A template for single records is answered without a list around it
            listed = [found] if self.alone else found
            return Answer(
                read_answer_outputs(listed, self.declared, n),
                kept=self._pick_kept(document),
                single=find_single_shape(listed, self.declared),
                form=self._find_form(listed),
            )
        name, values, beside = read_v2_tensors(document, self.serving.answer, self.serving.also)
        return Answer(
            read_answer_outputs(values, self.declared, n),
            name,
            tuple(beside),
            tuple(copy_answer_metadata(document).items()),
            single=find_single_shape(values, self.declared),
            form=self._find_form(values),
        )

    def _find_form(self, answers: Any) -> NumberForm | None:
        """Find the form of predicted numbers; None where answers are about classes."""
        if self.declared.level != "numbers" or not len(answers):
            return None
        return NumberForm.of(answers)

    def _pick_kept(self, document: Any) -> tuple[tuple[tuple[Step, ...], Any], ...]:
        """Pick the further values of an answer that pass; one that is not there is left out."""
        found = []
        for steps in self.also:
            with suppress(TargetError):
                found.append((steps, pick_value(document, steps)))
        return tuple(found)

    def write(self, answer: Answer, outputs: Floats, told: Pairs | None, signal: str) -> bytes:
        """Write the answer's body with `outputs` in the place of its own.

        Where classes are hidden, only those in `told` are written.
        """
        if self.serving.protocol == "v2":
            tensor = (
                write_tensor_answer(answer.name, outputs, told, signal, self.declared)
                if answer.form is None
                else answer.form.write_tensor(answer.name, outputs)
            )
            if answer.single is not None and told is None and signal != "labels":
                tensor |= write_single_scores(outputs, self.declared, answer.single, tensor=True)
            return orjson.dumps(
                {**dict(answer.says), "outputs": [tensor, *answer.beside]}, option=NUMPY
            )
        found = (
            write_plain_answers(outputs, told, signal, self.declared)
            if answer.form is None
            else answer.form.write(outputs)
        )
        if answer.single is not None and told is None and signal != "labels":
            found = write_single_scores(outputs, self.declared, answer.single)["data"]
        document = build_document(self.path, found[0] if self.alone else found)
        for steps, value in answer.kept:
            document = merge_documents(document, build_document(steps, value))
        return orjson.dumps(document, option=NUMPY)

    def answer(self, body: bytes, n: int, defence: OutputDefence) -> tuple[bytes, Ints]:
        """Apply `defence` to an answer about n records; give the body and its top classes (n,).

        Raises:
            TargetError: It cannot be read, or is not what was declared.
            InputError: The defence cannot be applied to it.
        """
        document = _load_answer(body)
        if n == 1 and not self.serving.also and self.declared.level != "numbers":
            alone = self._answer_single(document, defence)
            if alone is not None:
                return alone
        answer = self._read_document(document, n)
        if answer.form is not None:
            outputs = defend_numbers(answer.outputs, self.serving.outputs, defence)
            # There is no class for the monitor to watch
            return self.write(answer, outputs, None, "numbers"), np.zeros(n, dtype=np.int64)
        outputs, signal = _defend_answer_outputs(answer.outputs, self.declared, defence)
        # Labels hide no class: there is only one to show
        told = None if signal == "labels" else list_visible_classes(outputs)
        first = (
            find_answered_classes(outputs, signal)
            if told is None
            else np.array([pairs[0][0] if pairs else 0 for pairs in told])
        )
        return self.write(answer, outputs, told, signal), first

    def _answer_single(self, document: Any, defence: OutputDefence) -> tuple[bytes, Ints] | None:
        """Answer about one record without arrays, as `answer` does with them.

        None where the answer is of another form than most, or the defence does more than to pick
        the top classes and round them.
        """
        is_tensor = self.serving.protocol == "v2"
        found = (
            find_single_tensor(document, self.serving.answer, self.declared)
            if is_tensor
            else self._find_single_scores(document)
        )
        pairs = None if found is None else pick_single_pairs(found[1], defence)
        if found is None or pairs is None:
            return None
        first, told = np.array([pairs[0][0]]), [pairs]
        if not is_tensor:
            return self.write(Answer(NO_OUTPUTS), NO_OUTPUTS, told, "probabilities"), first
        tensor = write_tensor_answer(found[0], NO_OUTPUTS, told, "probabilities", self.declared)
        return orjson.dumps({**copy_answer_metadata(document), "outputs": [tensor]}), first

    def _find_single_scores(self, document: Any) -> tuple[str, list[float]] | None:
        """Find the list of one record's scores in an answer without tensors."""
        found = pick_value(document, self.path)
        if not self.alone:
            found = found[0] if isinstance(found, list) and len(found) == 1 else None
        return ("", found) if is_plain_score_list(found, self.declared) else None

    def read_tops(self, body: bytes, n: int) -> Ints:
        """Read the top classes (n,) of an answer that passes as it is.

        Raises:
            TargetError: It cannot be read, or is not about n records.
        """
        found = self.read(body, n)
        if found.form is not None:
            return np.zeros(n, dtype=np.int64)
        return find_answered_classes(found.outputs, self.declared.level)

    def tops(self, body: bytes, n: int) -> Ints:
        """Read the top classes (n,) of an answer that passes as it is, -1 where unreadable."""
        try:
            return self.read_tops(body, n)
        except (TargetError, InputError, ValueError, TypeError):
            # The answer passes all the same; only the monitor does not know its classes
            return np.full(n, -1, dtype=np.int64)


def _load_answer(body: bytes) -> Any:
    """Parse the JSON of an answer.

    Raises:
        TargetError: It is none.
    """
    try:
        return orjson.loads(body)
    except ValueError:
        raise TargetError(
            f"Expected JSON from the server, got {len(body)} bytes that are none. Check the server."
        ) from None


def _defend_answer_outputs(
    outputs: Floats, declared: DeclaredOutputs, defence: OutputDefence
) -> tuple[Floats, str]:
    """Apply `defence` as an audit behind it sees it; give the outputs and their declaration.

    Labels stay labels, logits become probabilities.

    >>> from memberscope.outputs import parse_restriction
    >>> _defend_answer_outputs(np.array([[0.0, 0.0]]), DeclaredOutputs("logits", n=2), parse_restriction("round:2"))
    (array([[0.5, 0.5]]), 'probabilities')
    """
    if declared.level == "labels":
        # Labels are the coarsest output: no defence makes them coarser
        return outputs, "labels"
    if declared.level == "logits":
        from scipy.special import softmax

        outputs = softmax(outputs, axis=1)
    return defence(outputs), defence.signal


def find_answered_classes(outputs: Floats, signal: str) -> Ints:
    """Find the top classes (n,) of outputs, the first of equals."""
    if signal == "labels":
        return outputs[:, 0].astype(np.int64)
    return pick_top_classes(outputs)


def coarsen_defence(defence: OutputDefence | None, more: OutputDefence) -> OutputDefence:
    """Chain `defence` and `more`; labels cannot be coarser.

    >>> from memberscope.outputs import parse_restriction
    >>> coarsen_defence(parse_restriction("round:2"), parse_restriction("label")).name
    'round:2+label'
    """
    if defence is None:
        return more
    return defence if defence.signal == "labels" else Chain((defence, more))
