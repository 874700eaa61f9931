"""How many questions are asked at a time, and who waits for the next one?

A lane has workers and the questions of all hosts. It narrows to one question at a time when whoever
is asked has had too many, pauses as long as he wants, and widens again by one with each answer.

Source: S-IDN-10, S-SEC-03.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ingest.questions import Need, Question, Questions


class Lane:
    """Questions, and the workers that wait for one that they may ask."""

    def __init__(self, workers: int) -> None:
        """Args: workers: questions that can be asked at a time."""
        self._workers = workers
        self._questions = Questions(workers)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._width = workers
        self._asked = 0
        self._resume: asyncio.TimerHandle | None = None
        self._resumes_s = 0.0
        self._opened = asyncio.Event()
        self._opened.set()

    def __len__(self) -> int:
        """Questions that stand in line."""
        return len(self._questions)

    @property
    def width(self) -> int:
        """Questions that may be asked at a time, now."""
        return self._width if self._opened.is_set() else 0

    def put(self, host: int, did: str, need: Need) -> None:
        """See Questions."""
        self._questions.put(host, did, need)
        self._wake()

    async def get(self) -> Question:
        """See Questions.next; waits for one. Who gets it calls `done`."""
        while (question := self._next()) is None:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        self._asked += 1
        return question

    def done(self, question: Question) -> None:
        """See Questions."""
        self._asked -= 1
        self._questions.done(question)
        self._wake()

    def narrow(self, pause_s: float) -> None:
        """Ask nothing for so long, and then one question at a time."""
        self._width = 1
        loop = asyncio.get_running_loop()
        resumes_s = loop.time() + pause_s
        if self._resume is not None:
            if resumes_s <= self._resumes_s:
                return
            self._resume.cancel()
        self._opened.clear()
        self._resumes_s = resumes_s
        self._resume = loop.call_at(resumes_s, self._go_on)

    def widen(self) -> None:
        """There was an answer: one more question at a time."""
        if self._width < self._workers:
            self._width += 1
            self._wake()

    async def open(self) -> None:
        """Wait for the end of the pause, if there is one."""
        await self._opened.wait()

    def close(self) -> None:
        """Stop the timer."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def _next(self) -> Question | None:
        if self._asked >= self.width:
            return None
        return self._questions.next()

    def _go_on(self) -> None:
        self._resume = None
        self._opened.set()
        self._wake()

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return
