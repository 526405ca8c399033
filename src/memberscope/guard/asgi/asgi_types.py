"""Types of the ASGI interface: scope, message, receive, send and application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

WHOLE = "memberscope.whole"
"""Key of the start of an answer whose body follows at once, in one message."""

JOINED = "memberscope.joined"
"""Key of a scope: what writes the start of a whole answer together with its body."""
