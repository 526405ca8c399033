"""Print what a person reads after an audit: a short summary, or all tables and notes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memberscope._text import format_number, format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.defend import name_quality
from memberscope.auditing.documents import (
    DetectableRate,
    ExtractionSummary,
    MissingHalves,
    TargetsSummary,
    format_level,
)
from memberscope.auditing.verdict import describe_repeats, drop_verdict_word
from memberscope.reports.level_rows import merge_levels, name_levels
from memberscope.reports.next_step import Arguments, suggest_next_step
from memberscope.reports.safe_console import escape_console_text
from memberscope.reports.select import (
    FIDELITY_WORDS,
    Place,
    describe_references,
    describe_suffix,
    describe_threat,
    describe_units,
    find_estimate,
    find_headline,
    format_interval,
    group_partial_attacks,
    group_skipped_attacks,
    list_detectable_leaks,
    list_extraction_rows,
    list_fprs,
    list_levels,
    list_unmeasured_levels,
    select_estimates,
    summarise_further_targets,
)
from memberscope.reports.short_summary import COLOURS, print_short_summary


def print_summary(
    result: Result,
    console: Console,
    out: Path | None = None,
    arguments: Arguments | None = None,
    *,
    verbose: bool = False,
) -> None:
    """Print verdict, headline, levels of access, worst group, controls and the next command.

    With `verbose` everything that the audit found is printed, with each control, power, and what
    did not run. `arguments` gives what named the model on the command line, for the verb of the
    next command.
    """
    with escape_console_text(console):
        if not verbose:
            print_short_summary(result, console, out, arguments)
            return
        # First what was found, then what to do about it
        limited = " (limited)" if result.limited else ""
        console.print(
            f"[{COLOURS[result.verdict]}]{result.verdict or 'NO POLICY'}{limited}[/] "
            f"{escape(result.title)}: {escape(drop_verdict_word(result.reason))}"
        )
        # Many audits until one passes are not one that passed, so it is said at once
        if (repeats := describe_repeats(result.environment)) is not None:
            console.print(f"[yellow]{escape(repeats)}[/]")
        if (step := suggest_next_step(result, arguments, str(out or "DIR"))) is not None:
            console.print(f"[bold]Next[/]: {escape(step)}")
        console.print(f"[dim]{escape(describe_threat(result))}[/]")
        # The numbers, and what they were measured with
        console.print(_build_levels_table(result))
        if (further := result.diagnostics.targets) is not None:
            console.print(_build_targets_table(result, further))
        for line in describe_units(result):
            console.print(f"  {escape(line)}")
        if (extraction := result.diagnostics.extraction) is not None:
            console.print(_build_extraction_table(extraction))
        for line in _format_model_lines(result):
            console.print(f"  [dim]{escape(line)}[/]")
        # Whether the numbers can be trusted
        for name, control in result.controls.items():
            mark = {True: "[green]ok[/]", False: "[red]failed[/]", None: "[yellow]not run[/]"}[
                control.passed
            ]
            console.print(f"  {name}: {mark} [dim]{escape(control.why)}[/]")
        overlap = result.diagnostics.overlap
        if overlap and overlap.exact + overlap.near:
            named = ", ".join(f"{pair.non_member}={pair.member}" for pair in overlap.examples[:3])
            console.print(
                f"  [yellow]duplicates[/] of members among the non-members: {overlap.exact} exact, "
                f"{overlap.near} near, "
                f"{overlap.dropped} left out (hashes {named}); --drop-overlap leaves them out"
            )
        # What the audit could have seen
        for entry, group in list_detectable_leaks(result):
            fewer = "" if group is None else f" ({escape(group)}, which has fewer, needs more)"
            console.print(f"  power: {_format_power(entry)}{fewer}{_describe_coarse_scores(entry)}")
        # What is missing from it
        for names, access, why in group_skipped_attacks(result):
            console.print(f"  [yellow]not run[/] {escape(names)} ({escape(access)}): {escape(why)}")
        for names, access, why in group_partial_attacks(result):
            console.print(f"  [yellow]in part[/] {escape(names)} ({escape(access)}): {escape(why)}")
        for note in result.diagnostics.notes:
            console.print(f"  note: {escape(note)}")
        if out is not None:
            # Files that the caller left out are not named
            files = (
                name
                for name in ("result.json", "report.html", "records.csv", "arrays.safetensors")
                if (out / name).exists()
            )
            console.print(f"Written to {escape(str(out))}/: {', '.join(files)}")


def _format_power(entry: DetectableRate) -> str:
    """Describe how large a leak an audit of this size notices at a rate."""
    where = f"a limit of {format_percentage(entry.limit)} at {format_percentage(entry.fpr)} false positives"
    if entry.tpr is None:
        return f"too few records to fail any model at {where} with a probability of 80%"
    return (
        f"an audit of this size fails {where} with a probability of 80% if "
        f"{format_percentage(entry.tpr)} or more of the members can be found"
    )


def _describe_coarse_scores(entry: DetectableRate) -> str:
    """Describe what attacks that give many records one score need, as the end of a sentence."""
    rows = sorted(entry.coarse.items())
    if not rows:
        return ""
    needed = ", ".join(
        f"{name} {'cannot' if tpr is None else format_percentage(tpr)}" for name, tpr in rows
    )
    return f"; attacks that give many records one score need more: {needed}"


def _build_levels_table(result: Result) -> Table:
    """Build the table of the strongest attack at each access level.

    TPR at each rate with its interval, precision at the prior, AUC.
    """
    prior = result.plan.threat.prior
    confidence = format_percentage(result.plan.confidence)
    table = Table(
        title=f"Strongest attack by access ({confidence} intervals, for all attacks at once)",
        title_justify="left",
    )
    table.add_column("access")
    table.add_column("false positives", justify="right")
    table.add_column("members found")
    table.add_column(f"precision at prior {format_percentage(prior)}")
    table.add_column("by the attack")
    rows = {level: _list_level_rows(result, level) for level in list_levels(result)}
    for places, shown in merge_levels(rows):
        # A level is named once, in the first of its rows
        for name, row in zip([name_levels(places), *[""] * len(shown)], shown, strict=False):
            table.add_row(name, *row)
        table.add_section()
    for place in list_unmeasured_levels(result):
        table.add_row(format_level(*place), "", "not measured", "", "")
    if any(entry.warning for entry in select_estimates(result, attack=STRONGEST)):
        table.caption = (
            "* fewer than 10 false positives are allowed at this rate; the interval is wide"
        )
        table.caption_justify = "left"
    return table


def _list_level_rows(result: Result, level: Place) -> list[tuple[str, ...]]:
    """List the rows of one level without its name: one a rate, and the AUC."""
    found, best = list_levels(result), find_headline(result)
    prior = result.plan.threat.prior
    rows: list[tuple[str, ...]] = []
    # Levels that are tried are shown at one rate, or they would crowd out the declared ones
    beside = level[1] not in (None, found[-1][1])
    for fpr in [best.fpr] if beside and best is not None and best.fpr else list_fprs(result):
        tpr = find_estimate(result, attack=STRONGEST, level=level, metric="tpr", fpr=fpr)
        ppv = find_estimate(
            result, attack=STRONGEST, level=level, metric="ppv", fpr=fpr, prior=prior
        )
        if tpr is None or ppv is None:
            continue
        mark = " *" if tpr.warning else ""
        numbers = (format_percentage(fpr), format_interval(tpr) + mark, format_interval(ppv))
        rows.append((*numbers, tpr.reaching_attack))
    auc = find_estimate(result, attack=STRONGEST, level=level, metric="auc")
    if auc:
        rows.append(("AUC", format_interval(auc, rate=False), "", auc.reaching_attack))
    return rows


def _format_model_lines(result: Result) -> list[str]:
    """Format lines on reference models and on single records.

    How like the target the models are; how many records are separated, and how stably.
    """
    words, lines = dict(describe_references(result)), []
    called = FIDELITY_WORDS[result.plan.task]
    if words:
        lines.append(
            f"reference models: {words['trained and left out']}, in "
            f"{words['time spent training']}; "
            + "; ".join(
                f"{name} {words[name]}"
                for name in (f"{name_quality(result.plan.task)} gap", called.alike, called.apart)
            )
            + f"; {words['trained by']}"
        )
    found = result.diagnostics.vulnerability
    if found:
        halves = found.stability.halves
        stable = (
            halves.why
            if isinstance(halves, MissingHalves)
            else "two halves of the models order the records with a rank correlation of "
            f"{format_number(halves.rank_correlation)}"
        )
        lines.append(
            f"single records: for {format_percentage(found.above_zero)} the answers of reference models "
            "show whether they were trained on the record (by chance at most "
            f"{format_percentage(found.by_chance)}); {stable}"
        )
    return lines


def _build_extraction_table(found: ExtractionSummary) -> Table:
    """Build the table of texts that the model would write out."""
    table = Table(
        title=f"Written out with probability {found.p:g} or more ({describe_suffix(found)})",
        title_justify="left",
    )
    for name in ("samples of each", "members", "non-members"):
        table.add_column(name)
    for row in list_extraction_rows(found):
        table.add_row(*row)
    return table


def _build_targets_table(result: Result, found: TargetsSummary) -> Table:
    """Build the table of the leading attacks on the audited model and the further targets.

    For the latter it has mean and spread.
    """
    left_out = f", {found.failed} left out" if found.failed else ""
    title = f"The training procedure: {found.trained} further targets{left_out}"
    table = Table(
        title=title,
        title_justify="left",
        caption="spread: how much the targets differ (standard deviation); it is no confidence interval",
    )
    table.caption_justify = "left"
    for name in ("attack", "access", "number", "this model", "mean of targets", "spread"):
        table.add_column(name)
    # The strongest and three more; the page has all
    for row in summarise_further_targets(result, rows=4):
        write = format_number if row.metric == "auc" else format_percentage
        what = "AUC" if row.metric == "auc" else f"TPR at {format_percentage(row.fpr)}"
        spread = "one target" if row.spread is None else write(row.spread)
        table.add_row(
            row.attack,
            format_level(row.access, row.restriction),
            what,
            write(row.own),
            write(row.mean),
            spread,
        )
    return table
