"""Broadcast: durable events in, consumer sockets out; any number of equals behind one port.

    persist ─▶ inlet ─▶ chain ─▶ ring ─▶ fanout ─▶ subscriber ─▶ consumer
                 ▲                ▲         ▲
                 └──── log ───────┴─ playback (what has left the ring)

    HTTP on the same port: server ─▶ views ─▶ xrpc (pure answers), store (PostgreSQL)

Promises
    Every consumer sees the same finished frames, in order of seq, without a gap and without a double.
    Nothing is sent that the log does not hold durably.
    A consumer is a seq into the shared ring and the log: one that stops reading costs a fixed amount
    of memory and nobody's time, and is let go only after no byte has left for it for long enough, or
    when its place has left the retained log.
    A socket only ever gets whole WebSocket frames, and only its own protocol object closes it.

Does not promise
    That a consumer reads: what it has not acknowledged is known by its own cursor, nowhere here.

Source: atproto event-stream spec; com.atproto.sync.subscribeRepos; the sync query lexicons.
"""
