"""Has somebody as many places as one may have?

    comes ─▶ one place more, or none left        goes ─▶ one less

So one address cannot take all sockets or all streams of a process. Who counts as one is
broadcast.client's; this module knows neither addresses nor sockets, and remembers nobody who has no place.

Source: lessons §1, thousands of idle connections.
"""

from __future__ import annotations


class Crowd:
    """Places by who has them. None is nobody in particular, and always has room."""

    def __init__(self, most: int) -> None:
        """Args: most: places that one may have."""
        self._most = most
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        """How many have a place."""
        return len(self._places)

    def enter(self, who: str | None) -> bool:
        """Take a place → whether there was one."""
        if who is None:
            return True
        had = self._places.get(who, 0)
        if had >= self._most:
            return False
        self._places[who] = had + 1
        return True

    def leave(self, who: str | None) -> None:
        """Give back a place that was taken."""
        if who is None:
            return
        left = self._places[who] - 1
        if left:
            self._places[who] = left
        else:
            del self._places[who]
