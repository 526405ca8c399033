"""Draft a policy file from what was measured.

Comments say on what it rests, and what is left to fill in.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.guard import parse_guard_policy
from memberscope.outputs import NONE, parse_restriction, without_noise_keys
from memberscope.policygen.guard_evidence import (
    Candidate,
    GuardEvidence,
    MeasuredBound,
    format_rate_percent,
)
from memberscope.types import OUTPUT_TASKS, Task

# A budget of queries about a record is full again after so long; an audit's attackers got theirs
# once
LIFETIME = "365d"
EXAMPLE = {"protocol": "v2", "model_name": "model"}


def draft_policy(
    evidence: GuardEvidence,
    chosen: Candidate,
    folder: Path,
    *,
    key: str | None = None,
    template: str | None = None,
) -> str:
    """Draft the text of `guard.toml` that serves `chosen`.

    `folder` is where the evidence lies, for its fitted parts. `key` is the file of the guard's
    secret, beside the policy. A seed that an audit drew its noise by is left out: the guard's key
    takes its place. `template` is the body of the audit's requests, where its result keeps none.

    Raises:
        InputError: What the audit was told of its endpoint makes no policy, or the template is
            neither given nor known.

    >>> from memberscope.policygen.guard_evidence import MeasuredBound
    >>> chosen = Candidate("top:1", "probabilities", (MeasuredBound(0.01, 0.03, 0.01, 0.02, "lira"),), "meets")
    >>> evidence = GuardEvidence("result.json", "00", "iris", "access probabilities", 0.95, 3, 128, (chosen,))
    >>> policy = parse_guard_policy(tomllib.loads(draft_policy(evidence, chosen, Path("."))))
    >>> policy.default.restrict, policy.default.per_record.n, policy.measured.upper
    ('top:1', 128, 0.02)
    """
    # An absolute path, since the policy may be moved away from the evidence
    fitted = (
        [f"fitted = {_quote_toml_text(str(folder.resolve() / evidence.fitted))}", ""]
        if evidence.fitted
        else []
    )
    parts = [
        *_draft_header(evidence, chosen),
        *fitted,
        *_draft_serving(evidence, chosen, template),
        *_draft_default(evidence, chosen),
        *_draft_identity(),
        *_draft_state(),
        *([] if key is None else _draft_monitor(key, evidence.task)),
        *_draft_measured(evidence, chosen),
    ]
    text = "\n".join(parts) + "\n"
    # A draft that the guard would refuse must fail here, and not at its start
    parse_guard_policy(tomllib.loads(text), "the policy that was drafted")
    return text


def _draft_header(evidence: GuardEvidence, chosen: Candidate) -> list[str]:
    """Draft comments: what was measured, of which outputs, and which were chosen."""
    lines = [
        f"# What this guard serves was measured by the audit {_quote_toml_text(evidence.title)}:",
        f"# {evidence.file}, SHA-256 {evidence.digest}",
        f"# Threat model: {evidence.threat}.",
        "# Largest upper limit of the strongest attack, with the attacks of all that can be "
        "worked out from these outputs:",
    ]
    # All candidates are listed, so that a reader sees why none less restrictive was chosen
    for entry in evidence.candidates:
        rates = "; ".join(
            f"{bound.write(bound.high)} {_describe_bound_place(bound)} (limit "
            f"{bound.write(bound.limit)}, {bound.attack})"
            for bound in entry.bounds
        )
        kept = " <- served" if entry is chosen else ""
        short = (
            f", not measured with {', '.join(entry.lacking)}"
            if entry.lacking and entry.bounds
            else ""
        )
        outcome = f"{rates}: {entry.outcome}{short}{kept}" if entry.bounds else "not measured"
        lines.append(f"#   {_drop_seed(entry.restrict)} ({entry.outputs}): {outcome}")
    lines.append(f"# Attacked by: {', '.join(chosen.attacks)}.")
    lines += [f"# {line}" for line in evidence.notes]
    # Titles come from users, and a comment with a line break would become a setting
    return [_strip_unprintable(line) for line in lines] + [""]


def _describe_bound_place(bound: MeasuredBound) -> str:
    """Describe where a bound holds, in short."""
    return (
        f"for {bound.claim.rstrip('.')!r}"
        if bound.claim or bound.fpr is None
        else f"at {format_rate_percent(bound.fpr)}"
    )


def _draft_serving(evidence: GuardEvidence, chosen: Candidate, template: str | None) -> list[str]:
    """Draft how the server is asked, as the audit asked it, or an example.

    Raises:
        InputError: Requests need a template, which is neither given nor known.
    """
    if evidence.task == "text":
        return _draft_text_serving(evidence)
    known = dict(evidence.endpoint)
    said = known or EXAMPLE
    lines = [
        "[serving]",
        "# As the audit asked it." if known else "# An example: write how your server is asked.",
    ]
    # Only plain JSON endpoints have a path of their own
    if said["protocol"] != "json":
        said = {name: value for name, value in said.items() if name != "path"}
    said = {"outputs": chosen.outputs, **said}
    if evidence.task in OUTPUT_TASKS:
        said = {"task": evidence.task, **said}
    # The guard needs the number of classes, by name or by count
    elif "classes" not in said:
        said = {**said, "n_classes": said.get("n_classes", evidence.n_classes)}
    if said["protocol"] == "json":
        body = template or said.get("body")
        # Any other template than the audit's would be refused, by the guard or by the server
        if body is None:
            raise InputError(
                "Expected the template of requests to the audited server, got none: a result keeps "
                "no template that holds texts, which may be secrets. Give --config audit.toml, whose "
                "[target] has the body."
            )
        said = {**said, "body": body}
    lines += [f"{name} = {_format_toml_value(value)}" for name, value in said.items()]
    lines += [
        "# also = []  # what else of the server's answer passes; all that is not named is dropped"
    ]
    return [*lines, ""]


def _draft_text_serving(evidence: GuardEvidence) -> list[str]:
    """Draft how a server of a language model is asked, whatever protocol the audit used."""
    name = evidence.endpoint.get("model_name")
    named = (
        '# model_name = "…"  # goes with every request; others get 404'
        if name is None
        else f"model_name = {_quote_toml_text(name)}"
    )
    return ["[serving]", 'protocol = "openai"', named, ""]


def _draft_default(evidence: GuardEvidence, chosen: Candidate) -> list[str]:
    """Draft what every client gets."""
    return [
        "[default]",
        f"restrict = {_quote_toml_text(_drop_seed(chosen.restrict))}",
        f"# The audit's attackers asked at most {evidence.asked} times about a record: with more, "
        "its limits say nothing. The budget is for",
        "# one client and one record exactly; copies with noise are other records, and many "
        "clients have many budgets. The monitor looks",
        "# for both.",
        f'per_record = "{evidence.asked}/{LIFETIME}"',
        '# per_client = "1000/d"',
        "",
    ]


def _draft_identity() -> list[str]:
    """Draft how clients are told apart, to fill in."""
    return [
        "[identity]",
        "# Budgets are kept by client: with networks alone, everybody behind one address shares "
        "one.",
        'by = ["network"]',
        '# by = ["api_key", "network"]',
        "# [[identity.keys]]",
        '# name = "partner"',
        '# sha256 = "…"  # of the key: printf %s "$KEY" | sha256sum',
        "",
    ]


def _draft_state() -> list[str]:
    """Draft where budgets are kept."""
    return [
        "[state]",
        "# Budgets outlive a restart there. Several workers need redis in its place.",
        'folder = "budgets"',
        "",
    ]


def _draft_monitor(key: str, task: Task) -> list[str]:
    """Draft where the guard's secret lies."""
    return [
        "[monitor]",
        "# The secret of the noise in answers, of budgets and of the monitor. All workers and replicas "
        "need this file, nobody else.",
        f"key = {_quote_toml_text(key)}",
        *(['kind = "text"'] if task == "text" else []),
        "",
    ]


