"""The door: `python -m ingest --member n`."""

from __future__ import annotations

import sys

from common.curve import ClientKeys, client_keys
from common.database import SchemaMismatch, while_schema_fits
from common.process import Context, Fault, run
from common.settings import Settings
from ingest.host_table import HostTable
from ingest.lease_table import LeaseTable
from ingest.reject_table import RejectTable
from ingest.worker import Worker


async def main(context: Context) -> None:
    """Read this member's share of the hosts until asked to stop."""
    settings, paths = context.settings, context.paths

    def database_url() -> str:
        return settings.database_url or paths.embedded_database_url

    worker = Worker(
        member=context.member,
        processes=settings.ingest_processes,
        endpoint=settings.batches_connect or paths.batches_endpoint,
        keys=_keys(settings),
        table=HostTable(database_url, settings.trusted_domains, settings.observe_clean_s),
        leases=LeaseTable(database_url, f"ingest-{context.member} leases"),
        rejects=RejectTable(database_url, f"standpipe ingest-{context.member} rejects"),
        plc_url=settings.plc_url,
        hosts=settings.hosts,
        relay_url=settings.relay_host,
        allow_insecure=settings.allow_insecure_hosts,
        account_limit=settings.default_account_limit,
        documents_url=database_url,
        dials_per_second=settings.dials_per_second,
        ready=context.ready,
    )
    try:
        await while_schema_fits(database_url(), context.name, worker.run(context.stopping))
    except SchemaMismatch as error:
        raise Fault(str(error)) from error


def _keys(settings: Settings) -> ClientKeys | None:
    if not settings.batches_connect:
        return None
    assert settings.curve_dir is not None
    return client_keys(settings.curve_dir)


if __name__ == "__main__":
    sys.exit(run("ingest", main))
