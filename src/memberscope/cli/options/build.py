"""Build the plan, the model with its records, and the training that the options describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope._text import suggest_nearest
from memberscope.cli.options.endpoint import build_endpoint_target, refuse_model_beside_endpoint
from memberscope.cli.options.layout import build_table_layout, read_windows, refuse_horizon_alone
from memberscope.cli.options.lookup import ROWS
from memberscope.cli.options.mistakes import find_misspelt_name
from memberscope.cli.options.table import Options
from memberscope.cli.options.texts import build_text_subject, read_texts
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Plan, Policy, Subject, Training
    from memberscope.targets import LoadedTarget
    from memberscope.types import Access, Recipe


def build_plan(options: Options) -> Plan:
    """Build the plan that the options describe.

    Raises:
        InputError: A value is out of range, or an attack, level or policy is unknown.
    """
    from dataclasses import fields, replace

    from memberscope.auditing import Plan
    from memberscope.types import ThreatModel

    threat: dict[str, Any] = {
        "access": _find_access(options.access),
        "restriction": options.restrict,
        "query_budget": options.query_budget,
        "known_records": options.known_records,
        "prior": options.prior,
    }
    # What goes into the plan under its own name needs no line here.
    given = {
        entry.name: getattr(options, entry.name)
        for entry in fields(Plan)
        # The task is read from the target, which may show it without the option
        if entry.name in ROWS and entry.name not in ("policy", "task")
    }
    given |= {
        "assignment": "independent_coins" if options.coins else None,
        "restrictions": None
        if options.restrictions is None
        else tuple(name for name in options.restrictions if name != "none"),
    }
    # Names of attacks may be those of a file, which the plan knows only with its attacks
    names = given.pop("attacks", None)
    plan = Plan(threat=ThreatModel(**_drop_missing(threat)), **_drop_missing(given))
    try:
        plan = _add_attack_files(plan, names, options.attack_file or ())
    except InputError as error:
        raise _suggest_attack(names, error) from error
    return replace(plan, policy=_build_policy(options.policy))


def _suggest_attack(names: Sequence[str] | None, error: InputError) -> InputError:
    """Name the attack that was meant, where `error` is about a misspelt one; else give the error."""
    from memberscope.attacks import list_attacks

    # The plan knows more attacks than are listed, so it decides which of them are unknown
    misspelt = find_misspelt_name(names, list_attacks())
    if misspelt is None or repr(misspelt[0]) not in str(error):
        return error
    name, meant = misspelt
    return InputError(
        f"Expected names of attacks, got {name!r}.{meant} `memberscope list attacks` describes "
        "each."
    )


def _add_attack_files(plan: Plan, names: Sequence[str] | None, files: Sequence[str]) -> Plan:
    """Add the attacks and signals of files to a plan of the attacks `names`, None for all.

    Raises:
        InputError: A file cannot be run or defines none, or an attack is unknown.
    """
    from memberscope.auditing import add_own_attacks, load_attack_file

    attacks: list[Any] = []
    signals: list[Any] = []
    for file in files:
        found = load_attack_file(file)
        attacks += found[0]
        signals += found[1]
    if not attacks and not signals:
        return plan if names is None else add_own_attacks(plan, names)
    own = [getattr(attack, "name", None) for attack in attacks]
    chosen = [name for name in (plan.attacks if names is None else names) if name not in own]
    return add_own_attacks(plan, [*chosen, *attacks], signals)


def _drop_missing(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was not given, so that the default of the plan holds."""
    return {name: value for name, value in values.items() if value is not None}


def _find_access(word: str | None) -> Access | None:
    """Find the level of access of this name.

    Raises:
        InputError: There is none.
    """
    from memberscope.types import Access, list_access_levels

    if word is None:
        return None
    name = word.upper().replace("-", "_")
    if name not in Access.__members__:
        known = " or of a language model ".join(
            ", ".join(level.word for level in list_access_levels(task))
            for task in ("classification", "text")
        )
        meant = suggest_nearest(word, (level.word for level in Access))
        raise InputError(
            f"Expected access {known}, got {word!r}.{meant} Say what one query returns."
        )
    return Access[name]


def build_training(options: Options, subject: Subject) -> Training | None:
    """Build how reference models are trained, or None without a recipe.

    Raises:
        InputError: There is no such recipe, or the population or the design cannot be read.
    """
    from memberscope.auditing import Training
    from memberscope.facts import read_target_facts
    from memberscope.recipes import Execution, load_recipe, read_design, with_precision
    from memberscope.targets import read_class_names, read_pair

    if options.recipe is None:
        useless = [
            name
            for name in ("references", "design", "keep_weights", "precision", "population")
            # A population shows of a released table what is near by chance, without a recipe
            if getattr(options, name) and not (name == "population" and options.released)
        ]
        if useless:
            flag = ROWS[useless[0]].flag
            raise InputError(
                f"Expected a recipe for {flag}, got none. Add --recipe module:function, or leave "
                f"{flag} out."
            )
        return None
    if options.signals:
        raise InputError(
            "Expected --model with records for --recipe, got --signals. Leave out the recipe."
        )
    population = None
    if options.population and read_target_facts(subject.target).task == "text":
        population = read_texts(options, options.population)
    elif options.population and options.members and not options.released:
        layout = build_table_layout(options, subject.target)
        population = read_pair(
            options.members, options.population, layout, read_class_names(subject.target)
        )[1]
    execution: dict[str, Any] = {
        "backend": options.backend,
        "address": options.address,
        "n_jobs": options.jobs,
        "timeout": options.model_timeout,
    }
    design = None if options.design is None else read_design(options.design)
    if design is not None and options.references not in (None, len(design)):
        raise InputError(
            f"Expected {len(design)} references for the design {options.design!r}, got "
            f"{options.references}. "
            f"Leave out --references."
        )
    recipe = _fit_recipe(with_precision(load_recipe(options.recipe), options.precision), subject)
    return Training(
        recipe,
        Execution(**_drop_missing(execution)),
        population,
        design,
        bool(options.keep_weights),
    )


