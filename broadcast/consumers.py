"""Who reads the stream, at all broadcasters of this relay, and how is one of them let go?

    GET /admin/consumers/list ─▶ this one's streams
                              └▶ each other one's private loopback port: the same with here=true

Which broadcasters there are, and where their private ports lie, they say themselves: run/*.json. The
caller's credentials pass through, so that nobody gets in there who would not get in here. One that does
not answer is named in the answer, and the rest is given.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from broadcast.admin_answers import ConsumerRow, consumer_answer, silent_answer
from broadcast.admin_words import AdminError
from broadcast.consumer import Departure
from broadcast.subscriber import Service, Subscriber, member_of

LIST: Final = "/admin/consumers/list"
DISCONNECT: Final = "/admin/consumers/disconnect"
HERE: Final = "here"
"""Parameter that asks one broadcaster for its own alone."""
WITHIN_S: Final = 3.0
"""How long another broadcaster may take, in seconds."""
_STAGE: Final = "broadcast"
_ANSWER_BYTES: Final = 8 * 2**20
"""More than the longest list of one broadcaster."""
_log: Final = logging.getLogger("standpipe")


class Peer(NamedTuple):
    """Another broadcaster of this relay. port: its private one, on the loopback."""

    process: str
    port: int


class Consumers:
    """The streams of this broadcaster, and the way to those of the others."""

    def __init__(self, service: Service, run_dir: Path | None) -> None:
        """Args: run_dir: where the others tell their ports; None: there are none."""
        self._service = service
        self._run_dir = run_dir

    def here(self) -> list[dict[str, Any]]:
        """The streams of this process, oldest first."""
        rows = [self._row(stream) for stream in self._streams()]
        return [consumer_answer(row) for row in sorted(rows, key=lambda row: row.id)]

    async def everywhere(self, authorization: str) -> list[dict[str, Any]]:
        """The streams of all broadcasters; a row with `error` for each that does not answer."""
        found = self.here()
        peers = await asyncio.to_thread(self._peers)
        async with _session() as session:
            asked = [_ask(session, "GET", peer, LIST, {}, authorization) for peer in peers]
            answers = await asyncio.gather(*asked)
        for peer, (status, answer) in zip(peers, answers, strict=True):
            if status == 200 and isinstance(answer, list):
                found += [row for row in answer if isinstance(row, dict)]
            else:
                found.append(silent_answer(peer.process, _why(status, answer)))
        return found

    async def disconnect(self, number: int, authorization: str, *, here: bool) -> bool:
        """Let one go with a close frame; False when there is none of this number any more.

        Raises:
            AdminError: the broadcaster that has it does not answer.
        """
        member = member_of(number)
        if here or member == self._service.member:
            return self._let_go(number)
        process = process_name(member)
        for peer in await asyncio.to_thread(self._peers):
            if peer.process == process:
                async with _session() as session:
                    status, answer = await _ask(
                        session, "POST", peer, DISCONNECT, {"id": str(number)}, authorization
                    )
                if status != 200 or not isinstance(answer, dict):
                    raise AdminError(503, f"{process}: {_why(status, answer)}")
                return bool(answer.get("changed"))
        return False

    def _let_go(self, number: int) -> bool:
        for stream in self._streams():
            if stream.number == number:
                stream.depart(Departure.DISCONNECTED)
                return True
        return False

    def _streams(self) -> list[Subscriber]:
        fanout = self._service.fanout
        outlets = [] if fanout is None else fanout.outlets()
        return [outlet for outlet in outlets if isinstance(outlet, Subscriber)]

    def _row(self, stream: Subscriber) -> ConsumerRow:
        fanout = self._service.fanout
        assert fanout is not None
        next_seq, events, sent_bytes = fanout.place_of(stream.consumer)
        return ConsumerRow(
            id=stream.number,
            process=process_name(self._service.member),
            address=stream.address,
            user_agent=stream.user_agent,
            connected_at_s=stream.connected_at_s,
            events=events,
            sent_bytes=sent_bytes,
            next_seq=next_seq,
            head_seq=fanout.live_seq - 1,
            state=stream.consumer.state.value,
        )

    def _peers(self) -> list[Peer]:
        """The others, as their run files name them; reads files."""
        if self._run_dir is None:
            return []
        own = process_name(self._service.member)
        found = []
        for path in sorted(self._run_dir.glob(f"{_STAGE}-*.json")):
            try:
                facts = orjson.loads(path.read_bytes())
                peer = Peer(path.stem, int(facts["private_port"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # it begins or ends just now
            if peer.process != own:
                found.append(peer)
        return found


def process_name(member: int) -> str:
    """What a broadcaster is called everywhere. Source: common.process."""
    return f"{_STAGE}-{member}"


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S))


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    peer: Peer,
    path: str,
    params: dict[str, str],
    authorization: str,
) -> tuple[int, Any]:
    """Status and value of another broadcaster's answer; 0 and why, where there is none."""
    url = f"http://127.0.0.1:{peer.port}{path}"
    headers = {"Authorization": authorization}
    try:
        async with session.request(
            method, url, params={**params, HERE: "true"}, headers=headers, allow_redirects=False
        ) as answer:
            body = await answer.content.read(_ANSWER_BYTES)
            while not answer.content.at_eof() and len(body) < _ANSWER_BYTES:
                body += await answer.content.read(_ANSWER_BYTES - len(body))
            return answer.status, orjson.loads(body)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        why = str(error) or type(error).__name__
        _log.warning(
            "a broadcaster does not answer",
            extra={"fields": {"process": peer.process, "error": why}},
        )
        return 0, why


def _why(status: int, answer: Any) -> str:
    if status == 0:
        return f"does not answer: {answer}"
    told = answer.get("error") if isinstance(answer, dict) else None
    return f"answers {status}: {told}"
