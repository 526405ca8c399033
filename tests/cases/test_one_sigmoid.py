"""What a torch net's outputs are is told right, whatever it ends in (cases `one-sigmoid`)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memberscope
from memberscope.auditing.subject.subject import make_subject
from memberscope.errors import InputError
from memberscope.recipes import Execution, TorchRecipe
from memberscope.recipes.torch.settings import Adam
from memberscope.signals import collect_outputs
from memberscope.targets import wrap
from memberscope.types import Access, Records, ThreatModel

N, MEMBERS = 500, 150
RNG = np.random.default_rng(1)
X = RNG.normal(size=(N, 10)).astype(np.float32)
Y = ((X[:, 0] + RNG.normal(size=N)) > 0).astype(np.float32)
A, B = slice(0, MEMBERS), slice(MEMBERS, N)
FAST = ("gap", "loss")
ONE, CODES = torch.tensor(Y[A])[:, None], torch.tensor(Y[A]).long()


def net(k: int, *last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, k), *last)


def trained(module: nn.Module, loss: Any, labels: Any) -> nn.Module:
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        loss(module(torch.tensor(X[A])), labels).backward()
        optimiser.step()
    return module


def audited(
    model: Any, members: Any = (X[A], Y[A]), others: Any = (X[B], Y[B]), **how: Any
) -> memberscope.Result:
    return memberscope.audit(
        model, members, others, **({"plan": memberscope.Plan(attacks=FAST)} | how)
    )


def numbers(result: memberscope.Result) -> list[Any]:
    return [(e.attack, e.access, e.metric, e.value) for e in result.estimates]


@pytest.fixture(scope="module")
def sigmoid() -> nn.Module:
    return trained(net(1, nn.Sigmoid()), nn.BCELoss(), ONE)


@pytest.fixture(scope="module")
def logit() -> nn.Module:
    return trained(net(1), nn.BCEWithLogitsLoss(), ONE)


@pytest.mark.parametrize("access", [Access.LABEL, Access.PROBABILITIES, Access.WHITE_BOX])
def test_one_sigmoid_as_given_is_what_it_is_declared(sigmoid, access):
    plan = memberscope.Plan(
        attacks=("gap", "loss", "gradient_norm"), threat=ThreatModel(access=access)
    )
    given, declared = (
        audited(model, plan=plan, policy="demo")
        for model in (sigmoid, wrap(sigmoid, outputs="probabilities"))
    )
    assert given.diagnostics.train_accuracy.value > 0.95
    assert given.verdict == declared.verdict and numbers(given) == numbers(declared)


def probability(model: Any) -> tuple[str, np.ndarray]:
    """What the outputs are taken for, and the probability (n,) of the second class."""
    subject = make_subject(wrap(model), (X[A], Y[A]), (X[B], Y[B]))
    seen = collect_outputs(subject.target, subject.records)
    values = (
        seen.outputs
        if seen.signal == "probabilities"
        else np.exp(seen.outputs - seen.outputs.max(axis=1, keepdims=True))
    )
    return seen.signal, values[:, 1] / values.sum(axis=1)


def test_labels_and_records_come_as_the_loss_wants_them(logit):
    truth = ((logit(torch.tensor(X)) > 0)[:, 0].numpy() == Y).mean()
    for make in (
        lambda side: (X[side], Y[side]),
        lambda side: (X[side], Y[side][:, None]),
        lambda side: (torch.tensor(X[side]), torch.tensor(Y[side])),
        lambda side: (torch.tensor(X[side]), torch.tensor(Y[side])[:, None]),
    ):
        subject = make_subject(wrap(logit), make(A), make(B))
        seen = collect_outputs(subject.target, subject.records).outputs
        assert (seen.argmax(axis=1) == subject.records.y).mean() == truth


class Sigmoid(nn.Module):
    """A sigmoid that is no module of torch, written as `form` says."""

    def __init__(self, inner: nn.Module, form: Any) -> None:
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, z):
        return self.form(self.inner(z))


@pytest.mark.parametrize(
    "form",
    [
        torch.sigmoid,
        lambda z: z.sigmoid().squeeze(1),
        lambda z: torch.special.expit(z),
        lambda z: nn.functional.sigmoid(z).clamp(1e-6, 1 - 1e-6),
        lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1),
        lambda z: torch.stack([-z[:, 0] / 2, z[:, 0] / 2], 1).softmax(1),
        lambda z: torch.sigmoid(z).detach().numpy(),
        lambda z: {"probs": z.sigmoid()[:, None, :]},
        lambda z: nn.functional.log_softmax(torch.cat([torch.zeros_like(z), z], 1), 1).exp(),
        torch.no_grad()(lambda z: z.sigmoid_()),
        lambda z: (z.sigmoid() + z.sigmoid()) / 2,
        lambda z: torch.stack(
            [z.sigmoid(), torch.softmax(torch.cat([-z / 2, z / 2], 1), 1)[:, 1:]]
        ).mean(0),
        lambda z: nn.functional.logsigmoid(torch.cat([-z, z], 1)).exp(),
    ],
)
def test_a_sigmoid_is_seen_however_it_is_written(logit, form):
    with torch.no_grad():
        truth = logit(torch.tensor(X)).sigmoid()[:, 0].numpy()
    signal, seen = probability(Sigmoid(logit, form))
    assert signal == "probabilities"
    np.testing.assert_allclose(seen, truth, atol=2e-5)


def test_the_logarithm_of_one_probability_is_one_sentence(logit):
    with pytest.raises(InputError, match="got the logarithm of one probability"):
        probability(Sigmoid(logit, nn.functional.logsigmoid))


def test_a_scripted_sigmoid_is_seen_too(sigmoid):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(sigmoid, torch.tensor(X[:5]))
    signal, seen = probability(scripted)
    assert signal == "probabilities" and ((seen[A] > 0.5) == Y[A]).mean() > 0.95


def test_logits_that_happen_to_lie_between_0_and_1_stay_logits():
    narrow = net(1)
    with torch.no_grad():
        narrow[2].weight.mul_(0.01)
        narrow[2].bias.fill_(0.5)
        raw = narrow(torch.tensor(X))[:, 0]
        assert raw.min() > 0 and raw.max() < 1
    for model in (
        narrow,
        Sigmoid(narrow, lambda z: z * 1.0),
        Sigmoid(narrow, lambda z: z.squeeze(-1)[:, None]),
    ):
        signal, seen = probability(model)
        assert signal == "logits"
        np.testing.assert_allclose(seen, raw.sigmoid(), atol=1e-5)
    two = net(2)
    with torch.no_grad():
        two[2].weight.mul_(0.01)
        two[2].bias.fill_(0.5)
    assert probability(two)[0] == "logits"


def test_what_stays_open_is_refused_and_the_advice_works(sigmoid):
    unknown = Sigmoid(sigmoid, lambda p: torch.relu(p))
    with pytest.raises(
        InputError,
        match=r"one column between .* which may be either. Declare them: --outputs, or wrap",
    ):
        audited(unknown)
    assert numbers(audited(wrap(unknown, outputs="probabilities"))) == numbers(audited(sigmoid))
    assert probability(wrap(unknown, outputs="logits"))[0] == "logits"


@pytest.mark.parametrize(
    ("last", "loss", "signal"),
    [
        (
            (nn.Softmax(dim=1),),
            lambda p, y: nn.functional.nll_loss(torch.log(p + 1e-9), y),
            "probabilities",
        ),
        ((nn.LogSoftmax(dim=1),), nn.NLLLoss(), "logits"),
        ((), nn.CrossEntropyLoss(), "logits"),
    ],
)
def test_two_outputs_are_read_right(last, loss, signal):
    model = trained(net(2, *last), loss, CODES)
    found, _ = probability(model)
    assert found == signal
    result = audited(model)
    assert result.diagnostics.train_accuracy.value > 0.95
    if signal == "probabilities":
        assert numbers(result) == numbers(audited(wrap(model, outputs="probabilities")))


def test_two_sigmoids_are_divided_by_their_sum_and_that_is_said():
    model = trained(net(2, nn.Sigmoid()), nn.BCELoss(), torch.eye(2)[CODES])
    given, declared = audited(model), audited(wrap(model, outputs="probabilities"))
    assert numbers(given) == numbers(declared)
    assert any(
        "one sigmoid a class, whose sum is not 1" in note for note in given.diagnostics.notes
    )
    with torch.no_grad():
        right = model(torch.tensor(X[A])).argmax(1) == CODES
    assert given.diagnostics.train_accuracy.value == pytest.approx(float(right.float().mean()))


@pytest.mark.parametrize("last", [(), (nn.Sigmoid(),)])
def test_a_recipe_trains_networks_with_one_output(last):
    recipe = TorchRecipe(lambda: net(1, *last), optimiser=Adam(1e-2), epochs=40)
    ids = np.arange(MEMBERS).astype(str)
    losses = []
    for labels in (Y[A], Y[A][:, None], torch.tensor(Y[A])):
        target = recipe(Records(X[A], labels, ids), seed=0)
        losses.append(target.query(X))
        assert target.signal == ("probabilities" if last else "logits")
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(losses[0], losses[2])
    assert (losses[0][A].argmax(axis=1) == Y[A]).mean() > 0.9


def test_a_declaration_carries_over_to_the_recipe(sigmoid):
    def build() -> nn.Module:
        return Sigmoid(net(1, nn.Sigmoid()), torch.relu)

    def recipe(records: Records, seed: int) -> nn.Module:
        module = build()
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(40):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy(
                module(torch.tensor(records.x)), torch.tensor(records.y).float()[:, None]
            ).backward()
            optimiser.step()
        return module

    target = wrap(Sigmoid(sigmoid, torch.relu), outputs="probabilities")
    plan = memberscope.Plan(attacks=("loss", "rmia"))
    result = audited(
        target, plan=plan, recipe=recipe, references=4, execution=Execution("sequential")
    )
    assert {"loss", "rmia"} <= {estimate.attack for estimate in result.estimates}
    assert "references" in result.controls and result.controls["references"].passed
