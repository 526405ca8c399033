"""Per-example gradients of torch modules against a backward pass a record.

For every kind of layer; and what is left behind.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from memberscope.errors import TargetError, UnmetNeedError
from memberscope.targets import FunctionTarget, TorchTarget, wrap
from memberscope.targets.white_box.torch_access import hold_module_open
from memberscope.targets.white_box.torch_gradients import (
    NoClosedFormError,
    choose_gradient_method,
    measure_gradient_norms,
    measure_norms_by_vmap,
    measure_norms_in_closed_form,
)
from memberscope.types import Differentiable, SignalSpec

N = 9
LAYERS, NORM = SignalSpec("gradient_layers"), SignalSpec("gradient_norm")


class Text(nn.Module):
    """Codes, one of them padding, that occur several times in a record.

    A linear layer on sequences.
    """

    def __init__(self, width: int = 6, hidden: int = 8):
        super().__init__()
        self.embed, self.norm = nn.Embedding(4, width, padding_idx=0), nn.LayerNorm(width)
        self.hidden, self.last = nn.Linear(width, hidden), nn.Linear(hidden, 3)

    def forward(self, x):
        return self.last(torch.relu(self.hidden(self.norm(self.embed(x)))).mean(1))


class Residual(nn.Module):
    """Frozen statistics, changes in place, groups and a sum of two paths."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second, self.group = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.GroupNorm(2, 4)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        a = self.relu(self.norm(self.first(x)))
        b = self.group(self.second(a))
        b += a
        return self.last(self.relu(b).mean((2, 3)))


class Tied(nn.Module):
    """The embedding's weights serve as the last layer's too, out of any hook's sight."""

    def __init__(self):
        super().__init__()
        self.embed, self.hidden = nn.Embedding(4, 5), nn.Linear(5, 5)

    def forward(self, x):
        return functional.linear(self.hidden(self.embed(x)).mean(1), self.embed.weight)


class Twice(nn.Module):
    """One layer that is passed twice."""

    def __init__(self):
        super().__init__()
        self.hidden, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.relu(self.hidden(torch.relu(self.hidden(x)))))


class Recurrent(nn.Module):
    """Layers that torch's own code runs."""

    def __init__(self, kind):
        super().__init__()
        self.inner, self.last = kind, nn.Linear(8, 3)

    def forward(self, x):
        out = self.inner(x)
        return self.last((out[0] if isinstance(out, tuple) else out).mean(1))


def real(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, *shape)).astype(np.float32)


CODES = np.random.default_rng(0).integers(0, 4, (N, 6))
CLOSED = {
    "linear": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3, bias=False)),
        real(5),
    ),
    "text, summed": (lambda: Text(), CODES),
    "text, in pairs of positions": (lambda: Text(12, 24), CODES),
    "residual": (lambda: Residual(), real(3, 6, 6)),
    "one dimension, strided, dilated, circular": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, padding_mode="circular"),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        real(2, 8),
    ),
    "same, reflected, in pairs": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 40, 3, padding="same", padding_mode="reflect"), nn.BatchNorm2d(40)),
            *(nn.Conv2d(40, 40, 3, stride=(2, 3)), nn.Flatten(), nn.Linear(40, 1)),
        ),
        real(2, 4, 5),
    ),
    "norms of one and two dimensions": (
        lambda: nn.Sequential(
            nn.BatchNorm1d(5),
            nn.Linear(5, 6),
            nn.Unflatten(1, (2, 3)),
            nn.LayerNorm((2, 3)),
            nn.Flatten(),
            nn.Linear(6, 2),
        ),
        real(5),
    ),
    "double precision": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double(),
        real(5),
    ),
}
OTHERS = {
    "tied weights": (Tied, CODES),
    "a layer passed twice": (Twice, real(5)),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.PReLU(), nn.Linear(4, 3)
        ),
        real(5),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose1d(2, 3, 2), nn.Flatten(), nn.Linear(15, 3)),
        real(2, 4),
    ),
    "recurrent": (lambda: Recurrent(nn.LSTM(5, 8, batch_first=True)), real(4, 5)),
    "attention": (
        lambda: Recurrent(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
        real(4, 8),
    ),
}
LABELS = np.arange(N) % 2


def made(build) -> nn.Module:
    torch.manual_seed(0)
    module = build()
    for part in module.modules():  # statistics as after training
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return module.eval()


