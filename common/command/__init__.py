"""The operator's command, `standpipe`.

    standpipe run       table.py ─▶ preflight.py ~ ─▶ run.py ~ ─▶ supervisord
    standpipe status    status.py ~ (supervisord, run files, Prometheus ports) ─▶ report.py
    standpipe hosts, level      hosts.py ──────┐
    standpipe rejects           rejects.py ~ ──┴─▶ control.py ~ (PostgreSQL) ─▶ words.py

`__main__.py` is the door: words in, exit code out.
"""
