"""What do people write? Plausible records and paths, from a random generator that is handed in.

Sizes and collections resemble the network's: many likes, some posts, few follows.
"""

from __future__ import annotations

import base64
import random
from typing import Any, Final

from tests.simnet.clock import datetime_text, tid
from tests.simnet.drisl import CID_PREFIX, link

COLLECTIONS: Final = (
    "app.bsky.feed.like",
    "app.bsky.feed.post",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
)
_WEIGHTS: Final = (50, 30, 10, 10)
_TEXT: Final = (
    "water runs under the old street where three pipes meet and someone left a lamp burning "
    "while rain came down on the market square all night long until the pump house woke"
)
_WORDS: Final = _TEXT.split()
_DAY_US: Final = 86_400_000_000


def new_path(rng: random.Random, rkey: str) -> str:
    """A path in a likely collection."""
    return f"{rng.choices(COLLECTIONS, _WEIGHTS)[0]}/{rkey}"


def rkey_paths(count: int, rng: random.Random, now_us: int) -> list[str]:
    """`count` different paths of an account's past two years, a profile among them."""
    paths = ["app.bsky.actor.profile/self"][:count]
    for i in range(count - len(paths)):
        age_us = (count - i) * (730 * _DAY_US // max(count, 1)) - rng.randrange(1000)
        paths.append(new_path(rng, tid(now_us - age_us)))
    return paths


def new_record(path: str, rng: random.Random, now_us: int) -> dict[str, Any]:
    """A record for a path."""
    collection = path.partition("/")[0]
    created = datetime_text(now_us)
    if collection == "app.bsky.feed.post":
        return _post(created, rng, now_us)
    if collection in ("app.bsky.feed.like", "app.bsky.feed.repost"):
        return {"$type": collection, "subject": _reference(rng, now_us), "createdAt": created}
    if collection == "app.bsky.graph.follow":
        return {"$type": collection, "subject": _did(rng), "createdAt": created}
    name = " ".join(rng.choices(_WORDS, k=2))
    return {"$type": collection, "displayName": name, "description": _TEXT}


def _post(created: str, rng: random.Random, now_us: int) -> dict[str, Any]:
    """A post: half of them answers, some with a link, some with a picture."""
    text = " ".join(rng.choices(_WORDS, k=rng.randrange(8, 55)))
    post: dict[str, Any] = {
        "$type": "app.bsky.feed.post",
        "text": text,
        "langs": ["en"],
        "createdAt": created,
    }
    roll = rng.random()
    if roll < 0.5:
        post["reply"] = {"root": _reference(rng, now_us), "parent": _reference(rng, now_us)}
    if roll > 0.4:
        uri = f"https://news.example/{_rkey(rng, now_us)}"
        feature = {"$type": "app.bsky.richtext.facet#link", "uri": uri}
        post["facets"] = [
            {"index": {"byteStart": 0, "byteEnd": len(text) // 2}, "features": [feature]}
        ]
    if roll > 0.8:
        picture = {
            "$type": "blob",
            "ref": link(b"\x01\x55\x12\x20" + rng.randbytes(32)),
            "mimeType": "image/jpeg",
            "size": rng.randrange(20_000, 900_000),
        }
        image = {"alt": text, "image": picture}
        post["embed"] = {"$type": "app.bsky.embed.images", "images": [image]}
    return post


def _reference(rng: random.Random, now_us: int) -> dict[str, str]:
    """A strong reference to somebody's post."""
    uri = f"at://{_did(rng)}/app.bsky.feed.post/{_rkey(rng, now_us)}"
    return {"uri": uri, "cid": _cid_text(rng)}


def _did(rng: random.Random) -> str:
    return "did:plc:" + base64.b32encode(rng.randbytes(15)).decode().lower()


def _rkey(rng: random.Random, now_us: int) -> str:
    return tid(now_us - rng.randrange(_DAY_US))


def _cid_text(rng: random.Random) -> str:
    text = base64.b32encode(CID_PREFIX + rng.randbytes(32)).decode().lower()
    return "b" + text.rstrip("=")
