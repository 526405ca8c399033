"""Write a summary in Markdown, as a job of CI shows it and as a comment on a pull request."""

from __future__ import annotations

from memberscope.auditing import Result
from memberscope.auditing.verdict import describe_repeats
from memberscope.reports.formats.markdown_parts import (
    build_access_table,
    build_findings_table,
    name_verdict,
    write_controls,
    write_headline,
    write_missing,
    write_worst_group,
)
from memberscope.reports.formats.plain_text import LONGEST, escape_markdown, fence_command
from memberscope.reports.next_step import suggest_next_step

# By this line a job finds its own comment on a pull request again
MARK = "<!-- memberscope summary -->"


def render_markdown(result: Result, folder: str | None = None) -> str:
    """Render the summary: verdict, headline, access, worst group, controls and the next step.

    `folder` is that of the audit, for the next command.
    """
    verdict = name_verdict(result)
    parts = [
        MARK,
        f"## Membership inference: {verdict}",
        f"**{escape_markdown(result.title, 120)}.** {escape_markdown(result.reason, 4 * LONGEST)}",
        write_headline(result),
        _join_heading("What was judged", build_findings_table(result)),
        _join_heading("By access", build_access_table(result)),
        _list_facts(result),
        _write_next_step(result, folder),
        _write_foot(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _join_heading(heading: str, lines: list[str]) -> str:
    """Put a heading above lines; empty where there are none."""
    return "\n".join([f"### {heading}", "", *lines]) if lines else ""


def _list_facts(result: Result) -> str:
    """List the worst group, the controls, what did not run, and how often this was audited."""
    repeats = describe_repeats(result.environment)
    facts = {
        "Worst group": write_worst_group(result),
        "The audit's own checks": write_controls(result),
        "Attacks not run": write_missing(result),
        "Repeated": "" if repeats is None else escape_markdown(repeats),
    }
    return "\n".join(f"- {name}: {words}" for name, words in facts.items() if words)


def _write_next_step(result: Result, folder: str | None) -> str:
    """Write the next step, with its command as code."""
    step = suggest_next_step(result, None, folder or "DIR")
    if step is None:
        return "**Next.** Give a policy with `--policy`, and check again."
    sentence, _, command = step.partition(": memberscope ")
    if not command:
        return f"**Next.** {escape_markdown(sentence)}"
    return f"**Next.** {escape_markdown(sentence)}:\n\n{fence_command(f'memberscope {command}')}"


def _write_foot(result: Result) -> str:
    """Write what the numbers rest on, in small print."""
    found, policy = result.diagnostics, result.plan.policy
    judged = "no policy" if policy is None else f"policy {escape_markdown(policy.name, 80)}"
    return (
        f"<sub>memberscope {escape_markdown(result.tool.version, 40)}: {found.n_members} members, "
        f"{found.n_non_members} non-members, {judged}, seed {result.plan.seed}. This is evidence "
        "about the attacks that ran, and no statement of compliance.</sub>"
    )
