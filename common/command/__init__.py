"""The operator's command, `standpipe`.

    typed words    __main__.py, with one module for each command; parsers.py makes their parsers
    the relay      run.py ~ (table.py ─▶ preflight.py ~ ─▶ supervisord) · stop.py ~
                   status.py ~ ─▶ balance.py ─▶ report.py
                   snapshot.py ~ ─▶ snapped.py · probe.py ~ ─▶ probed.py · consumers.py ~ (a private port)
    the tables     session.py ~ ─┬▶ tables.py          what is asked: hosts.py ~ · accounts.py · rejects.py ~ · audit.py
                                 └▶ common/control.py  what is changed: host_changes.py ~ · takedown.py · domains.py · crawling.py
    several        shards.py · curve.py: ingest processes, and keys for those of other machines
    the log        log.py ~ ─▶ log_look.py ~ · log_print.py ~ ─▶ log_words.py
    the database   embedded.py ~: `standpipe pg`, and a database for as long as a command needs it
    other relays   pull_hosts.py ~ ─▶ listed.py; host_check.py
    in words       words.py · host_words.py · changes.py (what an action has done)
                   completion.py: what a shell offers

Every command prints for people, or with --json for programs, and ends with 0 (done, or nothing to do),
1 (it cannot) or 2 (wrong settings or words). docs/command.md has all of them.
"""
