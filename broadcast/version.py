"""Which release is this, and on which C libraries does it run?

The libraries are named because a fault that appears with one of their releases can only be found by
those who can see which one runs.
"""

from __future__ import annotations

import platform
import ssl
from importlib import metadata
from typing import Final

VERSION: Final = metadata.version("standpipe")
SERVER: Final = f"standpipe/{VERSION} (atproto-relay)"
"""The Server header of every response. Relays know each other by its last word."""

_PACKAGES: Final = (
    "cbor2", "coincurve", "cryptography", "h11", "libipld", "orjson", "psycopg", "pyzmq",
    "starlette", "uvicorn", "uvloop", "websockets",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Ours, Python's, the C libraries', and those of the packages that carry C code.

    libsecp256k1 tells no version of its own: it comes inside coincurve, whose version names it.
    """
    # Imported here: this process does not use them all, and their memory is only worth an answer.
    import psycopg  # noqa: PLC0415
    import zmq  # noqa: PLC0415

    found = {name: metadata.version(name) for name in _PACKAGES}
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "libpq": _dotted(psycopg.pq.version()),
        "openssl": ssl.OPENSSL_VERSION,
        "libsecp256k1": f"in coincurve {found['coincurve']}",
        **found,
    }


def _dotted(libpq: int) -> str:
    """libpq's number, such as 180000, as text. Source: libpq, PQlibVersion."""
    return f"{libpq // 10000}.{libpq % 10000}"
