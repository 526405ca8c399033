"""The boundary attack against the Adversarial Robustness Toolbox's HopSkipJump at default settings, in one run.

`make bench-label-only`, or `python benchmarks/label_only.py [location|cifar]` in an environment
that has `benchmarks/requirements.txt`. Both attack the same trained networks and the same records,
half of them members, and see labels alone; the queries are counted in the network. A record that is
labelled wrongly scores lowest in both.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from aims import judge
from data import cifar10, location30
from memberscope.attacks import Boundary
from memberscope.signals import measure_signal
from memberscope.statistics import auc_difference, auc_interval
from memberscope.targets import TorchTarget
from memberscope.types import Records

SPEED_AIM, QUERY_AIM, LOSS_AIM = 100, 20, -0.02


@dataclass(frozen=True)
class Case:
    """A trained network, records x (n, ...) with classes y (n,), half of them members.

    And their name.
    """

    name: str
    module: nn.Module
    x: np.ndarray
    y: np.ndarray
    member: np.ndarray
    n_classes: int


class Counted(nn.Module):
    """A network that counts the records it is asked about."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.asked = module, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (n, k); the toolbox sends doubles under NumPy 2."""
        self.asked += len(x)
        return self.module(x.float())


def mlp() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(446, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU()),
        *(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 30)),
    )


def cnn() -> nn.Module:
    blocks = [
        (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for a, b in ((3, 16), (16, 32))
    ]
    return nn.Sequential(
        *(layer for block in blocks for layer in block),
        nn.Flatten(),
        nn.Linear(2048, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def trained(module: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> nn.Module:
    """The network fitted to the members by SGD with momentum."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(inputs[batch]), labels[batch]).backward()
            optimiser.step()
    return module.eval()


def location() -> Case:
    """1,000 members; 250 of them and 250 other records are attacked."""
    x, y = location30()
    return case("Location-30", mlp, x, y.astype(np.int64), 1000, 500, 50)


def cifar() -> Case:
    """3,000 members; 100 of them and 100 other records are attacked."""
    x, y = cifar10(6000)
    return case("CIFAR-10 (JPEG quality 75)", cnn, x, y, 3000, 200, 30)


def case(
    name: str, make: object, x: np.ndarray, y: np.ndarray, n_members: int, n: int, epochs: int
) -> Case:
    """Train on the first records of a random order, and attack `n` records.

    Half of them from these.
    """
    torch.manual_seed(0)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    module = trained(make(), x[:n_members], y[:n_members], epochs)  # type: ignore[operator]
    rows = np.concatenate([np.arange(n // 2), n_members + np.arange(n // 2)])
    return Case(name, module, x[rows], y[rows], rows < n_members, int(y.max()) + 1)


def ours(case: Case, attack: Boundary) -> tuple[np.ndarray, float, float]:
    """Scores, seconds, and queries a record."""
    counted = Counted(case.module)
    target = TorchTarget(counted, n_classes=case.n_classes)
    records = Records(case.x, case.y, np.arange(len(case.y)).astype(np.str_))
    started = time.perf_counter()
    found = measure_signal(target, records, attack.needs.spec)
    seconds = time.perf_counter() - started
    assert counted.asked == found.queries[:, -1].sum()
    return found.final[:, 0], seconds, counted.asked / len(case.y)


def toolbox(case: Case) -> tuple[np.ndarray, float, float]:
    """Distances of the toolbox's HopSkipJump as its label-only attack takes them, seconds.

    And queries a record.
    """
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import PyTorchClassifier

    counted = Counted(case.module)
    limits = (float(case.x.min()), float(case.x.max()))
    classifier = PyTorchClassifier(
        counted,
        nn.CrossEntropyLoss(),
        case.x.shape[1:],
        case.n_classes,
        clip_values=limits,
        device_type="cpu",
    )
    one_hot = np.eye(case.n_classes, dtype=np.float32)[case.y]
    np.random.seed(0)  # noqa: NPY002
    started = time.perf_counter()
    moved = HopSkipJump(classifier, targeted=False, verbose=False).generate(x=case.x, y=one_hot)
    right = classifier.predict(case.x).argmax(axis=1) == case.y
    distance = np.linalg.norm((moved - case.x).reshape(len(moved), -1), axis=1)
    return (
        np.where(right, distance, 0.0),
        time.perf_counter() - started,
        counted.asked / len(case.y),
    )


def compare(case: Case) -> None:
    """Print both attacks on one case, the gap attack beneath them, and whether the aims are met."""
    with torch.inference_mode():
        right = case.module(torch.from_numpy(case.x)).argmax(dim=1).numpy() == case.y
    print(f"{case.name}, {len(case.y)} records, {torch.get_num_threads()} threads", flush=True)
    print(f"  gap: {shown(right.astype(float), case.member)}, 1 query")
    mine = {attack.name: ours(case, attack) for attack in (Boundary(), Boundary("hopskipjump"))}
    for name, (scores, seconds, queries) in mine.items():
        print(
            f"  {name}: {shown(scores, case.member)}, {queries:.1f} queries a record, "
            f"{seconds:.2f} s"
        )
        gain = auc_difference(scores, right.astype(float), case.member)
        print(
            f"    AUC minus the gap's {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
            flush=True,
        )
    theirs, slow, many = toolbox(case)
    print(f"  toolbox: {shown(theirs, case.member)}, {many:.0f} queries a record, {slow:.0f} s")
    for name, (scores, seconds, queries) in mine.items():
        change = auc_difference(scores, theirs, case.member)
        aim = SPEED_AIM if case.name == "Location-30" else None
        print(f"  {name} against the toolbox:")
        for what, value, aimed in (
            ("times faster", slow / seconds, aim),
            ("times fewer queries", many / queries, QUERY_AIM),
        ):
            verdict = judge(f"{case.name}, {name}: {what}", value, at_least=aimed)
            print(f"    {value:.0f} {what} {verdict}")
        lost = judge(f"{case.name}, {name}: AUC, lower limit", change.low, at_least=LOSS_AIM)
        print(
            f"    AUC {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}] {lost}",
            flush=True,
        )


def shown(scores: np.ndarray, member: np.ndarray) -> str:
    """AUC with its 95% interval."""
    found = auc_interval(scores, member)
    return f"AUC {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main() -> None:
    cases = {"location": location, "cifar": cifar}
    for name in sys.argv[1:] or cases:
        compare(cases[name]())


if __name__ == "__main__":
    main()
