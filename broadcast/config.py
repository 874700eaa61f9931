"""How much may a consumer cost, and how long may it take?

Every number that the stage obeys, with unit, default and reason. What an operator may set comes
from common.settings; what only a test changes is a field here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STREAM_PATH: Final = "/xrpc/com.atproto.sync.subscribeRepos"
"""The one path of the stream; no prefix, no trailing slash. Source: event-stream spec, Connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one broadcast process.

    ring_bytes: the shared window of recent chunks. At 500 events/s of 5 kB it is 13 s of the
        network; behind it the log answers, so it only has to cover what a socket hiccups.
    tick_s, tick_stream_s, tick_max_s: chunks that arrive within a tick go out as one write to each
        consumer. It costs that much latency at most, and none after a silence. A write to a socket
        costs about 5 µs however small, so the tick grows with each stream, up to its most.
    slice_bytes: one write from the ring to a consumer that is behind; at least one chunk.
    read_bytes: one read from the log for one consumer; at least one chunk.
    high_water_bytes, low_water_bytes: of a socket's own buffer. Above, the consumer stays at its
        place; below, it is served again.
    stall_s: without a byte acknowledged by the consumer's side for so long it is too slow, or gone.
    ping_s: silence after which we ask whether the consumer is there.
        Source: event-stream draft, WebSocket transport (keepalive).
    grace_s: for a last frame and the closing handshake, before the socket is cut.
    drain_s: the same grace when the process ends.
    heard_bytes: what a consumer may say in a second before its socket is read no further. It has
        nothing to say but control frames; this keeps a flood from taking the loop's time.
    heard_frame_bytes: the largest frame of a consumer that is stepped over; a larger one closes.
    consumers: open streams of this process; the next one is refused with 503.
    connections: open sockets of this process of any kind; the next one is closed at once.
    address_consumers, address_connections: a tenth of these for one address, so that it cannot have all:
        streams, beyond which it is told 429, and sockets that are no streams. Who counts as one:
        broadcast.client.
    """

    ring_bytes: int = 32 * 2**20
    tick_s: float = 0.005
    tick_stream_s: float = 0.0002
    tick_max_s: float = 0.015
    slice_bytes: int = 256 * 2**10
    read_bytes: int = 384 * 2**10
    high_water_bytes: int = 256 * 2**10
    low_water_bytes: int = 64 * 2**10
    stall_s: float = 60.0
    ping_s: float = 30.0
    grace_s: float = 5.0
    drain_s: float = 2.0
    heard_bytes: int = 16 * 2**10
    heard_frame_bytes: int = 64 * 2**10
    consumers: int = 5000
    connections: int = 6000
    address_consumers: int = 500
    address_connections: int = 600


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The bounds of one HTTP exchange.

    head_s: for a request's whole head, from connecting or from its first byte.
    body_s: for the rest of the request after its head.
    head_bytes, body_bytes: what a request may hold.
    idle_s: how long a connection is kept for another request.
    retire_s: how long, at the end, handshakes under way are completed while new ones are given to
        the siblings; RETIRE_S where there are any.
    drain_s: how long answers under way may take when the process ends.
    """

    head_s: float = 10.0
    body_s: float = 20.0
    head_bytes: int = 16 * 2**10
    body_bytes: int = 64 * 2**10
    idle_s: int = 5
    retire_s: float = 0.0
    drain_s: int = 4


RETIRE_S: Final = 0.5
"""More than a round trip, in seconds."""
SHARE_S: Final = 10.0
"""How often a member sees to it that all have their share of new connections, in seconds."""
SILENCE_S: Final = 5.0
"""Persist beats each second; after this long without chunk or beat, health says 503, in seconds."""
BEHIND_S: Final = 10.0
"""How long this member's head may stay behind the log's before health says 503, in seconds."""
READ_THREADS: Final = 2
"""Threads that read the log. Reading is mostly the page cache; more would only contend."""
DATABASE_CONNECTIONS: Final = 4
"""Connections of one member to PostgreSQL, at most."""
DATABASE_WAIT_S: Final = 2.0
"""How long a request waits for a connection before it is told 503, in seconds."""
DATABASE_CHECK_S: Final = 3.0
"""How often a member asks PostgreSQL whether it is there, traffic or not, in seconds."""
DATABASE_SILENCE_S: Final = 10.0
"""After this long without an answer to that health says `degraded`, in seconds."""
STATEMENT_TIMEOUT_MS: Final = 3000
"""How long PostgreSQL works on one statement, in milliseconds."""
