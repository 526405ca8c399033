"""Write the pages of docs/reference that are made from the code.

Commands with their options, attacks with formulas and sources, defences, keys of JSON files and of
guard.toml. A test says when one is out of date.

    python benchmarks/write_reference.py
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import typer

from memberscope.attacks import (
    ATTACKS,
    OUTPUT_ATTACKS,
    TABLE_ATTACKS,
    TEXT_ATTACKS,
    VARIANTS,
    WHITE_BOX,
)
from memberscope.cli.main import app
from memberscope.guard.policy.config import GuardPolicy
from memberscope.reports import explain
from memberscope.reports.citations import cite_attacks

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
FORMULAS = ROOT / "benchmarks" / "attack_formulas.toml"
MEANINGS = tomllib.loads((ROOT / "benchmarks" / "key_meanings.toml").read_text(encoding="utf-8"))
MADE = "This page is made from the code by `make schema`."
HIDDEN_SETTINGS = ("key", "classifier", "public")  # what no name of a defence says
ORDERS = {"none": "nothing", "non_members": "known non-members", "both": "known records"}
SCHEMAS = {
    "result": ("result.json", "audit"),
    "comparison": ("comparison.json", "compare --json"),
    "frontier": ("frontier.json", "defend"),
    "set-result": ("set-result.json", "set-test"),
    "campaigns": ("replay.json", "guard replay"),
}


def format_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Write rows as lines of a Markdown table; `|` in cells is escaped."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in rows:
        cells = (re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def read_prose(text: str | None) -> list[str]:
    """Give the paragraphs of a docstring without its doctest, its sections and numbered sources."""
    found = []
    for part in re.split(r"\n\s*\n", (text or "").strip()):
        if part.lstrip().startswith(">>>") or re.match(r"\s*(Args|Raises|Returns):", part):
            break
        found.append(re.sub(r" \[[\d, ]+\]", "", " ".join(part.split())))
    return found


# ---- commands


def list_commands(group: Any, prefix: str = "memberscope") -> Iterator[tuple[str, Any]]:
    """List every command with its whole name, in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from list_commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def format_command(name: str, command: Any) -> list[str]:
    """Write the section of a command."""
    # A command without options has no rows
    rows, verb = getattr(command.callback, "rows", {}), getattr(command.callback, "verb", "")
    lines = [f"## {name}", ""]
    for part in read_prose(command.callback.__doc__):
        lines += [part, ""]
    taken = [
        " ".join([f"`{row.name}`" if row.is_argument else ", ".join(write_flags(row))])
        for row in rows.values()
    ]
    meanings = []
    for place, row in enumerate(rows.values()):
        default = "required" if row.default is MISSING else row.describe_default(verb)
        value = row.describe_value() or "switch"
        meanings.append(
            (taken[place], f"`{value}`" if value != "switch" else value, default, row.help)
        )
    if meanings:
        lines += [*format_table(("option", "value", "default", "meaning"), meanings), ""]
    if verb:
        lines += [
            "Each of these is also an environment variable and, where it is not about one run, a key of",
            "`audit.toml`: [configuration](../configuration.md).",
            "",
        ]
    return lines


def write_flags(row: Any) -> list[str]:
    """Write each flag of an option, also those that switch it off."""
    return [f"`{flag}`" for flags in row.flags for flag in flags.split("/")]


def render_commands_page() -> str:
    """Write the page of commands."""
    lines = [
        "# Commands",
        "",
        "Look up every command and every option. An argument stands without dashes. `memberscope --version` shows the version;",
        "`--install-completion` and `--show-completion` set up the completion of your shell. Exit codes are 0 pass, 1 the policy failed,",
        "2 usage or bad input, 3 inconclusive or something required did not run, 4 the target failed or an internal error.",
        MADE,
        "",
    ]
    for name, command in list_commands(typer.main.get_command(app)):
        lines += format_command(name, command)
    return "\n".join(lines)


# ---- attacks


