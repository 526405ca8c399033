"""A guard inside another application: its monitor begins and ends with the application, or begins at the first request."""

from __future__ import annotations

import asyncio

from memberscope.guard.asgi.bodies import Message, Receive, Send
from memberscope.guard.server.assembly import Parts


class Embedded:
    """The parts of a guard that nobody else starts and stops."""

    def __init__(self, parts: Parts) -> None:
        """Start nothing yet: there may be no loop."""
        self.parts, self.started = parts, False
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Start, unless it is."""
        async with self._lock:
            if not self.started:
                await self.parts.start()
                self.started = True

    async def stop(self) -> None:
        """Look at what waits, and let go of everything."""
        if self.started:
            self.started = False
            await self.parts.stop()
        await self.parts.state.close()

    def around(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The two ends of an application's lifespan, with the parts started before it and stopped after it."""

        async def begun() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
            return message

        async def ended(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.stop()
            await send(message)

        return begun, ended
