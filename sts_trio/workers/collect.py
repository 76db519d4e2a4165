"""Scrapes: one worker is asked for the metrics, and all tell theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sts_trio.workers.merge import Ledger
from sts_trio.workers.wire import Tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from sts_trio.workers.pool import Crew, Worker

log = structlog.get_logger(__name__)

WORKER_SECONDS = 2.0  # for the workers to tell theirs
_SWITCH = "switch"  # what the switch itself is called among them


class Scrapes(Collector):
    """Who asks, who has answered, and what the switch itself has to tell."""

    def __init__(self, crew: Crew) -> None:
        self.restarts = 0
        self._crew = crew
        self._ledger = Ledger()
        self._askers: set[Worker] = set()
        self._number = 0
        self._heard: set[Worker] = set()
        self._changed = trio.lowlevel.ParkingLot()
        self._own = CollectorRegistry(auto_describe=False)
        self._own.register(self)
        ProcessCollector(registry=self._own)

    def ask(self, worker: Worker) -> None:
        """A worker wants the metrics of all."""
        self._askers.add(worker)
        self._changed.unpark_all()

    def hear(self, worker: Worker, scrape: int, text: bytes) -> None:
        """A worker has told its own; too late is better than never, since its sums count."""
        try:
            self._ledger.hear(worker.name, text.decode())
        except ValueError as exc:
            log.error("the metrics of a worker cannot be read", worker=worker.number, problem=str(exc))
            return
        if scrape == self._number:
            self._heard.add(worker)
            self._changed.unpark_all()

    def leave(self, worker: Worker) -> None:
        """A worker is gone."""
        self._ledger.bury(worker.name)
        self._heard.discard(worker)
        self._askers.discard(worker)
        self._changed.unpark_all()

    async def run(self) -> None:
        """Answer for ever. Who asks while others are being answered is in the next round."""
        while True:
            while not self._askers:
                await self._changed.park()
            askers, self._askers = self._askers, set()
            text = await self._gather()
            for asker in askers:
                if asker.channel is not None:
                    asker.channel.send_text(text, self._number)

    async def _gather(self) -> bytes:
        self._number += 1
        self._heard.clear()
        asked = {worker for worker in self._crew.there if worker.send(Tell(self._number))}
        with trio.move_on_after(WORKER_SECONDS):
            while (asked & set(self._crew.there)) - self._heard:
                await self._changed.park()
        self._ledger.hear(_SWITCH, generate_latest(self._own).decode())
        return self._ledger.page({_SWITCH, *(worker.name for worker in self._heard)})

    def collect(self) -> Iterator[Metric]:
        """See `Collector`: what the switch tells of the workers."""
        there = self._crew.there
        unheard = [worker for worker in there if worker not in self._heard]
        yield GaugeMetricFamily("sts_workers", "Worker processes that are there", value=len(there))
        yield GaugeMetricFamily(
            "sts_workers_unheard", "Worker processes that did not answer this scrape in time", value=len(unheard)
        )
        yield CounterMetricFamily(
            "sts_worker_restarts", "Worker processes that died, and that others took the place of", value=self.restarts
        )
