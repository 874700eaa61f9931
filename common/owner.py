"""Whose is a handle? The thread's that has it from the start, in its process, and nobody else's.

A connection that two threads use at once is torn in the library's memory, not in an exception; after a
fork the child would write between its parent's words. Source: lesson 35.
"""

from __future__ import annotations

import os
import threading


class WrongThread(RuntimeError):
    """A handle was used outside the thread, or the process, that owns it."""


class Owner:
    """The thread that makes this, in its process."""

    __slots__ = ("_pid", "_thread", "_what")

    def __init__(self, what: str) -> None:
        """Args: what: the handle, in words."""
        self._what = what
        self._pid = os.getpid()
        self._thread = threading.get_ident()

    def check(self) -> None:
        """Raises: WrongThread: see there."""
        if threading.get_ident() != self._thread:
            raise WrongThread(f"{self._what} was used outside the thread that owns it")
        if os.getpid() != self._pid:
            raise WrongThread(f"{self._what} was used outside the process that owns it")
