"""May this request ask for what only the relay's operator may see?

HTTP Basic with the user `admin`, or the same password as a Bearer token, as the usual command-line
tools send it. This module does not know where the password comes from.

Source: the reference relay's admin API; RFC 7617, RFC 6750.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from hmac import compare_digest
from typing import Final

USER: Final = "admin"
CHALLENGE: Final = 'Basic realm="standpipe admin", charset="UTF-8"'
"""What a refusal has in `WWW-Authenticate`."""


def may_enter(authorization: str | None, passwords: tuple[str, ...]) -> bool:
    """Whether the header `Authorization` proves knowledge of one of the passwords.

    How long it takes tells neither how much of one was right, nor which.
    """
    scheme, _, rest = (authorization or "").strip().partition(" ")
    rest = rest.strip()
    prefix = ""
    if scheme.lower() == "bearer":
        given = rest.encode("latin-1", errors="replace")  # the bytes as they came
    elif scheme.lower() == "basic":
        prefix = f"{USER}:"
        try:
            given = base64.b64decode(rest, validate=True)
        except (binascii.Error, ValueError):
            return False
    else:
        return False
    # Of digests, which have one length: the time to compare would tell how long a password is.
    digest = sha256(given).digest()
    right = [
        compare_digest(digest, sha256(f"{prefix}{password}".encode()).digest()) and bool(password)
        for password in passwords
    ]
    return any(right)
