"""How does an account look to those who ask about it? A state as the view's row would give it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from broadcast.xrpc import AccountRow
from common.envelope import AccountState


def row(did: str, state: AccountState) -> AccountRow:
    """The row of an account in the view."""
    known: dict[str, Any] = {
        "number": 1,
        "did": did,
        "active": state.active,
        "status": state.status,
        "rev": state.rev,
        "commit": state.commit,
        "host": "pds.example.com",
        "tls": True,
        "desynchronized": state.desynchronized,
        "local": state.local,
    }
    return AccountRow(**{field.name: known[field.name] for field in fields(AccountRow)})
