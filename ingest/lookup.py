"""What does a DID's document say, asked once, now?

    did:plc   the directory. That it has no document, or a worthless one, is believed only while it
              still finds some whom it found before
    did:web   the host that the DID names, whose word is its own

This module knows neither who asks nor when to ask again.

Source: S-IDN-01, S-IDN-02, S-IDN-04, S-IDN-13; design section 3.
"""

from __future__ import annotations

from enum import Enum

from common.fetch import Busy, Fetcher, FetchError
from common.sites import Sites
from common.steady import steady_s
from common.syntax import PLC_METHOD
from ingest.config import ResolverLimits
from ingest.did_document import (
    MAX_DOCUMENT_BYTES,
    Broken,
    Identity,
    NotFound,
    Outcome,
    Unavailable,
    document_url,
    parse_document,
)
from ingest.directory import Answer, Directory

# Source: S-IDN-13. A tombstoned did:plc is 404 in one version of the directory and 410 in another.
_GONE = (404, 410)


class Told(Enum):
    """What the directory says of the DIDs that it found before."""

    FOUND = "one of them is still there"
    GONE = "none of them is: they were deleted, or it has lost its mind"
    FAILED = "it does not answer"
    NOBODY = "it never found any"


class Lookup:
    """Asks the directory and the hosts of did:webs, for one process."""

    def __init__(
        self, fetcher: Fetcher, limits: ResolverLimits, *, plc_url: str, allow_insecure: bool
    ) -> None:
        """Args: plc_url: of the did:plc directory, without a slash at the end."""
        self._fetcher = fetcher
        self._limits = limits
        self._plc_url = plc_url.rstrip("/")
        self._allow_insecure = allow_insecure
        self._sites = Sites(limits.site_at_once, limits.site_rate)
        self.directory = Directory()

    def url(self, did: str) -> str | Broken:
        """Where a DID's document is; Broken where no document can be."""
        return document_url(did, self._plc_url, allow_insecure=self._allow_insecure)

    async def ask(self, did: str) -> Outcome:
        """Look a DID up.

        Raises:
            Busy: whoever knows it wants to be asked later; that says nothing about the DID.
        """
        outcome = await self._fetch(did)
        if not did.startswith(PLC_METHOD):
            return outcome
        directory = self.directory
        if not isinstance(outcome, Identity):
            # It costs two more questions, and a directory that has lost its mind drops nothing.
            told = await self.ask_for_known(but=did)
            if told is Told.FOUND and not isinstance(outcome, Unavailable):
                # It may just have come to its senses; or a replica now has what it lacked (S-IDN-11).
                outcome = await self._fetch(did)
            elif told is Told.NOBODY and not directory.is_suspect(steady_s()):
                pass
            elif not isinstance(outcome, Unavailable):
                outcome = Unavailable("the directory no longer finds whom it found before")
            if told in (Told.GONE, Told.FAILED):
                directory.lost(steady_s())
        directory.note(did, _answer(outcome), steady_s())
        return outcome

    async def ask_for_known(self, but: str = "") -> Told:
        """Ask the directory for those that it found before, one after the other."""
        told = Told.NOBODY
        for did in self.directory.known_dids:
            if did == but:
                continue
            try:
                outcome = await self._fetch(did)
            except Busy:
                return Told.FAILED
            if isinstance(outcome, Identity):
                self.directory.note(did, Answer.FOUND, steady_s())
                return Told.FOUND
            if isinstance(outcome, Unavailable):
                return Told.FAILED
            # This one may have been deleted, or broken, since.
            told = Told.GONE
        return told

    async def _fetch(self, did: str) -> Outcome:
        url = self.url(did)
        if isinstance(url, Broken):
            return url
        is_plc = did.startswith(PLC_METHOD)
        try:
            status, body, _server = await self._fetcher.get(
                url,
                trusted=is_plc,
                max_bytes=MAX_DOCUMENT_BYTES,
                limit_s=self._limits.request_s,
                hops=self._limits.hops,
                sites=None if is_plc else self._sites,
            )
        except Busy:
            raise
        except FetchError as error:
            return Unavailable(str(error))
        if status in _GONE:
            return NotFound(f"status {status}")
        if status != 200:
            return Unavailable(f"status {status}")
        # A page that is no document says as little as a failure: a proxy's, an error's.
        known = parse_document(body, did, allow_insecure=self._allow_insecure)
        return Unavailable("no JSON object") if known is None else known


def _answer(outcome: Outcome) -> Answer:
    if isinstance(outcome, Identity):
        return Answer.FOUND
    return Answer.FAILED if isinstance(outcome, Unavailable) else Answer.NOT_FOUND