def naive(module: nn.Module, x: np.ndarray, outputs: str = "logits") -> np.ndarray:
    """Norm (n, layers) of each layer's gradient.

    One backward pass of the loss as people write it a record.
    """
    layers: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    found = []
    for row, label in zip(torch.from_numpy(x).split(1), LABELS, strict=True):
        module.zero_grad()
        out = module(row.to(next(module.parameters()).dtype) if row.is_floating_point() else row)
        if outputs == "probabilities":
            p = torch.cat([1 - out, out], 1) if out.shape[1] == 1 else out
            loss = -p[0, label].log()
        elif out.shape[1] == 1:
            loss = functional.binary_cross_entropy_with_logits(
                out[0, 0], torch.tensor(float(label)).to(out)
            )
        else:
            loss = functional.cross_entropy(out, torch.tensor([label]))
        loss.backward()
        parts = dict(module.named_parameters())
        squares = {
            name: 0.0 if part.grad is None else float(part.grad.double().square().sum())
            for name, part in parts.items()
        }
        found.append([sum(squares[name] for name in own) ** 0.5 for own in layers.values()])
    module.zero_grad()
    return np.array(found)


def assert_norms(target: TorchTarget, x: np.ndarray, expected: np.ndarray) -> None:
    """Layers' norms to 1e-5 of themselves.

    Or to 1e-6 of the largest where rounding is all that a layer has.
    """
    seen = np.exp(-target.inside(x, LABELS, LAYERS))
    whole = np.sqrt((expected**2).sum(axis=1))
    np.testing.assert_allclose(seen[:, 0], whole, rtol=1e-5)
    np.testing.assert_allclose(
        seen[:, 3 : 3 + expected.shape[1]], expected, rtol=1e-5, atol=1e-6 * whole.max()
    )
    np.testing.assert_allclose(np.exp(-target.inside(x, LABELS, NORM))[:, 0], whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "x", "way"),
    [
        *(
            pytest.param(*case, measure_norms_in_closed_form, id=name)
            for name, case in CLOSED.items()
        ),
        *(pytest.param(*case, measure_norms_by_vmap, id=name) for name, case in OTHERS.items()),
    ],
)
def test_norms_are_those_of_a_backward_pass_a_record(build, x, way):
    module = made(build)
    with hold_module_open(module, "logits", "cpu") as open_module:
        assert choose_gradient_method(open_module, x, LABELS) is way
    assert_norms(TorchTarget(module, batch_size=4), x, naive(module, x))


@pytest.mark.parametrize("name", CLOSED)
def test_both_ways_agree(name):
    build, x = CLOSED[name]
    with hold_module_open(made(build), "logits", "cpu") as module:
        closed, other = (
            np.concatenate([part.squares for part in way(module, x, LABELS)])
            for way in (measure_norms_in_closed_form, measure_norms_by_vmap)
        )
    np.testing.assert_allclose(closed, other, rtol=2e-5, atol=1e-6 * other.max())


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(1)])
def test_gradients_of_modules_that_return_probabilities(last):
    module = made(
        lambda: nn.Sequential(nn.Linear(5, 1 if isinstance(last, nn.Sigmoid) else 3), last)
    )
    assert_norms(
        TorchTarget(module, outputs="probabilities"),
        real(5),
        naive(module, real(5), "probabilities"),
    )


def test_a_shared_parameter_has_no_closed_form():
    module = made(lambda: nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)))
    module[2].weight = module[0].weight
    with hold_module_open(module, "logits", "cpu") as open_module:
        with pytest.raises(NoClosedFormError):
            list(measure_norms_in_closed_form(open_module, real(5), LABELS))
        assert choose_gradient_method(open_module, real(5), LABELS) is measure_norms_by_vmap
    assert_norms(TorchTarget(module), real(5), naive(module, real(5)))


def test_a_sure_model_still_has_a_gradient():
    """float32 rounds the error of a logit of 60 to zero.

    Its norm is exp(-60) times something near one.
    """
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.eye(2))
        module.bias.zero_()
    x = np.array([[60.0, 0.0], [100.0, 0.0], [500.0, 0.0]], dtype=np.float32)
    seen = TorchTarget(module).inside(x, np.zeros(3, dtype=int), NORM)[:, 0]
    size = np.sqrt(2 * (x[:, 0].astype(float) ** 2 + 1))
    np.testing.assert_allclose(seen, x[:, 0] - np.log(size), rtol=1e-6)


