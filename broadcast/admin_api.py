"""What does the admin API consist of, and what does it need of this process?

    Setup ─▶ gate, desks, siblings, consumers ─▶ routes

Put together once by the worker, and taken apart at its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from starlette.routing import Route

from broadcast.admin_desk import Desks
from broadcast.admin_door import Door
from broadcast.admin_more import More
from broadcast.admin_reference import Defaults, Reference
from broadcast.alerts import Alerts, Rule
from broadcast.client import Clients
from broadcast.config import HttpLimits
from broadcast.consumers import Consumers
from broadcast.crawl_desk import CrawlDesk
from broadcast.siblings import Siblings
from broadcast.subscriber import Service


@dataclass(frozen=True, slots=True)
class Setup:
    """What the settings say.

    passwords: of the user `admin`, each good; none lets nobody in. siblings: URLs of other relays.
    member: number of this broadcaster. run_dir: where the others of this relay tell their ports; None:
    there are none.
    """

    passwords: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    member: int = 0
    run_dir: Path | None = None
    defaults: Defaults = field(default_factory=Defaults)
    alerts: Rule = field(default_factory=Rule)


class AdminApi:
    """The admin API of one broadcaster."""

    def __init__(
        self,
        setup: Setup,
        database_url: str,
        service: Service,
        clients: Clients,
        limits: HttpLimits,
        crawl: CrawlDesk,
    ) -> None:
        """Opens nothing."""
        self._desks = Desks(database_url)
        self.siblings = Siblings(setup.siblings)
        self.door = Door(setup.passwords, clients, self._desks, self.siblings, limits.body_bytes)
        self.alerts = Alerts(setup.alerts, self._desks, self.siblings, setup.passwords)
        self._looking: asyncio.Task[None] | None = None
        reference = Reference(setup.defaults, crawl)
        more = More(reference, Consumers(service, setup.run_dir))
        self._paths = [*reference.paths(), *more.paths()]

    def routes(self) -> list[Route]:
        """All of its paths."""
        return [self.door.route(path) for path in self._paths]

    def open(self) -> None:
        """Begin to look at account limits. Call within the loop."""
        self._looking = asyncio.create_task(self.alerts.run(), name="account limits")

    async def close(self) -> None:
        """Give up what is under way."""
        if self._looking is not None:
            self._looking.cancel()
        self._desks.close()
        await self.siblings.close()
