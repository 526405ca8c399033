"""Weights open as trainers save them.

And what does not fit is named (cases `torch-and-integer-columns`, command line).
"""

from __future__ import annotations

import csv
import re
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets import TrustSettings, load_target

CODE = """
import torch
from torch import nn
def plain(): return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
def bn(): return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
def wide(): return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3))
def parallel(): return nn.DataParallel(plain())
class Lit(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, z): return self.net(z)
"""
X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def code(tmp_path, monkeypatch):
    (tmp_path / "nets_of_a_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def other() -> dict[str, Any]:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).state_dict()


def opened(name: str, factory: str | None = "plain", **how: Any) -> Any:
    return load_target(name, factory=factory and f"nets_of_a_test:{factory}", **how)


def same(target: Any, net: nn.Module) -> None:
    with torch.no_grad():
        np.testing.assert_allclose(target.query(X), net(torch.tensor(X)), atol=1e-6)


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


PREFIXES = (
    "",
    "module.",
    "_module.",
    "model.",
    "_orig_mod.",
    "net.",
    "module._orig_mod.",
    "model.encoder.head.",
)
HOLDERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "module",
    "weights",
    "ema",
    "something_else",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_wrappers_are_taken_off(net, prefix):
    torch.save(prefixed(net.state_dict(), prefix), "net.pt")
    same(opened("net.pt").target, net)


@pytest.mark.parametrize("holder", HOLDERS)
def test_checkpoints_are_looked_into(net, other, holder):
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.tensor(X)).sum().backward()
    optimiser.step()
    saved = {
        "epoch": torch.tensor(3),
        "loss": 0.2,
        holder: prefixed(net.state_dict(), "module."),
        "optimizer": optimiser.state_dict(),
    }
    for name in ("best.ckpt", "best.pth.tar", "best.pth", "pytorch_model.bin"):
        torch.save(saved, name)
        same(opened(name).target, net)


def test_of_two_sets_of_weights_the_averages_come_second(net, other):
    torch.save({"ema": other, "model": net.state_dict()}, "both.pt")
    same(opened("both.pt").target, net)
    torch.save(prefixed(other, "model_ema.") | prefixed(net.state_dict(), "model."), "names.pt")
    loaded = opened("names.pt")
    same(loaded.target, net)
    assert re.search(
        r"names begin with 'model\.'; left out 4 others: model_ema\.0\.weight", loaded.notes[0]
    )


def test_lightning_keeps_metrics_beside_the_weights(net):
    state = prefixed(net.state_dict(), "net.") | {
        "loss.weight": torch.ones(3),
        "accuracy.tp": torch.zeros(3),
    }
    torch.save(
        {"state_dict": state, "pytorch-lightning_version": "2.0", "hyper_parameters": {"lr": 0.1}},
        "lit.ckpt",
    )
    loaded = opened("lit.ckpt")
    same(loaded.target, net)
    assert "left out 2 others: loss.weight, accuracy.tp" in loaded.notes[0]


def test_the_factory_may_be_what_is_wrapped(net):
    torch.save(net.state_dict(), "net.pt")
    for factory in ("plain", "parallel", "Lit"):
        same(opened("net.pt", factory).target, net)


def test_real_wrappers_and_safetensors(net):
    from safetensors.torch import save_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = [
            nn.DataParallel(net).state_dict(),
            torch.compile(net, backend="eager").state_dict(),
        ]
        states.append(torch.optim.swa_utils.AveragedModel(net).module.state_dict())
    for state in states:
        torch.save(state, "net.pt")
        same(opened("net.pt").target, net)
        save_file({name: value.contiguous() for name, value in state.items()}, "net.safetensors")
        same(opened("net.safetensors").target, net)
    save_file(
        {name: value.half() for name, value in prefixed(net.state_dict(), "module.").items()},
        "half.safetensors",
    )
    assert opened("half.safetensors").target.query(X).shape == (20, 3)


def test_opacus_state_dicts_open(net):
    opacus = pytest.importorskip("opacus")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(opacus.GradSampleModule(net).state_dict(), "private.pt")
    same(opened("private.pt").target, net)


