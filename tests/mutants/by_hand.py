"""Which bugs would a tired engineer write? By hand: file, text, other text, and what is wrong then."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Bug

_STEPS: Final = "ingest/steps.py"
_JUDGE: Final = "ingest/judge.py"
_TREE: Final = "ingest/inversion.py"
_NODE: Final = "ingest/node.py"
_EVENT: Final = "common/event.py"
_WORKER: Final = "persist/worker.py"
_SEGMENTS: Final = "persist/segment_log.py"
_LIFECYCLE: Final = "ingest/lifecycle.py"
_SHARE: Final = "ingest/share.py"
_LEASE_TABLE: Final = "ingest/lease_table.py"
_INLET: Final = "broadcast/inlet.py"
_FANOUT: Final = "broadcast/fanout.py"
_VERIFY: Final = "persist/verify.py"

_OF_THE_JUDGE: Final = (
    Bug(
        _STEPS,
        "last is None or rev > last:",
        "last is None or rev >= last:",
        "A commit with the very rev of the last one is judged as if it were newer",
    ),
    Bug(
        _STEPS,
        "if rev == last and case.event.kind is Kind.SYNC:",
        "if case.event.kind is Kind.SYNC:",
        "A #sync of an older state rolls the account back",
    ),
    Bug(
        _STEPS,
        "if tid_time_s(rev) > case.now_s + REV_SKEW_S:",
        "if tid_time_s(rev) > case.now_s + 10 * REV_SKEW_S:",
        "A rev from half an hour ahead passes",
    ),
    Bug(
        _STEPS,
        "if rev is None or rev < _last_tid_of(int(case.now_s)):",
        "if rev is None or rev > _last_tid_of(int(case.now_s)):",
        "The cheap look at the clock is the wrong way round",
    ),
    Bug(
        _STEPS,
        "identity.host == case.source.hostname:",
        "identity.host.endswith(case.source.hostname.partition('.')[2]):",
        "Any host of the same domain may speak for an account",
    ),
    Bug(
        _STEPS,
        "if case.fresh or case.state.host in (0, case.source.host):\n            return None\n",
        "return None\n",
        "The old host is accepted as long as the cached document names it",
    ),
    Bug(
        _STEPS,
        "    if case.event.active or case.fresh:\n        return None\n",
        "    return None\n",
        "A former host silences an account with yesterday's document",
    ),
    Bug(
        _STEPS,
        '    status = case.state.status or "no status"\n    if not case.asked:\n',
        '    status = case.state.status or "no status"\n    if False:\n',
        "An account thought inactive is refused without asking its host",
    ),
    Bug(
        _STEPS,
        "    if case.state.active:\n        return None\n",
        "    if case.state.active or case.event.kind is Kind.SYNC:\n        return None\n",
        "A #sync of an inactive account passes",
    ),
    Bug(
        _STEPS,
        "    elif event.commit != car.root:\n",
        "    elif event.commit not in car.blocks:\n",
        "Any block that came may be the message's commit, not only the first root",
    ),
    Bug(
        _STEPS,
        "if signed.rev is not None and event.kind is Kind.SYNC:",
        "if event.kind is Kind.SYNC:",
        "Every bad commit of a #sync is called not re-signed",
    ),
    Bug(
        _STEPS,
        "if case.event.rev == case.state.rev and case.event.commit != case.state.commit:",
        "if case.event.rev == case.state.rev and case.event.commit == b'':",
        "A #sync of the same rev and another commit, a fork, passes",
    ),
    Bug(
        _STEPS,
        "        and identity.key.verify(signed.digest, signed.sig)\n",
        "",
        "No signature is verified",
    ),
    Bug(
        _STEPS,
        "if event.prev_data is not None or (event.since is None and case.state.rev is None):",
        "if event.prev_data is not None or event.since is None:",
        "A commit without prevData passes whenever it has no since",
    ),
    Bug(
        _STEPS,
        "if event.prev_data is not None or (event.since is None and case.state.rev is None):",
        "if event.prev_data is not None or case.state.rev is None:",
        "A later commit without prevData passes where the account is new to us",
    ),
    Bug(
        "ingest/steps.py",
        "        if before != (prev_data or EMPTY_TREE_CID):\n",
        "        if before not in (prev_data or EMPTY_TREE_CID, case.state.data):\n",
        "The stored tree stands in for the message's own prevData",
    ),
    Bug(
        "ingest/steps.py",
        "        if before != (prev_data or EMPTY_TREE_CID):\n",
        "        if before != (prev_data or before):\n",
        "A first commit may leave operations out",
    ),
    Bug(
        _STEPS,
        "    if event.since == state.rev:\n",
        "    if True:\n",
        "`since` is not compared with the last rev",
    ),
    Bug(
        _STEPS,
        "        if prev_data == state.data or prev_data is None:\n",
        "        if prev_data == state.commit or prev_data is None:\n",
        "prevData is compared with the commit before, as `prev` was",
    ),
    Bug(
        _STEPS,
        "    if state.rev is None:\n        return\n    prev_data",
        "    prev_data",
        "The first commit that is seen of an account counts as discontinuous",
    ),
    Bug(
        _STEPS,
        "    case.marks |= _DISCONTINUOUS\n",
        "    case.marks |= 0\n",
        "A broken chain leaves no mark",
    ),
    Bug(
        _STEPS,
        "return _drop(case, reason, detail) if case.fresh else NeedFreshIdentity(reason, detail)",
        "return _drop(case, reason, detail)",
        "An old document condemns",
    ),
    Bug(
        _JUDGE,
        "            and verdict.reason in WAIVABLE\n",
        "",
        "A host that is observed is waived everything",
    ),
    Bug(
        _JUDGE,
        "            source.level is Level.OBSERVE\n            and isinstance",
        "            isinstance",
        "Every host is waived the inversion",
    ),
    Bug(
        _JUDGE,
        "            case.marks |= _WAIVED\n",
        "",
        "What was waived leaves no mark",
    ),
    Bug(
        _JUDGE,
        "        host=source.host,\n",
        "        host=state.host,\n",
        "A migrated account stays with its old host",
    ),
    Bug(
        _JUDGE,
        '        and (state.active or state.status != "deleted")\n',
        "",
        "A tombstoned account is called deleted again and again",
    ),
    Bug(
        _JUDGE,
        "        and did.startswith(PLC_METHOD)\n",
        "",
        "A did:web whose document is missing for an hour counts as deleted",
    ),
    Bug(
        _JUDGE,
        "return check_rev_is_newer(case) or check_rev_is_not_ahead(case)",
        "return check_rev_is_newer(case)",
        "A rev from the future waits for a document",
    ),
)

_OF_THE_TREE: Final = (
    Bug(
        _TREE,
        "    if not ops and data not in blocks:\n",
        "    if data not in blocks:\n",
        "A commit with operations and without its tree passes as if it changed nothing",
    ),
    Bug(
        _TREE,
        '    if len(named) - named.count(b"") != len(set(named) - {b""}):\n',
        "    if False:\n",
        "A child may hang in two places",
    ),
    Bug(
        _TREE,
        "                child = load(blocks.pop(link), link, node.level - 1, below, above)\n",
        "                child = load(blocks.pop(link), link, node.level - 1, BELOW, ABOVE)\n",
        "Keys of a subtree may lie anywhere",
    ),
    Bug(
        _TREE,
        "                child = load(blocks.pop(link), link, node.level - 1, below, above)\n",
        "                child = load(blocks.pop(link), link, None, below, above)\n",
        "A child may stand on any level",
    ),
    Bug(
        _TREE,
        "                if isinstance(child, BadTree):\n                    return child\n",
        "                if isinstance(child, BadTree):\n                    continue\n",
        "A malformed child is taken for one that did not come",
    ),
    Bug(
        "ingest/inversion.py",
        "    except Mismatch as error:\n        return BadTree(DropReason.OP_MISMATCH, str(error))\n",
        "    except Mismatch:\n        return data\n",
        "What contradicts an operation is swallowed",
    ),
    Bug(
        _TREE,
        "        if mismatch is not None:\n            return mismatch\n",
        "",
        "A lie hides behind a node that did not come",
    ),
    Bug(
        _TREE,
        '        if any(op.prev is None for op in ops if op.action != "create"):\n'
        '            return BadTree(DropReason.OP_PREV_MISSING, "an update or delete tells no prev")\n',
        "",
        "An operation without prev is told as a missing node",
    ),
    Bug(
        "ingest/tree.py",
        "        if node is None or node.keys:\n",
        "        if node is None or node.keys or root is not node:\n",
        "A root that lost its last key gives way once, however empty what is below is",
    ),
    Bug(
        "ingest/tree.py",
        "        if node is None or node.keys:\n",
        "        if True:\n",
        "A root that lost its last key stays",
    ),
    Bug(
        "ingest/tree.py",
        "    if i == len(node.keys) or node.keys[i] != key or node.value(i) != value:\n",
        "    if i == len(node.keys) or node.keys[i] != key:\n",
        "An update may name another record than the tree has",
    ),
    Bug(
        "ingest/tree.py",
        '    if node.value(i) != value:\n        raise Mismatch(f"another record at {key.decode()}")\n    if i + 1 < len(keys):\n',
        "    if i + 1 < len(keys):\n",
        "A creation may name another record than the tree has",
    ),
    Bug(
        "ingest/tree.py",
        '    if i < len(keys) and keys[i] == key:\n        raise Mismatch(f"{key.decode()} is there")\n',
        "",
        "A deletion may name a record that is still there",
    ),
    Bug(
        "ingest/tree.py",
        "        if not link and not node.keys:\n",
        "        if False:\n",
        "An emptied intermediate node stays in the tree",
    ),
    Bug(
        "ingest/tree.py",
        "    one = _below(nodes, left, level, low, key)\n",
        "    if isinstance(left, bytes) and nodes.get(left) is None:\n        return right\n    one = _below(nodes, left, level, low, key)\n",
        "A subtree beside a removed key is forgotten when it did not come",
    ),
    Bug(
        "ingest/tree.py",
        "    node = _below(nodes, link, level, low, high)\n    keys, links = node.keys, node.links\n",
        '    if isinstance(link, bytes) and nodes.get(link) is None:\n        return link, b""\n    node = _below(nodes, link, level, low, high)\n    keys, links = node.keys, node.links\n',
        "A subtree that a key falls into is not split when it did not come",
    ),
    Bug(
        "ingest/tree.py",
        "            if shared:\n                entries[n] = with_shared(entries[n], keys[n], shared, two.links[1])\n",
        "",
        "Where two nodes are joined, the prefix stays as it was",
    ),
    Bug(
        "ingest/tree.py",
        "        entries[i] = with_shared(entries[i], keys[i], 0, links[i + 1])\n",
        "        pass\n",
        "Where a node is split, the second half keeps a prefix of the first",
    ),
    Bug(
        "ingest/tree.py",
        "    while node.level < depth:\n",
        "    if node.level < depth:\n",
        "The tree grows by one level where it must by more",
    ),
    Bug(
        _NODE,
        "            if suffix[0] <= key[n]:\n",
        "            if suffix[0] < key[n]:\n",
        "A prefix may be shorter than it could be",
    ),
    Bug(
        _NODE,
        '        elif n > len(key):\n            return _malformed("an entry shares what is not there")\n',
        "",
        "A node's first entry may claim a prefix of nothing",
    ),
    Bug(
        _NODE,
        '    if start != end:\n        return _malformed("bytes between entries")\n',
        "",
        "Bytes between two entries are overlooked",
    ),
    Bug(
        _NODE,
        '        if _SUFFIX_HEADS[len(suffix)] != head:\n            return _malformed("a suffix is not as long as it says")\n',
        "",
        "A suffix may be of another length than it says",
    ),
    Bug(
        _NODE,
        "        if not least <= sha256(key).digest() <= most:\n",
        "        if not sha256(key).digest() <= most:\n",
        "A key may stand below its depth",
    ),
    Bug(
        _NODE,
        "        if not least <= sha256(key).digest() <= most:\n",
        "        if not least <= sha256(key).digest():\n",
        "A key may stand above its depth",
    ),
    Bug(
        _NODE,
        "    if keys[0] <= low or key >= high:\n",
        "    if keys[0] < low or key > high:\n",
        "A key may occur twice, in a node and in its subtree",
    ),
    Bug(
        _NODE,
        "    if not level and any(links):\n",
        "    if not level and left:\n",
        "A subtree may hang behind an entry of the bottom level",
    ),
    Bug(
        _NODE,
        '        if start != end:\n            return _malformed("bytes between e and l")\n',
        "",
        "Bytes may stand between an empty list and the subtree",
    ),
    Bug(
        _NODE,
        '    if not left:\n        return BadTree(DropReason.TREE_MALFORMED, "an empty node that leads nowhere")\n',
        '    if not left:\n        return Node(cid, level, [], [], [b""])\n',
        "An empty node at the end of a branch is taken",
    ),
    Bug(
        _NODE,
        "    return min((256 - number.bit_length()) // 2, 127)\n",
        "    return min((256 - number.bit_length()) // 4, 127)\n",
        "Depth is counted in steps of four bits",
    ),
    Bug(
        "ingest/records.py",
        "        if len(record) > MAX_RECORD_BYTES:\n",
        "        if len(record) >= MAX_RECORD_BYTES:\n",
        "A record of exactly 1,000,000 bytes is refused",
    ),
    Bug(
        "ingest/records.py",
        "        if plain_left < 0 or not _is_plain(record):\n",
        "        if not _is_plain(record[:-1]) and not _is_plain(record):\n",
        "One byte may follow a record",
    ),
    Bug(
        "ingest/records.py",
        "        if op.cid is None:\n            continue\n",
        '        if op.action != "create":\n            continue\n',
        "Only created records are looked for, not updated ones",
    ),
)

_OF_THE_MESSAGE: Final = (
    Bug(
        _EVENT,
        "    if len(raw) > MAX_FRAME_BYTES:\n",
        "    if False:\n",
        "A frame of any size is read",
    ),
    Bug(
        _EVENT,
        "    if len(payload.ops) > MAX_OPS:\n",
        "    if len(payload.ops) > MAX_OPS + 1:\n",
        "201 operations pass",
    ),
    Bug(
        _EVENT,
        "    if len(blocks) > max_bytes:\n",
        "    if len(blocks) >= max_bytes:\n",
        "A CAR of exactly the allowed size is refused",
    ),
    Bug(
        _EVENT,
        "MAX_SYNC_BLOCKS_BYTES: Final = 10_000\n",
        "MAX_SYNC_BLOCKS_BYTES: Final = 2_000_000\n",
        "A #sync may be as large as a commit",
    ),
    Bug(
        _EVENT,
        "    if len(ops) > 1 and len({op.path for op in ops}) != len(ops):\n",
        "    if len(ops) > 2 and len({op.path for op in ops}) != len(ops):\n",
        "Two operations may name one path",
    ),
    Bug(
        _EVENT,
        '        if type(cid) is not bytes or "prev" in raw_op:\n',
        "        if type(cid) is not bytes:\n",
        "A creation may tell a prev",
    ),
    Bug(
        _EVENT,
        '        if cid is not None or (type(prev) is not bytes and "prev" in raw_op):\n',
        '        if type(prev) is not bytes and "prev" in raw_op:\n',
        "A deletion may leave something",
    ),
    Bug(
        _EVENT,
        '        if type(cid) is not bytes or (type(prev) is not bytes and "prev" in raw_op):\n',
        "        if type(cid) is not bytes:\n",
        "An update may say that there was null before",
    ),
    Bug(
        _EVENT,
        "    if type(active) is not bool:\n",
        "    if active is None:\n",
        "`active` may be a number",
    ),
    Bug(
        _EVENT,
        "    if payload.since is not None:\n",
        "    if payload.since is not None and payload.since is not MISSING:\n",
        "A commit without `since` is read as one with null",
    ),
    Bug(
        _EVENT,
        "    if len(raw) - seq_bytes + OUR_SEQ_BYTES > MAX_FRAME_BYTES:\n",
        "    if len(raw) > MAX_FRAME_BYTES:\n",
        "A frame that our own seq makes too large is passed on",
    ),
    Bug(
        "common/syntax.py",
        'return text not in (".", "..") and',
        'return text != "." and',
        "A record key of two dots passes",
    ),
    Bug(
        "common/syntax.py",
        "{1,512}",
        "{1,1024}",
        "Record keys may be twice as long",
    ),
    Bug(
        "common/syntax.py",
        'r"[234567a-j][234567a-z]{12}"',
        'r"[234567a-z]{13}"',
        "A TID beyond 64 bits is taken",
    ),
    Bug(
        "common/commit.py",
        '    if fields["did"] != did:\n',
        '    if fields["did"].lower() != did.lower():\n',
        "DIDs are compared without their case",
    ),
    Bug(
        "common/commit.py",
        '        raise MalformedCbor("prev is neither null nor a dag-cbor link")\n',
        "        pass\n",
        "A commit without its prev is taken",
    ),
    Bug(
        "common/commit.py",
        "block[body : cut.key] + block[cut.end :]",
        "block[body : cut.value] + block[cut.end :]",
        "The signature is held against the wrong bytes where a commit has unknown fields",
    ),
    Bug(
        "common/commit.py",
        'fields["version"] != VERSION:',
        'fields["version"] < VERSION:',
        "A commit of a later version is taken",
    ),
    Bug(
        "common/car.py",
        "    if named != cids:\n",
        "    if len(named) != len(cids):\n",
        "No block is held against its CID",
    ),
    Bug(
        "common/car.py",
        "            if cid != named[i] and cid != RAW_PREFIX + named[i][4:]:\n",
        "            if cid[4:] != named[i][4:] and i == 0:\n",
        "Only the first block is held against its CID",
    ),
    Bug(
        "common/car.py",
        'header.get("version") != 1 or header["version"] is True:',
        'header.get("version") is None:',
        "A CAR of any version is read",
    ),
    Bug(
        "common/car.py",
        "return (roots[0] if roots else None), end",
        "return (roots[-1] if roots else None), end",
        "The last root counts, not the first",
    ),
    Bug(
        "common/car.py",
        "        if length < CID_LENGTH or end > end_of_car:\n",
        "        if length < CID_LENGTH:\n",
        "A torn last block is taken",
    ),
    Bug(
        "common/cid.py",
        "return type(value) is bytes and len(value) == CID_LENGTH and value[:4] == DAG_CBOR_PREFIX",
        "return type(value) is bytes and len(value) == CID_LENGTH",
        "A link to raw bytes is taken for one to a commit or a tree",
    ),
)

_OF_IDENTITY: Final = (
    Bug(
        "ingest/signature.py",
        "1 <= s <= P256_ORDER // 2:",
        "1 <= s < P256_ORDER:",
        "A high s passes on P-256",
    ),
    Bug(
        "ingest/signature.py",
        "            len(sig) == SIGNATURE_BYTES\n            and len(digest) == 32\n",
        "            len(digest) == 32\n",
        "A signature of any length is handed to libsecp256k1",
    ),
    Bug(
        "ingest/signature.py",
        "        except InvalidSignature:\n            return False\n",
        "        except InvalidSignature:\n            pass\n",
        "A wrong signature on P-256 is swallowed",
    ),
    Bug(
        "ingest/signature.py",
        "    if len(raw) != 35 or raw[2] not in (2, 3):\n",
        "    if len(raw) < 35:\n",
        "A Multikey of an uncompressed point is taken",
    ),
    Bug(
        "ingest/signature.py",
        '    if raw[:2] == P256_CODEC:\n        return P256Key(raw[2:])\n    raise KeyInvalid("neither K-256 nor P-256")\n',
        "    return P256Key(raw[2:])\n",
        "A key of any other kind is read as P-256",
    ),
    Bug(
        "ingest/did_document.py",
        '    if document.get("id") != did:\n',
        '    if not document.get("id"):\n',
        "A document about another DID is believed",
    ),
    Bug(
        "ingest/did_document.py",
        '    return [entry for entry in entries if entry.get("id") in ids]\n',
        '    return [entry for entry in entries if str(entry.get("id")).endswith(ids[0])]\n',
        "The key of another DID is taken, where its id ends alike",
    ),
    Bug(
        "ingest/did_document.py",
        '    methods = [method for method in methods if method.get("controller") == did]\n',
        '    methods = [method for method in methods if method.get("controller")]\n',
        "A key that another DID controls is taken",
    ),
    Bug(
        "ingest/did_document.py",
        '    service = next((s for s in services if s.get("type") == "AtprotoPersonalDataServer"), None)\n',
        '    service = next((s for s in services if s.get("type")), None)\n',
        "Any service may be an account's host",
    ),
    Bug(
        "ingest/did_document.py",
        '"?" in url or "#" in url or "@" in parts.netloc:',
        '"?" in url or "#" in url:',
        "An endpoint may carry a user's name",
    ),
    Bug(
        "ingest/directory.py",
        "        return count >= SUSPICIOUS_DIDS and count * 2 > len(recent)\n",
        "        return count * 2 > len(recent)\n",
        "One DID that fails is taken for the whole directory",
    ),
    Bug(
        "ingest/directory.py",
        "        lately = self._failed_s is not None and now_s - self._failed_s <= seconds\n        return lately or self.fails(now_s)\n",
        "        return self.fails(now_s)\n",
        "A directory that has just come back counts as having been there",
    ),
    Bug(
        "ingest/directory.py",
        "        self._answers.pop(did, None)\n",
        "",
        "A DID that is asked again keeps its old place among the newest answers",
    ),
)

_OF_THE_LOG: Final = (
    Bug(
        "common/account_state.py",
        "        desynchronized = True\n        discontinuities += 1\n",
        "        discontinuities += 1\n",
        "An account whose chain broke is not shown as such",
    ),
    Bug(
        "common/account_state.py",
        "        discontinuities += 1\n",
        "",
        "Breaks of the chain are not counted",
    ),
    Bug(
        "persist/sequencer.py",
        "            base.rev != state.rev\n            or base.commit != state.commit\n",
        "            base.commit != state.commit\n",
        "A verdict's rev is not compared with the newest",
    ),
    Bug(
        "persist/sequencer.py",
        "            or base.host != state.host\n",
        "",
        "A verdict is taken though another host has spoken since",
    ),
    Bug(
        "persist/sequencer.py",
        "            or base.active != state.active\n",
        "",
        "A verdict is taken though the account was silenced since",
    ),
    Bug(
        "persist/sequencer.py",
        "        ):\n            self._recalls.sent_back(member, did, event.recall)\n",
        "        ):\n",
        "What follows an event that was sent back may overtake it",
    ),
    Bug(
        "persist/sequencer.py",
        "        elif batch.epoch < newest:\n",
        "        elif batch.epoch <= newest - 1000:\n",
        "An outlived process may go on sending",
    ),
    Bug(
        "persist/sequencer.py",
        "        if batch.log_epoch != self._log_epoch:\n"
        "            fates.received += len(batch.events)\n"
        "            fates.unheard += len(batch.events)\n"
        "            return\n",
        "",
        "What was sent to the process before us is taken",
    ),
    Bug(
        "persist/recall.py",
        "        if recall < expected:\n            return False\n",
        "        if recall < expected - 1:\n            return False\n",
        "An event judged before the recall passes",
    ),
    Bug(
        "persist/account.py",
        "            if key in old and key not in young\n",
        "            if key in young and key in old\n",
        "What PostgreSQL does not have yet is forgotten",
    ),
    Bug(
        "persist/replay.py",
        "        if seq <= after_seq:\n",
        "        if seq < after_seq:\n",
        "The last event that the view has is applied to it once more",
    ),
    Bug(
        "persist/replay.py",
        "    if not isinstance(event, Event) or event.kind != row.kind or event.seq != seq:\n",
        "    if not isinstance(event, Event):\n",
        "A frame of another number than its row's is replayed",
    ),
)

_MEMORY: Final = "ingest/node_memory.py"

_OF_THE_MEMORY: Final = (
    Bug(
        "ingest/node_memory.py",
        "        return made if hashed(self._nodes, link, made) == name else None\n",
        "        hashed(self._nodes, link, made)\n        return made\n",
        "The memory proves a commit without comparing what it leads to",
    ),
    Bug(
        "ingest/node_memory.py",
        "            node.cid not in blocks or len(node.keys) > MAX_KEYS for node in made\n",
        "            len(node.keys) > MAX_KEYS for node in made\n",
        "The memory proves a commit whose new nodes did not come",
    ),
    Bug(
        "ingest/node_memory.py",
        "            node.cid not in blocks or len(node.keys) > MAX_KEYS for node in made\n",
        "            node.cid not in blocks for node in made\n",
        "The memory lets a node grow beyond what is allowed",
    ),
    Bug(
        "ingest/node_memory.py",
        "            if old[:digest] + raw[digest:end] + old[end:] != raw:\n",
        "            if old[:digest] + raw[digest:end] != raw[:end]:\n",
        "The memory does not compare the end of the nodes above with what it was",
    ),
    Bug(
        _MEMORY,
        "            if old[:digest] + raw[digest:end] + old[end:] != raw:\n",
        "            if old[:at] + raw[at:end] + old[end:] != raw:\n",
        "The memory takes any link for one to a node",
    ),
    Bug(
        _MEMORY,
        "        if before is None or len(ops) != 1 or not (before.keys or not before.links[0]):\n",
        "        if before is None or not (before.keys or not before.links[0]):\n",
        "The memory looks at the first operation only",
    ),
    Bug(
        "ingest/tree.py",
        '    if not fits(node, level, low, high):\n        raise Missing("a node that belongs here")\n',
        "",
        "A node that was sound in one place is taken to be so in another",
    ),
    Bug(
        "ingest/tree.py",
        "    if node.level != level:\n        return False\n",
        "",
        "A node may be found again on another level",
    ),
    Bug(
        "ingest/tree.py",
        "    return low < keys[0] and keys[-1] < high if keys else bool(node.links[0])\n",
        "    return low < keys[0] if keys else bool(node.links[0])\n",
        "A node may be found again beside keys that are lower than its own",
    ),
)

_PIPELINE: Final = "ingest/pipeline.py"
_WAITING: Final = "ingest/waiting.py"

_OF_THE_PIPELINE: Final = (
    Bug(
        "ingest/settling.py",
        "        fresh = account.asked_s >= pending.received_s\n",
        "        fresh = True\n",
        "Every document counts as looked up since the event came",
    ),
    Bug(
        "ingest/settling.py",
        "        if event.kind is Kind.IDENTITY and not fresh:\n"
        "            return self._look_up(pending, now_s, Need.NEWER)\n",
        "",
        "An #identity refreshes nothing",
    ),
    Bug(
        "ingest/settling.py",
        "            return self._look_up(pending, now_s, Need.NEWER)\n        else:",
        "            self._finish_dropped(pending, Drop(verdict.otherwise))\n        else:",
        "What needs a newer document is dropped",
    ),
    Bug(
        "ingest/settling.py",
        "        if event.kind is not _COMMIT:\n",
        "        if event.kind is Kind.IDENTITY:\n",
        "Only #identity is rate-limited",
    ),
    Bug(
        "ingest/settling.py",
        "            if not pending.due_s:\n",
        "            if True:\n",
        "Each look at a waiting event takes another token",
    ),
    Bug(
        _PIPELINE,
        "            if feed.source.host in account.queues:\n",
        "            if account.recalled and feed.source.host in account.queues:\n",
        "A later event overtakes one that waits",
    ),
    Bug(
        "ingest/pipeline.py",
        "            cause = Cause.TURN if account.recalled else self._settling.settle(pending, now_s)\n",
        "            cause = self._settling.settle(pending, now_s)\n",
        "A new event overtakes those that were sent back",
    ),
    Bug(
        "ingest/settling.py",
        "            self._adopt(pending, told, now_s)\n",
        "",
        "What a host says of an account's status is not told to anybody",
    ),
    Bug(
        "ingest/settling.py",
        "        if told.known and (told.active or told.status not in (None, state.status)):\n",
        "        if told.active or told.status not in (None, state.status) or not told.known:\n",
        "A host that cannot be reached silences its accounts anew",
    ),
    Bug(
        "ingest/settling.py",
        "        if type(identity) is NotFound and fresh:\n            self._bury(pending, identity, now_s)\n",
        "",
        "A tombstoned account goes on as it was",
    ),
    Bug(
        "ingest/settling.py",
        "        event.seq = pending.event.seq\n",
        "",
        "What we say ourselves carries the number 1",
    ),
    Bug(
        _PIPELINE,
        "        if account.in_flight or not account.recalled:\n            return\n",
        "        if not account.recalled:\n            return\n",
        "What was sent back is judged again before the rest is answered",
    ),
    Bug(
        _PIPELINE,
        "        account.recall += 1\n",
        "",
        "The log never hears that its sender knows of the recall",
    ),
    Bug(
        _PIPELINE,
        "                account.state = state\n                account.told_s = now_s\n",
        "                account.told_s = now_s\n",
        "What was sent back is judged against the state of before",
    ),
    Bug(
        _PIPELINE,
        "            if pending.entry is None:\n                # What we said",
        "            if False:\n                # What we said",
        "What we said of an outdated state is judged as if a host had said it",
    ),
    Bug(
        _PIPELINE,
        "        account.identity = identity\n        account.asked_s = asked_s\n",
        "        account.asked_s = asked_s\n        account.identity = account.identity or identity\n",
        "The cached document is never replaced",
    ),
    Bug(
        _PIPELINE,
        "            asked_s = min(asked_s, queue.events[0].received_s - 0.001)\n",
        "            pass\n",
        "A document from the database may count as newer than the event",
    ),
    Bug(
        "ingest/settling.py",
        "        if drop.reason is DropReason.REV_IN_FUTURE and self._clock.bears(\n",
        "        if drop.reason is DropReason.REV_NOT_NEWER and self._clock.bears(\n",
        "A wrong clock of ours drops what it takes for the future",
    ),
    Bug(
        "ingest/settling.py",
        "        if now_s - max(account.asked_s, account.tried_s) > self._limits.stale_s:\n",
        "        if False:\n",
        "A document that is used is never looked up again by age",
    ),
    Bug(
        "ingest/settling.py",
        "            begin_s = max(now_s, account.tried_s + self._limits.refresh_s)\n",
        "            begin_s = now_s\n",
        "One DID may be looked up as often as somebody likes",
    ),
    Bug(
        "ingest/account.py",
        "            if account.idle:\n                del self._by_did[did]\n                break\n",
        "            del self._by_did[did]\n            break\n",
        "An account is forgotten while its events are under way",
    ),
    Bug(
        "ingest/in_flight.py",
        "            base_of(account.state),\n            verdict.after,\n",
        "            base_of(verdict.after),\n            verdict.after,\n",
        "A verdict names the state that it leads to, not the one it was reached against",
    ),
    Bug(
        "ingest/in_flight.py",
        "        account.state = verdict.after\n",
        "",
        "The next event is judged against the state before the last one",
    ),
    Bug(
        _WAITING,
        "        queue.events.appendleft(pending)\n",
        "        queue.events.append(pending)\n",
        "What was sent back is judged after what came later",
    ),
    Bug(
        "ingest/waiting.py",
        "    newest = next((p for p in reversed(queue.events) if p.event.kind is Kind.ACCOUNT), None)\n",
        "    newest = next((p for p in queue.events if p.event.kind is Kind.ACCOUNT), None)\n",
        "The oldest #account survives a flood, not the newest",
    ),
    Bug(
        _WAITING,
        "        if cause is Cause.DOCUMENT and self._is_hopeless(account, now_s):\n"
        "            return DropReason.IDENTITY_UNRESOLVED\n",
        "        if cause is Cause.DOCUMENT:\n            return DropReason.IDENTITY_UNRESOLVED\n",
        "A DID over its bound loses events while the directory is down",
    ),
    Bug(
        _WAITING,
        "                and self._is_hopeless(account, now_s)\n",
        "",
        "What waits long is dropped though the whole directory is down",
    ),
    Bug(
        _WAITING,
        "            and self._may_give_up(account.did, now_s)\n",
        "",
        "One DID's failure is not told from everybody's",
    ),
    Bug(
        _WAITING,
        "                if queue.cause is Cause.DOCUMENT and self._may_go(queue, oldest.account, now_s):\n",
        "                if self._may_go(queue, oldest.account, now_s):\n",
        "A host at its bound loses what waits for something else than a document",
    ),
    Bug(
        _WAITING,
        "        if now_s < queue.alarm_s <= due_s:\n            return\n",
        "        if queue.alarm_s:\n            return\n",
        "A queue is woken once in its life",
    ),
    Bug(
        "common/rates.py",
        "        self._full_s[name] = full_s + self._every_s\n",
        "        self._full_s[name] = full_s\n",
        "A bucket never empties",
    ),
    Bug(
        "common/rates.py",
        "        self._burst_s = rate.every_s * (rate.burst - 1)\n",
        "        self._burst_s = rate.every_s * rate.burst\n",
        "A bucket holds one token more than it says",
    ),
    Bug(
        "common/rates.py",
        "            self._accounts[kind].take((did, host), now_s), self._hosts[kind].take(host, now_s)\n",
        "            self._accounts[kind].take(did, now_s), self._hosts[kind].take(host, now_s)\n",
        "A stranger may use up an account's own tokens",
    ),
    Bug(
        "common/rates.py",
        "            self._accounts[kind].take((did, host), now_s), self._hosts[kind].take(host, now_s)\n",
        "            self._accounts[kind].take((did, host), now_s), now_s\n",
        "A host has no bound over all of its accounts",
    ),
    Bug(
        "ingest/clock.py",
        "        return ahead * 2 > heard and (ahead >= SUSPICIOUS_HOSTS or ahead == heard == 2)\n",
        "        return ahead * 2 > heard\n",
        "One host alone makes us doubt our clock",
    ),
    Bug(
        "ingest/clock.py",
        "        return ahead * 2 > heard and (ahead >= SUSPICIOUS_HOSTS or ahead == heard == 2)\n",
        "        return ahead >= SUSPICIOUS_HOSTS or ahead == heard == 2\n",
        "Three liars among thousands make us doubt our clock",
    ),
    Bug(
        "ingest/clock.py",
        "        if self._near[0] <= rev <= self._near[1]:\n",
        "        if rev <= self._near[1]:\n",
        "An old rev of a backlog is taken for a sign that our clock is right",
    ),
    Bug(
        "ingest/clock.py",
        '        if now_s - self._right.get(host, float("-inf")) <= WINDOW_S:\n            return False\n',
        "",
        "A host that was right a moment ago may have its lie held",
    ),
    Bug(
        "ingest/clock.py",
        "            self._ahead.clear()\n            self._right.clear()\n",
        "",
        "What hosts said before our clock was set goes on counting",
    ),
    Bug(
        "ingest/inquiry.py",
        "        return told if received_s <= told.asked_s + (0 if told.active else self._again_s) else None\n",
        "        return told\n",
        "A host's answer about an account counts for ever",
    ),
    Bug(
        "ingest/inquiry.py",
        '    if code != 200 or answer.get("did") != did or not isinstance(active, bool):\n',
        "    if code != 200 or not isinstance(active, bool):\n",
        "A host's answer about another account is believed",
    ),
    Bug(
        "ingest/inquiry.py",
        "        if (did, host) not in self._open:\n            self._open.add((did, host))\n            self._ask(did, host)\n",
        "        self._ask(did, host)\n",
        "A host is asked once for each event that waits",
    ),
    Bug(
        "ingest/outage.py",
        "        while self._order and len(released) < most:\n",
        "        while self._order:\n",
        "All questions are asked at once when the directory is back",
    ),
    Bug(
        "ingest/questions.py",
        "        if host is None or asked[host] >= most:\n",
        "        if host is None:\n",
        "One host may have all askers",
    ),
    Bug(
        "ingest/documents.py",
        "        if known is not None and known.asked_s > document.asked_s:\n            return\n",
        "",
        "An older document replaces a newer one on its way to the database",
    ),
)

_OF_THE_ORDER: Final = (
    Bug(
        _WORKER,
        "            self._log.wait(chunk.next_seq - 1)\n        except OSError",
        "            self._outlet.publish(chunk)\n"
        "            self._log.wait(chunk.next_seq - 1)\n"
        "        except OSError",
        "A chunk is published before it is synced, and again behind that",
    ),
    Bug(
        _WORKER,
        "        self._write(group)\n        self._answer(group)\n",
        "        self._answer(group)\n        self._write(group)\n",
        "A group is answered before it is written",
    ),
    Bug(
        _SEGMENTS,
        "        if self._unsynced and self._fd is not None:\n"
        "            self._sync()\n"
        "        # An outlived writer may have flushed, but announces nothing.\n"
        "        head = self._check_fence()\n",
        "        head = self._check_fence()\n"
        "        head.durable_seq = self._chain.next_seq - 1\n"
        "        if self._unsynced and self._fd is not None:\n"
        "            self._sync()\n",
        "The head is announced before the sync",
    ),
    Bug(
        _SEGMENTS,
        "            self._disk.sync(self._fd)\n        except OSError:\n",
        "            pass\n        except OSError:\n",
        "No group is synced",
    ),
    Bug(
        _SEGMENTS,
        "            self._disk.write(fd, data, tail.rewrite_from)\n",
        "            pass\n",
        "What a writer that died had not announced is trusted, and not written again",
    ),
    Bug(
        _SEGMENTS,
        "        self._check_fence().oldest_seq = self.oldest_seq\n"
        "        self._remove([segment.base for segment in gone])\n",
        "        self._remove([segment.base for segment in gone])\n"
        "        self._check_fence().oldest_seq = self.oldest_seq\n",
        "Segments are removed before readers are told that they go",
    ),
    Bug(
        _SEGMENTS,
        "        self._fd = self._disk.open(path, create=True)\n"
        "        # The name must be on disk before anything in the file can be called durable.\n"
        "        self._disk.sync_folder(self._dir)\n",
        "        self._fd = self._disk.open(path, create=True)\n",
        "The name of a new segment is not synced",
    ),
    Bug(
        _WORKER,
        "        self._write(group)\n"
        "        self._answer(group)\n"
        "        # Now or never: whatever has changed accounts is on disk.\n"
        "        self._flush_view(time.monotonic())\n",
        "        now_s, seq = time.monotonic(), self._sequencer.next_seq - 1\n"
        "        if self._view.due(now_s, seq):\n"
        "            self._writer.ask(self._view.begin(now_s, seq))\n"
        "        self._write(group)\n"
        "        self._answer(group)\n",
        "The database is told of a group before that is on disk",
    ),
    Bug(
        "persist/catch_up.py",
        "            self.duplicates.add(host, row.generation, row.upstream_seq, row.account, seq)\n",
        "            pass\n",
        "After a restart the rows of the log are not remembered",
    ),
    Bug(
        "persist/duplicates.py",
        "        names = {(lagging.host, lagging.generation) for lagging in known}\n        return min(\n",
        "        return next_seq\n        return min(\n",
        "A start reads no rows that are in the database already",
    ),
    Bug(
        "persist/checkpoint_file.py",
        "        disk.sync(fd)\n    finally:",
        "        pass\n    finally:",
        "A checkpoint gets its name before it is synced",
    ),
    Bug(
        _SEGMENTS,
        "        self._epoch = max(head.epoch, self._chain.epoch) + 1\n",
        "        self._epoch = max(head.epoch, self._chain.epoch, 1)\n",
        "A new writer takes over the epoch of the one before",
    ),
    Bug(
        _SEGMENTS,
        "            self._disk.truncate(fd, tail.end)\n",
        "            pass\n",
        "A torn tail is not cut",
    ),
    Bug(
        "ingest/outlet.py",
        "        for judged, frame in unanswered:\n            self.add(judged, frame)\n",
        "",
        "What a persist that died had not answered is not sent again",
    ),
    Bug(
        "common/process.py",
        "    if _is_orphan(parent):\n",
        "    if False:\n",
        "A process whose supervisor died while Python was loaded runs on",
    ),
)

_OF_THE_BALANCE: Final = (
    Bug(
        "common/conservation.py",
        "        remainder = abs(came - ended - self.held - self.in_flight)\n",
        "        remainder = max(0, came - ended - self.held - self.in_flight)\n",
        "An event that ended twice does not show in the balance",
    ),
    Bug(
        "common/conservation.py",
        "            remainder += abs(\n",
        "            remainder += 0 * abs(\n",
        "What was lost between the socket and the hand does not show in the balance",
    ),
    Bug(
        "ingest/subscription.py",
        "        self._pipeline.counts.unread += len(self.inbox)\n",
        "",
        "Messages let go with their connection are counted nowhere",
    ),
    Bug(
        "ingest/counts.py",
        "            self._before_writer = self.forwarded.total()\n",
        "            pass\n",
        "What an earlier persist wrote is held against the one after it",
    ),
    Bug(
        "persist/sequencer.py",
        "                self.fates.abandoned += 1\n",
        "",
        "An event whose process was outlived while it waited ends uncounted",
    ),
    Bug(
        "persist/sequencer.py",
        "            self.fates.refused += len(batch.events)\n",
        "",
        "The events of a refused batch end uncounted",
    ),
    Bug(
        _INLET,
        "            self.tally.seen += chunk.count\n",
        "            pass\n",
        "Events that came twice to broadcast end uncounted",
    ),
    Bug(
        _INLET,
        "            self.tally.received += count\n",
        "",
        "Events that broadcast reads from the log go out without having come",
    ),
    Bug(
        "common/command/balance.py",
        "lost + max(0, heard - written)",
        "lost",
        "What ingest calls on disk and persist has not written is not missed in the report",
    ),
)

_OF_LEASES: Final = (
    Bug(
        "persist/fence.py",
        "        return epoch >= known\n",
        "        return True\n",
        "An owner that was outlived adds to its shard's log",
    ),
    Bug(
        "persist/fence.py",
        "        if epoch > known:\n            self.epochs[shard] = epoch\n",
        "        self.epochs[shard] = epoch\n",
        "An old owner that speaks again is the shard's owner from then on",
    ),
    Bug(
        "persist/fence.py",
        "            self.passes(claim.shard, claim.epoch)\n",
        "            self.epochs[claim.shard] = claim.epoch\n",
        "Of two epochs that are known of a shard at start the last one counts, not the highest",
    ),
    Bug(
        "persist/sequencer.py",
        "            if not cursor.epoch or self._holds(reply, cursor.shard, cursor.epoch)\n",
        "            if True\n",
        "A cursor of an outlived owner is taken",
    ),
    Bug(
        "persist/catch_up.py",
        "        self._fence.passes(row.shard, row.epoch)\n",
        "",
        "After a restart the epochs in the log's rows are forgotten",
    ),
    Bug(
        _SHARE,
        "    patient = unbroken_s >= PATIENT_S\n",
        "    patient = True\n",
        "After an outage of the database everybody's leases are up for grabs at once",
    ),
    Bug(
        _SHARE,
        "    return at_home or (patient and row.past_s > 0)\n",
        "    return at_home or patient\n",
        "A lease of another is taken before it has expired",
    ),
    Bug(
        _SHARE,
        "    if row.past_s <= 0 or (ours and row.instance == me.instance):\n",
        "    if row.past_s <= 0:\n",
        "A process takes its own expired lease as if it were another's",
    ),
    Bug(
        _SHARE,
        "            or started_s != self._started_s\n",
        "",
        "A restart of the database counts as unbroken contact",
    ),
    Bug(
        _SHARE,
        "            late = patient and row.past_s > LATE_S\n",
        "            late = False\n",
        "What was meant for one who has just died is nobody's for as long as he counts",
    ),
    Bug(
        _SHARE,
        "    apart = 1.5 * EMPTY_LOAD + TOLERANCE * fair\n",
        "    apart = 1.5 * EMPTY_LOAD\n",
        "Loads that sway move shards",
    ),
    Bug(
        _SHARE,
        "row.weight <= 0.75 * gap]",
        "row.weight <= 1.5 * gap]",
        "A shard that is all the load goes to and fro",
    ),
    Bug(
        _SHARE,
        "        return self.load + self.hosts * HOST_LOAD + EMPTY_LOAD\n",
        "        return self.hosts * HOST_LOAD + EMPTY_LOAD\n",
        "Shares are counted, whatever they cost",
    ),
    Bug(
        _SHARE,
        "    if patient and room > 0:\n",
        "    if room > 0:\n",
        "Shards are given up before everybody had the time to renew",
    ),
    Bug(
        "persist/gate.py",
        '        if mechanism == b"CURVE" and credentials and credentials[0] in self._allowed:\n',
        '        if mechanism == b"CURVE" and credentials:\n',
        "Any key at all is let in",
    ),
    Bug(
        "persist/inlet.py",
        "                lock_inlet(self.socket, others.keys)\n",
        "",
        "Other machines come in without a key",
    ),
    Bug(
        _LEASE_TABLE,
        "            AND clock_timestamp() < to_timestamp(%(until_s)s)\n",
        "            AND to_timestamp(%(until_s)s) IS NOT NULL\n",
        "Leases are taken on what was seen long ago",
    ),
    Bug(
        _LEASE_TABLE,
        "        WHERE shard.epoch = wanted.epoch\n            AND (",
        "        WHERE (",
        "A lease that has changed hands since it was looked at is taken",
    ),
    Bug(
        _LEASE_TABLE,
        "        SELECT number FROM shard WHERE owner = %(member)s AND instance = %(instance)s\n",
        "        SELECT number FROM shard WHERE owner = %(member)s AND instance = %(instance)s\n"
        "            AND expires_at > clock_timestamp()\n",
        "A lease that has expired is not renewed, though nobody has taken it",
    ),
    Bug(
        _LEASE_TABLE,
        "    f\"SET idle_in_transaction_session_timeout = '{STATEMENT_S} s'\",\n",
        "",
        "Who is frozen in the midst of a look keeps its rows from everybody",
    ),
    Bug(
        "common/owner.py",
        "        if os.getpid() != self._pid:\n",
        "        if False:\n",
        "A child process may use its parent's connection",
    ),
    Bug(
        "ingest/asker.py",
        "        self._questions.put(None)\n",
        "        self._questions.put(None)\n        self._close()\n",
        "The connection is closed under the thread that uses it",
    ),
)

_OF_HOLES: Final = (
    Bug(
        "broadcast/hole.py",
        "        if chunk.first_seq > next_seq:\n",
        "        if chunk.first_seq > next_seq + 1:\n",
        "A hole of one number is not told to consumers",
    ),
    Bug(
        "broadcast/hole.py",
        "        first_seq = max(seq, self.first_seq)\n",
        "        first_seq = self.first_seq\n",
        "Who comes from within a hole is told of numbers before its place",
    ),
    Bug(
        "broadcast/ring.py",
        "        if chunk.first_seq > self.next_seq:\n",
        "        if chunk.first_seq < 0:\n",
        "The ring takes a chunk that leaves numbers out in silence",
    ),
    Bug(
        "broadcast/playback.py",
        "            return [Hole(seq, min(damage.until_seq, until_seq), Cause.DAMAGED)]\n",
        "            return [Hole(seq, damage.until_seq, Cause.DAMAGED)]\n",
        "A damaged range is told beyond the place where the stream goes on",
    ),
    Bug(
        "broadcast/damage.py",
        "        key = str(damage) if damage.until_seq is None else damage.until_seq\n",
        "        key = str(damage)\n",
        "A damaged range is told anew for each place it is entered at",
    ),
    Bug(
        _INLET,
        "        self._compare(durable_seq, now_s)\n",
        "",
        "Broadcast goes on with a log that was replaced under it",
    ),
    Bug(
        _INLET,
        "            self._fill(chunk.next_seq if misfit else chunk.first_seq, chunk)\n",
        "            self._fill(chunk.first_seq, chunk)\n",
        "A chunk that does not follow from the one before goes out all the same",
    ),
    Bug(
        _FANOUT,
        "            if part.next_seq > consumer.next_seq:\n                self._serve(",
        "            if part.events:\n                self._serve(",
        "A consumer that reads a hole alone is let go",
    ),
    Bug(
        _FANOUT,
        "                self._ahead.add(outlet)\n                return\n",
        "                consumer.next_seq = self.live_seq\n                continue\n",
        "A consumer that is ahead of its new process gets the same events again",
    ),
    Bug(
        "broadcast/server.py",
        "        for place in (0, 1):\n",
        "        for place in (0,):\n",
        "Who drains and listens in the first place finds no sibling for its new connections",
    ),
)

_OF_INSPECTION: Final = (
    Bug(
        "common/log_walk.py",
        "        if self._broken is not None and chain.next_seq <= chunk.first_seq:\n",
        "        if chain.next_seq <= chunk.first_seq:\n",
        "A chunk that was taken out of the log is not missed",
    ),
    Bug(
        "common/logged.py",
        "    if account_key(event.did) != row.account:\n",
        "    if False:\n",
        "A row that names another account than its frame is sound",
    ),
    Bug(
        "common/logged.py",
        "    if rev != row.rev:\n",
        "    if False:\n",
        "A row that has another rev than its frame is sound",
    ),
    Bug(
        "persist/known.py",
        "        return NOTHING if known.seq < self.lost_until else known\n",
        "        return known\n",
        "What was known of an account before damage is held against the view",
    ),
    Bug(
        "persist/known.py",
        "        certain |= Certain.COMMIT | Certain.HOST\n",
        "        certain |= Certain.COMMIT\n",
        "A commit proves nothing of who speaks for the account",
    ),
    Bug(
        _VERIFY,
        "            if cursor > newest + CURSOR_SLACK:\n",
        "            if False:\n",
        "A cursor far above the host's last event is no mismatch",
    ),
    Bug(
        _VERIFY,
        "        if told is not None and told.durable_seq > self._last_seq:\n",
        "        if told is not None and told.durable_seq > self._last_seq + 1:\n",
        "A checkpoint that is ahead of the log by one event is no mismatch",
    ),
)

_OF_CUTS: Final = (
    Bug(
        "persist/store.py",
        "    WHERE id = %(host)s\n"
        "        AND %(seq)s > coalesce((SELECT value FROM relay WHERE name = 'applied_seq'), 0)\n",
        "    WHERE id = %(host)s\n",
        "What a host is counted for is counted twice when the answer to the commit is lost",
    ),
    Bug(
        "persist/checkpoint.py",
        "    if _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(data[: -_CRC.size]):\n",
        "    if False:\n",
        "A damaged checkpoint is believed",
    ),
    Bug(
        "persist/checkpoint.py",
        "            [cursor[:3] for cursor in checkpoint.cursors],\n",
        "            [(*cursor[:2], cursor[2] + 1) for cursor in checkpoint.cursors],\n",
        "A checkpoint's cursor skips an event of its host",
    ),
    Bug(
        "persist/duplicates.py",
        "            stream.seqs = {seq: ours for seq, ours in lagging.seqs.items() if seq > stream.cursor}\n",
        "            stream.seqs = {}\n",
        "After a restart the events of a host that lags are taken anew",
    ),
    Bug(
        "persist/retention.py",
        "    ends = [*(segment.base for segment in sealed), active_base][1:]\n",
        "    ends = [segment.base for segment in sealed]\n",
        "A segment leaves the log though what PostgreSQL lacks lies within it",
    ),
    Bug(
        "common/salvage.py",
        "            if at in self._proof.offsets or crc in self._proof.crcs:\n",
        "            if True:\n",
        "A whole chunk that a host made up within a frame is where the log goes on",
    ),
    Bug(
        "common/segment_index.py",
        "    if len(body) < _HEAD.size or _CRC.pack(zlib.crc32(body)) != crc:\n",
        "    if len(body) < _HEAD.size:\n",
        "A damaged index is believed",
    ),
)

_OF_LIMITS: Final = (
    Bug(
        "ingest/limiter.py",
        "            used = self._second - passed_s * self._second_per_s\n            self._second = used if used > 0 else 0.0\n        left",
        "            self._second -= passed_s * self._second_per_s\n        left",
        "A host that is silent saves up more than a second's limit",
    ),
    Bug(
        "ingest/limiter.py",
        "        self._second = min(self._second, limits.per_second)\n",
        "        self._second = 0.0\n",
        "Other limits forgive all that was used",
    ),
    Bug(
        "ingest/limiter.py",
        "                wait_s = max(missing / per_s, part_s) if limit >= 1 else LONGEST_S\n",
        "                wait_s = part_s\n",
        "A host that has used up its day is read on in five minutes, whatever it owes",
    ),
    Bug(
        "ingest/fairness.py",
        "        feed.limiter.give_back(1)\n",
        "",
        "What waits for others' sake uses up what they need",
    ),
    Bug(
        "ingest/fairness.py",
        "            pending.feed.limiter.spend(1)\n",
        "",
        "What has waited passes beside its host's limits",
    ),
    Bug(
        "ingest/fairness.py",
        "        wait_s = limiter.token_s(now_s) if pending.deferred else 0.0\n",
        "        wait_s = 0.0\n",
        "What has waited goes on though its host has nothing left",
    ),
    Bug(
        "ingest/fairness.py",
        "        if self._is_full(pending.feed):\n            return now_s\n",
        "",
        "An import over the bound of bytes waits with all of its host behind it",
    ),
    Bug(
        "ingest/turns.py",
        "        if left:\n            limiter.give_back(left)\n",
        "",
        "A turn that ends early costs tokens for what it did not take",
    ),
    Bug(
        "ingest/turns.py",
        "            if self.slowing.end(host, self._now_s()):\n                self._go_on(host)\n",
        "",
        "Who waits for tomorrow waits on when the limit is raised",
    ),
    Bug(
        "ingest/turns.py",
        "            # It may have a new connection by now.\n            host.pause()\n",
        "",
        "A host that waits is read on over a new connection",
    ),
    Bug(
        "ingest/settling.py",
        "                if self._waits_too_long(pending):\n",
        "                if False:\n",
        "An account just under its rate keeps its host's cursor behind for an hour",
    ),
)

_OF_CONTROL: Final = (
    Bug(
        _LIFECYCLE,
        "            self.failures = min(self.failures, delays.offline_failures)\n",
        "",
        "Who is asked for waits the longest again when he does not answer",
    ),
    Bug(
        _LIFECYCLE,
        "restart=signal is Signal.NUMBERS and self.looks >= delays.looks",
        "restart=signal is Signal.NUMBERS",
        "One strange connection is enough to begin a host's numbers anew",
    ),
    Bug(
        "ingest/dials.py",
        "            if self._places.get(host) == number:\n                break\n",
        "            break\n",
        "Who has left the line is dialled all the same",
    ),
    Bug(
        "broadcast/admin_gate.py",
        "        if name not in self._seen:\n            return 0.0\n",
        "",
        "An attack locks out whoever never had a wrong password",
    ),
    Bug(
        "common/hidden.py",
        "        if flags & _HELD:\n            continue\n",
        "",
        "What was held back is told to who reads from the log",
    ),
    Bug(
        "common/hidden.py",
        "(seq < taken_down or kind != _IDENTITY)",
        "kind != _IDENTITY",
        "An identity event of before a takedown is shown behind it",
    ),
    Bug(
        "broadcast/curtain.py",
        "            if self._read is None:\n                raise\n",
        "",
        "A broadcaster begins without knowing whom to hide",
    ),
    Bug(
        "persist/quotas.py",
        "self._live.get(host, 0) - self._over.get(host, 0) >= limit",
        "self._live.get(host, 0) >= limit",
        "Accounts over a host's limit take room",
    ),
    Bug(
        "persist/wishes.py",
        "if now_s < self._room_due_s or applied_seq < self._room_seq:",
        "if now_s < self._room_due_s:",
        "Accounts are released again before the view knows that they were",
    ),
    Bug(
        "persist/wishes.py",
        "        if self._asked or self._orders or busy:\n            return None\n        # In turn",
        "        if self._asked or busy:\n            return None\n        # In turn",
        "What is wanted is compared with the past while orders are left",
    ),
    Bug(
        "broadcast/crawl.py",
        '    if known is not None and known.wanted == "banned":\n',
        "    if False:\n",
        "A banned host that asks to be read is not told that it is banned",
    ),
    Bug(
        "common/names.py",
        "        if not internal:\n",
        "        if False:\n",
        "A name that leads to an address within is connected to",
    ),
)

BUGS: Final[tuple[Bug, ...]] = (
    *_OF_THE_JUDGE,
    *_OF_THE_TREE,
    *_OF_THE_MEMORY,
    *_OF_THE_MESSAGE,
    *_OF_IDENTITY,
    *_OF_THE_LOG,
    *_OF_THE_PIPELINE,
    *_OF_LIMITS,
    *_OF_THE_ORDER,
    *_OF_THE_BALANCE,
    *_OF_LEASES,
    *_OF_HOLES,
    *_OF_INSPECTION,
    *_OF_CUTS,
    *_OF_CONTROL,
)
