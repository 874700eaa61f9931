"""Does the relay carry as many hosts as there are? Thousands of them on real sockets.

    simnet (one process, LeanHost) ─▶ the relay, four ingest processes ─▶ one consumer
           └──────── truth ──────────────── compared, event by event ──────────┘

`story.run(SIZE)` tells it and gives the figures; a short one is in `make test`, the whole in
`make test-slow` and, with its figures printed, in `make bench`.
"""
