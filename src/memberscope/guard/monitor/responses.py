"""Choose what an alarm does to the clients that it concerns.

Alarms about membership do nothing: an answer that changed would tell who is a member.
"""

from __future__ import annotations

from memberscope.guard.detectors.alarm import POOLS, Alarm
from memberscope.guard.policy.tables import Respond
from memberscope.guard.state.interface import ActiveResponse


def list_responses(alarm: Alarm, respond: Respond) -> list[tuple[str, ActiveResponse, float]]:
    """List the clients concerned, the response that each gets, and for how many seconds.

    The list is empty where the alarm only alerts. A client's alarm concerns the client, a family's
    or a pool's those who took part, and that of any other pool than `POOLS` nobody.

    >>> alarm = Alarm(0.0, "probing", "family", "17", 12.5, 10.0, 40, ("0a", "0b"))
    >>> [(client, standing.response, seconds) for client, standing, seconds in list_responses(alarm, Respond(probing="throttle"))]
    [('0a', 'throttle', 3600.0), ('0b', 'throttle', 3600.0)]
    """
    if alarm.detector == "membership" or (alarm.scope == "pool" and alarm.subject not in POOLS):
        return []
    response = getattr(respond, alarm.detector)
    if response == "alert":
        return []
    # A client may have taken part more than once, and gets one response
    concerned = (alarm.subject,) if alarm.scope == "client" else dict.fromkeys(alarm.clients)
    return [
        (client, ActiveResponse(response, alarm.detector), 60.0 * respond.minutes)
        for client in concerned
    ]
