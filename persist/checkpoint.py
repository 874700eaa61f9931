"""What lies beside the log, so that a start needs little of it and can do without the database?

    magic · version │ CBOR: positions, cursors, epochs, hosts │ CRC-32

Every fact in it was durable in the log before it was written, and stays true: one that is old costs
a longer start, one that is missing or broken costs what docs/architecture.md says. Where PostgreSQL
says more, it counts; where PostgreSQL was restored from a backup, this does.

Bytes in, values out; the file is persist/checkpoint_file.py's.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import cbor2

from common.envelope import HostCursor, ShardClaim
from persist.duplicates import Lagging

MAGIC: Final = b"SPCP"
VERSION: Final = 2
OLDEST_VERSION: Final = 1
"""The oldest form that this release reads: a host had fewer columns in it."""
_HEAD: Final = struct.Struct("<4sI")
_CRC: Final = struct.Struct("<I")


class CheckpointError(ValueError):
    """These bytes are no checkpoint that this release can read; the message says why."""


class KnownHost(NamedTuple):
    """A host, as the table `host` had it: the log's rows know hosts by number alone.

    The fields are that table's columns. What is observed of a host, and counted, is not here.
    """

    id: int
    hostname: str
    tls: bool
    wanted: str
    account_limit: int
    trusted: bool
    level: str
    per_second: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    alerts_silenced: bool = False
    added_by: str = "settings"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was true when it was written.

    log_epoch: of the writer. time_us: Unix microseconds. durable_seq: the log's last seq.
    applied_seq: what PostgreSQL had confirmed. scan_seq: see persist.duplicates, given `cursors`.
    cursors: of each host's newest generation. epochs: see persist.fence.
    lagging: of streams whose rows lie before `scan_seq`, see there.
    """

    log_epoch: int
    time_us: int
    durable_seq: int
    applied_seq: int
    scan_seq: int
    cursors: list[HostCursor] = field(default_factory=list)
    epochs: list[ShardClaim] = field(default_factory=list)
    hosts: list[KnownHost] = field(default_factory=list)
    lagging: list[Lagging] = field(default_factory=list)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """A checkpoint → its bytes; `decode_checkpoint` is the inverse."""
    body = _HEAD.pack(MAGIC, VERSION) + cbor2.dumps(
        [
            checkpoint.log_epoch,
            checkpoint.time_us,
            checkpoint.durable_seq,
            checkpoint.applied_seq,
            checkpoint.scan_seq,
            [cursor[:3] for cursor in checkpoint.cursors],
            checkpoint.epochs,
            checkpoint.hosts,
            checkpoint.lagging,
        ]
    )
    return body + _CRC.pack(zlib.crc32(body))


def decode_checkpoint(data: bytes) -> Checkpoint:
    """The bytes of a checkpoint → what it says.

    Raises:
        CheckpointError: they are torn, damaged, or another release's.
    """
    if len(data) < _HEAD.size + _CRC.size:
        raise CheckpointError(f"it has {len(data)} bytes")
    magic, version = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CheckpointError("it does not begin as a checkpoint does")
    if not OLDEST_VERSION <= version <= VERSION:
        raise CheckpointError(f"it has version {version}, this release reads {VERSION}")
    if _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(data[: -_CRC.size]):
        raise CheckpointError("its CRC does not match its bytes")
    (
        log_epoch, time_us, durable_seq, applied_seq, scan_seq, cursors, epochs, hosts, lagging,
    ) = cbor2.loads(data[_HEAD.size : -_CRC.size])  # fmt: skip
    return Checkpoint(
        log_epoch,
        time_us,
        durable_seq,
        applied_seq,
        scan_seq,
        [HostCursor(*cursor) for cursor in cursors],
        [ShardClaim(*claim) for claim in epochs],
        [KnownHost(*host) for host in hosts],
        [Lagging(*stream) for stream in lagging],
    )
