"""Which mutants change nothing that anybody could see, and why? By name; nothing else may survive."""

from __future__ import annotations

from typing import Final

_FAST = "only the fast way is taken less often; the slow one, which is exact, says the same"
_OURS = "a bound of our own, by one; nothing lies so close to it, and tests take it from here"
_FORM = "the number of a file's form: who writes it under another one reads it under that one, too"
_FIRST_HEARD = "nothing was heard yet, which is looked at first; then it is overwritten"

HARMLESS: Final[dict[str, str]] = {
    "A key may occur twice, in a node and in its subtree": "a child stands a level lower, so that "
    "its parent's keys are refused there for their depth, which is looked at first",
    "What waits long is dropped though the whole directory is down": "who asks this has just begun "
    "the time of waiting anew where the directory is down, so that nothing has waited long",
    "ingest/steps.py check_rev_is_not_ahead: rev is None or rev < _last_tid_of(int(case.now_s)) → "
    "(rev is None and rev < _last_tid_of(int(case.now_s)))": _FAST,
    "ingest/records.py module: 262_144 → 262145": "it says when the slow way is taken, which is exact",
    "common/commit_payload.py _ordinary: len(repo) < 256 → (len(repo) <= 256)": "where `seq` stands "
    "is then counted wrong by one, seen to be so, and left to the slow way",
    "common/commit.py _text_head: 0x60 → 97": _FAST,
    "common/commit.py _text_head: 24 → 25": _FAST,
    "common/car.py _varint: 28 → 29": "it is compared with multiples of 7",
    "common/syntax.py module: 4096 → 4097": "how many names are remembered to save time, by one",
    "common/syntax.py is_nsid: _nsids.add(text) → pass": "a memory that only saves time",
    "ingest/outage.py Outage.forget: len(self._order) > 64 + 2 * len(self._held) → "
    "(len(self._order) >= 64 + 2 * len(self._held))": "when a list is tidied, by one",
    "ingest/status.py StatusDesk._work: self._more.set() → pass": "whoever is done takes the next "
    "question himself; the others only sleep a little longer",
    "persist/account.py module: 500_000 → 500001": _OURS,
    "ingest/node_memory.py NodeMemory._read_rest: node.level - 1 → (node.level + 1) (2)": "the memory "
    "then proves less, and what it does not prove is undone as if there were none",
    "ingest/node_memory.py NodeMemory.proves: self.misses += 1 → pass (2)": "a number for those who "
    "measure the memory; no verdict and no metric hangs on it",
    'ingest/clock.py Clock.is_not_ahead: now_s - self._right.get(host, float("-inf")) < AGAIN_S → '
    "(now_s - self._right.get(host, float('-inf')) <= AGAIN_S)": "how often it is noted that a host "
    "is right, by one moment",
    "ingest/records.py check_records: 0 → 1 (2)": "it says when the slow way is taken, which is exact",
    "persist/duplicates.py LoggedSeqs.has: upstream_seq <= self.newest.get(account, -1) → "
    "(upstream_seq < self.newest.get(account, -1))": "an account's newest number is among those of "
    "the stream as well, or at or below the cursor, and so known all the same",
    "persist/fence.py Fence.passes: epoch > known → (epoch >= known)": "the same epoch is put in "
    "the place of itself",
    "persist/fence.py Fence.known: 0 → 1": "it is asked only where a higher epoch is known, which "
    "is why somebody was refused",
    "ingest/share.py Contact.__init__: 0.0 → 1.0 (3)": _FIRST_HEARD,
    "ingest/share.py Contact.__init__: self._started_s = 0.0 → pass": _FIRST_HEARD,
    "ingest/share.py _moves: sum(row.weight for row in fitting) > worthwhile / 2 → "
    "(sum((row.weight for row in fitting)) >= worthwhile / 2)": "what is measured never meets half of "
    "the bound to the last bit, and where nothing fits both say no: the bound is above 0",
    "persist/checkpoint.py decode_checkpoint: len(data) < _HEAD.size + _CRC.size → "
    "(len(data) <= _HEAD.size + _CRC.size)": "a head and a CRC with nothing between were never "
    "written; what is cut to that length is refused by its CRC",
    "persist/retention.py leaving: True → False": "a guard against ourselves: the two lists are "
    "made of one, and as long",
    "persist/retention.py _is_old: segment.first_us >= oldest_us → (segment.first_us > oldest_us)": "its last events are no older than its first chunk, and so it stays; but for one without events, "
    "which goes a microsecond earlier",
    "ingest/did_document.py module: 1024 → 1025": _OURS,
    "ingest/waiting.py Waiting.put: False → True": "an account is then looked at once more than it need "
    "be, and found waiting",
    "ingest/limiter.py Limiter.wait: True → False": "a guard against ourselves: all of them have one "
    "part for each window",
    "ingest/dials.py module: 4.0 → 5.0": "how much faster those are dialled that another process had; "
    "tests take it from here",
    "ingest/fairness.py module: 64_000 → 64001": _OURS,
    "ingest/fairness.py Fairness.defer: feed.deferred_bytes + size > self._host_bytes → "
    "(feed.deferred_bytes + size >= self._host_bytes)": _OURS,
    "common/hidden.py module: 1 → 2": _FORM,
    "persist/checkpoint.py module: 2 → 3": _FORM,
    "common/salvage.py module: 1024 → 1025": _OURS,
    "common/salvage.py _Search._leads: 0 → 1": _OURS,
}
