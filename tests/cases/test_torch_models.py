"""Torch models as people have them give the answers that they give by hand (cases `torch-and-integer-columns`)."""

from __future__ import annotations

import warnings
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import memberscope
from memberscope.auditing.subject.subject import make_subject
from memberscope.errors import InputError, TargetError
from memberscope.signals import collect_outputs
from memberscope.targets import TorchTarget, wrap
from memberscope.types import Access, ThreatModel

N, MEMBERS = 260, 100
RNG = np.random.default_rng(1)
X = RNG.normal(size=(N, 10)).astype(np.float32)
Y = np.digitize(X[:, 0] + 0.5 * RNG.normal(size=N), [-0.5, 0.5])
A, B = slice(0, MEMBERS), slice(MEMBERS, N)
Out = namedtuple("Out", "logits aux_logits")


class Body(nn.Module):
    """Three logits and 64 hidden features, given as `out` makes them.

    `aux` is a layer that is registered last and not used.
    """

    def __init__(self, out: Any = lambda logits, hidden: logits, aux: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head, self.out = (
            nn.Sequential(nn.Linear(10, 64), nn.ReLU()),
            nn.Linear(64, 3),
            out,
        )
        if aux:
            self.aux = nn.Linear(64, 5)

    def forward(self, z):
        hidden = self.features(z)
        return self.out(self.head(hidden), hidden)


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    net = Body()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(torch.tensor(X[A])), torch.tensor(Y[A])).backward()
        optimiser.step()
    return net.state_dict()


@pytest.fixture(scope="module")
def probabilities(weights) -> np.ndarray:
    net = Body()
    net.load_state_dict(weights)
    with torch.no_grad():
        return net(torch.tensor(X)).softmax(1).numpy()


def fitted(weights, out: Any = lambda logits, hidden: logits, aux: bool = False) -> Body:
    net = Body(out, aux)
    net.load_state_dict(weights, strict=False)
    return net


def asked(
    model: Any, members: Any = (X[A], Y[A]), others: Any = (X[B], Y[B])
) -> tuple[Any, np.ndarray]:
    """The subject of an audit, and the probabilities (n, k) that its target answers."""
    subject = make_subject(wrap(model), members, others)
    observed = collect_outputs(subject.target, subject.records)
    values = observed.outputs
    if observed.signal == "logits":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    return subject, values


class Object:
    def __init__(self, logits, state):
        self.logits, self.state = logits, state


ANSWERS = {
    "tuple": lambda z, h: (z, h),
    "tuple, features first": lambda z, h: [h, z],
    "dict": lambda z, h: {"hidden": h, "logits": z},
    "named tuple": lambda z, h: Out(z, h[:, :3]),
    "loss first": lambda z, h: (z.sum(), z),
    "nested": lambda z, h: {"head": {"output": z}, "states": (h, None)},
    "object": Object,
    "logits and probabilities": lambda z, h: (z.softmax(1), z),
    "column of columns": lambda z, h: z[:, :, None],
    "an image of one pixel": lambda z, h: z[:, :, None, None],
    "numpy": lambda z, h: z.detach().numpy(),
    "lists": lambda z, h: z.tolist(),
    "softmax": lambda z, h: z.softmax(1),
    "softmax of numpy": lambda z, h: z.softmax(1).detach().numpy(),
    "log-softmax": lambda z, h: nn.functional.log_softmax(z, dim=-1),
    "logarithm of softmax": lambda z, h: (z.softmax(1) + 1e-12).log(),
    "clamped softmax in a dict": lambda z, h: {"probs": z.softmax(1).clamp(1e-7, 1), "h": h},
    "temperature": lambda z, h: (z / 2.0) * 2.0,
}


@pytest.mark.parametrize("form", ANSWERS)
def test_every_form_of_answer_gives_the_same_probabilities(weights, probabilities, form):
    subject, seen = asked(fitted(weights, ANSWERS[form]))
    np.testing.assert_allclose(seen, probabilities, atol=1e-5)
    assert subject.target.n_classes == 3


def test_labels_are_labels(weights, probabilities):
    for out in (lambda z, h: z.argmax(1), lambda z, h: z.argmax(1, keepdim=True).int()):
        subject, seen = asked(fitted(weights, out))
        assert subject.target.signal == "labels" and subject.target.access == Access.LABEL
        assert seen[:, 0].tolist() == probabilities.argmax(axis=1).tolist()


def test_the_number_of_classes_is_that_of_the_answer(weights):
    subject, _ = asked(fitted(weights, aux=True))
    assert subject.target.n_classes == 3


