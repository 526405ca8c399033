"""What is measured inside a model.

Influences against dense solves, refusals, and leaks that are there or not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from memberscope.attacks import IHA, GradientNorm, Nasr, SelfInfluence
from memberscope.errors import InputError, TargetError, UnmetNeedError
from memberscope.signals import Store, measure_signal
from memberscope.statistics import auc_interval
from memberscope.targets import SklearnTarget, TorchTarget, wrap
from memberscope.types import Access, Differentiable, Evidence, Records, SignalSpec

NAMES = ("gradient_norm", "gradient_layers", "activations", "influence")


def records(x: np.ndarray, y: np.ndarray) -> Records:
    return Records(x, y, np.arange(len(y)).astype(str))


def influence_of(damping: float, **more: float) -> SignalSpec:
    return SignalSpec("influence", parameters=(("damping", damping), *more.items()))


def dense(
    module: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    damping: float,
    curved: np.ndarray | None = None,
) -> np.ndarray:
    """The four columns from gradients.

    A Gauss-Newton matrix and solutions that are all written out, in double precision.
    """
    parts, gradients, total, losses = list(module.parameters()), [], 0.0, []
    curved = np.arange(len(x)) if curved is None else curved
    for i, row in enumerate(torch.from_numpy(x).split(1)):
        logits = module(row)[0]
        logits = torch.cat([0 * logits, logits]) if len(logits) == 1 else logits
        rows = [
            torch.autograd.grad(each, parts, retain_graph=True, allow_unused=True)
            for each in logits
        ]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        p = logits.detach().softmax(0)
        losses.append(-float(p[y[i]].log()))
        gradients.append(jacobian.T @ (p - nn.functional.one_hot(torch.tensor(y[i]), len(p))))
        total = total + (i in curved) * jacobian.T @ (
            torch.diag(p) - torch.outer(p, p)
        ) @ jacobian / len(curved)
    g, h = torch.stack(gradients), total + damping * torch.eye(total.shape[0])
    solved, mean = torch.linalg.solve(h, g.T).T, torch.linalg.solve(h, g.mean(0))
    return np.column_stack(
        [
            -(solved * g).sum(1).log().numpy(),
            losses,
            (solved**2).sum(1).numpy(),
            (solved @ mean).numpy(),
        ]
    )


def assert_close(seen: np.ndarray, expected: np.ndarray) -> None:
    """Equal to a millionth of themselves, or of a column's largest where numbers nearly cancel."""
    for column, wanted in zip(seen.T, expected.T, strict=True):
        np.testing.assert_allclose(column, wanted, rtol=1e-6, atol=1e-7 * np.abs(wanted).max())


def network(kind: str) -> tuple[nn.Module, np.ndarray]:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    if kind == "convolutional":
        layers = (nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
        return nn.Sequential(*layers).double().eval(), rng.normal(size=(40, 2, 6))
    if kind == "sequences":
        layers = (nn.Linear(2, 3), nn.LayerNorm(3), nn.Flatten(), nn.Linear(18, 3))
        return nn.Sequential(*layers).double(), rng.normal(size=(40, 6, 2))
    return nn.Sequential(
        nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1 if kind == "binary" else 4)
    ).double(), rng.normal(size=(40, 5))


@pytest.mark.parametrize("kind", ["dense", "binary", "convolutional", "sequences"])
@pytest.mark.parametrize("damping", [0.2, 1e-3])
def test_influences_equal_a_dense_solve(kind, damping):
    module, x = network(kind)
    y = np.random.default_rng(1).integers(0, 2, len(x))
    seen = measure_signal(
        TorchTarget(module, batch_size=16), records(x, y), influence_of(damping)
    ).final
    assert_close(seen, dense(module, x, y, damping))


def test_the_curvature_may_be_that_of_some_records():
    module, x = network("dense")
    y = np.random.default_rng(1).integers(0, 4, len(x))
    curved = np.random.default_rng(0).permutation(len(x))[:10]
    seen = measure_signal(
        TorchTarget(module), records(x, y), influence_of(0.01, records=10.0)
    ).final
    assert_close(seen, dense(module, x, y, 0.01, curved))
    assert not np.allclose(seen, dense(module, x, y, 0.01), rtol=1e-2)


def test_much_damping_leaves_the_gradient_norm():
    module, x = network("dense")
    y = np.zeros(len(x), dtype=int)
    target = TorchTarget(module)
    influence = measure_signal(target, records(x, y), influence_of(1e6)).final[:, 0]
    norm = measure_signal(target, records(x, y), SignalSpec("gradient_norm")).final[:, 0]
    np.testing.assert_allclose(influence, 2 * norm + np.log(1e6), rtol=1e-5)


