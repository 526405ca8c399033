"""Attack fine-tunes of a small language model, with and without reference fine-tunes.

`python benchmarks/text_finetunes.py` fine-tunes a GPT of 0.14 million parameters (see
`text_gpt.py`) on 800 of 1,600 Stack Exchange texts of 63 tokens, sixteen times fully for four
epochs, eight times for one epoch and eight times by LoRA, and prints the mean AUC and TPR at 1%
FPR of each attack over these targets. Documents, not texts, are drawn into a model. References of
a target are other fine-tunes of the same kind, in pairs that leave each text out of one of the two.
A line a kind says why the base model alone shows less: how far texts differ in what any fine-tune
adds to them, beside what membership adds.

`rate RATE SCHEDULE [EPOCHS]` prints for two fully fine-tuned targets what the base model alone
shows at another learning rate and schedule, and with a base model that was pre-trained for other
epochs. `time` trains a fine-tune that is in no store and prints how
long that takes.
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import aims
import text_gpt
from memberscope.attacks import RMIA, LiRA, TokenClassifier, compute_token_features, list_attacks
from memberscope.auditing.collect.text_references import explain_other_training
from memberscope.auditing.collect.training_comparison import compare_training
from memberscope.recipes import CausalLMRecipe, FineTuning, LoRA, build_balanced_design
from memberscope.recipes.fleet import limit_threads, select_records
from memberscope.signals import Store, collect_tokens, compute_losses, digest_records
from memberscope.statistics import auc_value, randomised_tpr, roc
from memberscope.texts import TokenSignals
from memberscope.types import Attack, Evidence, Records

FULL = FineTuning(epochs=4, lr=8e-4, batch_size=16, rows_at_once=16)
LAYERS = ("c_attn", "c_proj", "c_fc")
KINDS = {
    "full, 4 epochs": (FULL, 16),
    "full, 1 epoch": (replace(FULL, epochs=1), 8),
    "LoRA rank 4, 4 epochs": (replace(FULL, lr=2e-3, lora=LoRA(4, 8.0, LAYERS)), 8),
}
N, SIZE = 1600, 800
STORE = Store(text_gpt.FOLDER / "text-finetunes")


@dataclass(frozen=True, eq=False)
class Models:
    """Fine-tunes of one kind: membership (m, n), in pairs, and what each says of all tokens."""

    inside: np.ndarray
    tokens: list[TokenSignals]

    @property
    def log_probability(self) -> np.ndarray:
        """Mean log-probability (m, n) of each record's tokens."""
        return np.stack([tokens.mean_log_probability() for tokens in self.tokens])

    def measure_added(self) -> list[np.ndarray]:
        """Measure what each model adds to the base's mean log-probability of texts new to it."""
        tokens, lp = self.tokens[0], self.log_probability
        assert tokens.base is not None
        base = tokens.sum_tokens(tokens.base) / tokens.counts
        return [(lp[k] - base)[~row] for k, row in enumerate(self.inside)]