def test_what_cannot_be_told_is_one_sentence(weights):
    with pytest.raises(
        InputError, match="Expected one tensor of scores in the model's answer, got 0 of shape"
    ):
        asked(fitted(weights, lambda z, h: (z, -z)))
    with pytest.raises(
        InputError, match=r"a row of scores for each of 61 records, got a tensor of shape \(3, 61\)"
    ):
        asked(fitted(weights, lambda z, h: z.T))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_read(weights, probabilities, kind):
    for out in (lambda z, h: z, lambda z, h: z.softmax(1)):
        seen = asked(fitted(weights, out).to(kind))[1]
        np.testing.assert_allclose(seen, probabilities, atol=0.05)


def test_wrapped_modules_are_unwrapped_also_for_gradients(weights, probabilities):
    spec = memberscope.types.SignalSpec("gradient_norm")
    plain = TorchTarget(fitted(weights)).inside(X, Y, spec)
    forms = {
        "parallel": nn.DataParallel,
        "compiled": lambda net: torch.compile(net, backend="eager"),
        "averaged": torch.optim.swa_utils.AveragedModel,
        "both": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make in forms.values():
            subject, seen = asked(make(fitted(weights)))
            np.testing.assert_allclose(seen, probabilities, atol=1e-5)
            np.testing.assert_allclose(subject.target.inside(X, Y, spec), plain, rtol=1e-4)


def test_opacus_modules_are_looked_into_and_left_as_they_were(weights, probabilities):
    opacus = pytest.importorskip("opacus")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        private = opacus.GradSampleModule(fitted(weights))
        hooks = [len(part._forward_hooks) for part in private.modules()]
        threat = ThreatModel(access=Access.WHITE_BOX)
        plan = memberscope.Plan(attacks=("loss", "gradient_norm"), threat=threat)
        result = memberscope.audit(private, (X[A], Y[A]), (X[B], Y[B]), plan=plan)
        nn.functional.cross_entropy(private(torch.tensor(X[A])), torch.tensor(Y[A])).backward()
    assert any(estimate.attack == "gradient_norm" for estimate in result.estimates)
    assert hooks == [len(part._forward_hooks) for part in private.modules()]
    assert next(private.parameters()).grad_sample.shape[0] == MEMBERS
    assert result.diagnostics.train_accuracy.value == pytest.approx(
        (probabilities[A].argmax(1) == Y[A]).mean()
    )


class Indifferent(nn.Module):
    """Logits of a table outside torch: gradients reach nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, z):
        if torch.is_grad_enabled():
            raise RuntimeError("no gradients here")
        return z[:, :3] * 3


def test_a_measurement_inside_that_fails_is_not_run_and_the_audit_goes_on():
    plan = memberscope.Plan(
        attacks=("loss", "gradient_norm"), threat=ThreatModel(access=Access.WHITE_BOX)
    )
    result = memberscope.audit(Indifferent(), (X[A], Y[A]), (X[B], Y[B]), plan=plan)
    assert any(estimate.attack == "loss" for estimate in result.estimates)
    why = [entry.why for entry in result.not_run if entry.attack == "gradient_norm"]
    assert len(why) == 1 and "no gradients here" in why[0]


def test_records_come_in_every_form_that_torch_users_have(weights, probabilities):
    net, labels = fitted(weights), torch.tensor(Y)
    ours, theirs = (
        TensorDataset(torch.tensor(X[A]), labels[A]),
        TensorDataset(torch.tensor(X[B]), labels[B]),
    )
    forms = {
        "data set": (ours, theirs),
        "loader": (DataLoader(ours, 32, shuffle=True, drop_last=True), DataLoader(theirs, 7)),
        "subset": (Subset(ours, range(MEMBERS)), Subset(theirs, range(N - MEMBERS))),
        "tensors": ((torch.tensor(X[A]), labels[A]), (torch.tensor(X[B]), labels[B])),
        "(n, 1) float labels": (
            (X[A], Y[A][:, None].astype(float)),
            (X[B], labels[B][:, None].float()),
        ),
        "list of tensors": (
            ([torch.tensor(row) for row in X[A]], Y[A]),
            ([torch.tensor(row) for row in X[B]], Y[B]),
        ),
        "list of lists": ((X[A].tolist(), Y[A].tolist()), (X[B].tolist(), Y[B].tolist())),
        "float64": ((X[A].astype(np.float64), Y[A]), (X[B].astype(np.float64), Y[B])),
        "one array in a tuple": (((X[A],), Y[A]), ((X[B],), Y[B])),
    }
    for members, others in forms.values():
        subject, seen = asked(net, members, others)
        np.testing.assert_allclose(seen, probabilities, atol=1e-5)
        assert subject.records.y.tolist() == Y.tolist() and subject.features.shape == (N, 10)


def test_a_data_frame_of_numbers_is_read(weights, probabilities):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(10)])
    seen = asked(fitted(weights), (frame.iloc[A], Y[A]), (frame.iloc[B], Y[B]))[1]
    np.testing.assert_allclose(seen, probabilities, atol=1e-5)
    words = frame.assign(f3=["a"] * N)
    with pytest.raises(
        InputError,
        match="Expected numbers for a torch module, got columns of words in a data frame",
    ):
        asked(fitted(weights), (words.iloc[A], Y[A]), (words.iloc[B], Y[B]))


class Two(nn.Module):
    """Codes, which are looked up, beside numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(4, 8), nn.Linear(17, 3)

    def forward(self, codes, numbers):
        return self.head(torch.cat([self.table(codes), numbers], 1))


class Packed(Two):
    def forward(self, batch):
        codes, numbers = (batch["codes"], batch["numbers"]) if isinstance(batch, dict) else batch
        return {"logits": super().forward(codes, numbers)}


def test_several_inputs_are_a_tuple_a_dict_or_a_data_set():
    codes = RNG.integers(0, 4, N)
    net, numbers = Two(), X[:, :9]
    with torch.no_grad():
        truth = net(torch.tensor(codes), torch.tensor(numbers)).softmax(1).numpy()

    def tuples(side):
        return (codes[side], numbers[side]), Y[side]

    def dicts(side):
        return {"numbers": torch.tensor(numbers[side]), "codes": torch.tensor(codes[side])}, Y[side]

    def sets(side):
        return TensorDataset(
            torch.tensor(codes[side]), torch.tensor(numbers[side]), torch.tensor(Y[side])
        )

    for model in (net, Packed()):
        for make in (tuples, dicts, sets):
            subject, seen = asked(model, make(A), make(B))
            np.testing.assert_allclose(seen, truth, atol=1e-5)
            assert subject.features.shape == (N, 10)
    plan = memberscope.Plan(
        attacks=("gap", "boundary", "gradient_norm", "nasr_gradients", "self_influence"),
        threat=ThreatModel(access=Access.WHITE_BOX, query_budget=16),
    )
    result = memberscope.audit(Packed(), tuples(A), tuples(B), plan=plan)
    ran = {estimate.attack for estimate in result.estimates}
    assert {"gap", "boundary", "gradient_norm", "nasr_gradients", "self_influence"} <= ran, (
        result.not_run
    )
    with pytest.raises(
        InputError, match="Expected the same 2 inputs of members and of non-members"
    ):
        asked(net, tuples(A), dicts(B))


class Lit(nn.Module):
    """Like a module of Lightning whose forward takes the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(10, 3)

    def training_step(self, batch, _):
        return self(batch)

    def forward(self, batch):
        z, _ = batch
        return self.net(z)


def test_a_module_that_wants_the_labels_too_is_one_sentence_and_its_advice_works():
    model = Lit()
    with pytest.raises(
        TargetError,
        match=r"If it takes the whole batch with labels, give the module inside, such as model\.net",
    ):
        asked(model)
    asked(model.net)


def test_batch_statistics_are_not_touched():
    net = nn.Sequential(
        nn.Linear(10, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)
    ).train()
    before = [value.clone() for value in net.state_dict().values()]
    seen = asked(net)[1]
    np.testing.assert_array_equal(seen, asked(net)[1])
    assert net.training and net[1].training
    assert all(
        torch.equal(old, new) for old, new in zip(before, net.state_dict().values(), strict=True)
    )


class Squeezing(nn.Module):
    """One logit, without its dimension.

    And without that of the records where there is one record.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(10, 1)

    def forward(self, z):
        return self.net(z).squeeze()


def test_a_last_batch_of_one_record_is_a_batch():
    net, y = Squeezing(), (Y > 0).astype(int)
    target = TorchTarget(net, batch_size=N - 1)
    subject = make_subject(target, (X[A], y[A]), (X[B], y[B]))
    values = subject.target.query(X)
    assert values.shape == (N, 2)
    np.testing.assert_allclose(values[:, 1], net(torch.tensor(X)).detach().numpy(), atol=1e-5)


def test_codes_may_come_as_real_numbers_from_a_table():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 3))
    codes = RNG.integers(0, 10, (N, 3))
    with torch.no_grad():
        truth = net(torch.tensor(codes)).softmax(1).numpy()
    for kind in (np.int64, np.int32, np.uint8, np.float64, np.float32):
        seen = asked(net, (codes[A].astype(kind), Y[A]), (codes[B].astype(kind), Y[B]))[1]
        np.testing.assert_allclose(seen, truth, atol=1e-5)


def test_quantised_and_exported_modules_answer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
        quantised = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
        exported = torch.export.export(
            plain, (torch.zeros(61, 10),), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        ).module()
        assert TorchTarget(quantised).digest is None
        for model in (quantised, exported):
            with torch.no_grad():
                truth = model(torch.tensor(X)).softmax(1).numpy()
            np.testing.assert_allclose(asked(model)[1], truth, atol=1e-5)