def fitted(classes: int, model) -> tuple[SklearnTarget, TorchTarget, np.ndarray, np.ndarray]:
    """A scikit-learn pipeline, the same as a torch module of the scaled records.

    And both kinds of record.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(2.0, 3.0, size=(80, 5)), rng.integers(0, classes, 80)
    pipeline = make_pipeline(StandardScaler(), model).fit(x, y)
    layers: list[nn.Module] = []
    last = pipeline[-1]
    weights = (
        zip(last.coefs_, last.intercepts_, strict=True)
        if hasattr(last, "coefs_")
        else [(last.coef_.T, last.intercept_)]
    )
    act = {"tanh": nn.Tanh, "relu": nn.ReLU, "logistic": nn.Sigmoid, "identity": nn.Identity}[
        getattr(last, "activation", "tanh")
    ]
    for weight, intercept in weights:
        layer = nn.Linear(*weight.shape, bias=getattr(last, "fit_intercept", True)).double()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            if layer.bias is not None:
                layer.bias.copy_(torch.from_numpy(np.array(intercept)))
        layers += [layer, act()]
    return (
        SklearnTarget(pipeline),
        TorchTarget(nn.Sequential(*layers[:-1])),
        x,
        pipeline[0].transform(x),
    )


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        LogisticRegression(fit_intercept=False),
        *(
            MLPClassifier((7, 6), activation=act, max_iter=30)
            for act in ("tanh", "relu", "logistic", "identity")
        ),
    ],
    ids=["logistic", "no_intercept", "tanh", "relu", "sigmoid", "identity"],
)
def test_scikit_learn_shows_what_the_same_torch_module_shows(model, classes):
    ours, theirs, x, scaled = fitted(classes, model)
    y = np.random.default_rng(1).integers(0, classes, len(x))
    assert isinstance(ours, Differentiable) and isinstance(wrap(ours.estimator), Differentiable)
    for spec in (
        *(SignalSpec(name) for name in NAMES),
        SignalSpec("gradient_layers", parameters=(("activations", 4.0),)),
    ):
        seen, other = (
            measure_signal(target, records(data, y), spec).final
            for target, data in ((ours, x), (theirs, scaled))
        )
        np.testing.assert_allclose(seen, other, rtol=1e-6, atol=1e-9)


def test_models_without_gradients_are_refused_in_a_sentence():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.integers(0, 2, 30)
    tree = wrap(DecisionTreeClassifier().fit(x, y))
    assert not isinstance(tree, Differentiable)
    for name in NAMES:
        with pytest.raises(
            UnmetNeedError,
            match=r"Expected a model that shows its gradients, got SklearnTarget\. Give .*\.",
        ):
            measure_signal(tree, records(x, y), SignalSpec(name))
    one_each = LogisticRegression(solver="liblinear").fit(x, y)
    assert isinstance(wrap(one_each), Differentiable)


def test_too_many_parameters_outside_linear_layers_are_refused(monkeypatch):
    module, x = network("convolutional")
    monkeypatch.setattr("memberscope.targets.white_box.torch_influence.ROOM", 1000)
    with pytest.raises(
        UnmetNeedError,
        match=r"Expected at most 7 trained parameters outside linear layers .*, got 27\.",
    ):
        measure_signal(
            TorchTarget(module), records(x, np.zeros(len(x), dtype=int)), SignalSpec("influence")
        )


def test_what_is_not_finite_or_out_of_range_is_an_error_with_the_record():
    module, x = network("dense")
    x = np.where(np.arange(40)[:, None] == 7, np.nan, x)
    y = np.zeros(40, dtype=int)
    for name in ("gradient_norm", "gradient_layers", "activations"):
        with pytest.raises(
            TargetError,
            match=r"Expected a finite .* of each record, got none for '7' \(1 of 40 records\)",
        ):
            measure_signal(TorchTarget(module), records(x, y), SignalSpec(name))
    with pytest.raises(TargetError):
        measure_signal(TorchTarget(module), records(x, y), SignalSpec("influence"))
    with pytest.raises(InputError, match="Expected labels from 0 to 3, got 4"):
        measure_signal(TorchTarget(module), records(x, y + 4), SignalSpec("gradient_norm"))
    with pytest.raises(
        TargetError,
        match=r"Expected Sequential to take a batch of records .*, got RuntimeError: .* yourself to see why\.",
    ):
        measure_signal(TorchTarget(module), records(x[:, :3], y), SignalSpec("gradient_norm"))


def test_what_was_measured_is_kept_by_model_records_and_specification(tmp_path):
    module, x = network("dense")
    y, store = np.zeros(40, dtype=int), Store(tmp_path)
    first = measure_signal(
        TorchTarget(module), records(x, y), SignalSpec("gradient_norm"), store=store
    )
    assert first.values.shape == (40, 1, 1) and (first.queries == 0).all()
    files = set(tmp_path.iterdir())
    again = measure_signal(
        TorchTarget(module), records(x, y), SignalSpec("gradient_norm"), store=store
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert set(tmp_path.iterdir()) == files
    module[0].requires_grad_(False)  # another set of trained parameters gives another gradient
    other = measure_signal(
        TorchTarget(module), records(x, y), SignalSpec("gradient_norm"), store=store
    )
    assert (other.values > first.values).all()


def overfitted(epochs: int) -> tuple[TorchTarget, Records, np.ndarray]:
    """A network after `epochs` on the first half of records whose labels are noise."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 10)).astype(np.float32), rng.integers(0, 3, 400)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 3))
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(epochs):
        optimiser.zero_grad()
        nn.functional.cross_entropy(
            module(torch.from_numpy(x[:200])), torch.from_numpy(y[:200])
        ).backward()
        optimiser.step()
    return TorchTarget(module), records(x, y), np.arange(400) < 200


@pytest.mark.parametrize(
    "attack",
    [GradientNorm(), SelfInfluence(), IHA(), Nasr(), Nasr("activations")],
    ids=lambda a: a.name,
)
def test_an_overfitted_model_leaks_inside_and_an_untrained_one_does_not(attack):
    for epochs in (0, 300):
        target, data, member = overfitted(epochs)
        values = measure_signal(target, data, attack.needs.spec).values.astype(np.float32)
        learn = (
            np.random.default_rng(1).random(400) < 0.5
            if attack.needs.known == "both"
            else np.zeros(400, dtype=bool)
        )
        known = np.where(learn, member, -1).astype(np.int8)
        evidence = Evidence(attack.needs.spec.name, values, data.y, known)
        scores = attack.score(evidence, np.random.default_rng(0))
        interval = auc_interval(scores[~learn], member[~learn], 0.999)
        assert attack.needs.access is Access.WHITE_BOX
        assert interval.low > 0.6 if epochs else interval.low <= 0.5 <= interval.high
