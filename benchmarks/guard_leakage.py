"""What an attacker learns through the guard that the audit of the wrapped model did not measure.

`python benchmarks/guard_leakage.py [names]`: a random forest that was trained on 400 records of
Location-30 answers behind `memberscope guard run`, both real servers on the loopback interface. For
every output defence the audit through the guard is compared with the audit of the wrapped model in
this process, estimate by estimate. Then each record is asked about again, in a random order, and an
attacker reads the status, the headers, the body's length and the time besides the answer.

With `--compare` the audits are those of four attacks, and nothing is asked again: what a loaded
machine can tell.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from typer.testing import CliRunner

from data import location30
from guard_stand import WATCHED, equip, guard, program
from memberscope import audit
from memberscope.auditing import Plan
from memberscope.cli.guard.app import app
from memberscope.guard import build_keyed_defence, read_policy
from memberscope.outputs import list_randomised_parts
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.fitted_file import has_fittable_part, load_fitted, with_fitted
from memberscope.statistics import auc_interval
from memberscope.targets import FunctionTarget, HttpTarget, RestrictedTarget
from memberscope.types import Estimate, OutputDefence, Records, Target
from memberscope.wire.endpoint import Endpoint

N, CLASSES, REPEATS, DRAWS, TREES = 400, 30, 3, 1000, 20
DEFENCES = (
    "none",
    "top:1",
    "top:3",
    "round:2",
    "temperature:2",
    "noise:0.5",
    "label",
    "top:3+round:2",
    "memguard:1",
    "hamp_output",
)
PLAN = Plan(restrictions=(), search_queries=0, fprs=(0.1, 0.01), priors=(0.01,))
FEW = ("loss", "confidence", "entropy", "modified_entropy")  # attacks of `--compare`
# The clock, what is compared by itself, and an ID drawn anew for each request
VARYING = ("date", "content-length", "x-request-id")
HELD = 0.1  # seconds until which answers are held in the last run
POLICY = """
fitted = "fitted.safetensors"
[serving]
protocol = "v2"
model_name = "m"
answer = "p"
n_classes = 30
[default]
restrict = "RESTRICT"
per_client = "100000000/h"
per_record = "100000/h"
[limits]
least_seconds = HELD
"""


@dataclass(frozen=True, eq=False)
class Work:
    """The model with its members, first, and non-members."""

    forest: RandomForestClassifier
    x: np.ndarray
    y: np.ndarray
    member: np.ndarray

    def answers(self, x: np.ndarray) -> np.ndarray:
        """The forest's probabilities (n, 30), tree by tree.

        Quicker for single records than its own method.
        """
        trees = [
            tree.predict_proba(x.astype(np.float32), check_input=False)
            for tree in self.forest.estimators_
        ]
        return np.mean(trees, axis=0)

    @property
    def sides(self) -> tuple[Records, Records]:
        """Members and non-members."""
        ids = np.arange(len(self.y)).astype(str)
        return tuple(
            Records(self.x[side], self.y[side], ids[side]) for side in (self.member, ~self.member)
        )  # type: ignore[return-value]


def worked() -> Work:
    """The same at every call, so that the server's process has the same model."""
    x, y = location30()
    order = np.random.default_rng(0).permutation(len(y))[: 2 * N]
    x, y, member = x[order].astype(np.float64), y[order].astype(np.int64), np.arange(2 * N) < N
    forest = RandomForestClassifier(TREES, min_samples_leaf=2, random_state=0).fit(
        x[member], y[member]
    )
    return Work(forest, x, y, member)


def serve() -> None:
    """The model's server: the Open Inference Protocol, until killed."""
    import orjson
    import uvicorn

    work = worked()

    async def answering(scope, receive, send):
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        status, told = 404, b"{}"
        if scope["method"] == "POST":
            tensor = orjson.loads(body)["inputs"][0]
            p = work.answers(np.reshape(tensor["data"], tensor["shape"]))
            output = {
                "name": "p",
                "datatype": "FP64",
                "shape": list(p.shape),
                "data": p.ravel().tolist(),
            }
            status, told = 200, orjson.dumps({"model_name": "m", "outputs": [output]})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    taken = socket.create_server(("127.0.0.1", 0))
    print(taken.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(answering, log_level="critical", lifespan="off")).run(
        sockets=[taken]
    )


def answers_file(work: Work, folder: Path) -> Path:
    """What `guard fit` takes: the model's answers about half of the members and as many others.

    And about random inputs.
    """
    some = np.flatnonzero(np.arange(2 * N) % 2 == 0)
    random = np.random.default_rng(1).integers(0, 2, (300, work.x.shape[1])).astype(np.float64)
    file = folder / "answers.npz"
    np.savez(
        file,
        outputs=work.answers(work.x[some]),
        member=work.member[some],
        random=work.answers(random),
    )
    return file


def fitted(name: str, folder: Path, answers: Path) -> OutputDefence | None:
    """The policy's defence as the guard has it."""
    if name == "none":
        return None
    plain = build_keyed_defence(read_policy(folder / "guard.toml"), name)
    if not has_fittable_part(plain):
        return plain
    done = CliRunner().invoke(
        app, ["fit", "--policy", str(folder / "guard.toml"), "--outputs", str(answers), "--force"]
    )
    assert done.exit_code == 0, done.output
    return with_fitted(plain, load_fitted(folder / "fitted.safetensors"), CLASSES)


