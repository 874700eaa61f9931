"""The operator's command, `standpipe`.

    standpipe run       table.py ─▶ preflight.py ~ ─▶ run.py ~ ─▶ supervisord
    standpipe stop      stop.py ~ (supervisord)
    standpipe status    status.py ~ (supervisord, run files, Prometheus ports) ─▶ balance.py ─▶ report.py
    standpipe hosts, level      hosts.py ──────┐
    standpipe rejects           rejects.py ~ ──┴─▶ control.py ~ (PostgreSQL) ─▶ words.py
    standpipe log                log.py ~ (segment files) ─▶ log_words.py; verify: persist/verify.py
    standpipe pg                 embedded.py ~ (PostgreSQL, started where it is not running)

`__main__.py` is the door: words in, exit code out.
"""
