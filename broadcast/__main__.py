"""python -m broadcast --member n: one broadcaster, from its start to its drained end."""

from __future__ import annotations

import sys

from broadcast.worker import broadcast
from common.database import SchemaMismatch, database_url, while_schema_fits
from common.process import Context, Fault, run


async def main(context: Context) -> None:
    """Serve consumers until asked to stop."""
    url = database_url(context.settings, context.paths)
    try:
        await while_schema_fits(url, context.name, broadcast(context))
    except SchemaMismatch as error:
        raise Fault(str(error)) from error


if __name__ == "__main__":
    sys.exit(run("broadcast", main))
