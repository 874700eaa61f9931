"""Does every state come back as it was, from few bytes?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import NEVER_SEEN, AccountState
from common.packed_state import pack_did, pack_state, unpack_did, unpack_state

CID = b"\x01\x71\x12\x20" + bytes(range(32))
REV = "3l2gkqkqxcc2a"
USUAL = AccountState(REV, CID, CID[:4] + CID[:3:-1], True, None, 17)

cids = st.none() | st.just(CID) | st.binary(min_size=32, max_size=32).map(lambda b: CID[:4] + b)
held = st.sampled_from(
    [(None, False), ("takendown", False), ("throttled", True), ("takendown", True)]
)
"""How this relay can hold an account: (local, over_limit)."""
states = st.builds(
    AccountState,
    rev=st.none() | st.just(REV) | st.text(max_size=14),
    data=cids | st.binary(max_size=40),
    commit=cids | st.binary(max_size=40),
    active=st.booleans(),
    status=st.none()
    | st.sampled_from(["takendown", "deleted", "throttled"])
    | st.text(max_size=20),
    host=st.integers(0, 2**40),
    desynchronized=st.booleans(),
    discontinuities=st.integers(0, 2**40),
    local=st.none(),
    over_limit=st.just(value=False),
)


@given(states, held)
def test_every_state_comes_back_as_it_was(
    state: AccountState, held: tuple[str | None, bool]
) -> None:
    state = state._replace(local=held[0], over_limit=held[1])
    assert unpack_state(pack_state(state)) == state


@pytest.mark.parametrize(
    "state",
    [
        USUAL,
        NEVER_SEEN,
        USUAL._replace(active=False, status="takendown"),
        USUAL._replace(local="takendown"),
        USUAL._replace(local="takendown", over_limit=True),
        NEVER_SEEN._replace(local="throttled", over_limit=True),
        USUAL._replace(desynchronized=True, discontinuities=2**32 - 1, host=2**31 - 1),
    ],
)
def test_the_usual_states_take_87_bytes(state: AccountState) -> None:
    assert len(pack_state(state)) == 87
    assert unpack_state(pack_state(state)) == state


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"status": "odd"}, id="a status of its own"),
        pytest.param({"status": ""}, id="an empty status"),
        pytest.param({"data": None}, id="no tree"),
        pytest.param({"commit": b"\x01\x55\x12\x20" + bytes(32)}, id="a commit of another codec"),
        pytest.param({"data": CID[:4]}, id="a CID that is cut"),
        pytest.param({"rev": "3"}, id="a short rev"),
        pytest.param({"rev": "é" * 13}, id="a rev that is not ASCII"),
        pytest.param({"discontinuities": 2**32}, id="more gaps than fit"),
        pytest.param({"rev": None}, id="content without a rev"),
    ],
)
def test_unusual_states_come_back_too(change: dict[str, object]) -> None:
    state = AccountState(*{**USUAL._asdict(), **change}.values())
    assert unpack_state(pack_state(state)) == state


@pytest.mark.parametrize(
    "did",
    [
        "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
        "did:web:a.test",
        "did:plcx:aaaa",
        "did:plc",
        "did:web:localhost%3A2583",
    ],
)
def test_a_did_comes_back_as_it_was(did: str) -> None:
    assert unpack_did(pack_did(did)) == did


def test_no_two_dids_share_a_key() -> None:
    dids = ["did:plc:did:web:a", "did:web:a", "did:plc::a", "did:plc:a", ":a", "a"]
    assert len({pack_did(did) for did in dids if did.startswith("did:")}) == 4


def test_the_usual_did_takes_25_bytes() -> None:
    assert len(pack_did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")) == 25
