"""Which numbers does this stage run on? Each with its unit, its default, and why.

What an operator sets is in common.settings; these are for tests to change, and for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from common.envelope import Kind
from common.rates import Rate
from ingest.catch_up import HOST_RATE as HOST_CATCH_UP
from ingest.catch_up import PROCESS_RATE as PROCESS_CATCH_UP
from ingest.dials import AT_ONCE
from ingest.share import LOOK_S

MESSAGE_BYTES: Final = 100
"""What a message that waits for its turn takes in memory besides its content, in bytes."""
EVENT_BYTES: Final = 2_000
"""What an event takes in memory from its turn to its end besides its frame, in bytes: measured 2.2 kB
where each is of another account. Without it, the small ones would be no match for any bound."""

ACCOUNT_RATES: Final[Mapping[int, Rate]] = {
    Kind.SYNC: Rate(burst=30, every_s=10.0),
    Kind.IDENTITY: Rate(burst=60, every_s=10.0),
    Kind.ACCOUNT: Rate(burst=60, every_s=10.0),
}
"""How often a host may say what is not a commit, for one account. The most that one change of an
account brings is, of each kind: creation 1 #identity, 1 #account, 1 #sync; activation the same; a
key rotation 1 #identity, 1 #sync; a migration 2 #identity, 1 #account, 1 #sync. So this bears thirty
such changes in a row and 8,640 a day; each #sync can make every consumer fetch a whole repository.
Source: S-SYN-10, S-IDE-09, S-ACC-19; counted at the real PDS."""
HOST_RATES: Final[Mapping[int, Rate]] = {
    Kind.SYNC: Rate(burst=5_000, every_s=0.02),
    Kind.IDENTITY: Rate(burst=5_000, every_s=0.02),
    Kind.ACCOUNT: Rate(burst=5_000, every_s=0.02),
}
"""The same for all accounts of a host together: 50 a second, where the whole network says some ten
of each. The burst is for what hosts do to many accounts at once: a purge, a move to another machine,
a day's backlog read anew."""

REFRESH_RATE: Final = Rate(burst=1_000, every_s=0.02)
"""Newer documents that one host's events may ask for, be it for a signature that fails, for another
host, or for an #identity: a host whose accounts all get new keys at once has them looked up within
minutes. Source: S-IDN-10."""
STATUS_RATE: Final = Rate(burst=300, every_s=0.1)
"""Questions to one host. The reference PDS answers ten a second from one address, and 3,000 at once;
2,196 accounts wrongly inactive (lesson 46) take three minutes. Source: S-SEC-02."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and delays.

    dns_s, tcp_s, tls_s, handshake_s: of each step on the way to a host's events.
    ping_s: after so long without a byte we ask, and after as long again the connection is dead.
    retry_first_s, retry_longest_s: back-off of one host, before jitter, until it counts as offline.
    retry_slow_s: how far it doubles after that. See ingest.lifecycle.Delays for these.
    retry_refused_s: after an error frame, or when the host is a relay: nothing will change soon.
    restart_look_s: between two looks whether a host's numbers have begun anew.
    offline_failures: attempts without progress after which a host counts as offline: ten minutes.
    stood_s: a connection that stood for so long was progress, though nothing came: a host with few
        accounts is silent for days, and its connections end now and then.
    dials_at_once: dials under way in one process.
    All bounds of bytes count EVENT_BYTES for each event besides its frame.
    host_high_bytes, host_low_bytes: unfinished bytes of one host at which its socket is no longer
        read, and read again. 8 MB is a second of the busiest host, and one frame has 5 MB at most.
    process_high_bytes, process_low_bytes: the same for all hosts of a process together.
    did_held_bytes: what one DID may have waiting for its document before its oldest goes; a
        single event may always wait.
    host_held_bytes: the same for all DIDs of one host; below host_high_bytes, so that a few
        broken DIDs never stop their host.
    host_deferred_bytes: commits of a host that wait for the sake of its other accounts, besides what it
        may hold: an import of some thousand. process_deferred_bytes: the same of all hosts, part of
        what the process may hold.
    ahead_events: so many events of a host may be finished above its oldest unfinished one, each of which
        persist remembers, before it is read no further.
    rate_s: how long an event that is no commit may wait for being too many of its kind. A burst of a
        whole host that fills host_high_bytes waits for a minute and a half.
    hopeless_s: so long a document must have been asked for in vain before any of that is dropped:
        by then it shows whether the directory fails for others too.
    held_s: how long an event may wait for a document that only its DID is missing.
    turn_s: how long messages are judged before the loop gets its turn.
    pace_s: a turn begins so long after the last one, so that what arrived meanwhile shares it;
        after a longer silence at once.
    batch_s, batch_events, batch_bytes: a batch to persist closes at whichever comes first.
    in_flight_bytes: sent to persist and unanswered; beyond it, nothing is judged.
    silent_s: so long without a reply, and persist is told to be away.
    look_s: how often the table of leases is looked at.
    """

    dns_s: float = 10.0
    tcp_s: float = 10.0
    tls_s: float = 10.0
    handshake_s: float = 15.0
    ping_s: float = 30.0
    retry_first_s: float = 1.0
    retry_longest_s: float = 300.0
    retry_slow_s: float = 21_600.0
    retry_refused_s: float = 600.0
    restart_look_s: float = 120.0
    offline_failures: int = 10
    stood_s: float = 300.0
    dials_at_once: int = AT_ONCE
    host_high_bytes: int = 8_000_000
    host_low_bytes: int = 4_000_000
    process_high_bytes: int = 64_000_000
    process_low_bytes: int = 48_000_000
    did_held_bytes: int = 1_000_000
    host_held_bytes: int = 4_000_000
    host_deferred_bytes: int = 20_000_000
    process_deferred_bytes: int = 32_000_000
    ahead_events: int = 500_000
    rate_s: float = 300.0
    hopeless_s: float = 15.0
    held_s: float = 600.0
    turn_s: float = 0.005
    pace_s: float = 0.005
    batch_s: float = 0.003
    batch_events: int = 64
    batch_bytes: int = 500_000
    in_flight_bytes: int = 32_000_000
    silent_s: float = 10.0
    beat_s: float = 1.0
    look_s: float = LOOK_S
    catch_up_host: Rate = HOST_CATCH_UP
    catch_up_process: Rate = PROCESS_CATCH_UP
    """Events of long ago, see ingest.catch_up."""
    refresh_s: float = 2.0
    """One DID is looked up at most so often, in seconds; what needs the answer waits so long."""
    refresh_rate: Rate = REFRESH_RATE
    """Newer documents that one host's events may ask for; beyond it they wait."""
    account_rates: Mapping[int, Rate] = field(default_factory=lambda: ACCOUNT_RATES)
    host_rates: Mapping[int, Rate] = field(default_factory=lambda: HOST_RATES)
    status_again_s: float = 5.0
    """So long the answer of a host that an account is inactive counts for its next events, too, in
    seconds: a flood costs one question in that time."""
    grace_s: float = 30.0
    """So long a rev from the future is held before its host is called wrong, in seconds: by then the
    others of a small network have been heard as well, and it shows whose clock is. See ingest.clock."""
    stale_s: float = 86_400.0
    """Older documents are looked up again while they go on being used. Source: S-IDN-09."""
    stale_again_s: float = 600.0
    """After so long such a look-up that failed is tried again, in seconds: no hurry, nobody waits."""
    accounts: int = 60_000
    """Accounts whose state and parsed key are remembered, the least recently used forgotten first.
    Measured: 1.1 kB each with a K-256 key (250 bytes of it the key), 3 kB with a P-256 key (2.2 kB, as
    OpenSSL keeps it): 64 MB to 180 MB. Who was forgotten is read from the database, not looked up."""


