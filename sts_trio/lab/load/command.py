"""`sts-trio load`: rounds of one connector, or of two in turns; figures shown, written, and held against limits."""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import trio
from rich.live import Live
from rich.text import Text

from sts_trio.lab.harness.address import CallFailed, parse_address
from sts_trio.lab.keeping import check_writable, keep
from sts_trio.lab.load.curves import Curves
from sts_trio.lab.load.handshake import check_certificate
from sts_trio.lab.load.limits import Limits, exceeded
from sts_trio.lab.load.plan import Plan
from sts_trio.lab.load.process import LoadError
from sts_trio.lab.load.results import medians_of
from sts_trio.lab.load.run import Run
from sts_trio.lab.load.service import environment, free_port, listener_on, open_service, usage
from sts_trio.lab.load.show import comparison, live_table, ratios, remarks, results_table, versus_table
from sts_trio.lab.page.load_page import load_page
from sts_trio.lab.providers import PROVIDERS, find_provider

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from sts_trio.lab.load.results import Results
    from sts_trio.lab.load.run import Now

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What is asked for. `url` None: a service is started for it (`serve`), on core `pin` if that is given.

    `agents`: host and port where the agents listen, who speak the protocol of `provider`; `tls`: with this key and
    certificate (PEM). `versus`: another connector, measured in turns with the first.
    """

    url: str | None = None
    pid: int | None = None
    versus: str | None = None
    versus_pid: int | None = None
    rounds: int = 1
    calls: int = 10
    seconds: float = 20.0
    ramp: float = 50.0
    settle: float = 2.0
    profile: str = "talk"
    rate: int = 48_000
    provider: str = PROVIDERS[0]
    agents: tuple[str, int] = ("127.0.0.1", 6050)
    tls: Path | None = None
    pin: int | None = None
    json: Path | None = None
    page: Path | None = None
    limits: Limits = field(default_factory=Limits)


def parse_place(text: str) -> tuple[str, int] | None:
    """Take HOST:PORT apart; None if it is none."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        return None
    return host.strip("[]"), int(port)


def provider_settings(options: LoadOptions) -> dict[str, str]:
    """What a service has to be told to find the agents. Raises UnknownProviderError."""
    host, port = options.agents
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    provider = find_provider(options.provider)
    url = f"{'ws' if options.tls is None else 'wss'}://{place}{provider.url_path}"
    settings = {"STS_PROVIDER": provider.name, provider.url_setting: url}
    if options.tls is not None:
        settings[f"{options.provider.upper()}_CA_FILE"] = str(options.tls.absolute())
    return settings


@dataclass(slots=True)
class _Side:
    """One of the connectors."""

    url: str
    pid: int | None
    idle: int | None
    runs: list[Results] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)


