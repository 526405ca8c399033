"""One table over every route to a language model: the same tokens, and what every route keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_language_models import SENTENCES, build_causal, train_tokenizer

from memberscope.errors import MemberscopeError
from memberscope.facts import read_target_facts
from memberscope.targets import (
    CausalLMTarget,
    StoredTokenTarget,
    TokenFunctionTarget,
    load_target,
    read_token_signals,
    wrap,
)
from memberscope.types import Access, Target

pytestmark = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch") and find_spec("pyarrow")),
    reason="needs transformers, torch and pyarrow",
)
FILED = ("folder", "stored .jsonl", "stored .npz", "stored .parquet")
ROUTES = ("object", "pair", "pipeline", "function", *FILED)


@dataclass(frozen=True)
class TextRoute:
    """A way to the same model: how the target is made, from what file, and what it is asked."""

    make: Callable[[], Any]
    x: Any
    file: Path | None = None
    reload: Callable[[Path], Any] | None = None


def ask_one_by_one(model, tokenizer):
    """Answer as a user's own function: one text at a time, by the simplest code."""
    import torch

    def answer(texts):
        found = []
        for text in texts:
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                log_p = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
            mean = (log_p.exp() * log_p).sum(-1)
            found.append(
                {
                    "log_probs": log_p[range(len(log_p)), ids[0, 1:]].numpy(),
                    "mean": mean.numpy(),
                    "variance": (log_p.exp() * (log_p - mean[:, None]) ** 2).sum(-1).numpy(),
                    "is_top": (log_p.argmax(-1) == ids[0, 1:]).numpy(),
                }
            )
        return found

    return answer


def write_stored(path, answers):
    """Write answers about the sentences as token signals in the format of the suffix."""
    import pyarrow
    from pyarrow import parquet

    rows = [
        {name: np.asarray(values).tolist() for name, values in answer.items()}
        | {"id": f"r{k}", "member": k % 2}
        for k, answer in enumerate(answers)
    ]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        ends = np.cumsum([len(answer["log_probs"]) for answer in answers])
        flat = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        member = [row["member"] for row in rows]
        np.savez(path, offsets=np.concatenate([[0], ends]), member=member, **flat)
    return path


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> dict[str, TextRoute]:
    from transformers import pipeline

    folder = tmp_path_factory.mktemp("texts")
    tokenizer = train_tokenizer()
    model, texts = build_causal(tokenizer), np.array(SENTENCES, dtype=object)
    home = folder / "home"
    model.save_pretrained(home)
    tokenizer.save_pretrained(home)
    answer = ask_one_by_one(model, tokenizer)
    whole = pipeline("text-generation", model=model, tokenizer=tokenizer)
    found = {
        "object": TextRoute(lambda: CausalLMTarget(model, tokenizer), texts),
        "pair": TextRoute(lambda: wrap((model, tokenizer)), texts),
        "pipeline": TextRoute(lambda: wrap(whole), texts),
        "function": TextRoute(
            lambda: TokenFunctionTarget(answer, access=Access.VOCABULARY, digest="own"), texts
        ),
        "folder": TextRoute(
            lambda: load_target(str(home)).target,
            texts,
            home / "model.safetensors",
            lambda file: load_target(str(file.parent)).target,
        ),
    }

    def read_stored(file):
        return StoredTokenTarget(read_token_signals(file))

    for suffix in (".jsonl", ".npz", ".parquet"):
        file = write_stored(folder / f"stored{suffix}", answer(SENTENCES))
        found[f"stored {suffix}"] = TextRoute(
            lambda file=file: read_stored(file), np.arange(len(texts)), file, read_stored
        )
    assert tuple(found) == ROUTES
    return found


@pytest.fixture
def route(routes, request) -> TextRoute:
    return routes[request.param]


def every(names=ROUTES):
    return pytest.mark.parametrize("route", names, indirect=True)


@every()
def test_each_route_says_the_same_of_every_token(routes, route):
    expected = routes["function"].make().measure_tokens(routes["function"].x)
    signals = route.make().measure_tokens(route.x)
    assert signals.offsets.tolist() == expected.offsets.tolist()
    for name in ("log_probability", "mean", "variance"):
        np.testing.assert_allclose(getattr(signals, name), getattr(expected, name), atol=2e-5)
    assert signals.is_top.tolist() == expected.is_top.tolist()


@every()
def test_the_loss_is_minus_the_mean_log_probability(route):
    target = route.make()
    losses = target.query(route.x)
    assert losses.shape == (len(route.x), 1) and losses.dtype == np.float64
    expected = -target.measure_tokens(route.x).mean_log_probability()
    np.testing.assert_allclose(losses[:, 0], expected, atol=1e-6)
    assert np.ptp(losses) > 0.1


@every()
def test_batches_order_and_single_records_do_not_matter(route):
    target = route.make()
    whole = target.query(route.x)
    order = np.random.default_rng(1).permutation(len(whole))
    np.testing.assert_allclose(target.query(route.x[order]), whole[order], atol=1e-5)
    np.testing.assert_allclose(target.query(route.x[5:6]), whole[5:6], atol=1e-5)
    if hasattr(target, "batch_size"):
        target.batch_size = 2
        np.testing.assert_allclose(target.query(route.x), whole, atol=1e-5)


@every()
def test_asking_changes_nothing(route):
    target = route.make()
    facts = read_target_facts(target)
    assert isinstance(target, Target) and facts.task == "text"
    assert (target.signal, target.n_classes) == ("loss", 1)
    assert target.access.ladder == "text" and target.access >= Access.TOKEN_PROBABILITIES
    before, first = target.digest, target.query(route.x)
    assert before is not None
    np.testing.assert_array_equal(target.query(route.x), first)
    assert target.digest == before == route.make().digest


@every(FILED)
def test_the_digest_follows_the_contents(route, tmp_path):
    """A copy elsewhere is the same model; a copy with other numbers is another."""
    same = copy_route(route, tmp_path / "same")
    assert route.reload(same).digest == route.make().digest
    other = copy_route(route, tmp_path / "other")
    content = bytearray(other.read_bytes())
    if other.suffix == ".jsonl":
        other.write_bytes(bytes(content).replace(b'"member": 1', b'"member": 0', 1))
    elif other.suffix == ".safetensors":
        content[-1] ^= 1
        other.write_bytes(bytes(content))
    else:
        answers = ask_one_by_one(*read_home(route))(SENTENCES[::-1])
        write_stored(other, answers)
    assert route.reload(other).digest != route.make().digest


def read_home(route):
    """Read the model again, as the routes have it."""
    tokenizer = train_tokenizer()
    return build_causal(tokenizer), tokenizer


def copy_route(route, folder):
    """Copy a route's file, with what belongs to it."""
    if route.file.name == "model.safetensors":
        shutil.copytree(route.file.parent, folder)
    else:
        folder.mkdir()
        shutil.copy(route.file, folder)
    return folder / route.file.name


@every(FILED)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.98])
def test_a_truncated_file_is_one_sentence(route, tmp_path, share):
    cut = copy_route(route, tmp_path / "cut")
    content = cut.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MemberscopeError, match=r"^Expected .*\.") as caught:
        route.reload(cut)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
