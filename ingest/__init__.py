"""Ingest: host sockets in, judged events out; each process reads the hosts of the shards it has leased.

    leases ─▶ fleet
                │
    host ─▶ subscription ─▶ turns ─▶ pipeline (decode, judge) ─▶ outlet ─▶ persist
              connection               │        ▲                  │
              splitter                 ▼        │                  ▼
                       resolver (DID documents), status desk    logged · duplicate · back

Promises
    Nothing leaves that is not verified; "cannot be told now" is neither a pass nor a verdict.
    For one account, events leave in the order they came in.
    Every message ends as forwarded or as dropped with one reason, or is let go with its shard for the
    next owner to read again, and is counted once; so does what the relay says itself, of an account
    whose host was asked about it, or whose DID is no more.
    A host's cursor passes an event only when it is on disk, or was dropped and counted.
    Each host is read by one process; one that has lost a shard adds nothing more of it.
    One host, account or frame costs only itself.

Does not promise
    That its copy of an account's state is the newest: persist owns that, and sends back what was
    judged against an older one.

Source: the sync spec, "Message Validation Checklist"; the event-stream spec.
"""
