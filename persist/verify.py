"""Is the log sound, and does PostgreSQL say what the log led to? `python -m persist.verify`

    every segment ─▶ CRC, chain, density ─▶ rows against frames ─▶ persist/known.py
    PostgreSQL, in one snapshot ─▶ accounts at applied_seq, cursors of hosts ─▶ the differences

Read-only, beside a running relay or without one. What is wrong is told on standard output, one line
each, beginning with `damage` (the log) or `mismatch` (the view against it); how far it is on standard
error. Exit code: 0 sound, 1 not, 2 wrong words.

The accounts are taken in as many passes over the log as their number asks for, so that memory is
bounded. The snapshot is only opened when the log was read up to it.

`standpipe log verify` starts this, and sees to it that there is a database.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from pathlib import Path
from typing import Final

import orjson
import psycopg

from common.chunk import Row, UnknownFormat, account_key
from common.database import Connection, connect
from common.envelope import AccountState, Kind, Mark
from common.event import Event
from common.log import Damaged
from common.log_walk import Broken, Found, read_told, walk
from common.logged import open_row
from common.segment_files import CHECKPOINT_NAME, list_segments, segment_path
from persist.checkpoint import Checkpoint, CheckpointError, decode_checkpoint
from persist.findings import SHOWN, Report
from persist.known import ALL, NOTHING, Fold, after, differing, unpack
from persist.replay import Logged

ACCOUNTS_A_PASS: Final = 2_000_000
"""Accounts held in memory at once, about 300 bytes each."""
CURSOR_SLACK: Final = 10_000
"""How far a host's cursor may lie above the newest of its events that left a trace, in its numbers.

