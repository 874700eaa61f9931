"""In which ways can a real frame be damaged, and which reason does each deserve?

Nobody here can sign for a stranger, so what is signed is damaged too; the reason is that of the
first step, in the judge's order, that looks at the place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import cbor2

from common.envelope import Mark
from common.verdict import DropReason
from tests.ingest.dissected import Dissected
from tests.simnet.clock import tid
from tests.simnet.drisl import cid_of, encode, link, uvarint
from tests.simnet.keys import Curve, SigningKey, high_s

NOW_S: Final = 1_790_000_000.0
OTHER: Final = cid_of(b"something else")
RAW: Final = b"\x01\x55\x12\x20" + bytes(32)
STRANGER: Final = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

Expected = DropReason | None | Mark
Change = Callable[[Dissected], Any]


class Damage(NamedTuple):
    """One kind. expected: a reason, None to pass, a mark to pass with it; or what tells it.

    applies: whether the frame has what is to be damaged.
    """

    expected: Expected | Callable[[Dissected], Expected]
    change: Change
    applies: Callable[[Dissected], bool] = lambda _: True


# --- what is changed ---


def field(name: str, value: Any) -> Change:
    return lambda of: of.body.update({name: value})


def op(**changed: Any) -> Change:
    def change(of: Dissected) -> None:
        changes = {name: v(of) if callable(v) else v for name, v in changed.items()}
        kept = {n: v for n, v in (of.op | changes).items() if v is not ...}
        of.body["ops"] = [kept, *of.body["ops"][1:]]

    return change


def more_ops(*more: Callable[[Dissected], dict[str, Any]]) -> Change:
    return lambda of: of.body.update(ops=[*of.body["ops"], *(make(of) for make in more)])


def beside(of: Dissected) -> str:
    """A path beside the operation's, of which the same nodes tell that it is not there."""
    return str(of.op["path"]) + "~"