def test_counters_of_batches_may_be_missing():
    bn = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    torch.save(
        {name: value for name, value in bn.state_dict().items() if "num_batches" not in name},
        "old.pt",
    )
    same(opened("old.pt", "bn").target, bn)


def test_what_does_not_fit_is_named_in_full(net):
    torch.save(prefixed(net.state_dict(), "module."), "net.pt")
    with pytest.raises(InputError) as caught:
        opened("net.pt", "bn")
    assert str(caught.value) == (
        "Expected weights that fit nets_of_a_test:bn, got net.pt with 7 missing (1.weight, 1.bias, "
        "1.running_mean, "
        "1.running_var, 1.num_batches_tracked, 3.weight, 3.bias), 2 unexpected (2.weight, 2.bias). "
        "Use the factory that they were saved from."
    )
    with pytest.raises(
        InputError,
        match=r"3 of another shape \(0.weight of \(8, 4\) where the module has \(9, 4\), 0.bias of",
    ):
        opened("net.pt", "wide")
    torch.save({"epoch": 3, "loss": [0.1]}, "empty.pt")
    with pytest.raises(
        InputError,
        match=r"Expected weights in empty.pt, got the keys epoch, loss. Save model.state_dict\(\).",
    ):
        opened("empty.pt")
    with pytest.raises(InputError, match="Add --factory module:function"):
        opened("net.pt", None)


def test_a_pickled_module_is_refused_and_both_ways_out_work(net):
    torch.save(net, "whole.pt")
    for factory in (None, "plain"):
        with pytest.raises(
            UnsafeFileError,
            match=r"got whole.pt with torch.nn.modules.* could run code. Save the weights alone",
        ):
            opened("whole.pt", factory)
    for factory in (None, "plain"):
        loaded = opened("whole.pt", factory, trust=TrustSettings(code=True))
        same(loaded.target, net)
        assert loaded.notes[0].startswith("Ran the code in whole.pt (SHA-256")
    torch.save(net.state_dict(), "weights.pt")
    same(opened("weights.pt").target, net)


def test_a_pickled_module_of_the_users_own_code_opens_on_trust(net):
    import nets_of_a_test

    model = nets_of_a_test.Lit()
    torch.save({"model": model, "args": Namespace(lr=0.1)}, "own.pt")
    with pytest.raises(UnsafeFileError, match=r"argparse\.Namespace"):
        opened("own.pt")
    loaded = opened("own.pt", trust=TrustSettings(code=True))
    same(loaded.target, model)


def test_a_damaged_file_is_one_sentence(net):
    torch.save(net.state_dict(), "net.ckpt")
    whole = Path("net.ckpt").read_bytes()
    Path("half.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("text.ckpt").write_text("no weights\n")
    for name in ("half.ckpt", "text.ckpt"):
        with pytest.raises((InputError, UnsafeFileError), match=r"^Expected [^\n]*\.$"):
            opened(name)


def test_the_command_line_takes_a_checkpoint_of_lightning(net, monkeypatch, capsys):
    from memberscope.cli.main import run

    torch.save({"state_dict": prefixed(net.state_dict(), "net.")}, "lit.ckpt")
    rng = np.random.default_rng(0)
    for name, n in (("train", 60), ("holdout", 60)):
        with Path(f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c", "d", "y"])
            writer.writerows(
                [*map(float, rng.normal(size=4)), int(rng.integers(0, 3))] for _ in range(n)
            )
    sides = [
        "--members",
        "train.csv",
        "--non-members",
        "holdout.csv",
        "--attacks",
        "gap,loss",
        "--out",
        "out",
    ]
    monkeypatch.setattr(
        "sys.argv",
        [
            "memberscope",
            "audit",
            "--model",
            "lit.ckpt",
            "--factory",
            "nets_of_a_test:plain",
            *sides,
        ],
    )
    with pytest.raises(SystemExit) as done:
        run()
    assert done.value.code == 0, capsys.readouterr()