def list_families() -> dict[str, list[Any]]:
    """List the attacks by class, in the order in which they are declared."""
    found: dict[str, list[Any]] = {}
    # Some of texts are among the others too
    others = (*TEXT_ATTACKS, *OUTPUT_ATTACKS, *TABLE_ATTACKS)
    for attack in dict.fromkeys((*ATTACKS, *WHITE_BOX, *VARIANTS, *others)):
        found.setdefault(type(attack).__name__, []).append(attack)
    return found


def describe_needs(attack: Any) -> tuple[str, str]:
    """Say what an attack learns from, and how many reference models it needs at least."""
    needs = attack.needs
    inside, outside = needs.references
    models = f"{inside} with, {outside} without" if inside + outside else "none"
    return ORDERS[needs.known] + (" and features" if needs.features else ""), models


def describe_use(attack: Any) -> str:
    """Say when an attack runs."""
    of_texts = attack in TEXT_ATTACKS
    if attack in ATTACKS:
        return "by default, on texts too" if of_texts else "by default"
    if attack in WHITE_BOX:
        return "by default with white-box access" + (", on texts too" if of_texts else "")
    if attack in VARIANTS:
        return "where it is named" + ("; by default on texts" if of_texts else "")
    if attack in TABLE_ATTACKS:
        return "by default on released tables"
    return "by default on predictions" if attack in OUTPUT_ATTACKS else "by default on texts"


def format_family(name: str, attacks: list[Any], notes: dict[str, str]) -> list[str]:
    """Write the section of one class of attacks."""
    lines = [f"## {name}", ""]
    topic = [notes["text"]] if "text" in notes else None
    topic = topic or next((text for text in map(find_explanation, attacks) if text), None)
    lines += [*(topic or read_prose(type(attacks[0]).__doc__)), ""]
    lines += ["```text", notes["formula"].strip(), "```", ""]
    if notes.get("note"):
        lines += [notes["note"], ""]
    rows = []
    for attack in attacks:
        learns, models = describe_needs(attack)
        rows.append(
            (f"`{attack.name}`", attack.needs.access.word, learns, models, describe_use(attack))
        )
    head = ("name", "access", "learns from", "reference models a record", "runs")
    lines += [*format_table(head, rows), ""]
    settings = [
        f"`{entry.name} = {entry.default!r}`"
        for entry in fields(attacks[0])
        if entry.default is not MISSING
    ]
    if settings:
        lines += [f"In Python: `memberscope.attacks.{name}`, with {', '.join(settings)}.", ""]
    works = cite_attacks(tuple(attack.name for attack in attacks))
    lines += [format_source(work) for work in works if work.attacks]
    return [*lines, ""]


def find_explanation(attack: Any) -> list[str] | None:
    """Find what `memberscope explain` says of an attack, None where it has no topic."""
    from memberscope.errors import InputError

    try:
        text = explain(attack.name)
    except InputError:
        return None
    return [" ".join(text.split("\n\n")[1].split())]


def format_source(work: Any) -> str:
    """Write one source as an item of a list."""
    authors = work.authors.replace(" and ", ", ")
    link = f", [arXiv:{work.arxiv}](https://arxiv.org/abs/{work.arxiv})" if work.arxiv else ""
    where = f"{work.venue} {work.year}" if work.venue else str(work.year)
    return f"- {authors + ', ' if authors else ''}“{work.title}”, {where}{link}"


