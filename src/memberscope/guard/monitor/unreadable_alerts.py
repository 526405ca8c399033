"""Alert about records that the sketch cannot read, at most once an hour."""

from __future__ import annotations

import json

from memberscope.guard.detectors.alarm import Alarm

HOUR = 3600.0
MOST = 100  # clients that an alarm names


class UnreadableAlerts:
    """Build one alarm an hour, with all clients and records since the last one.

    >>> from memberscope.guard.sketching.observations import format_unsketched_line
    >>> alerts = UnreadableAlerts()
    >>> [len(alerts.build_alarms([format_unsketched_line(t, "0a", 2)])) for t in (0.0, 9.0, 4000.0)]
    [1, 0, 1]
    """

    def __init__(self) -> None:
        self.told = -HOUR
        self.records = 0
        self.clients: dict[str, None] = {}

    def build_alarms(self, lines: list[str]) -> list[Alarm]:
        """Count the lines of the access log that have no sketch; give the alarm that is due."""
        found = []
        for line in lines:
            document = json.loads(line)
            client, time = str(document["client"]), float(document["time"])
            self.records += int(document["unreadable"])
            if len(self.clients) < MOST:
                self.clients[client] = None
            if time - self.told >= HOUR:
                found.append(
                    Alarm(
                        time,
                        "unreadable",
                        "client",
                        client,
                        float(self.records),
                        0.0,
                        self.records,
                        tuple(self.clients),
                    )
                )
                self.told, self.records, self.clients = time, 0, {}
        return found