@contextmanager
def guarded(
    name: str, work: Work, url: str, held: float = 0.0
) -> Iterator[tuple[str, OutputDefence | None]]:
    """The guard's URL, and the defence that it applies."""
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        equip(folder, work.x, work.x[work.member])
        text = POLICY.replace("RESTRICT", name).replace("HELD", str(held)) + WATCHED
        needed = name != "none" and has_fittable_part(parse_restriction(name))
        (folder / "guard.toml").write_text(
            text if needed else text.replace("fitted =", "# fitted =")
        )
        defence = fitted(name, folder, answers_file(work, folder))
        with guard(folder / "guard.toml", url) as served:
            yield served.url, defence


def declared(name: str, url: str) -> Endpoint:
    """The endpoint as an audit declares it."""
    kind = "labels" if name == "label" else "probabilities"
    top = next((int(part[4:]) for part in name.split("+") if part.startswith("top:")), None)
    return Endpoint(url, model_name="m", answer="p", outputs=kind, n_classes=CLASSES, top_k=top)  # type: ignore[arg-type]


def audited(target: Target, work: Work, plan: Plan) -> list[Estimate]:
    """The audit's estimates; what was tried to undo noise is printed."""
    result = audit(target, *work.sides, plan=plan)
    if (tried := result.controls.get("inversion")) is not None:
        print(f"  {tried.why}", flush=True)
    return list(result.estimates)


def by_subject(estimates: list[Estimate]) -> dict[tuple[str, ...], Estimate]:
    """Estimates by what each is about, without the restriction, which an endpoint does not name."""
    keys = ("attack", "access", "metric", "fpr", "prior", "group", "threshold", "target")
    found = {
        tuple(str(getattr(estimate, key)) for key in keys): replace(estimate, restriction=None)
        for estimate in estimates
    }
    assert len(found) == len(estimates)
    return found


def compared(
    name: str, work: Work, url: str, defence: OutputDefence | None, plan: Plan = PLAN
) -> None:
    """Print whether the audit through the guard is that of the wrapped model.

    The audit of a wrapped model undoes noise where it can, which nobody has an endpoint's audit do.
    So noise is compared as answers of which nothing is said, and the best attack is the best of all.
    """
    wrapped: Target = FunctionTarget(work.answers, n_classes=CLASSES)
    with HttpTarget(declared(name, url)) as target:
        served = by_subject(audited(target, work, plan))
    known = audited(wrapped if defence is None else RestrictedTarget(wrapped, defence), work, plan)
    if defence is not None and list_randomised_parts(defence):
        unnamed = FunctionTarget(lambda x: defence(work.answers(x)), n_classes=CLASSES)
        here = by_subject(audited(unnamed, work, plan))
    else:
        here = by_subject(known)
    differ = sum(repr(served.get(key)) != repr(here.get(key)) for key in {*served, *here})
    best = max((e for e in known if e.metric == "auc" and e.group is None), key=lambda e: e.value)
    tpr = next(
        e
        for e in known
        if same(e, best) and e.metric == "tpr" and e.fpr == 0.01 and e.threshold != "transferred"
    )
    level = f" at {best.restriction}" if best.restriction else ""
    print(
        f"{name}: {differ} of {len(here)} estimates differ; highest AUC {told(best)} "
        f"({best.reaching_attack}{level}), its TPR at 1% {told(tpr)}",
        flush=True,
    )


def same(one: Estimate, other: Estimate) -> bool:
    """Whether two estimates are of one attack on all records, at one level."""
    return one.group is None and all(
        getattr(one, key) == getattr(other, key)
        for key in ("attack", "access", "restriction", "target")
    )


def told(estimate: Estimate) -> str:
    """A value with its interval."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


@dataclass(frozen=True, eq=False)
class Seen:
    """What n answers showed besides what they say.

    Codes of status and headers (n,), length (n,), and seconds (n, repeats).
    """

    status: np.ndarray
    headers: np.ndarray
    length: np.ndarray
    seconds: np.ndarray


def asked(url: str, work: Work, repeats: int) -> tuple[Seen, np.ndarray]:
    """Every record asked about so many times over one connection, in a random order.

    And the defended outputs.
    """
    from http.client import HTTPConnection

    rng, n = np.random.default_rng(2), len(work.y)
    connection, heads = HTTPConnection(url.removeprefix("http://")), {}
    status, headers, length = (np.zeros(n) for _ in range(3))
    seconds, bodies = np.zeros((n, repeats)), [b""] * n
    d = work.x.shape[1]
    texts = [
        json.dumps({"inputs": [{"name": "x", "shape": [1, d], "datatype": "FP64", "data": row}]})
        for row in work.x.tolist()
    ]
    for repeat in range(repeats):
        for k in rng.permutation(n):
            begun = time.perf_counter()
            connection.request(
                "POST", "/v2/models/m/infer", texts[k], {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            bodies[k] = answer.read()
            seconds[k, repeat] = time.perf_counter() - begun
            shown = tuple(
                (name, "" if name in VARYING else value) for name, value in answer.getheaders()
            )
            status[k], headers[k], length[k] = (
                answer.status,
                heads.setdefault(shown, len(heads)),
                len(bodies[k]),
            )
    return Seen(status, headers, length, seconds), np.array([values_of(body) for body in bodies])


def values_of(body: bytes) -> np.ndarray:
    """The numbers of an answer, NaN where a class is hidden."""
    tensor, found = json.loads(body)["outputs"][0], np.full(CLASSES, np.nan)
    if tensor["datatype"] == "BYTES":
        for text in tensor["data"]:
            score, place = text.split(":")[:2]
            found[int(place)] = float(score)
    else:
        found[: len(tensor["data"])] = tensor["data"]
    return found


def chances(features: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Cross-fitted log-odds of membership (n,) by boosted trees."""
    varied = [len(np.unique(column[~np.isnan(column)])) > 1 for column in features.T]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=0)
    return cross_val_predict(
        model, features[:, varied], member, cv=folds, method="decision_function"
    )


