"""`memberscope init`: ask about the threat model, and write `audit.toml` from the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memberscope.cli.options.choices import CLASS_ACCESS
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line
from memberscope.cli.questions import Question, ask_questions, drop_draft
from memberscope.errors import InputError

ASKED = "asked"
HARMS = {"low": "demo", "medium": "standard", "high": "strict"}
ENDPOINT = """# protocol = "v2"         # or "mlflow", or "json" with body and answer
# classes = ["no", "yes"]  # in the order of the server's scores
# auth_env = "TOKEN"       # the variable that holds the token
"""
COLUMNS = """# groups = ["sex"]
# unit = "person"         # whom records belong to, if several belong to one
# features = ["x0", "x1"]
"""
TEMPLATE = """# Run: memberscope audit {file}
[target]
{target}
[data]
{data}
[threat]
# {who}
access = {access}
# restrict = "top:3+round:2"  # what the endpoint does to outputs
query_budget = {budget}
prior = {prior}

[policy]
# chosen for {harm} harm; see `memberscope list policies`
use = {policy}

[audit]
title = {title}
out = "memberscope-out"
"""


@dataclass(frozen=True)
class InitOptions:
    """The options of `init`; what QUESTIONS has is asked where it is not given."""

    file: Path = add_argument("The file to write.", default=Path("audit.toml"))
    title: str | None = add_option("Title of the report.", default=None, shown=ASKED)
    who: str | None = add_option("Who can query the model.", default=None, shown=ASKED)
    access: str | None = add_option(
        "What one query returns.", default=None, shown=ASKED, choices=CLASS_ACCESS
    )
    queries: int | None = add_option(
        "Queries that one may make about a record.", default=None, shown=ASKED
    )
    prior: float | None = add_option(
        "Share of members among the records that somebody would try.", default=None, shown=ASKED
    )
    harm: str | None = add_option(
        "How bad a disclosure would be for a person, which chooses the policy.",
        default=None,
        shown=ASKED,
        choices=tuple(HARMS),
    )
    target: str | None = add_option(
        "The model (module:factory or file), the URL of an endpoint, or a signals file.",
        default=None,
        shown=ASKED,
    )
    ci: str | None = add_option(
        "Also write a CI job: github or gitlab.", default=None, choices=("github", "gitlab")
    )
    force: bool = add_option("Replace an existing file.", default=False)


@take_options(InitOptions)
def write_audit_config(options: InitOptions) -> None:
    """Ask about the threat model and write audit.toml, and a CI job for each release if asked to.

    Each answer is checked as it is given. Interrupt with Ctrl-C: the next call goes on from there.
    """
    from memberscope._files import write_bytes
    from memberscope.cli.pipeline.ci_job import INCLUDE, choose_job_file, render_job

    file = options.file
    # Before the questions, so that nobody answers them in vain
    if file.exists() and not options.force:
        raise InputError(
            f"Expected a new file, got {str(file)!r}, which is there. Choose another name or add "
            "--force."
        )
    job = None if options.ci is None else choose_job_file(options.ci)
    draft = file.with_name(f"{file.name}.draft")
    answers = ask_questions(QUESTIONS, asdict(options), draft)
    write_bytes(file, _render_config(file, answers).encode())
    drop_draft(draft)
    print_line(f"Written to {file}. Next: memberscope plan {file}")
    if job is not None:
        text = render_job(str(options.ci), file.as_posix(), answers["target"])
        write_bytes(job, text.encode())
        print_line(
            f"Written to {job}."
            + (f" {INCLUDE}" if job.name == "memberscope.gitlab-ci.yml" else "")
        )


def _read_queries(answer: str) -> int:
    """Read a number of queries.

    Raises:
        InputError: It is no whole number, or less than one.
    """
    if not answer.strip().isdecimal() or int(answer) < 1:
        raise InputError(
            f"Expected at least 1 query per record, got {answer!r}. Every attack asks once; give a "
            "whole number such as 1000."
        )
    return int(answer)


def _read_prior(answer: str) -> float:
    """Read a share, as a fraction or in percent.

    Raises:
        InputError: It is no number strictly between 0 and 1.

    >>> _read_prior("0.01"), _read_prior("5%")
    (0.01, 0.05)
    """
    from memberscope import _check

    number, percent, _ = answer.strip().partition("%")
    try:
        return _check.check_rate("prior", float(number) / (100 if percent else 1))
    except ValueError:
        raise InputError(
            f"Expected prior strictly between 0 and 1, got {answer!r}. Give it as a fraction, for "
            "example 0.01 for 1%."
        ) from None


def _read_target(answer: str) -> str:
    """Read what names a model: a function, a file or folder, or an address.

    Raises:
        InputError: It is none of these.
    """
    name = answer.strip()
    if not (":" in name or Path(name).suffix or Path(name).exists()):
        raise InputError(
            f"Expected module:factory, a model file, the URL of an endpoint or a table of signals, "
            f"got {answer!r}. Give one of these."
        )
    return name


QUESTIONS = (
    Question("title", "What is audited? It is the title of the report.", "my model"),
    Question("who", "Who can query it?", "customers through an API"),
    Question(
        "access",
        "What does one query return?",
        "probabilities",
        choices={
            "label": "only the predicted class or value",
            "probabilities": "a probability for every class",
            "logits": "the raw scores before the softmax",
            "white_box": "everything: the model itself is given away",
        },
    ),
    Question("queries", "How many queries may one make per record?", "1000", _read_queries),
    Question(
        "prior",
        "What share of the records that somebody would try are members? (0.01 is 1%)",
        "0.01",
        _read_prior,
    ),
    Question(
        "harm",
        "How bad would it be for a person to be known as a member? It chooses the policy.",
        "medium",
        choices={
            "low": "policy demo: at most 15% of members found at 5% false positives",
            "medium": "policy standard: at most 3% found at 1% false positives",
            "high": "policy strict: at most 1% found at 0.1% false positives as well",
        },
    ),
    Question(
        "target",
        "Where is the model? A file, module:factory, the URL of an endpoint, or a table of signals.",
        "model.skops",
        _read_target,
    ),
)


def _render_config(file: Path, answers: Mapping[str, Any]) -> str:
    """Write the answers as the text of an audit.toml."""
    target = answers["target"]
    if Path(target).suffix in (".csv", ".npz", ".parquet"):
        kind, data = "signals", COLUMNS
    else:
        kind = "url" if target.startswith(("http://", "https://")) else "model"
        data = f'members = "train.csv"\nnon_members = "holdout.csv"\nlabel = "y"\n{COLUMNS}'
    who = " ".join(answers["who"].split())
    return TEMPLATE.format(
        file=file.name,
        title=_quote_toml(answers["title"]),
        who="".join(letter for letter in who if letter.isprintable()),
        target=f"{kind} = {_quote_toml(target)}\n" + (ENDPOINT if kind == "url" else ""),
        data=data,
        access=_quote_toml(answers["access"]),
        budget=answers["queries"],
        prior=answers["prior"],
        harm=answers["harm"],
        policy=_quote_toml(HARMS[answers["harm"]]),
    )


def _quote_toml(text: str) -> str:
    """Write text as a TOML string: JSON's, which leaves one character as it is that TOML does not.

    >>> _quote_toml("café")
    '"café"'
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
