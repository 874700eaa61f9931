"""Persist: judged events in, durable events out, in one order.

    ingest ─▶ inlet ─▶ sequencer ─────────▶ segment_log ─▶ outlet ─▶ broadcast
      ▲                 fence · account      (disk)    └─▶ inlet: replies to ingest
      │                 duplicates · recall · tally     └─▶ view ─▶ store ─▶ PostgreSQL
      └────────────────────────────────────────────────────────┘
    start: opening ─▶ checkpoint · host_numbers · catch_up (replay)      now and then: upkeep

Promises
    Every event published has a seq that no other event ever had, and seqs are dense.
    No event is published, acknowledged or written to PostgreSQL before its chunk is flushed.
    No host's cursor is saved before everything it covers is flushed or dropped.
    An event that ingest sends twice is logged once, across restarts of either, and of PostgreSQL
    over an old backup.
    Nothing is taken from an owner whose shard another one has claimed.
    For one account events are logged only in the order, and against the state, that ingest
    judged them in.
    PostgreSQL's accounts are a view of the log: behind it, and caught up from it at start.

Does not promise
    Any order between accounts, beyond seq.
    That every broadcaster hears every chunk: the log has them.

The order of durable things: chunk flushed → seq announced → chunk published → replies sent →
view written (accounts, cursors and applied_seq in one transaction).

Source: the event-stream spec, "Sequence Numbers"; docs/architecture.md.
"""
