"""`serve` with several workers: listen, pass each connection to one of them, keep them running, stop them in order."""

from __future__ import annotations

import signal
import subprocess
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.errors import WorkerFailed
from sts_trio.web.connections import LOG_AGAIN_SECONDS, listen, notice_dead_peers, raise_file_limit, url_of
from sts_trio.workers.channel import Channel, Report, ScrapeRequest, ScrapeResult, open_pair, read_text
from sts_trio.workers.metrics import MetricsCollector
from sts_trio.workers.pool import MISSED_SECONDS, Backoff, WorkerPool, shares, stop_signals

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from sts_trio.settings.service import ServiceSettings
    from sts_trio.workers.pool import WorkerSlot

log = structlog.get_logger(__name__)

START_SECONDS = 15.0  # a start that takes longer is logged; a tool may load large files, so it may go on
_TELL_SECONDS = 0.1  # how old each worker's knowledge of the others may be
# Beyond DRAIN_SECONDS, for calls to close and for what else a worker has running; then it is killed.
_LATE_SECONDS = 20.0
_NO_ROOM_SECONDS = 0.1


async def run_supervisor(
    settings: ServiceSettings, workers: int, command: Sequence[str], lines_dropped: Callable[[], int] = lambda: 0
) -> None:
    """Serve with so many workers until SIGTERM, SIGINT or SIGHUP, and until the last of their calls is over.

    `command` is that of this process: with `--worker` and its numbers added it starts a worker. The first worker is
    started ahead of the others, so that what is wrong with the settings is logged once. `lines_dropped` says how many
    lines this process's log has lost.

    Raises:
        OSError: the address cannot be listened on.
        WorkerFailed: the first worker ended before it was ready; in an exception group.
    """
    raise_file_limit()
    pool = WorkerPool(shares(settings.max_calls, workers))
    collector = MetricsCollector(pool, lines_dropped)
    with listen(settings.host, settings.port) as bound:
        notice_dead_peers(bound, settings.core_dead_seconds)
        with trio.open_signal_receiver(*stop_signals()) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_forward_signals, signals, pool)
                nursery.start_soon(_accept, bound, pool)
                nursery.start_soon(_tell_others, pool)
                nursery.start_soon(collector.run)
                nursery.start_soon(_announce, url_of(bound), pool)
                nursery.start_soon(_kill_late, pool, settings.drain_seconds + _LATE_SECONDS)
                await _keep_workers(pool, collector, command)
                nursery.cancel_scope.cancel()
    log.info("stopped")


async def _accept(bound: socket.socket, pool: WorkerPool) -> None:
    """Accept connections and pass them to workers, for ever."""
    listener = trio.socket.from_stdlib_socket(bound)
    log_at = -inf  # at most one line each `LOG_AGAIN_SECONDS`

    def limited(event: str, **fields: str) -> None:
        nonlocal log_at
        if trio.current_time() >= log_at:
            log_at = trio.current_time() + LOG_AGAIN_SECONDS
            log.error(event, **fields)

    while True:
        try:
            connection, _ = await listener.accept()
        except OSError as exc:  # no file or memory for it, or the firewall's; it may be better in a moment
            limited("no connection can be accepted at the moment", problem=str(exc))
            await trio.sleep(_NO_ROOM_SECONDS)
            continue
        with connection:  # the worker gets a copy
            await pool.until_one_can_accept()  # meanwhile other connections wait in the kernel's queue
            if not pool.pass_connection(connection.fileno()):
                limited("a connection was closed: no worker could be given it")


async def _announce(url: str, pool: WorkerPool) -> None:
    for slot in pool:
        await slot.ready.wait()
    log.info("ready for calls", listening=url, workers=len(pool.slots))


async def _tell_others(pool: WorkerPool) -> None:
    while True:
        pool.tell_others()
        due = trio.current_time() + _TELL_SECONDS
        await trio.sleep_until(due)
        if trio.current_time() - due < MISSED_SECONDS:  # else we were away, and their reports are still to be read
            watch_beats(pool)


def watch_beats(pool: WorkerPool) -> None:
    """Tell of workers that stop answering, or answer again; connections that they have not received go to others."""
    for slot in pool.running:
        stuck = slot.load.is_stuck(trio.current_time())
        handed_on = pool.relieve(slot) if stuck else 0
        if stuck and (handed_on or not slot.silent):
            log.warning(
                "a worker does not answer: new calls go to others",
                worker=slot.number,
                calls=slot.load.live,
                handed_on=handed_on,
            )
        elif slot.silent and not stuck:
            log.warning("a worker answers again", worker=slot.number, calls=slot.load.live)
        slot.silent = stuck


