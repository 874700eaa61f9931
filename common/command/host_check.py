"""Does a host say of itself that it is a PDS, and under which name? One question to its describeServer.

Source: S-HST-03; com.atproto.server.describeServer.
"""

from __future__ import annotations

from typing import Final

import orjson

from common.fetch import Fetcher, FetchError
from common.syntax import parse_did
from common.target import Target

_WEB: Final = "did:web:"
LIMIT_S: Final = 5.0
"""For the whole answer, in seconds. Source: the reference relay."""
_MAX_BYTES: Final = 100_000
_HOPS: Final = 2


async def server_did(fetcher: Fetcher, target: Target) -> str:
    """What the host calls itself.

    Raises:
        FetchError: it does not answer, or not as a PDS does; the message says how.
    """
    scheme = "https" if target.tls else "http"
    url = f"{scheme}://{target.hostname}/xrpc/com.atproto.server.describeServer"
    # One on this machine is named by an operator alone.
    found = await fetcher.get(
        url, trusted=target.is_local, max_bytes=_MAX_BYTES, limit_s=LIMIT_S, hops=_HOPS
    )
    if found.status != 200:
        raise FetchError(f"its describeServer answers {found.status}")
    try:
        value = orjson.loads(found.body)
    except orjson.JSONDecodeError:
        raise FetchError("its describeServer answers no JSON") from None
    did = parse_did(value.get("did")) if isinstance(value, dict) else None
    if did is None:
        raise FetchError("its describeServer names no DID")
    return str(did)


def other_name(did: str, hostname: str) -> str | None:
    """The host that a PDS calls itself by its did:web; None where that is `hostname`, or no host."""
    name = did.removeprefix(_WEB).lower()
    if not did.startswith(_WEB) or ":" in name:
        return None
    name = name.replace("%3a", ":")
    return name if name != hostname else None