def draw_design(records: Records, n_models: int) -> np.ndarray:
    """Draw pairs of models, of which one was trained on each document."""
    rng = np.random.default_rng(1)
    pairs = [
        build_balanced_design(len(records), SIZE, 2, rng, unit=records.unit)
        for _ in range(n_models // 2)
    ]
    return np.concatenate(pairs)


def finetune(recipe: CausalLMRecipe, records: Records, inside: np.ndarray, seed: int) -> int:
    """Fine-tune a model and keep what it says of all tokens."""
    with limit_threads(1):
        tokens = recipe(select_records(records, inside), seed).measure_tokens(records.x)
    names = ("offsets", "log_probability", "mean", "variance", "is_top")
    arrays = {name: getattr(tokens, name) for name in names}
    STORE.put_all(name_model(recipe, records, inside, seed), arrays)
    return seed


def name_model(recipe: CausalLMRecipe, records: Records, inside: np.ndarray, seed: int) -> str:
    """Name a model by all that decides what it says."""
    text = f"{recipe.digest}{digest_records(records)}{inside.tobytes().hex()}{seed}"
    return "finetune-" + hashlib.sha256(text.encode()).hexdigest()


def train(settings: FineTuning, n_models: int) -> Models:
    """Fine-tune the models of one kind, two at a time, or read them from the store."""
    from joblib import Parallel, delayed

    records = text_gpt.texts(N)
    recipe = CausalLMRecipe(text_gpt.base_folder(), settings)
    inside = draw_design(records, n_models)
    missing = [
        (seed, row)
        for seed, row in enumerate(inside)
        if STORE.get_all(name_model(recipe, records, row, seed)) is None
    ]
    jobs = [delayed(finetune)(recipe, records, row, seed) for seed, row in missing]
    Parallel(n_jobs=2, inner_max_num_threads=1)(jobs)
    # Sizes of the texts, and the base model's view of them, are the same for all
    shared = collect_tokens(recipe.base_target, records, store=STORE)
    found = []
    for seed, row in enumerate(inside):
        kept = STORE.get_all(name_model(recipe, records, row, seed))
        assert kept is not None
        more = {"base": shared.log_probability, "n_bytes": shared.n_bytes}
        found.append(TokenSignals(**kept, **more, zlib_bytes=shared.zlib_bytes))
    return Models(inside, found)


def list_base_attacks() -> list[Attack]:
    """List the attacks that need the target and the base model, and one query of each."""
    asked_again = {"lowercase", "recall"}
    return [
        attack
        for attack in list_attacks("text").values()
        if "text" in attack.needs.tasks
        and attack.needs.spec.name in ("outputs", "tokens")
        and attack.needs.known == "none"
        and not asked_again & set(attack.needs.tokens)
    ]


def build_evidence(attack: Attack, models: Models, target: int) -> Evidence:
    """Build what an attack without references sees of a model."""
    tokens, n = models.tokens[target], models.inside.shape[1]
    losses = compute_losses(tokens)[:, None, :]
    zeros, hidden = np.zeros(n, np.int64), np.full(n, -1, np.int8)
    name = "tokens" if attack.needs.spec.name == "tokens" else "loss"
    return Evidence(name, losses, zeros, hidden, tokens=tokens)


def compare(
    attack: Attack, models: Models, target: int, references: Models, chosen: np.ndarray
) -> np.ndarray:
    """Score the records by one attack with the `chosen` references."""
    name = attack.needs.spec.name
    convert = (
        (lambda lp: lp - np.log(-np.expm1(lp))) if name == "logit_confidence" else (lambda lp: lp)
    )
    n = models.inside.shape[1]
    evidence = Evidence(
        name,
        convert(models.log_probability[target])[:, None, None],
        np.zeros(n, np.int64),
        np.full(n, -1, np.int8),
        references=convert(references.log_probability[chosen])[:, :, None, None],
        inside=references.inside[chosen],
    )
    return attack.score(evidence, np.random.default_rng(0))


def learn(models: Models, target: int, chosen: np.ndarray) -> np.ndarray:
    """Score the records by what token features of members of the `chosen` fine-tunes are like."""
    features = np.stack([compute_token_features(models.tokens[k]) for k in (target, *chosen)])
    n = models.inside.shape[1]
    evidence = Evidence(
        "token_features",
        features[0][:, None, :],
        np.zeros(n, np.int64),
        np.full(n, -1, np.int8),
        references=features[1:, :, None, :],
        inside=models.inside[chosen],
    )
    return TokenClassifier().score(evidence, np.random.default_rng(0))


def choose_references(target: int, n_models: int, n_references: int) -> np.ndarray:
    """Choose whole pairs after that of the target, in a circle."""
    first = (target // 2 + 1) * 2
    return np.arange(first, first + n_references) % n_models


def rate(scores: list[np.ndarray], inside: np.ndarray) -> tuple[float, float]:
    """Give the mean AUC and the mean TPR at 1% FPR over targets."""
    aucs = [auc_value(roc(s, row)) for s, row in zip(scores, inside, strict=True)]
    tprs = [randomised_tpr(roc(s, row), 0.01) for s, row in zip(scores, inside, strict=True)]
    return float(np.mean(aucs)), float(np.mean(tprs))


ONLINE = RMIA(gamma=1.0, temperature=1.0)
# Limits of AUC and TPR for the best attack with the base model alone, and for RMIA with two models
AIMS = {
    "full, 4 epochs": ((0.72, 0.78, None, 0.12), (0.985, None, 0.85, None)),
    "full, 1 epoch": ((None, 0.64, None, 0.05), (0.76, 0.83, 0.18, 0.33)),
    "LoRA rank 4, 4 epochs": ((None, None, None, None), (0.71, 0.79, 0.05, 0.13)),
}


def state(name: str, auc: float, tpr: float, aims_of: tuple | None = None) -> None:
    """Print a row of the table, with its aims."""
    low, high, least, most = aims_of or (None,) * 4
    words = [
        aims.judge(f"{name}: AUC", auc, at_least=low, at_most=high),
        aims.judge(
            f"{name}: TPR at 1% FPR",
            100 * tpr,
            "%",
            at_least=least and 100 * least,
            at_most=most and 100 * most,
        ),
    ]
    print(
        f"| {name} | {auc:.3f} | {100 * tpr:.1f}% | {' '.join(words) if aims_of else ''} |",
        flush=True,
    )


def print_spreads(models: Models) -> None:
    """Print what hides membership: the spread over texts of what a fine-tune adds to them."""
    lp, inside, added = models.log_probability, models.inside, models.measure_added()
    # Texts that neither of two fine-tunes was trained on
    between = [
        (lp[k] - lp[j])[~inside[k] & ~inside[j]]
        for k in range(len(inside))
        for j in choose_references(k, len(inside), 2)
    ]
    mean = np.mean([found.mean() for found in added])
    spread = np.mean([found.std() for found in added])
    print(
        f"A fine-tune adds {mean:.3f} nats a token to texts new to it, with a spread of "
        f"{spread:.3f} over texts; between two fine-tunes a new text differs by "
        f"{np.mean([found.std() for found in between]):.3f}."
    )


def print_kind(kind: str, models: Models) -> None:
    """Print the rows of one kind of fine-tune."""
    m, lp = len(models.inside), models.log_probability
    gaps = [lp[k][row].mean() - lp[k][~row].mean() for k, row in enumerate(models.inside)]
    own = [lp[k][row].mean() for k, row in enumerate(models.inside)]
    print(
        f"\n{kind}: {m} targets, gap {np.mean(gaps):.3f} nats a token, own loss {-np.mean(own):.3f}"
    )
    print_spreads(models)
    print("\n| attack | AUC | TPR at 1% FPR | |\n| --- | ---: | ---: | --- |")
    best = (0.0, 0.0)
    for attack in list_base_attacks():
        scores = [
            attack.score(build_evidence(attack, models, k), np.random.default_rng(0))
            for k in range(m)
        ]
        found = rate(scores, models.inside)
        best = max(best, found)
        state(f"{kind}: {attack.name}", *found)
    state(f"{kind}: best with the base model alone", *best, AIMS[kind][0])
    n = min(8, m - 2)
    scores = [learn(models, k, choose_references(k, m, n)) for k in range(m)]
    name = f"token_classifier with the base model, learned on {n} others"
    state(f"{kind}: {name}", *rate(scores, models.inside))
    for n, attack in (
        (2, ONLINE),
        (2, RMIA(temperature=1.0)),
        (4, ONLINE),
        (4, LiRA()),
        (8, LiRA()),
    ):
        if n + 2 > m:
            continue
        scores = [compare(attack, models, k, models, choose_references(k, m, n)) for k in range(m)]
        aim = AIMS[kind][1] if (n, attack) == (2, ONLINE) else None
        state(f"{kind}: {attack.name}, {n} references", *rate(scores, models.inside), aim)


def print_controls(full: Models, short: Models) -> None:
    """Print what is left of RMIA without membership, and with references of one epoch."""
    m = len(full.inside)
    scores = [compare(ONLINE, full, k, full, choose_references(k, m, 2)) for k in range(m)]
    # Membership drawn anew: whoever scores well now does by chance
    unit, rng = text_gpt.texts(N).unit, np.random.default_rng(2)
    anew = np.concatenate([build_balanced_design(N, SIZE, 1, rng, unit=unit) for _ in range(m)])
    print("\n| control | AUC | TPR at 1% FPR | |\n| --- | ---: | ---: | --- |")
    state("null", *rate(scores, anew), (0.48, 0.52, None, None))
    n = len(short.inside)
    wrong = [compare(ONLINE, full, k, short, choose_references(k, n, 2)) for k in range(n)]
    state("four epochs, references of one", *rate(wrong, full.inside[:n]))


def judge_references(models: Models, references: Models) -> tuple[int, int]:
    """Count the pairs of references that the control fails beside a target, and all pairs."""
    unit = np.unique(text_gpt.texts(N).unit, return_inverse=True)[1]
    failed, runs, lp, n = 0, 0, references.log_probability, len(references.inside)
    for target, row in enumerate(models.inside):
        for first in range(0, n, 2):
            # A target is no reference of itself, nor is the model of the other half
            if first == target // 2 * 2:
                continue
            chosen = [first, first + 1]
            found = compare_training(
                models.log_probability[target],
                row,
                lp[chosen],
                references.inside[chosen],
                0.95,
                unit,
            )
            runs, failed = runs + 1, failed + (explain_other_training(found) is not None)
    return failed, runs


def print_judgements(found: dict[str, Models]) -> None:
    """Print how often the control fails references of each kind beside targets of each kind."""
    print("\n| targets | references | pairs of references | control fails | |")
    print("| --- | --- | ---: | ---: | --- |")
    for kind, models in found.items():
        for other, references in found.items():
            failed, runs = judge_references(models, references)
            share = 100 * failed / runs
            limits = {"at_most": 1.0} if kind == other else {"at_least": 95.0}
            word = aims.judge(f"{kind} beside {other}: control fails", share, "%", **limits)
            print(f"| {kind} | {other} | {runs} | {share:.1f}% | {word} |")


def print_rate(rate_of_learning: float, schedule: str) -> None:
    """Print what the base model alone shows at another learning rate and schedule."""
    print("| full | gap, nats a token | spread over new texts | attack: AUC |")
    print("| --- | ---: | ---: | --- |")
    for epochs in (4, 1):
        settings = replace(FULL, epochs=epochs, lr=rate_of_learning, schedule=schedule)
        models = train(settings, 2)
        lp, inside = models.log_probability, models.inside
        gap = np.mean([lp[k][row].mean() - lp[k][~row].mean() for k, row in enumerate(inside)])
        spread = np.mean([found.std() for found in models.measure_added()])
        words = []
        for attack in list_base_attacks():
            scores = [
                attack.score(build_evidence(attack, models, k), np.random.default_rng(0))
                for k in range(len(inside))
            ]
            words.append(f"{attack.name} {rate(scores, inside)[0]:.3f}")
        kind = f"{epochs} epochs, {rate_of_learning:g}, {schedule}"
        print(f"| {kind} | {gap:.3f} | {spread:.3f} | {', '.join(words)} |")


def print_time() -> None:
    """Print how long sixteen new fine-tunes take, with the scoring of all texts."""
    records, recipe = text_gpt.texts(N), CausalLMRecipe(text_gpt.base_folder(), FULL)
    recipe.digest  # noqa: B018
    started = time.process_time()
    with limit_threads(1):
        target = recipe(select_records(records, draw_design(records, 2)[0]), 0)
        trained = time.process_time() - started
        target.measure_tokens(records.x)
    scored = time.process_time() - started - trained
    print(
        f"one fine-tune: {trained:.1f} s of processor time, and {scored:.1f} s to score {N} texts"
    )
    minutes = 16 * (trained + scored) / 2 / 60
    word = aims.judge(
        "16 fine-tunes on two idle cores, by processor time", minutes, "minutes", at_most=3
    )
    print(f"16 on two idle cores, one thread each: {minutes:.2f} minutes {word}")


def main() -> None:
    """Print the tables, or the time."""
    if sys.argv[1:] == ["time"]:
        print_time()
        return
    if sys.argv[1:2] == ["rate"]:
        if sys.argv[4:]:
            text_gpt.EPOCHS = int(sys.argv[4])
        print_rate(float(sys.argv[2]), sys.argv[3])
        return
    found = {kind: train(*given) for kind, given in KINDS.items()}
    for kind, models in found.items():
        print_kind(kind, models)
    print_controls(found["full, 4 epochs"], found["full, 1 epoch"])
    print_judgements(found)


if __name__ == "__main__":
    main()