FIRST_RATE: Final = Rate(burst=5_000, every_s=0.02)
"""DIDs never met before that a host may have looked up. The busiest hosts bring some ten a second when
a relay begins with nothing, and after that one now and then; who makes DIDs up as fast as the socket
allows has fifty a second of them asked for, and waits for the rest."""
SITE_RATE: Final = Rate(burst=20, every_s=0.25)
"""Requests to one stranger's site. Services of did:webs below one domain have some hundreds of them,
which takes a minute or two; who lets thousands of new ones appear waits for them himself."""


@dataclass(frozen=True, slots=True)
class ResolverLimits:
    """How DID documents are fetched.

    plc_workers, web_workers: concurrent requests to the directory, and to all did:web hosts.
    request_s: one request with all its redirects. hops: redirects followed.
    retry_first_s, retry_longest_s: back-off of one DID while it cannot be told.
    probe_longest_s: so often it is seen, at least, whether a directory that failed for all is back.
        One request, whoever waits; the pause begins at retry_first_s and doubles.
    busy_longest_s: the longest pause that the directory may ask for. Longer ones come from a mistake,
        and the hosts stand still meanwhile.
    first_rate: look-ups of DIDs that nobody has met before, for one host.
    site_at_once, site_rate: requests to one stranger's site, see common.sites.
    """

    plc_workers: int = 32
    web_workers: int = 16
    request_s: float = 10.0
    hops: int = 3
    retry_first_s: float = 0.5
    retry_longest_s: float = 60.0
    probe_longest_s: float = 5.0
    busy_longest_s: float = 60.0
    first_rate: Rate = FIRST_RATE
    site_at_once: int = 4
    site_rate: Rate = SITE_RATE


@dataclass(frozen=True, slots=True)
class StatusLimits:
    """How hosts are asked whether an account is active.

    workers: concurrent questions; three quarters of them to one host at most.
    request_s: one request. tries: before the last known status is kept (S-ACC-17): a host that
        sends events has its HTTP side up as well, so this bridges a restart, not an outage.
    retry_first_s: pause after the first try, doubling.
    host_rate: questions to one host.
    """

    workers: int = 16
    request_s: float = 5.0
    tries: int = 4
    retry_first_s: float = 1.0
    host_rate: Rate = STATUS_RATE
