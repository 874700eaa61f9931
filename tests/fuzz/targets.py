"""Which parsers are hunted, what may each answer, and who contradicts it if it is wrong?

The contradiction comes from cbor2 and from this file's own slow reading, not from the relay's code.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import cbor2
import orjson

from common.car import BadCar, walk
from common.commit import BadCommit, open_commit
from common.commit_payload import CommitPayload, read_fast
from common.dagcbor import MalformedCbor, decode, decode_map
from common.event import Event, Info, StreamError
from common.event import decode as decode_frame
from common.frame import COMMIT_HEADER
from common.verdict import Drop, DropReason
from ingest.did_document import Broken, Identity, normal_host, parse_document
from ingest.inquiry import read_answer
from ingest.node import ABOVE, BELOW, BadTree, Node, load
from ingest.splitter import ProtocolViolation, Splitter
from tests.fuzz import judging
from tests.fuzz.hunt import Target, Wrong
from tests.fuzz.mutate import BYTES, CBOR
from tests.fuzz.reading import check_node, same_bytes
from tests.fuzz.seeds import DID, a_commit, frames, some_nodes
from tests.simnet.drisl import cid_of

FRAME_REASONS: Final = {
    DropReason.FRAME_TOO_LARGE, DropReason.MALFORMED_FRAME, DropReason.UNKNOWN_OP,
    DropReason.UNKNOWN_TYPE, DropReason.SEQ_INVALID, DropReason.FIELD_INVALID, DropReason.DID_INVALID,
    DropReason.REV_INVALID, DropReason.BLOCKS_TOO_LARGE, DropReason.TOO_MANY_OPS, DropReason.OP_INVALID,
}  # fmt: skip
CAR_REASONS: Final = {
    DropReason.CAR_MALFORMED, DropReason.CAR_NO_ROOT, DropReason.CAR_BLOCK_MISMATCH,
    DropReason.CAR_TOO_MANY_BLOCKS,
}  # fmt: skip
COMMIT_REASONS: Final = {DropReason.COMMIT_MALFORMED, DropReason.COMMIT_MISMATCH}
NODE_REASONS: Final = {DropReason.NODE_MALFORMED, DropReason.TREE_MALFORMED}


def need(holds: object, words: str) -> None:
    """Raises Wrong with these words unless it holds."""
    if not holds:
        raise Wrong(words)


def refused(reason: DropReason, detail: str, documented: set[DropReason]) -> str:
    """A documented no, in words."""
    need(reason in documented, f"undocumented {reason}: {detail}")
    return f"{reason}: {detail}"


# --- frames ---


def run_frame(raw: bytes) -> str:
    found = decode_frame(raw)
    if isinstance(found, Drop):
        return refused(found.reason, found.detail, FRAME_REASONS)
    if isinstance(found, Info | StreamError):
        return type(found).__name__
    need(type(found) is Event, f"a {type(found)}")
    header, body = split_frame(raw)
    need(header.get("op") == 1, "an event of another op")
    need(body.get("seq") == found.seq, "another seq than cbor2 reads")
    need(body.get("repo", body.get("did")) == found.did, "another DID than cbor2 reads")
    need(cbor2.loads(raw[found.seq_start : found.seq_end]) == found.seq, "seq stands elsewhere")
    need(raw[found.seq_start - 4 : found.seq_start] == b"\x63seq", "no key before the seq")
    if raw.startswith(COMMIT_HEADER):
        need(body["blocks"] == found.blocks, "other blocks than cbor2 reads")
        fast, slow = read_fast(raw, len(COMMIT_HEADER)), decode_map(raw, len(COMMIT_HEADER))
        span = slow.spans["seq"]
        need(
            fast is None or fast == CommitPayload.of(slow.value, span.value, span.end),
            "the fast way reads something else than the slow one",
        )
        return f"{found.kind.name} {len(found.ops)} ops {'fast' if fast else 'slow'}"
    return found.kind.name


def split_frame(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload by cbor2, each of them canonical, and nothing behind."""
    for end in range(8, min(len(raw), 400)):
        try:
            header = cbor2.loads(raw[:end])
        except Exception:
            continue
        if isinstance(header, dict) and cbor2.dumps(header, canonical=True) == raw[:end]:
            body = same_bytes(raw[end:])
            need(isinstance(body, dict), "the payload is no map")
            return header, body
    raise Wrong("no canonical header")


