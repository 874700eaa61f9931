"""What can anybody send that a parser answers with anything but yes, or a documented no?

    python -m tests.fuzz [--seconds 600] [--jobs 2] [target ...]

    seeds ─▶ mutate ─▶ target ─▶ outcome, held against what is documented and an independent reader
      ▲                             │
      └── inputs with a new outcome ┘   (kept in corpus/, and replayed by every test run)

A finding is an exception, an undocumented reason, an answer that another reader contradicts, more than
50 ms, or memory that grows. It is kept as a file in findings/, and the run fails.
"""