def flipped(data: bytes, at: int = -1) -> bytes:
    """One bit changed."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flip(of_class: Callable[[Dissected], bytes], *, rename: bool = False) -> Change:
    """One bit of a block, under the old name or a new one that nobody links to."""

    def change(of: Dissected) -> None:
        name = of_class(of)
        of.replace_block(name, flipped(of.by_cid[name]), rename=rename)

    return change


def without(of_class: Callable[[Dissected], bytes]) -> Change:
    return lambda of: of.remove_block(of_class(of))


def commit(of: Dissected) -> bytes:
    return of.roots[0]


def root(of: Dissected) -> bytes:
    return of.data


def inner(of: Dissected) -> bytes:
    return of.path[len(of.path) // 2]


def last(of: Dissected) -> bytes:
    return of.path[-1]


def record(of: Dissected) -> bytes:
    found = of.record
    assert found is not None
    return found


def neighbour(of: Dissected) -> bytes:
    """A node that only the undoing needs: where two subtrees become one."""
    return min(of.needed() - set(of.path))


def unneeded(of: Dissected) -> bytes:
    """A node that came along, though the operation can be taken back without it."""
    return min(set(of.nodes) - of.needed())


def has_record(of: Dissected) -> bool:
    return of.record is not None


def is_alone(of: Dissected) -> bool:
    return len(of.body["ops"]) == 1


def recommit(change: Callable[[dict[str, Any]], Any], **ink: Any) -> Change:
    """The commit block changed, and named anew everywhere; nobody can sign it."""

    def apply(of: Dissected) -> None:
        fields = dict(of.signed)
        change(fields)
        of.recommit(
            encode({k: v for k, v in fields.items() if v is not ...}) + ink.get("tail", b"")
        )

    return apply


def set_field(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda fields: fields.update(changed)


def to_high_s(fields: dict[str, Any]) -> None:
    fields["sig"] = high_s(fields["sig"], Curve.K256)


def new_record(of: Dissected) -> bytes:
    """A sound record more, which the tree knows nothing of."""
    block = encode({"$type": "com.example.other"})
    of.blocks.append((cid_of(block), block))
    return cid_of(block)


def rewritten_record(*, told: bool) -> Change:
    """The record changed and named anew; told: the operation names the new one."""

    def change(of: Dissected) -> None:
        value = cbor2.loads(of.by_cid[record(of)]) | {"simnet": 1}
        new = of.replace_block(record(of), encode(value), rename=True)
        if told:
            of.op["cid"] = link(new)

    return change


def spoiled_record(of: Dissected) -> None:
    """No canonical map any more, under a name that the operation tells."""
    new = of.replace_block(record(of), of.by_cid[record(of)] + b"\0", rename=True)
    of.op["cid"] = link(new)


def rewritten_node(of_class: Callable[[Dissected], bytes]) -> Change:
    """A node with an entry less, named anew: no link leads there."""

    def change(of: Dissected) -> None:
        name = of_class(of)
        value = cbor2.loads(of.by_cid[name])
        value["e"] = value["e"][:-1]
        of.replace_block(name, encode(value), rename=True)

    return change


def swapped_blocks(of: Dissected) -> None:
    (a, x), (b, y) = of.blocks[0], of.blocks[-1]
    of.blocks[0], of.blocks[-1] = (a, y), (b, x)


def surplus(count: int, size: int) -> list[tuple[bytes, bytes]]:
    blocks = [encode({"i": i, "x": "x" * size}) for i in range(count)]
    return [(cid_of(block), block) for block in blocks]


def car_header(value: Any) -> Change:
    def change(of: Dissected) -> None:
        made = encode(value(of))
        of.car_ink = lambda car: uvarint(len(made)) + made + car[59:]

    return change


def tail(more: bytes) -> Change:
    return lambda of: setattr(of, "car_ink", lambda car: car + more)


def ink(of_payload: Callable[[bytes], bytes]) -> Change:
    return lambda of: setattr(of, "ink", of_payload)


def header(raw: bytes) -> Change:
    return lambda of: setattr(of, "header", raw)


def unsorted(payload: bytes) -> bytes:
    fields = cbor2.loads(payload)
    return cbor2.dumps(dict(reversed(fields.items())))


def long_seq(payload: bytes) -> bytes:
    seq = cbor2.loads(payload)["seq"]
    short = b"\x63seq" + encode(seq)
    long = (
        b"\x63seq\x1b" + seq.to_bytes(8) if seq < 1 << 32 else b"\x63seq\xc2\x48" + seq.to_bytes(8)
    )
    assert payload.count(short) == 1
    return payload.replace(short, long)


def an_op(**changed: Any) -> Callable[[Dissected], dict[str, Any]]:
    def make(of: Dissected) -> dict[str, Any]:
        made = {"action": "create", "path": beside(of), "cid": None} | changed
        return {name: v(of) if callable(v) else v for name, v in made.items()}

    return make


R = DropReason
DAMAGES: Final[dict[str, Damage]] = {
    "nothing": Damage(None, lambda _: None),
    # Fields missing, or of another type.
    "seq missing": Damage(R.SEQ_INVALID, field("seq", ...)),
    "seq negative": Damage(R.SEQ_INVALID, field("seq", -1)),
    "seq zero": Damage(R.SEQ_INVALID, field("seq", 0)),
    "seq 2^53": Damage(R.SEQ_INVALID, field("seq", 2**53)),
    "seq text": Damage(R.SEQ_INVALID, field("seq", "1")),
    "seq another": Damage(None, field("seq", 2**53 - 1)),
    "repo missing": Damage(R.DID_INVALID, field("repo", ...)),
    "repo no did": Damage(R.DID_INVALID, field("repo", "did:plc:NO")),
    "repo swapped": Damage(R.COMMIT_MISMATCH, field("repo", STRANGER)),
    "rev missing": Damage(R.REV_INVALID, field("rev", ...)),
    "rev no tid": Damage(R.REV_INVALID, field("rev", "3mptbypluud2")),
    "rev newer": Damage(R.COMMIT_MISMATCH, field("rev", tid(int(NOW_S * 1e6)))),
    "rev as before": Damage(R.REV_NOT_NEWER, lambda of: of.body.update(rev=of.body["since"])),
    "rev older": Damage(R.REV_NOT_NEWER, field("rev", "2222222222222")),
    "rev ahead": Damage(R.REV_IN_FUTURE, field("rev", tid(int((NOW_S + 301) * 1e6)))),
    "since missing": Damage(R.FIELD_INVALID, field("since", ...)),
    "since no tid": Damage(R.FIELD_INVALID, field("since", "yesterday")),
    "since another": Damage(Mark.DISCONTINUOUS, field("since", "3222222222222")),
    "since null": Damage(None, field("since", None)),
    "commit missing": Damage(R.FIELD_INVALID, field("commit", ...)),
    "commit null": Damage(R.FIELD_INVALID, field("commit", None)),
    "commit raw": Damage(R.FIELD_INVALID, field("commit", link(RAW))),
    "commit bytes": Damage(R.FIELD_INVALID, lambda of: of.body.update(commit=commit(of))),
    "commit another": Damage(R.COMMIT_MISMATCH, field("commit", link(OTHER))),
    "commit is the tree": Damage(
        R.COMMIT_MISMATCH, lambda of: of.body.update(commit=link(of.data))
    ),
    "time missing": Damage(R.FIELD_INVALID, field("time", ...)),
    "time no datetime": Damage(R.FIELD_INVALID, field("time", "2026-07-04 14:38:07Z")),
    "time another": Damage(None, field("time", "1999-12-31T23:59:59Z")),
    "blocks missing": Damage(R.FIELD_INVALID, lambda of: setattr(of, "car", ...)),
    "blocks text": Damage(R.FIELD_INVALID, lambda of: setattr(of, "car", "car")),
    "blocks empty": Damage(R.FIELD_INVALID, lambda of: setattr(of, "car", b"")),
    "ops missing": Damage(R.FIELD_INVALID, field("ops", ...)),
    "ops map": Damage(R.FIELD_INVALID, field("ops", {})),
    "prevData missing": Damage(R.PREV_DATA_MISSING, field("prevData", ...)),
    "prevData null": Damage(R.FIELD_INVALID, field("prevData", None)),
    "prevData raw": Damage(R.FIELD_INVALID, field("prevData", link(RAW))),
    "prevData another": Damage(R.PREV_DATA_MISMATCH, field("prevData", link(OTHER))),
    "prevData is data": Damage(
        R.PREV_DATA_MISMATCH, lambda of: of.body.update(prevData=link(of.data))
    ),
    # Producers send these, and nobody looks at them.
    "blobs missing": Damage(None, field("blobs", ...)),
    "rebase missing": Damage(None, field("rebase", ...)),
    "tooBig missing": Damage(None, field("tooBig", ...)),
    "tooBig true": Damage(None, field("tooBig", True)),
    "a field more": Damage(None, field("simnet", {"deep": [1, None]})),
    # Operations.
    "all ops removed": Damage(R.PREV_DATA_MISMATCH, field("ops", [])),
    "one op removed": Damage(
        R.PREV_DATA_MISMATCH,
        lambda of: of.body.update(ops=of.body["ops"][1:]),
        lambda of: not is_alone(of),
    ),
    "an op repeated": Damage(R.OP_INVALID, more_ops(lambda of: dict(of.op))),
    "a create added": Damage(R.OP_MISMATCH, more_ops(an_op(cid=lambda of: link(new_record(of))))),
    "a delete added": Damage(
        R.PREV_DATA_MISMATCH, more_ops(an_op(action="delete", prev=link(OTHER))), is_alone
    ),
    "201 ops": Damage(
        R.TOO_MANY_OPS,
        more_ops(*(an_op(path=f"a.b.c/{i}", cid=link(OTHER)) for i in range(200))),
    ),
    "op repointed": Damage(R.OP_MISMATCH, op(cid=lambda of: link(new_record(of))), has_record),
    "op repointed to nothing": Damage(R.RECORD_MISSING, op(cid=link(OTHER)), has_record),
    "op renamed": Damage(R.OP_MISMATCH, op(path=beside), has_record),
    "op told as update": Damage(
        R.PREV_DATA_MISMATCH,
        op(action="update", prev=link(OTHER)),
        lambda of: of.op["action"] == "create",
    ),
    "op told as delete": Damage(
        R.OP_MISMATCH, op(action="delete", cid=None, prev=link(OTHER)), has_record
    ),
    "op told as create": Damage(
        R.PREV_DATA_MISMATCH, op(action="create", prev=...), lambda of: of.op["action"] == "update"
    ),
    "action unknown": Damage(R.OP_INVALID, op(action="rename")),
    "path no path": Damage(R.OP_INVALID, op(path="app.bsky.feed.post")),
    "cid null": Damage(R.OP_INVALID, op(cid=None), has_record),
    "cid missing": Damage(R.OP_INVALID, op(cid=...), has_record),
    "cid bytes": Damage(R.OP_INVALID, op(cid=OTHER)),
    "prev null": Damage(R.OP_INVALID, op(prev=None)),
    "prev of a create": Damage(
        R.OP_INVALID, op(prev=link(OTHER)), lambda of: of.op["action"] == "create"
    ),
    "prev another": Damage(
        R.PREV_DATA_MISMATCH, op(prev=link(OTHER)), lambda of: "prev" in of.op and is_alone(of)
    ),
    "prev missing": Damage(R.OP_PREV_MISSING, op(prev=...), lambda of: "prev" in of.op),
    # One bit of a block, under its old name, and under its new one.
    "commit flipped": Damage(R.CAR_BLOCK_MISMATCH, flip(commit)),
    "root flipped": Damage(R.CAR_BLOCK_MISMATCH, flip(root)),
    "inner node flipped": Damage(R.CAR_BLOCK_MISMATCH, flip(inner)),
    "last node flipped": Damage(R.CAR_BLOCK_MISMATCH, flip(last)),
    "record flipped": Damage(R.CAR_BLOCK_MISMATCH, flip(record), has_record),
    "commit flipped and renamed": Damage(
        R.COMMIT_MALFORMED, lambda of: of.recommit(flipped(of.by_cid[commit(of)]))
    ),
    "root flipped and renamed": Damage(R.NODE_MISSING, flip(root, rename=True)),
    "inner node flipped and renamed": Damage(R.NODE_MISSING, flip(inner, rename=True)),
    "last node rewritten and renamed": Damage(R.NODE_MISSING, rewritten_node(last)),
    "record rewritten and renamed": Damage(
        R.RECORD_MISSING, rewritten_record(told=False), has_record
    ),
    "record rewritten and told": Damage(R.OP_MISMATCH, rewritten_record(told=True), has_record),
    "record spoiled and told": Damage(R.RECORD_MALFORMED, spoiled_record, has_record),
    # The commit object, which nobody here can sign.
    "signature flipped": Damage(
        R.SIGNATURE_INVALID, recommit(lambda c: c.update(sig=flipped(c["sig"])))
    ),
    "signature high-S": Damage(R.SIGNATURE_INVALID, recommit(to_high_s)),
    "signature by another": Damage(
        R.SIGNATURE_INVALID,
        recommit(lambda c: c.update(sig=SigningKey(Curve.K256, "another").sign(b"anything"))),
    ),
    "signature zero": Damage(R.SIGNATURE_INVALID, recommit(set_field(sig=bytes(64)))),
    "signature short": Damage(R.COMMIT_MALFORMED, recommit(lambda c: c.update(sig=c["sig"][:63]))),
    "signature missing": Damage(R.COMMIT_MALFORMED, recommit(set_field(sig=...))),
    "signed tree another": Damage(R.SIGNATURE_INVALID, recommit(set_field(data=link(OTHER)))),
    "signed rev another": Damage(R.COMMIT_MISMATCH, recommit(set_field(rev="3222222222222"))),
    "signed did another": Damage(R.COMMIT_MISMATCH, recommit(set_field(did=STRANGER))),
    "signed version 2": Damage(R.COMMIT_MALFORMED, recommit(set_field(version=2))),
    "signed prev missing": Damage(R.COMMIT_MALFORMED, recommit(set_field(prev=...))),
    "signed prev another": Damage(R.SIGNATURE_INVALID, recommit(set_field(prev=link(OTHER)))),
    "signed field more": Damage(R.SIGNATURE_INVALID, recommit(set_field(simnet=1))),
    "signed bytes more": Damage(R.COMMIT_MALFORMED, recommit(lambda _: None, tail=b"\0")),
    # Blocks missing, and more of them.
    "commit block missing": Damage(R.COMMIT_MISSING, without(commit)),
    "root node missing": Damage(R.NODE_MISSING, without(root)),
    "inner node missing": Damage(R.NODE_MISSING, without(inner)),
    "last node missing": Damage(R.NODE_MISSING, without(last)),
    "neighbour missing": Damage(
        R.NODE_MISSING, without(neighbour), lambda of: bool(of.needed() - set(of.path))
    ),
    "unneeded node missing": Damage(
        None, without(unneeded), lambda of: is_alone(of) and bool(set(of.nodes) - of.needed())
    ),
    "record missing": Damage(R.RECORD_MISSING, without(record), has_record),
    "only the commit": Damage(
        lambda of: R.RECORD_MISSING if has_record(of) else R.NODE_MISSING,
        lambda of: setattr(of, "blocks", [(commit(of), of.by_cid[commit(of)])]),
    ),
    "a block more": Damage(None, lambda of: of.blocks.extend(surplus(1, 100))),
    "many blocks more": Damage(None, lambda of: of.blocks.extend(surplus(300, 1))),
    "far too many blocks": Damage(
        R.CAR_TOO_MANY_BLOCKS, lambda of: of.blocks.extend(surplus(4200, 0))
    ),
    "blocks repeated": Damage(None, lambda of: of.blocks.extend(list(of.blocks))),
    "blocks backwards": Damage(None, lambda of: of.blocks.reverse()),
    "two blocks exchanged": Damage(R.CAR_BLOCK_MISMATCH, swapped_blocks),
    "blocks of 2 MB": Damage(R.BLOCKS_TOO_LARGE, lambda of: of.blocks.extend(surplus(3, 700_000))),
    # The CAR around them.
    "roots none": Damage(R.CAR_NO_ROOT, lambda of: of.roots.clear()),
    "roots turned round": Damage(R.COMMIT_MISMATCH, lambda of: of.roots.insert(0, of.data)),
    "roots more": Damage(None, lambda of: of.roots.append(of.data)),
    "root another": Damage(
        R.COMMIT_MISSING,
        lambda of: (of.roots.__setitem__(0, OTHER), field("commit", link(OTHER))(of)),
    ),
    "CAR version 2": Damage(
        R.CAR_MALFORMED, car_header(lambda of: {"roots": [link(of.roots[0])], "version": 2})
    ),
    "CAR header an array": Damage(R.CAR_MALFORMED, car_header(lambda _: [1])),
    "CAR roots bytes": Damage(
        R.CAR_MALFORMED, car_header(lambda of: {"roots": [of.roots[0]], "version": 1})
    ),
    "CAR torn": Damage(R.CAR_MALFORMED, lambda of: setattr(of, "car_ink", lambda car: car[:-1])),
    "CAR varint torn": Damage(R.CAR_MALFORMED, tail(b"\x80")),
    "CAR varint long": Damage(R.CAR_MALFORMED, tail(b"\xa4\x80\x00")),
    "CAR block without CID": Damage(R.CAR_MALFORMED, tail(b"\x03abc")),
    "CAR trailing zero": Damage(R.CAR_MALFORMED, tail(b"\0")),
    # The frame around all.
    "bytes behind": Damage(R.MALFORMED_FRAME, ink(lambda payload: payload + b"\0")),
    "torn": Damage(R.MALFORMED_FRAME, ink(lambda payload: payload[:-1])),
    "unsorted": Damage(R.MALFORMED_FRAME, ink(unsorted)),
    "long seq": Damage(R.MALFORMED_FRAME, ink(long_seq)),
    "indefinite": Damage(R.MALFORMED_FRAME, ink(lambda payload: b"\xbf" + payload[1:] + b"\xff")),
    "float": Damage(R.MALFORMED_FRAME, field("simnet", 1.5)),
    "tag": Damage(R.MALFORMED_FRAME, field("simnet", cbor2.CBORTag(1, 0))),
    "deep": Damage(
        R.MALFORMED_FRAME, ink(lambda p: b"\xad" + p[1:] + b"\x66simnet" + b"\x81" * 99 + b"\x80")
    ),
    "header unsorted": Damage(
        R.MALFORMED_FRAME, header(bytes.fromhex("a2626f70016174") + b"g#commit")
    ),
    "header another type": Damage(
        R.UNKNOWN_TYPE, header(bytes.fromhex("a26174") + b"g#handlebop\x01")
    ),
    "header another op": Damage(R.UNKNOWN_OP, header(bytes.fromhex("a26174") + b"g#commitbop\x02")),
}
