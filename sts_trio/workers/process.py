"""One worker's process: started as we were, heard until it ends, and started again."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.errors import WorkerFailed
from sts_trio.workers.balancer import Backoff
from sts_trio.workers.channel import Channel, open_pair, read_text
from sts_trio.workers.wire import Ask, Report, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.workers.collect import Scrapes
    from sts_trio.workers.pool import Crew, Worker

log = structlog.get_logger(__name__)

START_SECONDS = 15.0  # a start that takes longer is told of; a tool may load what is large, so it may go on


async def keep_worker(
    worker: Worker, crew: Crew, scrapes: Scrapes, command: Sequence[str], *, must_start: bool = False
) -> None:
    """Run a worker until all are to stop, and another in its place when it dies.

    Raises:
        WorkerFailed: it `must_start`, and its first process ended before it was ready.
    """
    backoff = Backoff()
    while not crew.stopping.is_set():
        began = trio.current_time()
        try:
            live, status = await run_process(worker, crew, scrapes, command)
            ended = how_it_ended(status)
        except OSError as exc:
            live, status, ended = 0, 0, f"could not be started: {exc}"
        if crew.stopping.is_set():
            if status not in (0, -signal.SIGTERM):  # by which it is killed if it has only just been started
                log.error("a worker did not stop in order", worker=worker.number, status=ended, calls_lost=live)
            return
        if must_start and not worker.ready.is_set():
            raise WorkerFailed(f"worker {worker.number} {ended} before it was ready for calls", status)
        scrapes.restarts += 1
        pause = backoff.next(trio.current_time() - began)
        log.error(
            "a worker ended; another takes its place",
            worker=worker.number,
            status=ended,
            calls_lost=live,
            after_seconds=pause,
        )
        with trio.move_on_after(pause):
            await crew.stopping.wait()


async def run_process(worker: Worker, crew: Crew, scrapes: Scrapes, command: Sequence[str]) -> tuple[int, int]:
    """Run one process of a worker to its end. Returns how many calls it had then, and its status.

    It has a session of its own: Ctrl-C on a terminal is for the switch, which then stops all in order.

    Raises:
        OSError: it could not be started.
    """
    ours, theirs = open_pair()
    with ours, theirs:
        place = [str(worker.number), str(worker.share), str(theirs.fileno())]
        process = await trio.lowlevel.open_process(
            [*command, "--worker", *place],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        channel = Channel(ours)
        worker.begin(process, channel)
        if crew.stopping.is_set():  # while it was being started
            process.terminate()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hear, worker, channel, crew, scrapes)
                nursery.start_soon(tell_of_slow_start, worker, crew)
                status = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            live = worker.load.live
            crew.leave(worker)
            scrapes.leave(worker)
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
    return live, status


async def _hear(worker: Worker, channel: Channel, crew: Crew, scrapes: Scrapes) -> None:
    while True:
        try:
            message, descriptor = await channel.receive()
        except trio.EndOfChannel:
            return
        match message:
            case Report():
                crew.hear(worker, message)
            case Ask():
                scrapes.ask(worker)
            case Text(scrape):
                if (text := read_text(descriptor)) is not None:
                    scrapes.hear(worker, scrape, text)


async def tell_of_slow_start(worker: Worker, crew: Crew) -> None:
    with trio.move_on_after(START_SECONDS):
        while worker.load.report is None:
            await crew.changed.park()
        return
    log.warning("a worker is not ready yet; does one of its tools take long to load?", worker=worker.number)


def how_it_ended(status: int) -> str:
    """Say what the status of a process means."""
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
