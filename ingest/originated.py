"""What does the relay say of an account itself, and in which bytes?

An `#account` message that no host sent, in the form that hosts give it: its number is put in place
of the 1 by persist, as it is for any other. What makes us say it is ingest.pipeline's.

Source: S-ACC-09, S-ACC-16, S-ACC-18; com.atproto.sync.subscribeRepos#account.
"""

from __future__ import annotations

from typing import Any

import cbor2

from common.event import Event, decode
from common.frame import ACCOUNT_HEADER
from common.syntax import datetime_text


def account_event(did: str, *, active: bool, status: str | None, wall_s: float) -> Event:
    """The message that an account's status is this now. Source: S-ACC-09.

    Args: status: None leaves it out. wall_s: now, Unix seconds.
    """
    fields: dict[str, Any] = {
        "seq": 1, "did": did, "time": datetime_text(wall_s), "active": active,
    }  # fmt: skip
    if status is not None:
        fields["status"] = status
    # S-DAT-02: canonical, as every message of ours.
    event = decode(ACCOUNT_HEADER + cbor2.dumps(fields, canonical=True))
    assert type(event) is Event, event
    return event
