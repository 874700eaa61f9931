"""What is the balance of a pipeline that has no sockets before it?"""

from __future__ import annotations

from common.conservation import Balance
from ingest.pipeline import Pipeline


def balance_of(pipeline: Pipeline) -> Balance:
    """Its queues are looked through, and have to hold what it says it holds."""
    accounts = pipeline._accounts._by_did.values()
    waiting = sum(len(queue.events) for each in accounts for queue in each.queues.values())
    recalled = sum(not pending.feed.released for each in accounts for pending in each.recalled)
    assert pipeline.held == waiting + recalled
    balance = pipeline.counts.balance(
        inbox=0, held=waiting + recalled, in_flight=pipeline.in_flight
    )
    return balance._replace(reading=None)