A cursor moves over what is dropped too, and of a flood of drops not each leaves a row.
"""
PROGRESS_S: Final = 2.0
_OURS: Final = int(Mark.OURS)


class Verifier:
    """One verification."""

    def __init__(self, log_dir: Path, report: Report) -> None:
        self._dir = log_dir
        self._report = report
        # (host, generation) → its newest number in the log; its name and saved cursor.
        self._newest: dict[tuple[int, int], int] = {}
        self._saved: dict[tuple[int, int], tuple[str, int]] = {}
        self._last_seq = 0
        self._checkpoint = self._read_checkpoint()
        self._sizes = [segment_path(log_dir, base).stat().st_size for base in self._bases()]
        self._began_s = time.monotonic()
        self._told_s = self._began_s

    def log_alone(self) -> None:
        """Check the log up to what is durable."""
        told = read_told(self._dir)
        self._scan(1, told.durable_seq if told.epoch else None, check=True)
        self._compare_checkpoint()

    def log_and_view(self, url: str) -> None:
        """Check the log, and the view against it.

        Raises:
            psycopg.Error: the database is away, or is none of ours.
        """
        with connect(url, "verify") as connection:
            applied_seq = _applied_seq(connection)
            oldest_seq = read_told(self._dir).oldest_seq
            row = connection.execute(_COUNT, (oldest_seq,)).fetchone()
            parts = 1 + (row[0] if row else 0) // ACCOUNTS_A_PASS
            told = read_told(self._dir)
            end = told.durable_seq if told.epoch else None
            viewed_seq = 0
            for part in range(parts):
                fold = Fold(part, parts)
                if part:
                    applied_seq = _applied_seq(connection)
                self._scan(1, end if not part else applied_seq, check=not part, fold=fold,
                           fold_until=applied_seq)  # fmt: skip
                seq = self._snapshot(connection, fold, applied_seq)
                viewed_seq = seq if not part else viewed_seq
        # What came meanwhile; from the event before, so that the chain is whole.
        if end is not None and (durable_seq := read_told(self._dir).durable_seq) > end:
            self._scan(end, durable_seq, check=True)
        self._late_rows(viewed_seq)
        self._compare_checkpoint()

    def _bases(self) -> list[int]:
        return list_segments(self._dir)

    def _read_checkpoint(self) -> Checkpoint | None:
        """What lies beside the log; first of all, as the log is never behind it."""
        try:
            return decode_checkpoint((self._dir / CHECKPOINT_NAME).read_bytes())
        except FileNotFoundError:
            return None
        except CheckpointError as error:
            self._report.tell("damage", f"{CHECKPOINT_NAME}: {error}")
            return None

    def _compare_checkpoint(self) -> None:
        """Every fact in it was durable in the log before."""
        told = self._checkpoint
        if told is not None and told.durable_seq > self._last_seq:
            self._report.tell("mismatch", f"{CHECKPOINT_NAME}: it says that seq {told.durable_seq} had "
                              f"been reached, and the log ends with {self._last_seq}")  # fmt: skip

    # --- the log ---

    def _scan(
        self,
        from_seq: int,
        until_seq: int | None,
        *,
        check: bool,
        fold: Fold | None = None,
        fold_until: int = 0,
    ) -> None:
        """Read the log.

        Args:
            check: tell what is wrong, and count. Else only fold.
            fold_until: the last seq that is folded.
        """
        report = self._report
        next_seq = from_seq if from_seq > 1 else None
        for found in walk(self._dir, from_seq, until_seq):
            if isinstance(found, Broken):
                if check and not self._is_torn(found, until_seq):
                    report.tell("damage", found.text())
                if fold is not None:
                    fold.lose(found.from_seq, found.until_seq or 1 << 62)
                # What hosts said there is not known: no cursor can be held against it.
                self._newest.clear()
                next_seq = found.until_seq
                continue
            chunk = found.chunk
            if next_seq is not None and chunk.first_seq > next_seq:
                if check:
                    report.note(f"a claim left out seqs {next_seq} to {chunk.first_seq - 1}")
                if fold is not None:
                    fold.lose(next_seq, chunk.first_seq)
                self._newest.clear()
            if fold is not None and fold.first_seq is None:
                fold.first_seq = chunk.first_seq
                fold.whole = chunk.first_seq == 1
            next_seq = chunk.next_seq
            self._last_seq = max(self._last_seq, next_seq - 1)
            if check:
                report.bytes += len(chunk.raw)
                self._progress()
            self._rows(found, from_seq, fold, fold_until, check=check)

    def _rows(
        self, found: Found, from_seq: int, fold: Fold | None, fold_until: int, *, check: bool
    ) -> None:
        chunk = found.chunk
        newest = self._newest
        for seq, row in enumerate(chunk.rows(), chunk.first_seq):
            if seq < from_seq:
                continue
            if not row.flags & _OURS:
                stream = (row.host, row.generation)
                if row.upstream_seq > newest.get(stream, -1):
                    newest[stream] = row.upstream_seq
            folds = fold is not None and seq <= fold_until and fold.takes(row.account)
            if not (check or folds):
                continue
            opened = open_row(chunk, seq, row)
            if check:
                self._report.events += 1
                if isinstance(opened, str):
                    self._report.tell("damage", f"{_place(found, row)}: {opened}")
            if folds:
                assert fold is not None
                self._fold(fold, found, seq, row, opened)

    def _fold(self, fold: Fold, found: Found, seq: int, row: Row, opened: Event | str) -> None:
        before = fold.before(row.account)
        if isinstance(opened, str):
            fold.put(row.account, NOTHING._replace(seq=seq))
            return
        rev, last = opened.rev, before.state.rev
        if opened.kind == Kind.COMMIT and rev is not None and last is not None and rev <= last:
            self._report.tell(
                "damage", f"{_place(found, row)}: the commit of seq {seq} has rev {rev}, and "
                f"{opened.did} had {last} already",
            )  # fmt: skip
        try:
            known = after(before, Logged(seq, row.host, opened, row.flags))
        except Damaged as error:
            self._report.tell("damage", f"{_place(found, row)}: {error} ({opened.did})")
            known = NOTHING._replace(seq=seq)
        fold.put(row.account, known)

    def _is_torn(self, found: Broken, until_seq: int | None) -> bool:
        """A copy without a head file may end within a chunk: that is cut off at the next start."""
        torn = until_seq is None and found.until_seq is None
        newest = self._bases()
        if torn and newest and found.file == segment_path(self._dir, newest[-1]).name:
            self._report.note(f"{found.file} ends within a chunk at byte {found.offset}, which a start "
                              f"cuts off; it ends with seq {found.from_seq - 1}")  # fmt: skip
            return True
        return found.retired

    def _progress(self) -> None:
        now_s = time.monotonic()
        if now_s < self._told_s + PROGRESS_S:
            return
        self._told_s = now_s
        done, total = self._report.bytes, max(sum(self._sizes), self._report.bytes)
        print(f"verify: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {self.rate()}",
              file=sys.stderr, flush=True)  # fmt: skip

    def rate(self) -> str:
        """How quickly the log was read."""
        return f"{self._report.bytes / 1e6 / max(1e-6, time.monotonic() - self._began_s):,.0f} MB/s"

    # --- the view ---

    def _snapshot(self, connection: Connection, fold: Fold, folded_seq: int) -> int:
        """Hold the view as it is now against what the log led to; the seq it was brought to."""
        report = self._report
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            applied_seq = _applied_seq(connection)
            told = read_told(self._dir)
            end_seq = told.durable_seq if told.epoch else self._newest_seq(fold)
            if fold.part == 0:
                self._positions(applied_seq, folded_seq, end_seq, fold)
            if applied_seq > folded_seq:
                self._scan(folded_seq + 1, applied_seq, check=False, fold=fold,
                           fold_until=applied_seq)  # fmt: skip
            # Numbers behind the log's end that the view has: lost, and told above.
            if applied_seq > end_seq:
                fold.lose(end_seq + 1, applied_seq + 1)
            self._accounts(connection, fold, applied_seq)
            if fold.part == 0:
                self._cursors(connection)
        for key in list(fold.known)[: SHOWN + 1]:
            seq = unpack(fold.known[key]).seq
            report.tell("mismatch", f"{self._did_at(seq)}: the log has its event of seq {seq}, the "
                        f"view knows nothing of it")  # fmt: skip
        report.findings += max(0, len(fold.known) - SHOWN - 1)
        return applied_seq

    def _newest_seq(self, fold: Fold) -> int:
        return max((unpack(packed).seq for packed in fold.known.values()), default=0)

    def _positions(self, applied_seq: int, folded_seq: int, end_seq: int, fold: Fold) -> None:
        if applied_seq > end_seq:
            self._report.tell("mismatch", f"the view is ahead of the log: it was brought to seq "
                              f"{applied_seq}, the log ends with {end_seq}")  # fmt: skip
        if applied_seq < folded_seq:
            self._report.tell("mismatch", f"the view went back from seq {folded_seq} to "
                              f"{applied_seq} meanwhile")  # fmt: skip
        first_seq = fold.first_seq
        if first_seq is not None and applied_seq + 1 < first_seq <= end_seq:
            self._report.tell("mismatch", f"seqs {applied_seq + 1} to {first_seq - 1} left the log "
                              f"before the view had them")  # fmt: skip

    def _accounts(self, connection: Connection, fold: Fold, applied_seq: int) -> None:
        report = self._report
        with connection.cursor("accounts", scrollable=False) as cursor:
            cursor.itersize = 5_000
            cursor.execute(_ACCOUNTS)
            for did, seq, *fields in cursor:
                key = account_key(did)
                if not fold.takes(key):
                    continue
                known = fold.take(key)
                if seq > applied_seq:
                    report.tell("mismatch", f"{did}: its row is of seq {seq}, and the view was "
                                f"brought to {applied_seq} only")  # fmt: skip
                    continue
                if seq != known.seq:
                    self._other_seq(fold, did, seq, known.seq)
                    continue
                if known.certain == ALL:
                    report.whole += 1
                else:
                    report.partly += 1
                for column, has, led in differing(known, AccountState(*fields)):
                    report.tell("mismatch", f"{did}: {column} is {has!r}, and the log led to "
                                f"{led!r} with seq {seq}")  # fmt: skip

    def _other_seq(self, fold: Fold, did: str, seq: int, logged_seq: int) -> None:
        """The view's row is not of the account's newest event in the log."""
        if seq > logged_seq and fold.is_lost(seq):
            self._report.lost += 1
        elif not logged_seq and (fold.first_seq is None or seq < fold.first_seq):
            self._report.left += 1
        elif logged_seq:
            self._report.tell("mismatch", f"{did}: its row is of seq {seq}, and its newest event in "
                              f"the log is {logged_seq}")  # fmt: skip
        else:
            self._report.tell("mismatch", f"{did}: its row is of seq {seq}, where the log has no "
                              f"event of it")  # fmt: skip

    def _cursors(self, connection: Connection) -> None:
        """No cursor above what is on disk or was dropped: see CURSOR_SLACK."""
        report = self._report
        for number, hostname, generation, cursor, rejected in connection.execute(_CURSORS):
            self._saved[number, generation] = hostname, cursor
            newest = self._newest.get((number, generation))
            if newest is None:
                # Nothing of it is in the log, or not any more.
                continue
            report.cursors += 1
            newest = max(newest, rejected or 0)
            if cursor > newest + CURSOR_SLACK:
                report.tell("mismatch", f"{hostname}: its cursor is {cursor}, and the newest of its "
                            f"events that was logged or dropped is {newest}")  # fmt: skip
            elif cursor > newest:
                report.cursors_above += 1

    def _late_rows(self, viewed_seq: int) -> None:
        """What was logged behind the snapshot cannot have been done in it."""
        told = read_told(self._dir)
        for found in walk(self._dir, viewed_seq + 1, told.durable_seq if told.epoch else None):
            if isinstance(found, Broken):
                continue
            for seq, row in enumerate(found.chunk.rows(), found.chunk.first_seq):
                hostname, cursor = self._saved.get((row.host, row.generation), ("", -1))
                if row.upstream_seq <= cursor and seq > viewed_seq and not row.flags & _OURS:
                    self._report.tell("mismatch", f"{hostname}: its cursor was {cursor} already when "
                                      f"its event {row.upstream_seq} was logged, with seq {seq}")  # fmt: skip

    def _did_at(self, seq: int) -> str:
        for found in walk(self._dir, seq, seq):
            if isinstance(found, Found) and found.chunk.first_seq <= seq < found.chunk.next_seq:
                opened = open_row(found.chunk, seq, found.chunk.row(seq))
                return opened.did if isinstance(opened, Event) else "an account"
        return "an account"


def main(words: list[str] | None = None) -> int:
    """Verify; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m persist.verify")
    parser.add_argument("--log-dir", type=Path, required=True)
    parser.add_argument(
        "--view", action="store_true", help="compare the database of STANDPIPE_DATABASE_URL too"
    )
    parser.add_argument(
        "--json", action="store_true", help="tell all of it at the end, as one object"
    )
    chosen = parser.parse_args(words)
    # Nothing here makes cycles, and there may be millions of objects.
    gc.disable()
    report = Report(as_json=chosen.json)
    try:
        verifier = Verifier(chosen.log_dir, report)
        if chosen.view:
            verifier.log_and_view(os.environ["STANDPIPE_DATABASE_URL"])
        else:
            verifier.log_alone()
    except (psycopg.Error, OSError, UnknownFormat) as error:
        lines = str(error).strip().splitlines()
        print(f"verify: {lines[0] if lines else repr(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    if chosen.json:
        print(orjson.dumps(report.value(view=chosen.view)).decode(), flush=True)
    else:
        print(report.summary(verifier.rate(), view=chosen.view), flush=True)
    return 1 if report.findings else 0


def _applied_seq(connection: Connection) -> int:
    row = connection.execute("SELECT value FROM relay WHERE name = 'applied_seq'").fetchone()
    return row[0] if row else 0


def _place(found: Found, row: Row) -> str:
    """The byte at which an event's frame begins."""
    return f"{found.file}, byte {found.offset + found.chunk.frames_start + row.offset}"


_COUNT: Final = "SELECT count(*) FROM account WHERE seq >= %s"
_ACCOUNTS: Final = """
    SELECT did, seq, rev, data_cid, commit_cid, active, status, host_id, desynchronized,
           discontinuities, local, over_limit
    FROM account
"""
_CURSORS: Final = """
    SELECT h.id, h.hostname, h.generation, h.cursor,
           (SELECT max(r.seq) FROM reject r WHERE r.host_id = h.id)
    FROM host h WHERE h.cursor IS NOT NULL
"""

if __name__ == "__main__":
    sys.exit(main())
