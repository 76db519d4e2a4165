"""One run: the agents, then the callers, and the server's CPU and memory read when measuring begins and ends."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from sts_trio.lab.load.hearing import SharedTimes
from sts_trio.lab.load.plan import AgentsDone, CallersDone, Glance, Measuring, Ready
from sts_trio.lab.load.process import Child, LoadError, open_child
from sts_trio.lab.load.results import Measured, results_of
from sts_trio.lab.load.service import machine_busy, usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.lab.load.plan import FromChild, Plan
    from sts_trio.lab.load.results import Results
    from sts_trio.lab.load.service import Usage

_START_SECONDS = 20.0
# Beyond what a run takes by its plan: handshakes, the last frames, a machine that is overloaded on purpose.
_GRACE_SECONDS = 60.0
_LAST_FRAMES_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Now:
    """The state of a run. CPU in thousandths of a core since the last one; `server` is None if it is not known."""

    plan: Plan
    elapsed: float
    measuring: bool
    up: Glance
    down: Glance
    server: float | None
    load: float


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    machine: float
    server: Usage | None
    callers: Usage | None
    agents: Usage | None


class Run:
    """One run of a plan. `pid` is the server's process, if known; `idle` its memory in bytes before any call."""

    def __init__(self, plan: Plan, pid: int | None, idle: int | None, show: Callable[[Now], None]) -> None:
        self._plan = plan
        self._pid = pid
        self._idle = idle
        self._show = show
        self._up = Glance()
        self._down = Glance()
        self._before: _Look | None = None
        self._after: _Look | None = None
        self._shown: _Look | None = None
        self._agents_done: AgentsDone | None = None
        self._agents: Child
        self._callers: Child
        self._began = time.monotonic()

    async def run(self) -> Results:
        """Hold the calls and measure.

        Raises:
            LoadError: no call could be placed, or a process of the load failed.
        """
        plan = self._plan
        limit = plan.calls / plan.ramp + plan.settle + plan.seconds + _START_SECONDS + _GRACE_SECONDS
        with trio.move_on_after(limit), tempfile.TemporaryDirectory(prefix="sts-load-") as scratch:
            plan = self._plan = msgspec.structs.replace(plan, times=str(Path(scratch) / "times"))
            SharedTimes(plan.times_path, plan.calls, create=True)
            async with open_child("agents", plan) as self._agents:
                await self._wait_ready()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_agents)
                    callers = await self._place_calls()
                    await trio.sleep(_LAST_FRAMES_SECONDS)
                    await self._agents.tell_to_end()
            return self._results(callers)
        raise LoadError(f"the run did not end within {limit:.0f} s")

    async def _wait_ready(self) -> None:
        with trio.move_on_after(_START_SECONDS):
            while not isinstance(await self._agents.news(), Ready):
                pass
            return
        raise LoadError(f"the agents did not listen on {self._plan.host}:{self._plan.port} in time")

    async def _watch_agents(self) -> None:
        while self._agents_done is None:
            match await self._agents.news():
                case AgentsDone() as done:
                    self._agents_done = done
                case Glance() as glance:
                    before, self._up = self._up, glance
                    if self._after is not None and glance.received == before.received:
                        await self._callers.tell_to_end()  # the last frames have arrived
                case _:
                    pass

    async def _place_calls(self) -> CallersDone:
        async with open_child("callers", self._plan) as self._callers:
            while True:
                news: FromChild = await self._callers.news()
                match news:
                    case Glance():
                        self._down = news
                        self._look_and_show()
                    case Measuring(on=True):
                        self._before = self._look()
                    case Measuring(on=False):
                        self._after = self._look()
                    case CallersDone():
                        return news
                    case _:
                        pass

    def _look(self) -> _Look:
        server = usage(self._pid) if self._pid is not None else None
        return _Look(time.monotonic(), machine_busy(), server, usage(self._callers.pid), usage(self._agents.pid))

    def _look_and_show(self) -> None:
        look, before = self._look(), self._shown
        self._shown = look
        server, load = None, 0.0
        if before is not None:
            passed = look.at - before.at
            if look.server is not None and before.server is not None:
                server = look.server.cpu_since(before.server) / passed * 1000
            load = (_cpu(before.callers, look.callers) + _cpu(before.agents, look.agents)) / passed * 1000
        measuring = self._before is not None and self._after is None
        self._show(Now(self._plan, look.at - self._began, measuring, self._up, self._down, server, load))

    def _results(self, callers: CallersDone) -> Results:
        if not callers.setup.total:
            cause = max(callers.failures, key=callers.failures.__getitem__, default="no answer")
            raise LoadError(f"no call to {self._plan.url.split('?')[0]} came about: {cause}")
        before, after, agents = self._before, self._after, self._agents_done
        if before is None or after is None or agents is None:
            raise LoadError("the run broke off before anything was measured")
        known = before.server is not None and after.server is not None
        used = Measured(
            seconds=after.at - before.at,
            server_cpu=_cpu(before.server, after.server) if known else None,
            memory_before=self._idle,
            memory_after=after.server.memory if after.server is not None else None,
            callers_cpu=_cpu(before.callers, after.callers),
            agents_cpu=_cpu(before.agents, after.agents),
            machine_cpu=after.machine - before.machine,
            cores=len(os.sched_getaffinity(0)),
            machine=os.cpu_count() or 1,
        )
        return results_of(self._plan, agents, callers, used)


def _cpu(before: Usage | None, after: Usage | None) -> float:
    return after.cpu_since(before) if before is not None and after is not None else 0.0