# --- CBOR ---


def run_cbor(raw: bytes) -> str:
    try:
        value = decode(raw)
    except MalformedCbor as error:
        return str(error)
    same_bytes(raw)
    return f"a {type(value).__name__}"


# --- CARs ---


def run_car(raw: bytes) -> str:
    found = walk(raw)
    if isinstance(found, BadCar):
        return refused(found.reason, found.detail, CAR_REASONS)
    for cid, block in found.blocks.items():
        need(cid[4:] == cid_of(block)[4:], "a block that is not what it is called")
        need(cid[:4] in (b"\x01\x71\x12\x20", b"\x01\x55\x12\x20"), "another kind of CID")
    need(sum(map(len, found.blocks.values())) <= len(raw), "more blocks than bytes")
    return f"a CAR of {len(found.blocks)} blocks"


# --- commits ---


def run_commit(raw: bytes) -> str:
    """The first 13 bytes are the rev that the message told."""
    rev, block = raw[:13].decode("latin-1"), raw[13:]
    found = open_commit(block, DID, rev)
    if isinstance(found, BadCommit):
        return refused(found.reason, found.detail, COMMIT_REASONS)
    fields = same_bytes(block)
    sig = fields.pop("sig")
    import hashlib

    digest = hashlib.sha256(cbor2.dumps(fields, canonical=True)).digest()
    need(found.digest == digest, "another digest than cbor2 makes")
    need(found.sig == sig and len(sig) == 64, "another signature")
    need(fields["data"].value[1:] == found.data, "another root")
    need((fields["did"], fields["rev"]) == (DID, rev), "another account or rev")
    need(fields["version"] == 3 and "prev" in fields, "no commit of version 3")
    return f"a commit of {len(fields)} fields"


# --- nodes ---


def run_node(raw: bytes) -> str:
    """The first byte is the level that the parent wants, 255 for a root."""
    if not raw:
        return "nothing"
    level, block = (None if raw[0] == 255 else raw[0] % 128), raw[1:]
    found = load(block, cid_of(block), level, BELOW, ABOVE)
    if isinstance(found, BadTree):
        return refused(found.reason, found.detail, NODE_REASONS)
    need(isinstance(found, Node), f"a {type(found)}")
    need(level in (None, found.level), "another level than was wanted")
    keys, links = check_node(block, found.level, root=level is None)
    need(found.keys == keys, "other keys than cbor2 reads")
    need(found.links == [link or b"" for link in links], "other links than cbor2 reads")
    values = [entry["v"].value[1:] for entry in cbor2.loads(block)["e"]]
    need([found.value(i) for i in range(len(keys))] == values, "other values than cbor2 reads")
    need(b"".join(found.entries()) == block[found.bounds[0] : found.bounds[-1]], "torn entries")
    return f"a node of {min(len(keys), 3)} keys"


# --- documents and answers ---


def run_document(raw: bytes) -> str:
    found = parse_document(raw, DID, allow_insecure=False)
    if found is None:
        return "no JSON object"
    if isinstance(found, Broken):
        return found.why
    need(isinstance(found, Identity), f"a {type(found)}")
    need(found.did == DID == json.loads(raw)["id"], "somebody else's document")
    need(
        found.host == normal_host(f"https://{found.host}", allow_insecure=False)
        or found.host.startswith("localhost"),
        "a host that is none",
    )
    return "an identity"


def run_answer(raw: bytes) -> str:
    found = read_answer(200, raw, DID, 1.0)
    if found is None:
        return "no answer"
    need(type(found.active) is bool and found.known, "neither active nor not")
    need(found.status is None or 0 < len(found.status) <= 64, "a status of any length")
    return f"active {found.active} {type(found.status).__name__}"


# --- WebSocket ---


