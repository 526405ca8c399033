"""A request that the guard does not pass on."""

from __future__ import annotations


class RequestRefused(Exception):
    """The client gets `status` with `sentence` and `headers`, and the model is not asked.

    The sentence goes to whoever asked: it names nothing that they did not send.

    >>> RequestRefused(401, "Expected a key, got none.", (("www-authenticate", "Bearer"),)).status
    401
    """

    def __init__(
        self, status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers
