"""What two stages both need; imports no stage. The shared words, each defined once:

the stream      frame = header + payload; event = a frame of a kind that is sequenced (commit, sync,
                identity, account); seq = a number in a stream; cursor = the seq to go on from
the parties     host = an upstream PDS; account = a DID; consumer = who reads from us
a verdict       accept, or drop with one of a closed list of reasons (verdict.py)
the log         segment = a file of chunks; chunk = the events of one flush; row = what is known of
                an event without opening it; durable seq = the last one that is on disk; claim = how
                a writer shuts out the ones before it; epoch = which writer (chunk.py, log.py)
the hops        batch = judged events on their way to persist; reply = what became of them
                (envelope.py, transport.py)
the division    shard = a virtual share of the hosts (sharding.py)

    bytes        frame event commit_payload car commit dagcbor cid syntax
    shapes       envelope chunk log segment_index salvage verdict sharding settings
    the world    segments segment_files transport database telemetry process locks paths selftest
                 place postgres password command/

Source: the event-stream spec and com.atproto.sync.subscribeRepos; the log literature.
"""