def _drop_seed(restrict: str) -> str:
    """Name outputs without the seed of an audit's noise.

    >>> _drop_seed("noise:0.1:7+top:1"), _drop_seed("none")
    ('noise:0.1+top:1', 'none')
    """
    return NONE if restrict == NONE else without_noise_keys(parse_restriction(restrict)).name


def _draft_measured(evidence: GuardEvidence, chosen: Candidate) -> list[str]:
    """Draft the claim with the least room."""
    bound = chosen.tightest()
    return [
        "[measured]",
        f"result = {_quote_toml_text(evidence.digest)}",
        f"level = {_quote_toml_text(_drop_seed(chosen.restrict))}",
        *([] if bound.fpr is None else [f"fpr = {bound.fpr!r}"]),
        *([f"claim = {_quote_toml_text(bound.claim)}"] if bound.claim else []),
        f"limit = {bound.limit!r}",
        f"upper = {bound.high!r}",
        f"attack = {_quote_toml_text(bound.attack)}",
        f"confidence = {evidence.confidence!r}",
        f"outputs = {_quote_toml_text(chosen.outputs)}",
        f"attacks = {_format_toml_value(list(chosen.attacks))}",
    ]


def _format_toml_value(value: Any) -> str:
    """Format a text, number or list in TOML."""
    if isinstance(value, list):
        return f"[{', '.join(_format_toml_value(entry) for entry in value)}]"
    return _quote_toml_text(value) if isinstance(value, str) else str(value)


def _quote_toml_text(text: str) -> str:
    """Quote text as a TOML string.

    >>> _quote_toml_text("café")
    '"café"'
    """
    # JSON strings are TOML strings but for the delete character, which TOML forbids
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _strip_unprintable(line: str) -> str:
    """Strip from a line what a comment may not hold, or a terminal would obey."""
    return "".join(letter for letter in line if letter.isprintable())