def run_socket(raw: bytes) -> str:
    """The first two bytes say how the rest is cut up; in one piece it must come to the same."""
    if len(raw) < 2:
        return "nothing"
    step, rest = raw[0] % 64 + 1, raw[2:]
    whole, pieces = Splitter(2_000), Splitter(2_000)
    try:
        at_once = whole.feed(rest)
    except ProtocolViolation as error:
        at_once, violation = [], str(error)
    else:
        violation = ""
    found: list[Any] = []
    try:
        for at in range(0, len(rest), step):
            found += pieces.feed(rest[at : at + step])
            need(pieces.buffered_bytes <= 2_000 + 200 + step, "it keeps more than a message")
    except ProtocolViolation as error:
        return str(error)
    if violation:
        # Floods are counted by the piece; every other violation is one however it comes.
        need("too many" in violation or "flood" in violation, f"only in one piece: {violation}")
        return violation
    need(found == at_once, "cut up it holds other messages")
    return " ".join(sorted({type(message).__name__ for message in found})) or "nothing yet"


# --- seeds ---


def _cars() -> list[bytes]:
    return [cbor2.loads(raw[15:])["blocks"] for raw in frames() if raw.startswith(COMMIT_HEADER)]


def _commits() -> list[bytes]:
    found = []
    for extra in ({}, {"note": {"deep": [1]}}, {"prev": cbor2.CBORTag(42, b"\0" + cid_of(b"x"))}):
        rev, block = a_commit(**extra)
        found.append(rev.encode() + block)
    return found


def _documents() -> list[bytes]:
    from tests.ingest.straight import worldly

    account = worldly("fuzz").account
    account.did = DID
    plain = account.document("https://pds.example.com")
    account.legacy_document = True
    return [orjson.dumps(plain), orjson.dumps(account.document("http://localhost:2583"))]


def _answers() -> list[bytes]:
    return [
        orjson.dumps({"did": DID, "active": True, "rev": "3mptbypluud2a"}),
        orjson.dumps({"did": DID, "active": False, "status": "takendown"}),
        b'{"error":"RepoNotFound"}',
    ]


def _sockets() -> list[bytes]:
    short = b"\x82\x05hello" + b"\x82\x7e\x01\x00" + b"x" * 256 + b"\x89\x02hi"
    parts = b"\x02\x03abc" + b"\x00\x03def" + b"\x80\x01g" + b"\x81\x02no"
    long = b"\x82\x7f" + (3_000).to_bytes(8) + b"y" * 3_000 + b"\x88\x02\x03\xe8"
    return [bytes([7, 0]) + short, bytes([0, 0]) + parts, bytes([40, 0]) + long]


JSON: Final[tuple[bytes, ...]] = (
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e999", b'"#atproto"', b'"#atproto_pds"',
    b'"Multikey"', b'"EcdsaSecp256k1VerificationKey2019"', b'"z"', b'"https://a.b:1/"', b"[" * 2000,
    b'"\\ud800"', b'"https://[::1]"', b'"https://[v1.x]"', b'"https://a.b@c.d"', b'"http://localhost"',
)  # fmt: skip


def change_json(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A value of the document for another one, or bytes as anywhere."""
    if rng.random() < 0.4:
        return rng.choice(BYTES)(raw, rng, others) if raw else others[0]
    ends = [i for i, byte in enumerate(raw) if byte in b',:{}[]"']
    if len(ends) < 2:
        return others[0]
    start = rng.randrange(len(ends) - 1)
    end = min(len(ends) - 1, start + rng.randrange(1, 4))
    return raw[: ends[start] + 1] + rng.choice(JSON) + raw[ends[end] :]


@cache
def targets() -> dict[str, Target]:
    """All of them, by name."""
    mixed = (*BYTES, *CBOR)
    plain: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], str]]] = {
        "frame": (frames, run_frame),
        "cbor": (lambda: [raw[15:] for raw in frames()], run_cbor),
        "car": (_cars, run_car),
        "commit": (_commits, run_commit),
        "node": (some_nodes, run_node),
        "socket": (_sockets, run_socket),
    }
    found = {name: Target(seeds, run, mixed) for name, (seeds, run) in plain.items()}
    found["document"] = Target(_documents, run_document, change=change_json)
    found["answer"] = Target(_answers, run_answer, change=change_json)
    found["judge"] = Target(frames, judging.run, change=judging.changed)
    return found
