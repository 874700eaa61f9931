"""What becomes durable together, and who is told then?

The sequencer fills it; the worker writes it, and lets its replies go when it is on disk, not before.
"""

from __future__ import annotations

from common.envelope import Reply


class Group:
    """What becomes durable together, and who is told then.

    rows, frames: of the events, in order of seq; the frames in pieces. size: bytes of `frames`. kinds: how many of each
    kind, by its number. replies: by the route they leave on. hides: whom it takes down, or up again, see
    persist.hidden_file.
    """

    __slots__ = ("frames", "hides", "kinds", "replies", "rows", "size")

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.frames: list[bytes | memoryview] = []
        self.size = 0
        self.kinds = [0, 0, 0, 0, 0]
        self.replies: dict[bytes, Reply] = {}
        self.hides: dict[str, int] = {}

    def reply(self, route: bytes) -> Reply:
        """What is told on a route when this is on disk; empty at first."""
        reply = self.replies.get(route)
        if reply is None:
            reply = self.replies[route] = Reply(0, 0)
        return reply
