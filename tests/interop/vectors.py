"""Where do the network's published vectors lie, and frames that were captured there?

The vectors are in the public domain (LICENSE-CC0) and lie beside this file. The frames of real people
do not; they are used where they are at hand.
"""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"

needs_network = pytest.mark.skipif(
    not (FIXTURES / "network").is_dir(), reason="the frames of the real network are not here"
)


def lines(name: str) -> list[str]:
    """The entries of a syntax file."""
    text = (HERE / "syntax" / name).read_text(encoding="utf-8").split("\n")
    return [line for line in text if line and not line.startswith("#")]


def vectors(name: str) -> list[Any]:
    """A JSON file's entries."""
    found: list[Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return found


@cache
def network_frames() -> list[bytes]:
    """The 100 real frames."""
    data, at, frames = (FIXTURES / "network" / "frames.bin").read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        frames.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return frames


@cache
def network_documents() -> dict[str, Any]:
    """Their accounts' DID documents."""
    text = (FIXTURES / "network" / "did_docs.json").read_text(encoding="utf-8")
    documents: dict[str, Any] = json.loads(text)
    return documents