def _build_policy(given: Any) -> Policy | None:
    """Build a policy from a name, a file or a table.

    Raises:
        InputError: There is no such policy.
    """
    from memberscope.auditing import list_bundled_policies, load_policy, parse_policy_table

    if given is None:
        return None
    if isinstance(given, Mapping):
        return parse_policy_table(given)
    try:
        return load_policy(str(given))
    except InputError as error:
        # A misspelt name is taken for a file that is not there
        meant = "" if Path(given).is_file() else suggest_nearest(given, list_bundled_policies())
        raise InputError(f"{error}{meant}") from error


def build_subject(options: Options) -> Subject:
    """Build the model and the records that the options name.

    Raises:
        InputError: Neither a model with records nor signals were named, or they cannot be read.
    """
    from memberscope.auditing import make_output_subject, make_signals_subject, make_subject
    from memberscope.facts import read_target_facts
    from memberscope.targets import (
        build_pair,
        holds_token_signals,
        read_class_names,
        read_signals,
        read_tables,
        read_token_signals,
    )
    from memberscope.types import OUTPUT_TASKS

    refuse_model_beside_endpoint(options)
    refuse_horizon_alone(options)
    if options.released:
        return _build_released_subject(options)
    if options.signals:
        if options.model:
            raise InputError("Expected a model or signals, got both. Leave one out.")
        if options.signals_layout is None and holds_token_signals(options.signals):
            return make_signals_subject(
                read_token_signals(options.signals, groups=options.groups or (), unit=options.unit)
            )
        return make_signals_subject(
            read_signals(
                options.signals,
                groups=options.groups or (),
                features=options.features or (),
                unit=options.unit,
                label=options.label,
                member=options.member,
                number=options.number,
                higher=options.higher,
                layout=options.signals_layout,
                model=options.signals_model,
                task=options.task,
            )
        )
    if not ((options.model or options.url) and options.members and options.non_members):
        raise InputError(
            "Expected --signals FILE, or --model, --url or --released with --members and "
            "--non-members, got neither. "
            "Try `memberscope demo` or `memberscope init`."
        )
    loaded = _load_named_target(options)
    task = read_target_facts(loaded.target).task
    if task == "text":
        return build_text_subject(options, loaded)
    if options.window is not None:
        sides, told = read_windows(options, loaded.target)
        return make_output_subject(loaded.target, *sides, notes=loaded.notes + told)
    layout = build_table_layout(options, loaded.target)
    read = read_tables(options.members, options.non_members, layout)
    members, non_members, names = build_pair(read, layout, read_class_names(loaded.target))
    if task in OUTPUT_TASKS:
        notes = loaded.notes + read.notes
        return make_output_subject(loaded.target, members, non_members, notes=notes)
    id_like = () if options.unit else read.id_like(layout)
    return make_subject(
        loaded.target,
        members,
        non_members,
        class_names=names,
        notes=loaded.notes + read.notes,
        id_like=id_like,
    )


def _load_named_target(options: Options) -> LoadedTarget:
    """Load the model that the options name, or reach the server.

    Raises:
        InputError: It cannot be loaded or reached.
    """
    from memberscope.targets import TrustSettings, load_target

    if options.url:
        return build_endpoint_target(options)
    return load_target(
        options.model or "",
        factory=options.factory,
        trust=TrustSettings(bool(options.trust_code), options.trust_types or ()),
        device=options.device,
        outputs=options.outputs,
        task=options.task,
        long=options.long,
    )


def _build_released_subject(options: Options) -> Subject:
    """Build the released table with the records that it was made from, and others.

    Raises:
        InputError: A model was named too, records were not, or a file cannot be read.
    """
    from memberscope.auditing import make_table_subject
    from memberscope.targets import read_released

    beside = next(
        (name for name in ("model", "url", "signals") if getattr(options, name) is not None), None
    )
    if beside is not None:
        raise InputError(
            f"Expected a released table or a model, got --released and --{beside}. Leave one out."
        )
    if not (options.members and options.non_members):
        raise InputError(
            "Expected --members and --non-members for --released, got less. Give the records that "
            "the table was made from, and others of the same kind."
        )
    target, members, non_members, notes = read_released(
        options.released or "",
        options.members,
        options.non_members,
        build_table_layout(options, None),
        options.population,
    )
    return make_table_subject(target, members, non_members, notes=notes)


def _fit_recipe(recipe: Recipe, subject: Subject) -> Recipe:
    """Fit a recipe to the subject: what a generator returns becomes a table like the released one."""
    from memberscope.recipes import TableRecipe
    from memberscope.targets import ReleasedTable

    target = subject.target
    return TableRecipe(recipe, target) if isinstance(target, ReleasedTable) else recipe
