"""What is the simulated network like? Every figure of it, with unit and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.simnet.invalid import IN_TRAFFIC
from tests.simnet.tls import Certificate

DEFAULT_MIX: Final[Mapping[str, float]] = {
    "commit": 0.90,
    "batch": 0.02,
    "empty": 0.005,
    "handle": 0.02,
    "sync": 0.015,
    "deactivate": 0.01,
    "takedown": 0.005,
    "new_account": 0.01,
    "new_key": 0.003,
    "silent_key": 0.002,
    "migrate": 0.005,
    "delete": 0.005,
}
"""How likely each happening is; relative weights."""

STEADY_MIX: Final[Mapping[str, float]] = {"commit": 0.97, "sync": 0.03}
"""What keeps no account busy and has no document looked up again: nothing waits but for the relay."""

SLOW: Final = frozenset(("deactivate", "takedown", "new_key", "silent_key", "migrate"))
"""What keeps an account busy for a while."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What the network is like.

    seed: fixes keys, DIDs, choices. start_us: Unix microseconds of a clock that steps evenly,
        which makes the bytes of two runs equal; None follows the machine's clock.
    hosts, accounts: how many in all. records: how many each account holds at the beginning.
    large_hosts: of these the accounts are that are left when each host has one; 0: of all in turn.
    lean: hosts that are cheap enough for thousands of them (tests/simnet/lean.py).
    genesis_share: part of the accounts that begin with nothing, and say so.
    p256_share: part with a P-256 key. legacy_share: part with a DID document of the old form.
    web_accounts: the first account of each host is a did:web that the host itself serves.
    tls: certificate of each host in turn; None or past the end: no TLS.
    invalid_share: part of the events of `run` that are invalid; invalid: which of them.
    extra_field_share: part of the commits that carry a field no lexicon knows.
    mix: weights of what happens in `run`.
    settle_s: rest before a change of identity, in seconds. pause_s: how long an account stays
        inactive, in seconds.
    max_events, max_rate, max_seconds: bounds of the load.
    backlog_bytes: what each host keeps for cursors.
    """

    seed: int = 1
    start_us: int | None = None
    hosts: int = 2
    accounts: int = 10
    records: int = 2000
    large_hosts: int = 0
    lean: bool = False
    genesis_share: float = 0.1
    p256_share: float = 0.5
    legacy_share: float = 0.1
    web_accounts: bool = False
    tls: tuple[Certificate | None, ...] = ()
    invalid_share: float = 0.0
    invalid: tuple[str, ...] = IN_TRAFFIC
    extra_field_share: float = 0.02
    mix: Mapping[str, float] = field(default_factory=lambda: DEFAULT_MIX)
    settle_s: float = 1.0
    pause_s: float = 0.5
    max_events: int = 2_000_000
    max_rate: float = 20_000.0
    max_seconds: float = 3600.0
    backlog_bytes: int = 64_000_000