def render_attacks_page() -> str:
    """Write the page of attacks.

    Raises:
        ValueError: A class of attacks has no formula, or a formula no class.
    """
    formulas = tomllib.loads(FORMULAS.read_text(encoding="utf-8"))
    families = list_families()
    if formulas.keys() != families.keys():
        raise ValueError(f"Expected a formula a class, got {formulas.keys() ^ families.keys()}")
    lines = [
        "# Attacks",
        "",
        "Look up what each attack computes, what it needs and where it comes from. A higher score s always means likelier a member; which",
        "direction that is, the definition fixes, never the data. `memberscope list attacks` prints the names.",
        MADE,
        "",
        "## Notation",
        "",
        "(x, y) is a record with its class. zⱼ are the model's logits and pⱼ its probabilities for x; φ = log p_y − log Σ_{j≠y} pⱼ is the",
        "*logit-scaled confidence*. *In* and *out* are the reference models that were trained with, and without, this record; a mean with that",
        "index goes over them. log is natural. A name that ends in `_per_class` is the same score minus the threshold that best separates",
        "known members of class y from known non-members of class y:",
        "",
        "```text",
        "s_per_class(x, y) = s(x, y) − τ_y,   τ_y = argmax_τ  TPR_y(τ) − FPR_y(τ)",
        "```",
        "",
        "A name with `boundary`, `noise`, `gradient_norm` or `influence` behind `lira`, `lira_robust` or `rmia` is that attack with the named",
        "number in the place of φ. RMIA reads it as the logit of a probability: p = 1 / (1 + exp(−value / temperature)).",
        "",
        "On texts l_t is the log-probability of a record's token t given those before it, in nats, over the scored tokens alone, and b_t the same",
        "under the model before fine-tuning. log p_y is the mean of l_t, so that p is the geometric mean of the tokens' probabilities, and φ =",
        "log p − log(1 − p). Access `probabilities` then means `token_probabilities`, and `white_box` means `weights`.",
        "",
        "Which attack finds most depends on the model; none is best everywhere. *Reference models a record* says how many must have been",
        "trained with and without each record at least.",
        "",
    ]
    for name, attacks in families.items():
        lines += format_family(name, attacks, formulas[name])
    return "\n".join(lines).rstrip() + "\n"


# ---- defences


def list_training_defences() -> dict[str, Any]:
    """List one example of every defence of training, by its word."""
    from memberscope.defences import Distillation, parse_defence
    from memberscope.defences.spec import TRAINING

    examples = {
        "l2": "l2:0.001",
        "dropout": "dropout:0.5",
        "early_stopping": "early_stopping:5",
        "augment": "augment:flip",
        "smooth": "smooth:0.1",
        "mixup": "mixup:0.4",
        "relaxloss": "relaxloss:1",
        "hamp": "hamp:0.5:0.001",
        "selena": "selena:25:10",
        "dpsgd": "dpsgd:eps=8",
        "set": "set:max_depth=4",
    }
    if examples.keys() != TRAINING.keys():
        raise ValueError(f"Expected an example a word, got {examples.keys() ^ TRAINING.keys()}")
    found = {word: parse_defence(name).training[0] for word, name in examples.items()}
    return {**found, "distill": Distillation(1.0)}


def list_restrictions() -> dict[str, Any]:
    """List one example of every restriction of outputs, by its word."""
    from memberscope.outputs import KINDS, parse_restriction

    examples = {
        "top": "top:3",
        "round": "round:2",
        "temperature": "temperature:2",
        "noise": "noise:0.5",
        "memguard": "memguard:1",
        "hamp_output": "hamp_output",
        "label": "label",
    }
    if examples.keys() != KINDS.keys():
        raise ValueError(f"Expected an example a word, got {examples.keys() ^ KINDS.keys()}")
    return {word: parse_restriction(name) for word, name in examples.items()}


def format_defence(word: str, defence: Any) -> list[str]:
    """Write the section of one defence."""
    kind = type(defence)
    lines = [f"### {word}", ""]
    for part in read_prose(kind.__doc__):
        lines += [part, ""]
    settings = [
        f"`{entry.name}`" + ("" if entry.default is MISSING else f" = `{entry.default!r}`")
        for entry in fields(defence)
        if entry.repr and entry.name not in HIDDEN_SETTINGS
    ]
    taken = f" with {', '.join(settings)}" if settings else ""
    lines += [f"Example: `{defence.name}`. In Python: `{kind.__name__}`{taken}.", ""]
    sources = list_sources(kind)
    return [*lines, *sources, ""] if sources else lines


def list_sources(kind: type[Any]) -> list[str]:
    """List the works with an arXiv id behind a defence."""
    _, _, works = (sys.modules[kind.__module__].__doc__ or "").partition("References:")
    parts = re.split(r"\[(\d+)\] ", works)[1:]
    cited = re.findall(r"\d+", " ".join(re.findall(r"\[[\d, ]+\]", kind.__doc__ or "")))
    # Modules with several defences share a list of works
    shared = kind.__module__.endswith(("regularization", "relaxloss"))
    found = []
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        whole = " ".join(text.split())
        said = re.search(r"arXiv:(\d[\d.]*\d)", whole)
        if said and (number in cited or not shared):
            before = whole[: said.start()]
            found.append(f"- {before}[arXiv:{said[1]}](https://arxiv.org/abs/{said[1]})")
    return found


