"""`memberscope init`: ask about the threat model, and write `audit.toml` from the answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line
from memberscope.errors import InputError

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
    """The options of `init`; those with a question are asked about where they are not given."""

    file: Path = add_argument("The file to write.", default=Path("audit.toml"))
    title: str = add_option("Title of the report.", default="my model", prompt="What is audited?")
    who: str = add_option(
        "Who can query the model.", default="customers through an API", prompt="Who can query it?"
    )
    access: str = add_option(
        "What one query returns: label, probabilities, logits or white_box.",
        default="probabilities",
        prompt="What does one query return (label, probabilities, logits, white_box)?",
    )
    queries: int = add_option(
        "Queries that one may make about a record.",
        default=1000,
        prompt="How many queries may one make per record?",
    )
    prior: float = add_option(
        "Share of members among the records that somebody would try.",
        default=0.01,
        prompt="Share of members among the records that somebody would try?",
    )
    harm: str = add_option(
        "How bad a disclosure would be for a person, which chooses the policy: low, medium or "
        "high.",
        default="medium",
        prompt="How bad would it be for a person (low, medium, high)?",
    )
    target: str = add_option(
        "The model (module:factory or file), the URL of an endpoint, or a signals file.",
        default="model.skops",
        prompt="Model (module:factory or file), URL of an endpoint, or signals file?",
    )
    ci: str | None = add_option("Also write a CI job: github or gitlab.", default=None)
    force: bool = add_option("Replace an existing file.", default=False)


@take_options(InitOptions)
def write_audit_config(options: InitOptions) -> None:
    """Ask about the threat model and write audit.toml, and a CI job for each release if asked to."""
    from memberscope._files import write_bytes
    from memberscope.cli.commands.ci_job import INCLUDE, choose_job_file, render_job

    _check_answers(options)
    file, target = options.file, options.target
    job = None if options.ci is None else choose_job_file(options.ci)
    write_bytes(file, _render_config(options).encode())
    print_line(f"Written to {file}. Next: memberscope plan {file}")
    if job is not None:
        write_bytes(job, render_job(str(options.ci), file.as_posix(), target).encode())
        print_line(
            f"Written to {job}."
            + (f" {INCLUDE}" if job.name == "memberscope.gitlab-ci.yml" else "")
        )


def _check_answers(options: InitOptions) -> None:
    """Refuse answers that no audit can use.

    Raises:
        InputError: An answer is out of range, or the file is there.
    """
    from memberscope import _check
    from memberscope.types import Access

    _check.check_rate("prior", options.prior)
    if options.queries < 1:
        raise InputError(
            f"Expected at least 1 query per record, got {options.queries}. Every attack asks once."
        )
    if options.file.exists() and not options.force:
        raise InputError(
            f"Expected a new file, got {str(options.file)!r}, which is there. Choose another name "
            "or add --force."
        )
    if options.harm not in HARMS:
        raise InputError(
            f"Expected harm low, medium or high, got {options.harm!r}. Choose one of them."
        )
    if options.access.upper() not in Access.__members__:
        raise InputError(
            f"Expected access label, probabilities, logits or white_box, got {options.access!r}. "
            "Choose one of them."
        )


def _render_config(options: InitOptions) -> str:
    """Write the answers as the text of an audit.toml."""
    target = options.target
    if Path(target).suffix in (".csv", ".npz", ".parquet"):
        kind, data = "signals", COLUMNS
    else:
        kind = "url" if target.startswith(("http://", "https://")) else "model"
        data = f'members = "train.csv"\nnon_members = "holdout.csv"\nlabel = "y"\n{COLUMNS}'
    who = " ".join(options.who.split())
    return TEMPLATE.format(
        file=options.file.name,
        title=_quote_toml(options.title),
        who="".join(letter for letter in who if letter.isprintable()),
        target=f"{kind} = {_quote_toml(target)}\n" + (ENDPOINT if kind == "url" else ""),
        data=data,
        access=_quote_toml(options.access.lower()),
        budget=options.queries,
        prior=options.prior,
        harm=options.harm,
        policy=_quote_toml(HARMS[options.harm]),
    )


def _quote_toml(text: str) -> str:
    """Write text as a TOML string: JSON's, which leaves one character as it is that TOML does not.

    >>> _quote_toml("café")
    '"café"'
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
