"""`memberscope init`: a few questions about who asks the model what.

And an `audit.toml` from the answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from memberscope.errors import InputError

HARMS = {"low": "demo", "medium": "standard", "high": "strict"}
ENDPOINT = """# protocol = "v2"         # or "mlflow", or "json" with body and answer
# classes = ["no", "yes"]  # in the order of the server's scores
# auth_env = "TOKEN"       # the variable that holds the token
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


def write_audit_config(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("audit.toml"),
    title: Annotated[str, typer.Option(prompt="What is audited?")] = "my model",
    who: Annotated[str, typer.Option(prompt="Who can query it?")] = "customers through an API",
    access: Annotated[
        str,
        typer.Option(
            prompt="What does one query return (label, probabilities, logits, white_box)?"
        ),
    ] = "probabilities",
    queries: Annotated[
        int, typer.Option(prompt="How many queries may one make per record?")
    ] = 1000,
    prior: Annotated[
        float, typer.Option(prompt="Share of members among the records that somebody would try?")
    ] = 0.01,
    harm: Annotated[
        str, typer.Option(prompt="How bad would it be for a person (low, medium, high)?")
    ] = "medium",
    target: Annotated[
        str,
        typer.Option(prompt="Model (module:factory or file), URL of an endpoint, or signals file?"),
    ] = "model.skops",
    ci: Annotated[str | None, typer.Option(help="Also write a CI job: github or gitlab.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Ask about the threat model and write audit.toml.

    And a CI job that audits each release if asked for.
    """
    from memberscope import _check
    from memberscope._files import write_bytes
    from memberscope.cli.commands.ci_job import INCLUDE, choose_job_file, render_job
    from memberscope.types import Access

    _check.check_rate("prior", prior)
    if queries < 1:
        raise InputError(
            f"Expected at least 1 query per record, got {queries}. Every attack asks once."
        )
    if file.exists() and not force:
        raise InputError(
            f"Expected a new file, got {str(file)!r}, which is there. Choose another name or add "
            "--force."
        )
    if harm not in HARMS:
        raise InputError(f"Expected harm low, medium or high, got {harm!r}. Choose one of them.")
    if access.upper() not in Access.__members__:
        raise InputError(
            f"Expected access label, probabilities, logits or white_box, got {access!r}. Choose "
            "one of them."
        )
    job = None if ci is None else choose_job_file(ci)
    signals = Path(target).suffix in (".csv", ".npz", ".parquet")
    kind = (
        "signals" if signals else "url" if target.startswith(("http://", "https://")) else "model"
    )
    quoted = _quote_toml(target)
    columns = '# groups = ["sex"]\n# unit = "person"         # whom records belong to, if several belong to one\n# features = ["x0", "x1"]\n'
    data = (
        columns
        if signals
        else f'members = "train.csv"\nnon_members = "holdout.csv"\nlabel = "y"\n{columns}'
    )
    text = TEMPLATE.format(
        file=file.name,
        title=_quote_toml(title),
        who="".join(letter for letter in " ".join(who.split()) if letter.isprintable()),
        target=f"{kind} = {quoted}\n" + (ENDPOINT if kind == "url" else ""),
        data=data,
        access=_quote_toml(access.lower()),
        budget=queries,
        prior=prior,
        harm=harm,
        policy=_quote_toml(HARMS[harm]),
    )
    write_bytes(file, text.encode())
    typer.echo(f"Written to {file}. Next: memberscope plan {file}")
    if job is not None:
        write_bytes(job, render_job(str(ci), file.as_posix(), target).encode())
        typer.echo(
            f"Written to {job}."
            + (f" {INCLUDE}" if job.name == "memberscope.gitlab-ci.yml" else "")
        )


def _quote_toml(text: str) -> str:
    """Text as a TOML string: JSON's, which leaves one character as it is that TOML does not.

    >>> _quote_toml("café")
    '"café"'
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
