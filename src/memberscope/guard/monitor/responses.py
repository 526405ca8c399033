"""What an alarm does to the clients that it concerns.

Alarms about membership do nothing: an answer that changed would be an oracle.
"""

from __future__ import annotations

from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.policy.config import Respond
from memberscope.guard.state.interface import ActiveResponse

EVERYBODY = "all"  # the pool of all clients, which only ever alerts


def list_responses(alarm: Alarm, respond: Respond) -> list[tuple[str, ActiveResponse, float]]:
    """The clients concerned, what they get, and for how many seconds.

    Empty where the alarm only alerts.

    A client's alarm concerns the client; a family's or a pool's concerns those who took part, but
    the pool of all clients nobody.

    >>> alarm = Alarm(0.0, "probing", "family", "17", 12.5, 10.0, 40, ("0a", "0b"))
    >>> [(client, standing.response, seconds) for client, standing, seconds in list_responses(alarm, Respond(probing="throttle"))]
    [('0a', 'throttle', 3600.0), ('0b', 'throttle', 3600.0)]
    """
    if alarm.detector == "membership" or (alarm.scope == "pool" and alarm.subject == EVERYBODY):
        return []
    response = getattr(respond, alarm.detector)
    if response == "alert":
        return []
    concerned = (alarm.subject,) if alarm.scope == "client" else dict.fromkeys(alarm.clients)
    return [
        (client, ActiveResponse(response, alarm.detector), 60.0 * respond.minutes)
        for client in concerned
    ]
