"""Which numbers does a broadcaster report?

What became of each event that came in is one balance: broadcast.inlet, common.conservation. All
others are here, once. Events are counted per write, never in a loop over consumers.
"""

from __future__ import annotations

from typing import Final

from broadcast.crawl_answers import Outcome
from common.telemetry import counter, gauge, high_water

DELIVERED = counter("standpipe_delivered", "Events handed to consumers' sockets.")
DELIVERED_BYTES = counter("standpipe_delivered_bytes", "Bytes handed to consumers' sockets.")
CONSUMERS = gauge("standpipe_consumers", "Open streams.")
BEHIND = gauge("standpipe_consumers_behind", "Open streams that are not at the head.")
HEAD_SEQ = gauge("standpipe_head_seq", "The newest seq that this member has sent.")
GAP_FILLS = counter(
    "standpipe_gap_fills", "Times that chunks missed from persist came from the log."
)
DROPPED = counter(
    "standpipe_consumers_dropped", "Streams that ended, by why.", ["reason"]
)  # reason: consumer.Departure
REFUSED = counter("standpipe_consumers_refused", "Streams refused before the upgrade.", ["status"])
REQUESTS = counter("standpipe_http_requests", "HTTP answers, by status class.", ["status"])
ADMIN_REQUESTS = counter(
    "standpipe_admin_requests", "Requests to the admin API, by what came of them.", ["result"]
)  # result: admin_views.Result
WRONG_PASSWORDS = counter(
    "standpipe_admin_wrong_passwords", "Requests to the admin API with a wrong password, or none."
)
FORWARDED = counter(
    "standpipe_sibling_requests", "Changes told to sibling relays.", ["result"]
)  # result: done, failed, dropped
ALERTS = counter(
    "standpipe_account_limit_alerts", "Hosts told to be near their account limit.", ["kind"]
)  # kind: warning, recovery
REQUEST_CRAWL = counter(
    "standpipe_request_crawl", "Requests to crawl a host, by what came of them.", ["outcome"]
)
UNREADABLE = counter("standpipe_chunks_unreadable", "Messages from persist that were no chunks.")
DAMAGED_RANGES = counter(
    "standpipe_damaged_ranges", "Damaged ranges of the log that this process has met."
)
PENDING = high_water("chunks_pending")
"""Chunks that wait for a gap to be filled."""
UNSENT = high_water("events_unsent")
"""Events that have arrived and wait for the next tick."""

request_crawl: Final = {outcome: REQUEST_CRAWL.labels(outcome.value) for outcome in Outcome}
