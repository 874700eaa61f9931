"""What is the log made of, by its heads alone? Seconds, not minutes, for 100 GB."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from common.chunk import ChunkKind
from common.command.log_words import Claim, Hole, Summary
from common.log_walk import Broken, Step, heads, read_told
from common.segment_files import CHECKPOINT_NAME, HEAD_NAME, list_segments, segment_path


def look(folder: Path) -> Summary:
    """What the segments are made of."""
    told = read_told(folder)
    bases = list_segments(folder)
    sizes, formats = 0, set()
    claims: list[Claim] = []
    holes: list[Hole] = []
    damage: list[Broken] = []
    oldest_at_s = durable_at_s = None
    # A claim raises the epoch: only segments in which it rises are walked through.
    firsts = {base: _first(folder, base, damage) for base in bases}
    durable_seq = told.durable_seq
    for base, after in zip(bases, [*bases[1:], None], strict=True):
        with contextlib.suppress(FileNotFoundError):
            sizes += segment_path(folder, base).stat().st_size
        first, behind = firsts[base], firsts[after] if after is not None else None
        if first is None:
            continue
        formats.add(first.head.version)
        if oldest_at_s is None and (first.head.events or len(bases) > 1):
            oldest_at_s = first.head.time_us / 1e6
        calm = behind is not None and behind.head.epoch == first.head.epoch
        if calm and first.head.kind != ChunkKind.CLAIM:
            continue
        next_seq = base
        for step in _steps(folder, base, damage):
            head, at_s = step.head, step.head.time_us / 1e6
            if told.epoch and head.events and head.first_seq > told.durable_seq:
                break
            if head.kind == ChunkKind.CLAIM:
                info = step.info.decode(errors="replace")
                claims.append(Claim(head.epoch, at_s, head.first_seq, info))
                if head.first_seq > next_seq:
                    holes.append(Hole(next_seq, head.first_seq, at_s))
            next_seq = head.first_seq + head.events
            if head.events:
                oldest_at_s = oldest_at_s or at_s
                durable_at_s = at_s if after is None or next_seq <= durable_seq else durable_at_s
                if not told.epoch:
                    durable_seq = next_seq - 1
    if durable_at_s is None and len(bases) > 1 and firsts[bases[-1]] is not None:
        # The newest segment has no event yet.
        durable_at_s = _last_event_s(folder, bases[-2], damage)
    age_s = None
    with contextlib.suppress(FileNotFoundError):
        age_s = max(0.0, time.time() - (folder / CHECKPOINT_NAME).stat().st_mtime)
    return Summary(
        str(folder), sorted(formats), len(bases), sizes, (folder / HEAD_NAME).exists(),
        told.epoch or max((claim.epoch for claim in claims), default=0),
        told.oldest_seq or (bases[0] if bases else 1), oldest_at_s, durable_seq, durable_at_s,
        claims, holes, age_s, list(dict.fromkeys(damage)),
    )  # fmt: skip


def _first(folder: Path, base: int, damage: list[Broken]) -> Step | None:
    return next(_steps(folder, base, damage), None)


def _last_event_s(folder: Path, base: int, damage: list[Broken]) -> float | None:
    times = [step.head.time_us for step in _steps(folder, base, damage) if step.head.events]
    return times[-1] / 1e6 if times else None


def _steps(folder: Path, base: int, damage: list[Broken]) -> Iterator[Step]:
    """The heads of one segment; where it is broken it ends, and that is noted."""
    with contextlib.suppress(FileNotFoundError):
        for step in heads(folder, base):
            if isinstance(step, Broken):
                told = read_told(folder)
                # Behind what was announced a writer is at work, or was killed.
                if not told.epoch or step.from_seq <= told.durable_seq:
                    damage.append(step)
                return
            yield step