def area(scores: np.ndarray, member: np.ndarray) -> float:
    """AUC of scores (n,)."""
    return auc_interval(scores, member).value


def gained(richer: np.ndarray, plain: np.ndarray, member: np.ndarray) -> str:
    """By how much the AUC of some scores (n,) is above that of others, with its interval."""
    rng, drawn = np.random.default_rng(3), []
    inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
    for _ in range(DRAWS):
        rows = np.concatenate([rng.choice(inside, len(inside)), rng.choice(outside, len(outside))])
        drawn.append(area(richer[rows], member[rows]) - area(plain[rows], member[rows]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{area(richer, member) - area(plain, member):+.4f} [{low:+.4f}, {high:+.4f}]"


def beyond(name: str, work: Work, url: str, repeats: int = REPEATS) -> None:
    """Print what status, headers, length and time tell, alone and beside the answer."""
    seen, outputs = asked(url, work, repeats)
    alone = {
        "status": seen.status,
        "headers": seen.headers,
        "length": seen.length,
        "median time": np.median(seen.seconds, axis=1),
        "least time": seen.seconds.min(axis=1),
    }
    shown = []
    for title, values in alone.items():
        found = auc_interval(values, work.member)
        shown.append(f"{title} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")
    answer = np.column_stack([outputs, work.y])
    times = np.sort(seen.seconds, axis=1)
    more = np.column_stack([answer, *alone.values(), times])
    # A length counts the digits of the answer, which the trees could not count themselves
    but_length = [values for title, values in alone.items() if title != "length"]
    plain, richer, timed = (
        chances(features, work.member)
        for features in (answer, more, np.column_stack([answer, *but_length, times]))
    )
    slow = np.quantile(seen.seconds, [0.5, 0.99, 1.0]) * 1000
    print(
        f"  {name}, {slow[0]:.1f} ms at the median, {slow[1]:.1f} at 99%, {slow[2]:.1f} at most. "
        f"AUC of each alone: {'; '.join(shown)}. Boosted trees on the answer "
        f"{area(plain, work.member):.3f}; with all of these {gained(richer, plain, work.member)}, "
        f"with all but the length {gained(timed, plain, work.member)} (paired bootstrap)",
        flush=True,
    )


def spent(name: str, work: Work, defence: OutputDefence) -> None:
    """Print what the processor time of the defence tells, alone, whatever else the machine does."""
    outputs, rng = work.answers(work.x), np.random.default_rng(2)
    seconds = np.zeros((len(outputs), REPEATS))
    for repeat in range(REPEATS):
        for k in rng.permutation(len(outputs)):
            begun = time.process_time()
            defence(outputs[k : k + 1])
            seconds[k, repeat] = time.process_time() - begun
    least = seconds.min(axis=1)
    found = auc_interval(least, work.member)
    means = [1000 * least[side].mean() for side in (work.member, ~work.member)]
    print(
        f"  {name}, the defence alone: processor time {means[0]:.2f} ms on members and "
        f"{means[1]:.2f} ms on others, AUC of the least of {REPEATS} {found.value:.3f} "
        f"[{found.low:.3f}, {found.high:.3f}]",
        flush=True,
    )


def main(words: tuple[str, ...]) -> None:
    """All defences, and MemGuard once more with answers held."""
    quick = "--compare" in words
    names = tuple(word for word in words if word != "--compare") or DEFENCES
    plan = replace(PLAN, attacks=FEW) if quick else PLAN
    work = worked()
    with program(__file__, "serve") as server:
        for name in names:
            with guarded(name, work, server.url) as (url, defence):
                compared(name, work, url, defence, plan)
                if not quick:
                    beyond(name, work, url)
                    if defence is not None:
                        spent(name, work, defence)
            if name == "memguard:1" and not quick:
                with guarded(name, work, server.url, HELD) as (url, _):
                    beyond(f"{name} with least_seconds = {HELD}", work, url, 1)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main(tuple(sys.argv[1:]))
