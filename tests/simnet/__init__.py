"""A small seeded network on loopback: a directory of DIDs, hosts, and the truth about them.

    Network ─ makes events ─▶ Host ×N ══ws══▶ the relay under test ══ws══▶ Consumer
       │                                          ▲                           │
       ├─ identities ─▶ Directory ══http══════════┘                           ▼
       └─ every event ─▶ Truth ────────────────────────────────▶ compare(truth, frames)

Keys are real (both curves), trees are real (2,000 records an account), commits are valid
Sync 1.1. Nothing here uses the relay's own decoding: a fault that both shared would not be seen.
Only `common.verdict.DropReason` is shared, as the words in which an expectation is written.
"""

from tests.simnet.config import NetworkConfig
from tests.simnet.consumer import Consumer
from tests.simnet.network import Network
from tests.simnet.truth import Report, Truth, compare

__all__ = ["Consumer", "Network", "NetworkConfig", "Report", "Truth", "compare"]