def format_knobs() -> list[str]:
    """Write the section of the settings that estimators have under names of their own."""
    from memberscope.defences.estimator_parameter import KNOBS

    rows = [
        (
            f"`{knob}`",
            ", ".join(
                f"`{name}`" + (" (its inverse)" if inverse else "") for name, inverse in names
            ),
        )
        for knob, names in KNOBS.items()
    ]
    return [
        "### depth, leaves, leaf_size, rate, subsample, strength",
        "",
        "Set an estimator's own parameter: the first of these names that it has. In a pipeline it is that of the last step.",
        "",
        *format_table(("word", "parameter"), rows),
        "",
        "Example: `depth:4`. In Python: `EstimatorParameter` with `knob`, `value`.",
        "",
    ]


def render_defences_page() -> str:
    """Write the page of defences and restrictions."""
    lines = [
        "# Defences and restrictions",
        "",
        "Look up every defence of training (`defend --defences`) and every restriction of outputs (`--restrict`, `--restrictions`, and",
        "`restrict` of the guard). Parts are joined by `+`, what changes training first; values to sweep by `|`. What each gains and costs",
        "is measured by [`memberscope defend`](../defences.md).",
        MADE,
        "",
        "## Defences of training",
        "",
    ]
    for word, defence in list_training_defences().items():
        lines += format_defence(word, defence)
    lines += format_knobs()
    lines += ["## Restrictions of outputs", ""]
    for word, defence in list_restrictions().items():
        lines += format_defence(word, defence)
    return "\n".join(lines).rstrip() + "\n"


# ---- keys of JSON files


