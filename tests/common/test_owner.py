"""Is a handle refused to every thread and every process but its own?"""

from __future__ import annotations

import os
import threading

import pytest

from common.owner import Owner, WrongThread


def test_the_thread_that_made_it_may_use_it() -> None:
    Owner("a handle").check()


def test_another_thread_may_not() -> None:
    owner = Owner("a handle")
    caught: list[str] = []

    def trespass() -> None:
        try:
            owner.check()
        except WrongThread as error:
            caught.append(str(error))

    thread = threading.Thread(target=trespass)
    thread.start()
    thread.join()
    assert caught == ["a handle was used outside the thread that owns it"]


def test_a_child_of_the_process_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner("a handle")
    parent = os.getpid()
    monkeypatch.setattr("common.owner.os.getpid", lambda: parent + 1)
    with pytest.raises(WrongThread, match="outside the process"):
        owner.check()