async def load(options: LoadOptions, console: Console) -> bool:
    """Run a load and show it. True if no limit is exceeded.

    Raises:
        CallFailed: a URL is none of a connector's WebSocket.
        LoadError: the load could not be run, or a signal ended it; no process is left.
        CannotWrite: a file cannot be written.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(_end_on_signal)
        passed = await _load(options, console)
        nursery.cancel_scope.cancel()
    return passed


async def _end_on_signal(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            raise LoadError(f"the load was ended by {signal.Signals(number).name}")


async def _load(options: LoadOptions, console: Console) -> bool:
    settings = provider_settings(options)
    if options.tls is not None:
        check_certificate(str(options.tls), options.agents[0])
    check_writable(options.json, options.page)
    async with AsyncExitStack() as stack:
        if options.url is None:
            sides = [_side(*await _start_service(stack, options, settings, console))]
        else:
            sides = [_side(options.url, options.pid)]
            console.print(Text(f"The server under test must have been started with {_assignments(settings)}", "dim"))
        if options.versus is not None:
            sides.append(_side(options.versus, options.versus_pid))
        for number in range(options.rounds):
            for side in sides:
                title = f"{side.url.split('?')[0]}, {options.calls} calls, {options.provider}, {options.profile}"
                if options.rounds > 1:
                    title += f", round {number + 1} of {options.rounds}"
                curves = Curves()
                run = await _run(options, side, console, title, curves)
                side.runs.append(run)
                side.curves.append(curves)
                console.print(results_table(run, title), *remarks(run), sep="\n")
    return _conclude(options, sides, console)


async def _start_service(
    stack: AsyncExitStack, options: LoadOptions, settings: Mapping[str, str], console: Console
) -> tuple[str, int]:
    cores = None
    if options.pin is not None:
        mine = os.sched_getaffinity(0)
        if options.pin not in mine:
            raise LoadError(f"core {options.pin} is not ours to use; --pin takes one of {sorted(mine)}")
        cores = {options.pin}
        if others := mine - cores:
            os.sched_setaffinity(0, others)  # the load's own processes inherit it
            stack.callback(os.sched_setaffinity, 0, mine)
    name = options.provider.upper()
    # Nothing is to be said first: the load's profile says who speaks when.
    own = {f"{name}_API_KEY": "load", f"{name}_WELCOME_MESSAGE": ""}
    env = environment({**settings, **own}, free_port())
    console.print(Text(f"Starting: {_assignments(env)} sts-trio serve", "dim"))
    return await stack.enter_async_context(open_service(env, cores))


def _assignments(env: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in env.items())


def _side(url: str, pid: int | None) -> _Side:
    address = parse_address(url)
    if address.scheme != "ws":
        raise CallFailed(f"a load calls over ws:// only, and not {address}")
    named = pid is not None
    if pid is None and address.host in _LOOPBACK:
        pid = listener_on(address.port)
    used = usage(pid) if pid is not None else None
    if named and used is None:
        raise LoadError(f"there is no process {pid} to measure")
    return _Side(url, pid if used else None, used.memory if used else None)


async def _run(options: LoadOptions, side: _Side, console: Console, title: str, curves: Curves) -> Results:
    plan = Plan(
        url=side.url,
        calls=options.calls,
        seconds=options.seconds,
        ramp=options.ramp,
        settle=options.settle,
        profile=options.profile,
        mark=secrets.randbits(31) | 1,
        provider=options.provider,
        rate=options.rate,
        host=options.agents[0],
        port=options.agents[1],
        tls=str(options.tls or ""),
        times="",
    )
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(now: Now) -> None:
            curves.add(now)
            live.update(live_table(now, title), refresh=True)

        return await Run(plan, side.pid, side.idle, show).run()


def _conclude(options: LoadOptions, sides: list[_Side], console: Console) -> bool:
    medians = [medians_of(side.runs) for side in sides]
    report: dict[str, object] = {
        "provider": options.provider,
        "tls": options.tls is not None,
        "profile": options.profile,
        "calls": options.calls,
        "rounds": options.rounds,
        "runs": [run for side in sides for run in side.runs],
        "medians": medians[0],
    }
    judged = dict(medians[0])
    compared = None
    if len(sides) > 1:
        found = ratios(*medians)
        report |= {"versus_medians": medians[1], "ratios": found}
        if "cpu_per_call" in found:
            judged["cpu_ratio"] = found["cpu_per_call"]
        names = [side.url.split("?")[0] for side in sides]
        console.print(versus_table(names, medians[0], medians[1], options.rounds))
        compared = (names, comparison(medians[0], medians[1]))
    broken = exceeded(options.limits, judged)
    report["exceeded"] = broken
    for line in broken:
        console.print(Text(f"over the limit: {line}", "bold red"))
    if options.json is not None:
        keep(options.json, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if options.page is not None:
        pages = [(run, curves) for side in sides for run, curves in zip(side.runs, side.curves, strict=True)]
        keep(options.page, load_page(pages, options.provider, broken, compared))
        console.print(Text(f"Page: {options.page}"))
    return not broken
