"""One record in more spellings: keys twice, exponents, NaN, digits of other scripts, gzip, tensors.

One guard serves three models: rows of numbers, rows of numbers that may be words, and tensors.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator

import pytest
from raw_guard import RawGuard, started
from unruly import Unruly, serving

ROWS = """
[serving]
protocol = "json"
prefix = "/PREFIX"
path = "/score"
body = '{"records": "$records"}'
answer = "predictions"
n_classes = 3
columns = ["x", "y"]
coercion = "COERCION"
[identity]
trusted_proxies = ["127.0.0.1/32"]
[default]
restrict = "label"
per_record = "1/365d"
[limits]
refused = "1000/m"
[state]
folder = "PREFIX"
record_megabytes = 1
"""
TENSORS = """
[serving]
protocol = "v2"
prefix = "/tensors"
model_name = "m"
answer = "p"
n_classes = 3
[identity]
trusted_proxies = ["127.0.0.1/32"]
[default]
restrict = "label"
per_record = "1/365d"
[limits]
refused = "1000/m"
[state]
folder = "tensors"
record_megabytes = 1
"""
PLAIN = b'{"records": [[1.5, 0]]}'


@pytest.fixture(scope="module")
def app() -> Unruly:
    return Unruly()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory, app: Unruly) -> Iterator[RawGuard]:
    rows = [
        ROWS.replace("PREFIX", prefix).replace("COERCION", coercion)
        for prefix, coercion in (("strict", "strict"), ("words", "numbers"))
    ]
    with (
        serving(app) as upstream,
        started(tmp_path_factory.mktemp("guard"), upstream, *rows, TENSORS) as running,
    ):
        yield running


SPELLED: dict[str, bytes] = {
    "an exponent": b'{"records": [[15e-1, 0]]}',
    "a large exponent": b'{"records": [[0.00000000000000000000015e22, 0]]}',
    "an exponent with zeros": b'{"records": [[1.5e+0000000000000000, 0]]}',
    "below all numbers": b'{"records": [[1.5, 1e-400]]}',
    "below all single ones": b'{"records": [[1.5, 1e-60]]}',
    "below nothing": b'{"records": [[1.5, -1e-400]]}',
    "a negative zero": b'{"records": [[1.5, -0]]}',
    "false": b'{"records": [[1.5, false]]}',
    "many digits": b'{"records": [[1.5' + b"0" * 5000 + b", 0]]}",
    "many digits behind": b'{"records": [[1.5' + b"0" * 800 + b"1, 0]]}",
    "keys twice": b'{"records": [[8, 8]], "records": [[9, 9]], "records": [[1.5, 0]]}',
    "columns twice": b'{"records": [{"x": 7, "y": 0, "x": 1.5}]}',
    "a column escaped": b'{"records": [{"\\u0078": 1.5, "y": 0}]}',
    "other keys": b'{"columns": ["y", "x"], "index": [3], "records": [[1.5, 0]]}',
    "blanks": b'\r\n\t {\n"records"\t:\r[[ 1.5 ,\n0 ] ]}\n',
    "a record twice": b'{"records": [[1.5, 0], [1.5, 0]]}',
    "NaN elsewhere": b'{"NaN": NaN, "records": [[1.5, 0]]}',
    "infinity elsewhere": b'{"a": [-Infinity], "records": [[1.5e0, 0e9]]}',
    "half a character elsewhere": b'{"\\ud800": NaN, "records": [[1.5, 0]]}',
}
# Refused in whatever way, or the record that was asked about
ODD: dict[str, bytes] = {
    "an exponent beyond all": b'{"records": [[1.5, 0e99999999999999999999]]}',
    "no digits before the point": b'{"records": [[1.5, .0]]}',
    "no digits behind the point": b'{"records": [[1.5, 0.]]}',
    "a plus": b'{"records": [[+1.5, 0]]}',
    "hexadecimal": b'{"records": [[0x1.8p0, 0]]}',
    "zeros before": b'{"records": [[01.5, 00]]}',
    "digits apart": b'{"records": [[1.5, 0_0]]}',
    "digits of another script": '{"records": [[\uff11.\uff15, 0]]}'.encode(),
    "a comma at the end": b'{"records": [[1.5, 0,],]}',
    "a comment": b'{"records": [[1.5, 0]] /* */}',
    "single quotes": b"{'records': [[1.5, 0]]}",
    "two documents": b'{"records": [[1.5, 0]]}{"records": [[1.5, 0]]}',
    "a null behind": b'{"records": [[1.5, 0]]}\x00',
    "a mark before": b'\xef\xbb\xbf{"records": [[1.5, 0]]}',
    "UTF-32": '{"records": [[1.5, 0]]}'.encode("utf-32"),
    "overlong": b'{"records": [[1.5, \xc0\xb0]]}',
    "a lone surrogate": b'{"records": [["\\ud800", 0]]}',
    "deeper": b'{"records": [[[1.5], [0]]]}',
    "all in one": b'{"records": [[1.5, 0, 1.5, 0]]}',
    "of two lengths": b'{"records": [[1.5, 0], [1.5]]}',
    "an object within": b'{"records": [[{"x": 1.5}, 0]]}',
    "columns and a list": b'{"records": [{"x": 1.5, "y": 0}, [1.5, 0]]}',
    "another column": b'{"records": [{"x": 1.5, "y": 0, "z": 0}]}',
    "a column of other letters": '{"records": [{"x": 1.5, "\uff59": 0}]}'.encode(),
    "by column": b'{"records": {"x": [1.5], "y": [0]}}',
    "a column of two": b'{"records": {"x": [1.5, 1.5], "y": [0]}}',
    "not a list": b'{"records": "[[1.5, 0]]"}',
    "nothing": b"",
    "more digits than Python reads": b'{"NaN": NaN, "records": [[1.5, ' + b"0" * 5000 + b"]]}",
}


def reach(guard: RawGuard, app: Unruly, prefix: str = "strict") -> int:
    """How often the model was asked about the record, once its budget is spent."""
    guard.post(PLAIN, path=f"/{prefix}/score")
    return app.reached[1.5, 0.0]


@pytest.mark.parametrize("name", SPELLED)
def test_no_spelling_of_numbers_or_keys_is_another_record(guard, app, name):
    reached = reach(guard, app)
    assert guard.post(SPELLED[name], path="/strict/score") == 429
    assert app.reached[1.5, 0.0] == reached


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_json_of_records_is_refused(guard, app, name):
    reached, requests = reach(guard, app), app.requests
    assert guard.post(ODD[name], path="/strict/score") in (400, 415, 422, 429)
    assert (app.reached[1.5, 0.0], app.requests) == (reached, requests)


WORDS = {
    "a word": '"1.5"',
    "blanks": '" \\t1.5\\n"',
    "blanks of Unicode": '"\u00a01.5\u2003"',
    "full width": '"\uff11.\uff15"',
    "Arabic": '"\u0661.\u0665"',
    "Devanagari": '"\u0967.\u096b"',
    "mathematical": '"\U0001d7cf.\U0001d7d3"',
    "digits apart": '"1.5_0"',
    "an exponent": '"15E-1"',
    "a sign": '"+1.5"',
}
MISSING = {
    "null": "null",
    "NaN": "NaN",
    "a word": '"nan"',
    "capitals": '"NAN"',
    "with a sign": '"-nan"',
    "with a plus": '"+NaN"',
}


@pytest.mark.parametrize("name", WORDS)
def test_no_word_for_a_number_is_another_record(guard, app, name):
    """Each is the number to Python, and so to a server that coerces words."""
    for other in ("0", "1"):
        guard.post(b'{"records": [[1.5, %b]]}' % other.encode(), path="/words/score")
        body = f'{{"records": [[{WORDS[name]}, {other}]]}}'.encode()
        assert guard.post(body, path="/words/score") == 429


@pytest.mark.parametrize("name", MISSING)
def test_no_spelling_of_a_missing_value_is_another_record(guard, name):
    guard.post(b'{"records": [[null, 7]]}', path="/words/score")
    body = f'{{"records": [[{MISSING[name]}, 7]]}}'.encode()
    assert guard.post(body, path="/words/score") == 429


def member(data: bytes, *, flags: int = 0, extra: bytes = b"", check: int | None = None) -> bytes:
    """One gzip member, with fields of its head, and with another checksum."""
    inner = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = inner.compress(data) + inner.flush()
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + extra
    return head + raw + struct.pack("<II", zlib.crc32(data) if check is None else check, len(data))


CODED: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(PLAIN), "gzip"),
    "gzip in capitals": (gzip.compress(PLAIN), "GZIP"),
    "its old name": (gzip.compress(PLAIN), "x-gzip"),
    "a name in its head": (member(PLAIN, flags=8, extra=b"a.json\x00"), "gzip"),
    "a field in its head": (member(PLAIN, flags=4, extra=b"\x04\x00abcd"), "gzip"),
    "a comment in its head": (member(PLAIN, flags=16, extra=b"comment\x00"), "gzip"),
    "two members": (gzip.compress(PLAIN[:9]) + gzip.compress(PLAIN[9:]), "gzip"),
    "an empty member before": (gzip.compress(b"") + gzip.compress(PLAIN), "gzip"),
    "an empty member behind": (gzip.compress(PLAIN) + gzip.compress(b""), "gzip"),
    "another record behind": (
        gzip.compress(PLAIN) + gzip.compress(b'{"records": [[6, 6]]}'),
        "gzip",
    ),
    "zeros behind": (gzip.compress(PLAIN) + bytes(512), "gzip"),
    "a trailer cut off": (gzip.compress(PLAIN)[:-3], "gzip"),
    "a trailer that is wrong": (member(PLAIN, check=7), "gzip"),
    "twice": (gzip.compress(gzip.compress(PLAIN)), "gzip"),
    "twice, and said": (gzip.compress(gzip.compress(PLAIN)), "gzip, gzip"),
    "deflate": (zlib.compress(PLAIN), "deflate"),
    "deflate without a head": (zlib.compress(PLAIN)[2:-4], "deflate"),
    "deflate with a wrong sum": (zlib.compress(PLAIN)[:-4] + bytes(4), "deflate"),
    "deflate that needs a dictionary": (
        (lambda one: one.compress(PLAIN) + one.flush())(zlib.compressobj(zdict=PLAIN)),
        "deflate",
    ),
    "gzip called deflate": (gzip.compress(PLAIN), "deflate"),
    "nothing called gzip": (PLAIN, "gzip"),
    "Brotli": (PLAIN, "br"),
    "zstd": (b"\x28\xb5\x2f\xfd" + PLAIN, "zstd"),
}
ANSWERED = {
    "gzip", "gzip in capitals", "its old name", "a name in its head", "a field in its head",
    "a comment in its head", "deflate", "deflate without a head",
}  # fmt: skip


@pytest.mark.parametrize("name", CODED)
def test_no_compression_makes_another_record_or_two(guard, app, name):
    reached, requests = reach(guard, app), app.requests
    body, coding = CODED[name]
    status = guard.post(body, ("content-encoding", coding), path="/strict/score")
    assert status == (429 if name in ANSWERED else 415) or (name == "twice" and status == 400)
    assert (app.reached[1.5, 0.0], app.requests) == (reached, requests)


TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [0.25, 0.5]}
Document = dict[str, object]
TENSORS_OF_ONE: dict[str, Document] = {
    "as it is": {"inputs": [TENSOR]},
    "another name": {"inputs": [TENSOR | {"name": "y"}]},
    "nested": {"inputs": [TENSOR | {"data": [[0.25, 0.5]]}]},
    "single precision": {"inputs": [TENSOR | {"datatype": "FP32"}]},
    "half precision": {"inputs": [TENSOR | {"datatype": "FP16"}]},
    "one dimension more": {"inputs": [TENSOR | {"shape": [1, 1, 2]}]},
    "no name for the outputs": {"inputs": [TENSOR], "outputs": []},
    "a binary output": {
        "inputs": [TENSOR],
        "outputs": [{"name": "p", "parameters": {"binary_data": True}}],
    },
    "all outputs binary": {"inputs": [TENSOR], "parameters": {"binary_data_output": True}},
    "a class of outputs": {
        "inputs": [TENSOR],
        "outputs": [{"name": "p", "parameters": {"classification": 3}}],
    },
    "another output": {"inputs": [TENSOR], "outputs": [{"name": "embedding"}]},
    "shared memory": {
        "inputs": [
            TENSOR | {"parameters": {"shared_memory_region": "r", "shared_memory_offset": 8}}
        ]
    },
    "a sequence": {"inputs": [TENSOR], "parameters": {"sequence_id": 7, "sequence_start": True}},
    "a priority": {"inputs": [TENSOR], "parameters": {"priority": 1, "timeout": 1}},
}
TENSORS_REFUSED: dict[str, Document] = {
    "binary data": {"inputs": [TENSOR | {"parameters": {"binary_data_size": 16}}]},
    "binary data of nothing": {"inputs": [TENSOR | {"parameters": {"binary_data_size": 0}}]},
    "base64": {"inputs": [TENSOR | {"parameters": {"content_type": "base64"}}]},
    "a datatype in small letters": {"inputs": [TENSOR | {"datatype": "fp64"}]},
    "an unknown datatype": {"inputs": [TENSOR | {"datatype": "BF16"}]},
    "whole numbers that are none": {"inputs": [TENSOR | {"datatype": "INT64"}]},
    "a size that is true": {"inputs": [TENSOR | {"shape": [True, 2]}]},
    "a size with a point": {"inputs": [TENSOR | {"shape": [1.0, 2]}]},
    "a negative size": {"inputs": [TENSOR | {"shape": [-1, 2]}]},
    "sizes whose product is right": {"inputs": [TENSOR | {"shape": [-1, -2]}]},
    "a size beyond all": {"inputs": [TENSOR | {"shape": [1, 2**70]}]},
    "no data": {"inputs": [{key: TENSOR[key] for key in ("name", "shape", "datatype")}]},
    "more data": {"inputs": [TENSOR | {"data": [0.25, 0.5, 0.25, 0.5]}]},
    "a tensor twice": {"inputs": [TENSOR, TENSOR]},
    "no tensor": {"inputs": []},
    "a key more": {"inputs": [TENSOR], "raw_input_contents": ["AAAA"]},
    "parameters in a list": {"inputs": [TENSOR | {"parameters": ["binary_data_size"]}]},
}


@pytest.mark.parametrize("name", TENSORS_OF_ONE)
def test_no_tensor_of_a_record_is_another_or_answers_more(guard, app, name):
    path = "/tensors/v2/models/m/infer"
    guard.post(json.dumps(TENSORS_OF_ONE["as it is"]).encode(), path=path)
    reached = app.reached[0.25, 0.5]
    body = json.dumps(TENSORS_OF_ONE[name]).encode()
    for version in ("", "/versions/1"):
        assert guard.post(body, path=path.replace("/infer", f"{version}/infer")) == 429
    assert app.reached[0.25, 0.5] == reached


@pytest.mark.parametrize("name", TENSORS_REFUSED)
def test_a_tensor_of_another_form_is_refused(guard, app, name):
    requests = app.requests
    body = json.dumps(TENSORS_REFUSED[name]).encode()
    assert guard.post(body, path="/tensors/v2/models/m/infer") in (400, 415)
    assert guard.post(
        body + bytes(16),
        ("inference-header-content-length", str(len(body))),
        path="/tensors/v2/models/m/infer",
    ) in (400, 415)
    assert app.requests == requests
