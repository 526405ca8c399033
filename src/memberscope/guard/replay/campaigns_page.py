"""Write and read a replay: `replay.json` and an offline page, `campaigns.html`."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

from memberscope._files import write_bytes
from memberscope._html import build_content_policy, read_template
from memberscope._text import format_percentage
from memberscope.errors import InputError
from memberscope.guard.replay.campaigns import FORMAT, HIGHEST, Replay, format_count_with_noun

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 220, 58, 26, 30
# Alarms and campaigns on the page, and clients in a campaign's card; replay.json has all
SHOWN, NAMED = 200, 8


def write_replay(replay: Replay, out: Path) -> None:
    """Write `replay.json` and `campaigns.html`, readable by their owner alone.

    Each is written whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    text = (
        json.dumps(replay.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        + "\n"
    )
    write_bytes(out / "replay.json", text.encode(), mode=0o600)
    write_bytes(out / "campaigns.html", render_campaigns_page(replay).encode(), mode=0o600)


def read_replay(path: Path) -> Replay:
    """Read a replay from `replay.json` or the folder that holds it.

    Raises:
        InputError: It is missing, truncated, or of another format.
    """
    file = path / "replay.json" if path.is_dir() else path
    try:
        return Replay.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected a replay.json in {str(path)!r}, got: {first}. Run memberscope guard replay "
            "again."
        ) from error


def build_campaigns_schema() -> dict[str, object]:
    """Build the JSON Schema of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": FORMAT,
        **Replay.model_json_schema(),
    }


def render_campaigns_page(replay: Replay) -> str:
    """Render the replay as one HTML text that loads nothing else."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    # Inlined, with a content policy that allows this style by its hash and nothing else
    style = read_template("report.css") + read_template("campaigns.css", "guard")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": format_percentage,
        "moment": _format_utc_minute,
        "day": _format_utc_day,
    }
    environment.globals |= {
        "counted": format_count_with_noun,
        "lasted": _format_campaign_duration,
        "rate_words": _format_false_alarm_rate,
    }
    text = environment.from_string(read_template("campaigns.html.j2", "guard")).render(
        replay=replay,
        shown=SHOWN,
        named=NAMED,
        highest=HIGHEST,
        picture=_build_day_chart(replay),
        policy=Markup(build_content_policy([], [style])),
        style=Markup(style),
    )
    return str(text)


def _build_day_chart(replay: Replay) -> dict[str, object] | None:
    """Build bars of queries and counts of alarms a day; None for less than two days."""
    if len(replay.days) < 2:
        return None
    top = max(1, *(entry.queries for entry in replay.days))
    marks = _choose_count_ticks(top)
    high, step = max(marks[-1], top), (WIDTH - LEFT) / len(replay.days)
    scale = (HEIGHT - TOP - BOTTOM) / high
    # About eight days are named, as more would overlap
    every = math.ceil(len(replay.days) / 8)
    bars = [
        {
            "x": round(LEFT + step * number + 0.1 * step, 1),
            "middle": round(LEFT + step * (number + 0.5), 1),
            "width": round(max(0.8 * step, 0.5), 1),
            "y": round(HEIGHT - BOTTOM - scale * entry.queries, 1),
            "height": round(scale * entry.queries, 1),
            "alarms": entry.alarms,
            "name": _format_utc_day(entry.start) if number % every == 0 else "",
            "title": f"{_format_utc_day(entry.start)}: {format_count_with_noun(entry.queries, 'query', 'queries')}, {format_count_with_noun(entry.alarms, 'alarm')}",
        }
        for number, entry in enumerate(replay.days)
    ]
    ticks = [(round(HEIGHT - BOTTOM - scale * mark, 1), f"{mark:,}") for mark in marks]
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": HEIGHT - BOTTOM}
    # Numbers above bars need some room beside each other
    return {**size, "bars": bars, "ticks": ticks, "named": step >= 14}


def _choose_count_ticks(top: int) -> list[int]:
    """Choose round numbers from 0 to a count or a little less.

    Three to six of them where it is large enough.

    >>> _choose_count_ticks(100), _choose_count_ticks(17), _choose_count_ticks(1)
    ([0, 20, 40, 60, 80, 100], [0, 5, 10, 15], [0, 1])
    """
    unit = 10 ** max(0, len(str(top)) - 2)
    # At most five steps above 0
    step = next(unit * factor for factor in (1, 2, 5, 10, 20, 50) if top / (unit * factor) <= 5)
    return list(range(0, top + 1, step))


def _format_utc_minute(time: float) -> str:
    """Format a time in UTC, to the minute.

    >>> _format_utc_minute(0.0), _format_utc_minute(1e30)
    ('1970-01-01 00:00 UTC', '1e+30 s')
    """
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
    # Logs may hold any finite number as a time, also one that no calendar has
    except (ValueError, OverflowError, OSError):
        return f"{time:.4g} s"


def _format_utc_day(time: float) -> str:
    """Format a time's day in UTC.

    >>> _format_utc_day(0.0)
    '1970-01-01'
    """
    return _format_utc_minute(time).split(" ")[0]


def _format_campaign_duration(seconds: float) -> str:
    """Format a duration in the unit that suits.

    >>> _format_campaign_duration(90), _format_campaign_duration(7200), _format_campaign_duration(400000), _format_campaign_duration(0)
    ('2 minutes', '2 hours', '5 days', 'a moment')
    """
    for unit, word in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= 1.5 * unit or (seconds >= unit and word != "day"):
            return format_count_with_noun(round(seconds / unit), word)
    return "a moment"


def _format_false_alarm_rate(rate: float) -> str:
    """Format a false-alarm rate as one in so many.

    >>> _format_false_alarm_rate(0.001), _format_false_alarm_rate(0.0)
    ('1 in 1,000', 'none')
    """
    return (
        "none"
        if rate <= 0
        else f"1 in {1 / rate:,.3g}"
        if rate > 0.01
        else f"1 in {round(1 / rate):,}"
    )
