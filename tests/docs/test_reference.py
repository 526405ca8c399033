"""The pages of reference that are made from the code are current and whole."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import typer
from benchmark_scripts import load_benchmark

from memberscope.attacks import ATTACKS, OUTPUT_ATTACKS, TEXT_ATTACKS, VARIANTS, WHITE_BOX
from memberscope.cli.main import app

reference = load_benchmark("write_reference")


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_is_what_the_code_gives(name):
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run `make schema`"


def test_every_option_of_every_command_is_on_the_page():
    page = (reference.FOLDER / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    commands = dict(reference.list_commands(typer.main.get_command(app)))
    assert sections.keys() == commands.keys() and len(commands) > 20
    for name, command in commands.items():
        for option in command.params:
            for flag in (*option.opts, *option.secondary_opts):
                if flag.startswith("--") and flag != "--help":
                    assert f"`{flag}`" in sections[name], f"{name} {flag}"


def test_every_attack_has_a_formula_and_a_source():
    page = (reference.FOLDER / "attacks.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    del sections["Notation"]
    for section in sections.values():
        assert "```text\n" in section
        assert re.search(r"^- .*\d{4}", section, re.MULTILINE)
    for attack in (*ATTACKS, *WHITE_BOX, *VARIANTS, *TEXT_ATTACKS, *OUTPUT_ATTACKS):
        section = sections[type(attack).__name__]
        assert f"| `{attack.name}` | {attack.needs.access.word} |" in section


def test_every_key_of_a_guard_policy_is_on_the_page():
    page = (reference.FOLDER / "guard-policy.md").read_text(encoding="utf-8")
    tables = dict(reference.find_tables())
    assert {
        "[serving]",
        "[default]",
        "[[clients]]",
        "[identity.jwt]",
        "[measured]",
    } <= tables.keys()
    for name, model in tables.items():
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for key in model.model_fields:
            inner = {f"[{name.strip('[]')}.{key}]", f"[[{name.strip('[]')}.{key}]]"}
            assert f"| `{key}` |" in section or inner & tables.keys(), f"{name} {key}"


def test_every_defence_has_its_settings_on_the_page():
    page = (reference.FOLDER / "defences.md").read_text(encoding="utf-8")
    listed = reference.list_training_defences() | reference.list_restrictions()
    for word, defence in listed.items():
        section = page.partition(f"### {word}\n")[2].partition("\n### ")[0]
        assert f"Example: `{defence.name}`" in section
        for entry in fields(defence):
            if entry.repr and entry.name not in reference.HIDDEN_SETTINGS:
                assert f"`{entry.name}`" in section