def name_json_type(schema: dict[str, Any]) -> str:
    """Write the type of a property of a JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(name_json_type, schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any value")
    if kind == "array":
        parts = schema.get("prefixItems")
        inner = (
            ", ".join(map(name_json_type, parts))
            if parts
            else name_json_type(schema.get("items", {}))
        )
        return f"list of {inner}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {name_json_type(schema['additionalProperties'])}"
    return str(
        {"integer": "whole number", "string": "text", "boolean": "true or false"}.get(kind, kind)
    )


def find_json_meaning(name: str, key: str, about: dict[str, Any]) -> str:
    """Find what a key of an object means.

    Raises:
        ValueError: Nothing says so.
    """
    own, shared = MEANINGS["json"].get(name, {}), MEANINGS["json"]["any"]
    found = about.get("description") or own.get(key) or shared.get(key)
    if not found:
        raise ValueError(
            f"Expected a meaning of {key} in {name}, got none. Add it to key_meanings.toml"
        )
    return str(found)


def format_json_object(name: str, schema: dict[str, Any], level: str) -> list[str]:
    """Write the section of one object of a JSON schema."""
    lines = [f"{level} {name}", ""]
    for part in read_prose(schema.get("description")):
        lines += [part, ""]
    rows = [
        (
            f"`{key}`",
            name_json_type(about),
            find_json_meaning(name, key, about),
        )
        for key, about in schema.get("properties", {}).items()
    ]
    if rows:
        lines += [*format_table(("key", "type", "meaning"), rows), ""]
    elif "enum" in schema:
        lines += [f"One of {name_json_type(schema)}.", ""]
    return lines


def render_result_keys_page() -> str:
    """Write the page of every key of the JSON files."""
    lines = [
        "# Keys of the JSON files",
        "",
        "Look up every key of the JSON files that commands write. The [schemas](https://json-schema.org/) that these tables come from are in",
        "the folder `schema/` of the repository, and a test compares them with what the code writes. [What an",
        "audit writes](../files.md) describes the other files.",
        MADE,
        "",
    ]
    seen: set[str] = set()
    for name, (file, command) in SCHEMAS.items():
        schema = json.loads((ROOT / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
        parts = format_json_object(file, schema, "##")
        lines += [
            *parts[:2],
            f"Written by `memberscope {command}`; [schema](../../schema/{name}.schema.json).",
            "",
        ]
        lines += parts[2:]
        for inner, about in schema.get("$defs", {}).items():
            # Objects that several files share are described once
            if inner not in seen:
                lines += format_json_object(inner, about, "###")
                seen.add(inner)
    return "\n".join(lines).rstrip() + "\n"


# ---- guard.toml


def name_guard_type(hint: Any) -> str:
    """Write the type of a key of guard.toml in words."""
    from memberscope.guard.policy.tables import RateLimit

    if hint is RateLimit:
        return 'rate, such as `"600/h"`'
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if hint in words:
        return words[hint]
    args = [part for part in get_args(hint) if part not in (type(None), Ellipsis)]
    if args and all(isinstance(part, str) for part in args):
        return " or ".join(f'`"{part}"`' for part in args)
    if getattr(hint, "__origin__", None) is tuple:
        pairs = getattr(args[0], "__origin__", None) is tuple
        return "table" if pairs else f"list of {name_guard_type(args[0])}"
    if hasattr(hint, "model_fields"):
        return "table"
    # An annotated type is its first argument
    return " or ".join(dict.fromkeys(name_guard_type(part) for part in args if not_metadata(part)))


def not_metadata(part: Any) -> bool:
    """Tell whether an argument of an annotation is a type."""
    return isinstance(part, type) or hasattr(part, "__args__") or hasattr(part, "__origin__")


def write_guard_default(entry: Any) -> str:
    """Write the default of a key of guard.toml."""
    if entry.is_required():
        return "required"
    value = entry.get_default(call_default_factory=True)
    if value is None or value == ():
        return "none"
    if hasattr(value, "seconds"):
        return f"{value.n} in {value.seconds:g} s"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def find_tables() -> Iterator[tuple[str, Any]]:
    """List the tables of guard.toml with their models, those within others behind them."""
    pending = [("", GuardPolicy)]
    while pending:
        name, model = pending.pop(0)
        if name:
            yield name, model
        inner = []
        for key, entry in model.model_fields.items():
            table, is_list = find_model(entry.annotation)
            if (
                table is not None
                and hasattr(table, "model_fields")
                and table.__name__ != "RateLimit"
            ):
                whole = f"{name.strip('[]')}.{key}".strip(".")
                inner.append((f"[[{whole}]]" if is_list else f"[{whole}]", table))
        pending = inner + pending


def find_model(hint: Any) -> tuple[Any, bool]:
    """Find the model in an annotation, and whether it stands in a list."""
    if hasattr(hint, "model_fields"):
        return hint, False
    for part in get_args(hint):
        found, is_list = find_model(part)
        if found is not None:
            return found, is_list or getattr(hint, "__origin__", None) is tuple
    return None, False


def render_guard_policy_page() -> str:
    """Write the page of every key of guard.toml."""
    lines = [
        "# Keys of guard.toml",
        "",
        "Look up every key of the guard's policy. [Guarding a served model](../guard.md) shows a whole file and says what it is for. An unknown",
        "key is refused. A rate such as `600/h` or `100/15m` is a bucket of so many records that is full again after that time. Paths are",
        "relative to the policy's folder. `fitted`, beside the tables, names the file of fitted output defences (`guard fit`).",
        MADE,
        "",
    ]
    for name, model in find_tables():
        lines += [f"## {name}", ""]
        for part in read_prose(model.__doc__):
            lines += [part, ""]
        rows = [
            (
                f"`{key}`",
                name_guard_type(entry.annotation),
                write_guard_default(entry),
                MEANINGS["guard"][name][key],
            )
            for key, entry in model.model_fields.items()
            if find_model(entry.annotation)[0] is None
            or find_model(entry.annotation)[0].__name__ == "RateLimit"
        ]
        lines += [*format_table(("key", "type", "default", "meaning"), rows), ""]
    return "\n".join(lines).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": render_commands_page,
    "attacks.md": render_attacks_page,
    "defences.md": render_defences_page,
    "result-keys.md": render_result_keys_page,
    "guard-policy.md": render_guard_policy_page,
}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render(), encoding="utf-8")
        print(f"Written to {name}")


if __name__ == "__main__":
    main()
