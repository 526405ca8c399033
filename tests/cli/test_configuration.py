"""`audit.toml`: what it may say, what it may not, and the page that documents it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memberscope.cli.exits import exit_of_verdict
from memberscope.cli.options.configuration import read_audit_config
from memberscope.cli.options.lookup import ROWS, SECTIONS
from memberscope.cli.options.reference import render_configuration_page
from memberscope.errors import InputError

VALUES = {bool: "true", int: "3", float: "0.5", str: '"x"'}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_read_from_its_own_section_and_refused_in_another(section, tmp_path):
    lines = []
    for name in SECTIONS[section]:
        kind, is_list = ROWS[name].kind, ROWS[name].is_list
        value = "[" + VALUES.get(kind.__args__[0], '"x"') + "]" if is_list else VALUES[kind]
        lines.append(f"{name} = {value}")
    found = read_audit_config(written(tmp_path / "a.toml", f"[{section}]\n" + "\n".join(lines)))
    assert [name for name in SECTIONS[section] if getattr(found, name) is None] == []
    other = "threat" if section != "threat" else "audit"
    for name, line in zip(SECTIONS[section], lines, strict=True):
        with pytest.raises(
            InputError, match=rf"Expected {name} in \[{section}\] of .*, got it in \[{other}\]"
        ):
            read_audit_config(written(tmp_path / "a.toml", f"[{other}]\n{line}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[data]\nlable = 'y'",
            r"known key in \[data\] of .*, got 'lable'; the nearest is 'label'",
        ),
        ("[date]\nlabel = 'y'", r"got \[date\]; the nearest is \[data\]"),
        ("[audit]\nxyz = 1", r"in \[audit\] of .*, got 'xyz'; the nearest is '"),
        ("seed = 3", r"before the first. Write it below \[audit\]"),
        ("sead = 3", r"nearest known key is 'seed'"),
        (
            "[data]\ngroups = 'sex'",
            r"Expected a list of texts in quotes for groups in \[data\] of .*, got 'sex'. Write groups =",
        ),
        ("[data]\ngroups = [1]", r"list of texts in quotes for groups in \[data\]"),
        ("[audit]\nfprs = ['a']", r"list of numbers for fprs in \[audit\]"),
        ("[audit]\nseed = 1.5", r"a whole number for seed in \[audit\] of .*, got 1.5"),
        ("[audit]\nseed = true", r"a whole number for seed in \[audit\] of .*, got True"),
        ("[audit]\nconfidence = true", r"a number for confidence in \[audit\]"),
        ("[audit]\ncoins = 1", r"true or false for coins in \[audit\]"),
        ("[threat]\naccess = 3", r"text in quotes for access in \[threat\]"),
        ("[recipe]\nkeep_together = 'person'", r"got 'keep_together'"),
        (
            "[recipe]\ntrain = 'a:b'\nrecipe = 'c:d'",
            r"Expected one of train and recipe in \[recipe\]",
        ),
        ("target = 3", r"Expected a section \[target\]"),
    ],
)
def test_what_is_not_known_is_refused_with_the_key_and_the_section(text, words, tmp_path):
    with pytest.raises(InputError, match=words):
        read_audit_config(written(tmp_path / "a.toml", text))


def test_whole_numbers_are_numbers_and_class_names_may_be_numbers(tmp_path):
    text = "[threat]\nprior = 1\n[target]\nclasses = [0, 1]\n[recipe]\ntrain = 'own:train'\n[data]\nunit = 'person'\n"
    found = read_audit_config(written(tmp_path / "a.toml", text))
    assert (found.prior, found.classes, found.recipe, found.unit) == (
        1,
        (0, 1),
        "own:train",
        "person",
    )


def test_every_key_has_one_section_and_a_meaning_and_the_page_is_current():
    alone = ("config", "audit_canaries", "canary_kind", "claimed")
    alone += ("no_history", "no_records", "show_ids", "overwrite", "verbose", "measure")
    alone += ("token_price",)
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(
        name for name in ROWS if name not in ("policy", *alone)
    )
    page = render_configuration_page()
    assert (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(
        encoding="utf-8"
    ) == page, "run `make schema`"
    for name, row in ROWS.items():
        assert row.help.endswith(".")
        assert name in ("policy", "config") or f"| `{name}` | `--" in page


def test_a_limited_pass_is_open_unless_it_is_accepted():
    codes = {
        (verdict, limited, accepted): exit_of_verdict(
            verdict, limited=limited, accept_limited=accepted
        )
        for verdict in ("PASS", "FAIL", "INCONCLUSIVE", None)
        for limited in (False, True)
        for accepted in (False, True)
    }
    assert {key for key, code in codes.items() if code == 0} == {
        ("PASS", False, False),
        ("PASS", False, True),
        ("PASS", True, True),
    }
    assert {key[0] for key, code in codes.items() if code == 1} == {"FAIL"}
    assert set(codes.values()) == {0, 1, 3}
