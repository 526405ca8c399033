"""What is remembered of texts: variants stay near, spellings equal, and no log holds a text."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from generating import Generating
from running_guard import ask, running
from unruly import serving
from watching import LIMITS, call, sketcher_of, write_limits

from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.sketching.sketcher import Sketcher
from memberscope.wire.batch import Batch

WORDS = [f"zq{k}zq" for k in range(2000)]  # which stand in no file but those of texts
POLICY = """
[serving]
protocol = "openai"
[default]
restrict = "label"
[identity]
trusted_proxies = ["127.0.0.1/32"]
[monitor]
kind = "text"
key = "guard.key"
sketch = "sketch.safetensors"
fingerprints = "members.safetensors"
tuned = "tuned.json"
log = "access.jsonl"
[alerts]
log = "alerts.jsonl"
digest_minutes = 0.02
digest_least = 2
"""


def texts(n: int, seed: int) -> list[str]:
    """Sentences of 20 to 40 words drawn at random."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(20, 40))) for _ in range(n)]


def vary(text: str, seed: int) -> str:
    """The text with another word in one place."""
    rng = np.random.default_rng(seed)
    words = text.split()
    words[rng.integers(len(words))] = f"new{seed}"
    return " ".join(words)


def batch(given: list[str]) -> Batch:
    return Batch(np.array(given, dtype=object)[:, None])


def test_variants_are_near_and_spellings_of_a_text_equal():
    population = texts(600, 1)
    sketcher = Sketcher.fit("text", batch(population), Secret("k", bytes(range(32))))
    plain = population[:200]
    spelled = [text.upper().replace(" ", "\n  ") for text in plain]
    varied = [vary(text, seed) for seed, text in enumerate(plain)]
    one, two, three = (sketcher.sketch(batch(given)) for given in (plain, spelled, varied))
    assert (one[0] == two[0]).all() and np.array_equal(one[1], two[1])
    assert not (one[0] == three[0]).any()
    near = np.linalg.norm(one[1] - three[1], axis=1)
    far = np.linalg.norm(one[1] - np.roll(one[1], 1, axis=0), axis=1)
    assert (near < sketcher.radius).mean() > 0.75 and (far < sketcher.radius).mean() < 0.05
    assert (sketcher.records(batch(spelled)) == one[0]).all()


def write_texts(path: Path, given: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in given)])
    return path


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """The folder of a real guard in whose sight one client varied texts and one asked members."""
    folder = tmp_path_factory.mktemp("texts")
    file = folder / "guard.toml"
    file.write_text(POLICY)
    members = texts(200, 2)
    code, said = call(
        *("guard", "prepare", "--policy", file),
        *("--population", write_texts(folder / "population.csv", texts(600, 1))),
        *("--members", write_texts(folder / "members.csv", members)),
    )
    assert code == 0, said
    write_limits(file, LIMITS | {"membership.client": 2.0})
    probed = texts(3, 5)
    app = Generating()
    with serving(app) as upstream, running(folder, upstream) as (process, _):
        port = process.said("serving")["port"]

        def complete(client: str, document: dict) -> None:
            path = "/v1/chat/completions" if "messages" in document else "/v1/completions"
            status, _ = ask(port, "POST", path, document, x_forwarded_for=client)
            assert status == 200

        for place in range(40):
            complete("10.0.0.1", {"prompt": texts(1, 100 + place)[0]})
            complete("10.0.0.2", {"prompt": vary(probed[place % 3], place), "stream": True})
        for text in members[:20]:
            complete("10.0.0.3", {"messages": [{"role": "user", "content": text.title()}]})
        alerts = folder / "alerts.jsonl"
        end = time.monotonic() + 60
        wanted = {"probing", "membership"}
        while time.monotonic() < end and not wanted <= {e["detector"] for e in read_lines(alerts)}:
            time.sleep(0.05)
        process.process.terminate()
        process.process.wait()
    return folder, process


def read_lines(path: Path) -> list[dict]:
    """The lines of a log that may not be there yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line]


def test_a_campaign_of_variants_and_one_of_members_alarm(campaign):
    folder, _ = campaign
    alerts = read_lines(folder / "alerts.jsonl")
    assert {"probing", "membership"} <= {alert["detector"] for alert in alerts}


def test_no_log_and_no_file_of_the_monitor_holds_a_text(campaign):
    folder, process = campaign
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv"]
    assert any(path.name.startswith("access") for path in kept)
    for path in kept:
        # Two letters alone may stand in the digits of a hash
        assert not re.search(rb"zq[0-9]+zq", path.read_bytes()), path
    assert process.lines and "zq" not in json.dumps(process.lines)
    sketcher = sketcher_of(folder / "guard.toml")
    assert sketcher.kind == "text" and sketcher.form.size == 1
