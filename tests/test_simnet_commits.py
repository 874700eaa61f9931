"""Is each commit valid by the letter? Signature, hashes, fields and inversion, checked apart.

Signatures are checked by `cryptography` (which signs only one of the curves here), frames are
opened by cbor2, and the tree is undone from the message's own blocks: a node that is not in
them cannot be touched.
"""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any, Final

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from tests.simnet import mst
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock, datetime_text, tid
from tests.simnet.drisl import car, cid_of
from tests.simnet.events import HEADERS, Event, error_frame, info_frame
from tests.simnet.keys import ORDER, Curve, SigningKey, base58
from tests.simnet.repo import Write
from tests.simnet.truth import open_frame
from tests.test_simnet_mst import root_cid, slow_root

START_US: Final = 1_760_000_000_000_000
CURVES: Final = {Curve.K256: ec.SECP256K1, Curve.P256: ec.SECP256R1}


def new_account(curve: Curve = Curve.K256, records: int = 60, seed: str = "test") -> Account:
    """An account with a clock of its own."""
    account = Account(plc_did(seed), "alice.test", curve, Clock(START_US), seed, 0)
    if records:
        account.fill(records, random.Random(seed))
    return account


def open_car(data: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Roots and blocks; each block is checked against its CID."""
    stream = io.BytesIO(data)

    def length() -> int | None:
        number = shift = 0
        while byte := stream.read(1):
            number |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                return number
        return None

    size = length()
    assert size is not None
    header = cbor2.loads(stream.read(size))
    assert header["version"] == 1
    blocks: dict[bytes, bytes] = {}
    while (size := length()) is not None:
        section = stream.read(size)
        assert len(section) == size
        cid, block = section[:36], section[36:]
        assert cid[:4] == bytes.fromhex("01711220")
        assert hashlib.sha256(block).digest() == cid[4:]
        blocks[cid] = block
    return [tag.value[1:] for tag in header["roots"]], blocks


def assert_signed(block: bytes, key: SigningKey) -> dict[str, Any]:
    """The commit object, after its signature was verified with the public key alone."""
    signed = cbor2.loads(block)
    assert cbor2.dumps(signed, canonical=True) == block
    signature = signed.pop("sig")
    assert len(signature) == 64
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    assert s <= ORDER[key.curve] // 2
    public = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[key.curve](), key.compressed)
    unsigned = cbor2.dumps(signed, canonical=True)
    public.verify(utils.encode_dss_signature(r, s), unsigned, ec.ECDSA(SHA256()))
    return dict(signed)


def names(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


class Absent(mst.Node):
    """A node that the message does not carry: to look into it is an error."""

    __slots__ = ()

    def __init__(self, cid: bytes) -> None:
        self.cid = cid


def load(blocks: dict[bytes, bytes], cid: bytes, level: int | None = None) -> mst.Node:
    """A partial tree from a message's blocks."""
    if cid not in blocks:
        return Absent(cid)
    body = cbor2.loads(blocks[cid])
    keys: list[bytes] = []
    for entry in body["e"]:
        keys.append((keys[-1] if keys else b"")[: entry["p"]] + entry["k"])
    if keys:
        level = mst.depth_of(keys[0])
    if level is None:
        assert blocks[cid] == mst.EMPTY.raw
        return mst.EMPTY
    tags = [body["l"], *(entry["t"] for entry in body["e"])]
    links = [None if tag is None else load(blocks, tag.value[1:], level - 1) for tag in tags]
    node = mst.Node(level, keys, [entry["v"].value[1:] for entry in body["e"]], links)
    assert mst.seal(node) == [node]
    assert node.cid == cid
    return node


def inverted(body: dict[str, Any], data: bytes, order: random.Random) -> bytes:
    """The root of the tree before the commit, from what the message carries."""
    _, blocks = open_car(body["blocks"])
    root = load(blocks, data) if body["ops"] or data in blocks else Absent(data)
    ops = list(body["ops"])
    order.shuffle(ops)
    for op in ops:
        path = op["path"].encode()
        if op["action"] == "create":
            assert mst.get(root, path) == op["cid"].value[1:]
            root = mst.remove(root, path)
        else:
            root = mst.put(root, path, op["prev"].value[1:])
    return root_cid(root)


def assert_valid(event: Event, account: Account, model: dict[bytes, bytes], rev: str) -> bytes:
    """Check one `#commit` against the model, which is moved along; the new root."""
    kind, body = open_frame(event.frame(7))
    assert kind == "commit"
    assert body["seq"] == 7
    assert (body["repo"], body["since"], body["blobs"]) == (account.did, rev, [])
    assert body["rev"] > rev
    roots, blocks = open_car(body["blocks"])
    assert roots == [body["commit"].value[1:]]
    signed = assert_signed(blocks[roots[0]], account.key)
    data: bytes = signed["data"].value[1:]
    assert signed == {
        "did": account.did,
        "rev": body["rev"],
        "data": signed["data"],
        "prev": None,
        "version": 3,
    }
    assert body["prevData"].value[1:] == slow_root(model)
    assert len({op["path"] for op in body["ops"]}) == len(body["ops"])
    for op in body["ops"]:
        path = op["path"].encode()
        present = op["action"] != "create"
        assert (path in model) == present
        assert ("prev" in op) == present
        if present:
            assert op["prev"].value[1:] == model[path]
        if op["action"] == "delete":
            assert op["cid"] is None
            del model[path]
        else:
            model[path] = op["cid"].value[1:]
            record = cbor2.loads(blocks[model[path]])
            assert record["$type"] == op["path"].split("/")[0]
    assert data == slow_root(model)
    assert inverted(body, data, random.Random(len(model))) == body["prevData"].value[1:]
    return data


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("records", [1, 4, 60])
def test_each_commit_of_a_growing_account_is_valid(curve: Curve, records: int) -> None:
    account = new_account(curve, records)
    rng = random.Random(records)
    model = dict(mst.items(account.repo.root))
    for number in range(80):
        rev = account.repo.rev
        assert rev is not None
        writes = account.choose_writes(rng, (1, 1, 0, 7)[number % 4])
        data = assert_valid(account.commit(writes), account, model, rev)
        assert account.repo.data == data
        assert sorted(account.paths) == sorted(key.decode() for key in model)


def test_account_that_shrinks_to_nothing_stays_valid() -> None:
    account = new_account(records=30)
    rng = random.Random(3)
    model = dict(mst.items(account.repo.root))
    while account.paths:
        rev = account.repo.rev
        assert rev is not None
        gone = rng.sample(account.paths, min(3, len(account.paths)))
        writes = [Write("delete", path, None) for path in gone]
        assert_valid(account.commit(writes), account, model, rev)
    assert account.repo.data == mst.EMPTY.cid


def test_commit_of_a_big_account_can_be_undone_from_its_own_blocks() -> None:
    account = new_account(records=2000)
    rng = random.Random(4)
    sizes, nodes = [], []
    for _ in range(150):
        before = account.repo.data
        event = account.commit(account.choose_writes(rng))
        frame = event.frame(1_000_000)
        body = open_frame(frame)[1]
        assert inverted(body, account.repo.data, rng) == before
        sizes.append(len(frame))
        nodes.append(len(open_car(body["blocks"])[1]) - 2)
    assert 3_500 < sum(sizes) / len(sizes) < 6_500
    assert 6 < sum(nodes) / len(nodes) < 10


def test_search_paths_alone_would_not_do() -> None:
    """The check above is worth something: without the neighbours' nodes it fails at times."""
    account = new_account(records=2000)
    rng = random.Random(5)
    failures = 0
    for _ in range(60):
        writes = account.choose_writes(rng)
        body = open_frame(account.commit(writes).frame(1))[1]
        path = mst.search_path(account.repo.root, writes[0].path.encode())
        _, blocks = open_car(body["blocks"])
        few = car([], [(node.cid, blocks[node.cid]) for node in path if node.cid is not None])
        try:
            inverted({**body, "blocks": few}, account.repo.data, rng)
        except AttributeError:
            failures += 1
    assert failures > 3


def test_genesis_has_neither_since_nor_prev_data() -> None:
    account = new_account(records=0)
    identity, status, commit, sync = (open_frame(event.frame(1)) for event in account.born())
    assert [kind for kind, _ in (identity, status, commit, sync)] == [
        "identity",
        "account",
        "commit",
        "sync",
    ]
    assert commit[1]["since"] is None
    assert "prevData" not in commit[1]
    assert commit[1]["ops"] == []
    assert sync[1]["rev"] == commit[1]["rev"]
    roots, blocks = open_car(sync[1]["blocks"])
    assert list(blocks) == roots == [commit[1]["commit"].value[1:]]
    assert assert_signed(blocks[roots[0]], account.key)["data"].value[1:] == mst.EMPTY.cid


def test_field_names_and_their_order_are_those_of_the_lexicon() -> None:
    account = new_account(records=5)
    commit = open_frame(account.commit(account.choose_writes(random.Random(1))).frame(3))[1]
    assert list(commit) == names(
        "ops rev seq repo time blobs since blocks commit rebase tooBig prevData"
    )
    assert commit["rebase"] is commit["tooBig"] is False
    assert list(open_frame(account.sync().frame(3))[1]) == names("did rev seq time blocks")
    assert list(open_frame(account.identity().frame(3))[1]) == names("did seq time handle")
    without = account.identity(handle=False)
    assert list(open_frame(without.frame(3))[1]) == names("did seq time")
    down = open_frame(account.set_status("takendown").frame(3))[1]
    assert list(down) == names("did seq time active status")
    assert (down["active"], down["status"]) == (False, "takendown")
    up = open_frame(account.set_status(None).frame(3))[1]
    assert list(up) == names("did seq time active")
    assert up["active"] is True


def test_update_and_delete_carry_prev_and_create_does_not() -> None:
    account = new_account(records=400)
    rng = random.Random(6)
    seen = set()
    for _ in range(120):
        for op in open_frame(account.commit(account.choose_writes(rng)).frame(1))[1]["ops"]:
            seen.add(op["action"])
            expected = ["cid", "path", "action"]
            if op["action"] != "create":
                expected.insert(2, "prev")
            assert list(op) == expected
    assert seen == {"create", "update", "delete"}


@pytest.mark.parametrize("seq", [1, 23, 24, 255, 256, 65_535, 65_536, 2**32, 2**53 - 1])
def test_frame_is_canonical_whatever_its_number(seq: int) -> None:
    account = new_account(records=3)
    event = account.commit(account.choose_writes(random.Random(1)), zzz=[1, {"a": None}])
    frame = event.frame(seq)
    assert frame.startswith(HEADERS["commit"])
    body = open_frame(frame)[1]
    assert body["seq"] == seq
    assert body["zzz"] == [1, {"a": None}]
    assert HEADERS["commit"] + cbor2.dumps(body, canonical=True) == frame


def test_constant_frames_are_those_of_the_specification() -> None:
    assert (
        error_frame("FutureCursor", "x").hex()
        == ("a1626f7020a2" + cbor2.dumps("error").hex() + cbor2.dumps("FutureCursor").hex())
        + cbor2.dumps("message").hex()
        + cbor2.dumps("x").hex()
    )
    assert info_frame("OutdatedCursor", "x").startswith(bytes.fromhex("a261746523696e666f626f7001"))
    for kind, header in HEADERS.items():
        assert cbor2.loads(header) == {"t": f"#{kind}", "op": 1}


def test_key_change_signs_with_the_new_key_only() -> None:
    account = new_account(records=3)
    old = account.key
    account.new_key(Curve.P256)
    _, blocks = open_car(open_frame(account.commit([]).frame(1))[1]["blocks"])
    assert account.key.compressed != old.compressed
    block = blocks[account.repo.commit or b""]
    assert assert_signed(block, account.key)["rev"] == account.repo.rev


def test_each_key_of_an_account_is_another() -> None:
    account = new_account(records=0)
    keys = [account.key.compressed]
    for _ in range(3):
        account.new_key()
        assert account.key.curve is Curve.K256
        keys.append(account.key.compressed)
    assert len(set(keys)) == 4


def test_same_seed_gives_the_same_bytes() -> None:
    def story(seed: str) -> list[bytes]:
        account = new_account(Curve.P256, records=20, seed=seed)
        rng = random.Random(seed)
        return [account.commit(account.choose_writes(rng, 2)).frame(n) for n in range(1, 20)]

    assert story("a") == story("a")
    assert story("a") != story("b")


def test_document_names_key_and_host_in_both_forms() -> None:
    account = new_account(Curve.K256, records=0)
    today = account.document("http://localhost:1")
    assert today["verificationMethod"][0]["type"] == "Multikey"
    assert today["verificationMethod"][0]["publicKeyMultibase"].startswith("zQ3sh")
    assert today["service"][0]["serviceEndpoint"] == "http://localhost:1"
    account.legacy_document = True
    legacy = account.document("http://localhost:1")["verificationMethod"][0]
    assert legacy["type"] == "EcdsaSecp256k1VerificationKey2019"
    assert legacy["publicKeyMultibase"] == "z" + base58(account.key.uncompressed)
    other = new_account(Curve.P256, records=0).key.verification_method("did:x:y")
    assert other["publicKeyMultibase"].startswith("zDn")


def test_base58_matches_known_values() -> None:
    assert base58(b"Hello World!") == "2NEpo7TZRRrLZSi2U"
    assert base58(bytes.fromhex("0000287fb4cd")) == "11233QC4"


def test_times_never_repeat_and_tids_sort_as_they_do() -> None:
    clock = Clock(now_s=lambda: 1_760_000_000.0)
    times = [clock.tick() for _ in range(50)]
    assert times == sorted(set(times))
    assert [tid(time) for time in times] == sorted(tid(time) for time in times)
    assert all(len(tid(time)) == 13 for time in times)
    assert datetime_text(1_760_000_000_000_001) == "2025-10-09T08:53:20.000001Z"
    assert cid_of(b"")[:4] == bytes.fromhex("01711220")
