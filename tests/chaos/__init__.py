"""What is lost, doubled or given twice, whatever dies, and whenever? The proof bench.

    plan.py       which faults, when: drawn from a seed; and whether each of them fired
    storm.py      a whole relay under load, the plan carried out on it, three kinds of consumers
    numbers.py    every (seq, frame) that anybody saw, compared
    points.py     the named points at which persist can be told to kill itself
    persist.py    the door of such a persist; it also writes down in what order things were done
    order.py      the rules of that order
    story.py      one real persist, killed at point after point

docs/chaos.md tells how to run it, and how to run it again.
"""
