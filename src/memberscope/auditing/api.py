"""Audit in one call, for models and records already in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from memberscope._views import load_view
from memberscope.auditing.collect.collect import Progress
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.documents.own_attacks import add_own_attacks
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.policy import Policy, load_policy
from memberscope.auditing.documents.result import Result
from memberscope.auditing.run import audit_subject
from memberscope.auditing.subject.outputs import make_output_records, make_output_subject
from memberscope.auditing.subject.released import add_population, make_table_subject
from memberscope.auditing.subject.subject import (
    Pair,
    Subject,
    check_subject,
    drop_unmatched_records,
    make_records,
    make_subject,
    order_signals,
)
from memberscope.auditing.subject.texts import make_text_subject, make_token_subject
from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.frames import match_records
from memberscope.recipes import Execution, TableRecipe, as_recipe
from memberscope.signals import Store
from memberscope.targets import (
    ReleasedTable,
    StoredSignals,
    StoredTarget,
    StoredTokens,
    make_text_records,
    read_class_names,
    wrap,
)
from memberscope.types import OUTPUT_TASKS, Records, Task, ThreatModel


def audit(
    target: Any,
    members: Records | Pair,
    non_members: Records | Pair,
    *,
    threat: ThreatModel | None = None,
    policy: Policy | str | None = None,
    plan: Plan | None = None,
    attacks: Sequence[Any] | None = None,
    signals: Sequence[Any] = (),
    recipe: Any = None,
    references: int | None = None,
    population: Records | Pair | None = None,
    unit: tuple[Any, Any] | None = None,
    design: Any = None,
    keep_weights: bool = False,
    execution: Execution | None = None,
    n_classes: int | None = None,
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
    store: Store | None = None,
    progress: Progress | bool | None = None,
) -> Result:
    """Audit a trained classifier, regressor, forecaster or language model for membership inference.

    `target` is a fitted scikit-learn classifier, a torch module, a function x -> probabilities
    (with `n_classes`) or a Target. `members` and `non_members` are pairs (x, y), y holding the
    classes a scikit-learn model was fitted with or else 0-based ones, or `Records` with 0-based
    labels. `policy` is a shipped policy's name, a file or a Policy; without one nothing is judged.
    `plan` gives everything else; `threat`, `policy`, `attacks` and `references` replace its own.

    Of a model that predicts numbers or several labels, y holds the true numbers (n,) or (n, d), or
    the labels (n, k) as 0 and 1; `task` (`regression`, `multilabel` or `forecast`) says so where the
    model does not.

    Of a language model (a text target, or a model of transformers with its tokenizer as a pair)
    `members` and `non_members` are lists of texts, `Completion`s or `Chat`s, or `Records` of these.

    Of a `ReleasedTable` `members` and `non_members` are tables with its columns, and a `recipe` is
    a function (records, seed) -> table.

    `attacks` lists names of shipped attacks and objects with `name`, `needs` and `score`, and
    `signals` objects with `name`, `measure(target, records) -> (n,)` and `higher` (`member` or
    `non_member`), on each of which a threshold, LiRA and RMIA run too. One that fails is listed as
    not run.

    With a `recipe` (a function (records, seed) -> model, an unfitted estimator, a `TorchRecipe`),
    models like the target are trained for the attacks that need them, where `execution` says.
    `population` holds records that no model was trained on. `design` (models, records) says who is
    in which reference model, members first; without one it is drawn. `keep_weights` keeps those
    models in the `store`.

    Where records belong to people or documents, `unit` names those of the members and of the
    non-members, one a record (or `Records.unit` does): folds, reference models, controls and
    intervals then go by unit.

    Raises:
        InputError: The records, the model's answers or the plan are not usable.
        TargetError: The model fails when asked.

    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(400, 5)), rng.integers(0, 2, 400)
    >>> model = DecisionTreeClassifier(random_state=0).fit(x[:200], y[:200])
    >>> result = audit(model, (x[:200], y[:200]), (x[200:], y[200:]), policy="demo")
    >>> result.diagnostics.train_accuracy.value
    1.0
    """
    if references is not None and recipe is None:
        raise InputError(
            f"Expected a recipe to train references={references}, got none. Give recipe=, or leave "
            "out references."
        )
    wrapped = wrap(target, n_classes=n_classes, **({} if task is None else {"task": task}))
    own_task = read_target_facts(wrapped).task
    is_text, is_output = own_task == "text", own_task in OUTPUT_TASKS
    if isinstance(wrapped, ReleasedTable):
        wrapped, population = add_population(wrapped, population), None
    # A scikit-learn model knows its classes by name, in which labels may be given
    lookup = None if is_text or is_output else read_class_names(wrapped)
    if isinstance(wrapped, ReleasedTable):
        subject = make_table_subject(wrapped, members, non_members, unit=unit)
    elif is_output:
        subject = make_output_subject(wrapped, members, non_members, unit=unit)
    elif is_text:
        subject = make_text_subject(
            wrapped,
            _read_texts(members, "member"),
            _read_texts(non_members, "non-member"),
            unit=unit,
        )
    else:
        subject = make_subject(
            wrapped, members, non_members, class_names=class_names or lookup, unit=unit
        )
    # A policy may require an attack of the caller's own, so it comes last
    plan = add_own_attacks(plan or Plan(), attacks, signals)
    plan = _fill_unit_name(complete_plan(plan, threat, policy), subject)
    if references is not None:
        plan = replace(plan, references=references)
    training = None
    if recipe is not None:
        # The population's labels are read as the members' are
        read = _read_texts if is_text else partial(make_records, classes=lookup)
        if is_output:
            read = partial(make_output_records, target=wrapped)
        others = None if population is None else read(population, "population")
        if others is not None and not is_text:
            # Columns may stand in another order there
            others = replace(
                others, x=match_records(others.x, subject.records.x, ("records", "population"))
            )
        own = None if design is None else np.asarray(design)
        maker = as_recipe(recipe)
        if isinstance(wrapped, ReleasedTable):
            maker = TableRecipe(maker, wrapped)
        training = Training(maker, execution or Execution(), others, own, keep_weights)
    with load_view("open_progress")(progress) as report:
        return audit_subject(plan, subject, training=training, store=store, progress=report)


def _read_texts(side: Any, prefix: str) -> Records:
    """Read one side of a text audit: records as they are, or a list of texts."""
    return side if isinstance(side, Records) else make_text_records(side, prefix)


def audit_signals(
    signals: StoredSignals | StoredTokens,
    *,
    threat: ThreatModel | None = None,
    policy: Policy | str | None = None,
    plan: Plan | None = None,
    progress: Progress | bool | None = None,
) -> Result:
    """Audit stored signals, as `read_signals` or `read_token_signals` gives them.

    `progress` is as for `audit`.

    Raises:
        InputError: The signals or the plan are not usable.
    """
    subject = make_signals_subject(signals)
    plan = _fill_unit_name(complete_plan(plan, threat, policy), subject)
    with load_view("open_progress")(progress) as report:
        return audit_subject(plan, subject, progress=report)


def make_signals_subject(signals: StoredSignals | StoredTokens) -> Subject:
    """Make stored signals into something to audit.

    The records are row numbers, features only if the table gives them.
    """
    if isinstance(signals, StoredTokens):
        return make_token_subject(signals)
    subject = order_signals(signals, StoredTarget(signals))
    return check_subject(drop_unmatched_records(subject))


def complete_plan(
    plan: Plan | None, threat: ThreatModel | None, policy: Policy | str | None
) -> Plan:
    """Complete the plan with the threat model and policy that were given beside it."""
    plan = plan or Plan()
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    return replace(plan, threat=threat or plan.threat, policy=chosen or plan.policy)


def _fill_unit_name(plan: Plan, subject: Subject) -> Plan:
    """Name the units of the records in the plan, where it does not name them."""
    return (
        plan
        if plan.unit is not None or subject.records.unit is None
        else replace(plan, unit="unit")
    )