def test_only_what_was_trained_counts():
    module = made(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    expected = naive(module, real(5))
    module[0].requires_grad_(False)
    assert_norms(TorchTarget(module), real(5), expected[:, 1:])
    module[2].weight.requires_grad_(False)
    assert TorchTarget(module).inside(real(5), LABELS, LAYERS).shape == (N, 3 + 2)
    module.requires_grad_(False)  # a model made ready for serving
    assert_norms(TorchTarget(module), real(5), expected)


@pytest.mark.parametrize("build", [Residual, Tied])
def test_the_module_is_left_as_it_was(build):
    module = made(build)
    x = CODES if build is Tied else real(3, 6, 6)
    parts = list(module.children())
    module.train()
    parts[1].eval()
    next(parts[0].parameters()).requires_grad_(False)
    kept = torch.ones_like(next(parts[-1].parameters()))
    next(parts[-1].parameters()).grad = kept

    def state():
        flags = [
            (part.requires_grad, part.grad is kept, part.grad is None)
            for part in module.parameters()
        ]
        hooks = [
            (len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()
        ]
        return (
            flags,
            hooks,
            [part.training for part in module.modules()],
            [part.clone() for part in module.state_dict().values()],
        )

    before = state()
    target = TorchTarget(module)
    for name in ("gradient_norm", "gradient_layers", "activations", "influence"):
        target.inside(x, LABELS, SignalSpec(name))
    target.query(x)
    after = state()
    assert before[:3] == after[:3] and torch.equal(kept, torch.ones_like(kept))
    assert all(
        torch.equal(first, second) for first, second in zip(before[3], after[3], strict=True)
    )


def test_a_failure_leaves_the_module_as_it_was_too():
    module = made(lambda: nn.Linear(5, 3)).train()
    with pytest.raises(TargetError):
        TorchTarget(module).inside(real(4), LABELS, NORM)
    assert (
        module.training
        and all(part.requires_grad for part in module.parameters())
        and not module._forward_hooks
    )


def test_a_module_that_cannot_be_differentiated_is_refused_in_a_sentence():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5, 3)

        def forward(self, x):
            return self.last(
                x + torch.from_numpy(np.random.default_rng().normal(size=x.shape)).float()
            )

    with pytest.raises(
        UnmetNeedError,
        match=r"Expected a module whose gradients .* got Noisy: .*\. Audit it at a weaker access\.",
    ):
        TorchTarget(Noisy()).inside(real(5), LABELS, NORM)


def test_who_is_differentiable():
    assert isinstance(wrap(nn.Linear(2, 2)), Differentiable)
    assert not isinstance(TorchTarget(nn.ReLU(), n_classes=2), Differentiable)
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.Linear(2, 2))
    assert not isinstance(TorchTarget(scripted), Differentiable)
    assert not isinstance(FunctionTarget(lambda x: x, n_classes=2), Differentiable)


@pytest.mark.parametrize("spec", [NORM, SignalSpec("activations"), SignalSpec("influence"), LAYERS])
def test_batches_do_not_matter(spec):
    module = made(lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)))
    whole, parts = (
        TorchTarget(module, batch_size=size).inside(real(5), LABELS, spec) for size in (N, 2)
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-5)


def test_activations_are_those_of_the_module():
    module = made(
        lambda: nn.Sequential(
            nn.Linear(5, 100), nn.ReLU(), nn.Linear(100, 7), nn.Tanh(), nn.Linear(7, 3)
        )
    )
    x = real(5)
    seen = TorchTarget(module).inside(
        x, LABELS, SignalSpec("activations", parameters=(("width", 16.0),))
    )
    with torch.no_grad():
        inner = module[:4](torch.from_numpy(x))
        logs = functional.log_softmax(module(torch.from_numpy(x)), 1)
    assert seen.shape == (N, 3 + 7 + 16)
    np.testing.assert_allclose(
        seen[:, :10], np.hstack([logs.numpy(), inner.numpy()]), rtol=1e-4, atol=1e-5
    )


MEMORY = """
import resource, numpy as np, torch
from memberscope.targets import TorchTarget
from memberscope.types import SignalSpec
module = torch.nn.Sequential(torch.nn.Linear(2000, 2000), torch.nn.ReLU(), torch.nn.Linear(2000, 2))
x = np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)
y = np.zeros(2000, dtype=int)
target = TorchTarget(module, batch_size=500)
target.inside(x[:8], y[:8], SignalSpec("gradient_norm"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert np.isfinite(target.inside(x, y, SignalSpec("gradient_norm"))).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_gradients_are_never_all_in_memory():
    """2,000 records times 4 million parameters are 32 GB.

    What is held besides the model is a batch's activations.
    """
    grown = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 300_000  # kilobytes


def test_vectorised_gradients_are_held_a_few_at_a_time(monkeypatch):
    module = made(Twice)
    sizes = []
    monkeypatch.setattr("memberscope.targets.white_box.torch_gradients.CELLS", 48)
    keep = measure_gradient_norms.__globals__["compute_example_gradients"]
    monkeypatch.setattr(
        "memberscope.targets.white_box.torch_gradients.compute_example_gradients",
        lambda *a: sizes.append(len(a[1])) or keep(*a),
    )
    with hold_module_open(module, "logits", "cpu") as open_module:
        measure_gradient_norms(open_module, real(5), LABELS, N)
    assert max(sizes) == 4 * 48 // 48