async def _forward_signals(signals: AsyncIterator[int], pool: WorkerPool) -> None:
    """Pass each signal on. Connections are accepted until the last worker has ended, so that /ready can say 503."""
    async for number in signals:
        name = signal.Signals(number).name
        log.info("stopping: the workers are told", signal=name, calls=sum(slot.load.live for slot in pool))
        pool.stop()


async def _kill_late(pool: WorkerPool, seconds: float) -> None:
    """Kill the workers that have not ended `seconds` after the first signal."""
    await pool.stopping.wait()
    await trio.sleep(seconds)
    for slot in pool:
        if slot.process is not None:
            log.error("a worker does not stop: it is killed", worker=slot.number)
            slot.process.kill()


async def _keep_workers(pool: WorkerPool, collector: MetricsCollector, command: Sequence[str]) -> None:
    """Run all workers, the first one ahead, until all have ended after `pool.stop`."""
    async with trio.open_nursery() as nursery:
        first, *others = pool
        nursery.start_soon(partial(_keep_worker, first, pool, collector, command, must_start=True))
        while not (first.ready.is_set() or pool.stopping.is_set()):
            await pool.changed.park()
        for slot in others:
            nursery.start_soon(_keep_worker, slot, pool, collector, command)


async def _keep_worker(
    slot: WorkerSlot, pool: WorkerPool, collector: MetricsCollector, command: Sequence[str], *, must_start: bool = False
) -> None:
    """Run a worker until `pool.stop`, and another one in its place when it dies.

    Raises:
        WorkerFailed: it `must_start`, and its first process ended before it was ready.
    """
    backoff = Backoff()
    while not pool.stopping.is_set():
        began = trio.current_time()
        try:
            live, status = await _run_process(slot, pool, collector, command)
            ended = describe_exit(status)
        except OSError as exc:
            live, status, ended = 0, 0, f"could not be started: {exc}"
        if pool.stopping.is_set():
            if status not in (0, -signal.SIGTERM):  # SIGTERM kills a process that has only just been started
                log.error("a worker did not stop in order", worker=slot.number, status=ended, calls_lost=live)
            return
        if must_start and not slot.ready.is_set():
            raise WorkerFailed(f"worker {slot.number} {ended} before it was ready for calls", status)
        collector.restarts += 1
        pause = backoff.next(trio.current_time() - began)
        log.error(
            "a worker ended; another takes its place",
            worker=slot.number,
            status=ended,
            calls_lost=live,
            after_seconds=pause,
        )
        with trio.move_on_after(pause):
            await pool.stopping.wait()


async def _run_process(
    slot: WorkerSlot, pool: WorkerPool, collector: MetricsCollector, command: Sequence[str]
) -> tuple[int, int]:
    """Run one process of a worker to its end. Returns the number of calls it had then, and its exit status.

    It has a session of its own: Ctrl-C on a terminal goes to the supervisor only, which then stops all in order.

    Raises:
        OSError: it could not be started.
    """
    ours, theirs = open_pair()
    with ours, theirs:
        spec = [str(slot.number), str(slot.share), str(theirs.fileno())]  # `worker.WorkerSpec`
        process = await trio.lowlevel.open_process(
            [*command, "--worker", *spec],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        channel = Channel(ours)
        slot.attach(process, channel, theirs)
        if pool.stopping.is_set():  # while it was being started
            process.terminate()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_receive, slot, channel, pool, collector)
                nursery.start_soon(warn_of_slow_start, slot, pool)
                status = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            live = slot.load.live
            pool.detach(slot)
            if handed_on := pool.hand_on(theirs):
                log.warning("connections of a worker that has ended go to others", worker=slot.number, number=handed_on)
            collector.retire(slot)
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
    return live, status


async def _receive(slot: WorkerSlot, channel: Channel, pool: WorkerPool, collector: MetricsCollector) -> None:
    """Act on the messages of a worker until its end of the channel is closed."""
    while True:
        try:
            message, descriptor = await channel.receive()
        except trio.EndOfChannel:
            return
        match message:
            case Report():
                pool.on_report(slot, message)
            case ScrapeRequest():
                collector.on_request(slot)
            case ScrapeResult(number):
                if (text := read_text(descriptor)) is not None:
                    collector.on_result(slot, number, text)


async def warn_of_slow_start(slot: WorkerSlot, pool: WorkerPool) -> None:
    """Log a warning if a worker has not reported within `START_SECONDS`."""
    with trio.move_on_after(START_SECONDS):
        while slot.load.report is None:
            await pool.changed.park()
        return
    log.warning("a worker is not ready yet; does one of its tools take long to load?", worker=slot.number)


def describe_exit(status: int) -> str:
    """Say in words what the exit status of a process means."""
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
