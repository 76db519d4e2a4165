"""The commands to try it with: `demo`, `call` and `emulate`. None needs a key, or Core."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sts_trio.cli.options import Number, output, provider
from sts_trio.cli.running import fail, open_console, require_writable, run_command, told_to_stop
from sts_trio.logs import set_up_logging
from sts_trio.providers import PROVIDERS
from sts_trio.settings.variable import variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from sts_trio.lab.harness.report import CallReport
    from sts_trio.lab.harness.script import Key

_BROKEN_OFF = 130  # as a shell has it, for what Ctrl-C has ended


@click.command(short_help="Hear a call through service and emulator.")
@output("--out", default=Path("demo.wav"), help="Write the call here.")
@output("--html", "page", help="Write the call as a page to look at.")
@provider
def demo(out: Path, page: Path | None, provider: str) -> None:
    """Place a call through service and emulator on this machine: no key, no network, half a minute.

    The recording has the caller left and the agent right. Ctrl-C hangs up, and shows and records what there is.
    """
    set_up_logging("warning", "text", sys.stderr)
    require_writable(out, page)

    from sts_trio.lab.demo import demo as place_demo_call
    from sts_trio.lab.page.call_page import call_page

    console = open_console()
    result = run_command(partial(place_demo_call, console, provider, told_to_stop))
    _keep(console, result.report, out, page, partial(call_page, result.report, provider=provider, checks=result.checks))
    _exit(result.report, result.passed)


class _Keys(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """Keys of the telephone, and when they are pressed."""

    name = "KEYS@S"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Key, ...]:
        """See `click.ParamType`."""
        from sts_trio.lab.harness.script import parse_keys

        try:
            return parse_keys(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


@click.command(short_help="Place one call to any connector.")
@click.argument("url")
@click.option("--wav", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What the caller says.")
@click.option("--keys", multiple=True, type=_Keys(), help="Press keys: 0@3 is 0 after 3 s; 12#@4,9@8.")
@output("--out", help="Write a WAV: caller left, agent right.")
@output("--html", "page", help="Write the call as a page to look at.")
def call(url: str, wav: Path | None, keys: tuple[tuple[Key, ...], ...], out: Path | None, page: Path | None) -> None:
    """Place one call to any STS connector at URL (ws:// or http://), as Core does, and show what comes back.

    Over http:// only audio is heard, and keys cannot be pressed. Ctrl-C hangs up, and shows and records what there is.
    Exit code 1: no call came about, or it went wrong.
    """
    from sts_trio.lab.harness.address import CallFailed, parse_address
    from sts_trio.lab.harness.show import call_and_show
    from sts_trio.lab.harness.speech import SpeechError, speech_from_wav
    from sts_trio.lab.page.call_page import call_page

    pressed = tuple(key for given in keys for key in given)
    try:
        address = parse_address(url)
        speech = speech_from_wav(wav) if wav else None
    except (CallFailed, SpeechError) as exc:
        fail(str(exc), 2)
    if pressed and address.is_http:
        fail("--keys needs a ws:// address: over http:// there is no way to send a key", 2)
    require_writable(out, page)

    console = open_console()
    placing = partial(call_and_show, url, console, speech=speech, keys=pressed, hang_up=told_to_stop)
    report = run_command(placing)
    _keep(console, report, out, page, partial(call_page, report, address=str(address)))
    _exit(report, report.went_through)


def _keep(
    console: Console, report: CallReport, out: Path | None, page: Path | None, make_page: Callable[[], bytes]
) -> None:
    """Write what was asked for. All has been shown by now, and one file that fails is none of the other's business."""
    from rich.text import Text

    from sts_trio.lab.harness.recording import stereo_wav
    from sts_trio.lab.keeping import CannotWrite, keep

    problems = []
    for file, make, told in (
        (out, partial(stereo_wav, report.recording), "Recording (caller left, agent right)"),
        (page, make_page, "Page"),
    ):
        if file is None:
            continue
        try:
            keep(file, make())
            console.print(Text(f"{told}: {file}"))
        except CannotWrite as exc:
            problems.append(str(exc))
    if problems:
        fail("; ".join(problems))


def _exit(report: CallReport, passed: bool) -> None:
    if report.ended == "caller":
        sys.exit(_BROKEN_OFF)
    if not passed:
        sys.exit(1)


@click.command(short_help="Run a provider's server that gives your words back.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to listen on.")
@click.option("--port", default=6049, show_default=True, type=Number(0, 65535, whole=True), help="Port; 0: a free one.")
@provider
@click.option(
    "--rate",
    default=48_000,
    metavar="HZ",
    type=click.Choice([48_000, 24_000]),
    help="EVI's voice: 48000 (default) or 24000.",
)
@click.option(
    "--faults",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What is to go wrong (docs/internals/faults.md).",
)
def emulate(host: str, port: int, provider: str, rate: int, faults: Path | None) -> None:
    """Run a provider's server whose agent is a parrot; point HUMEAI_WS_URL, or the like, at it."""
    set_up_logging("info", "auto", sys.stderr)

    import trio

    from sts_trio.lab.emulator import Emulator, EmulatorOptions, FaultsError, parse_faults, serve_emulator

    options = EmulatorOptions(service=provider, rate=rate)
    if faults is not None:
        try:
            options = parse_faults(faults.read_bytes(), str(faults)).applied(options)
        except OSError as exc:
            fail(f"cannot read {faults}: {exc.strerror}", 2)
        except FaultsError as exc:
            fail(str(exc), 2)

    async def serve_until_told() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                serving = partial(serve_emulator, Emulator(options), host=host, port=port)
                url = await nursery.start(serving)
                name = variables(PROVIDERS[provider].settings)["url"].name
                click.echo(f"{name}={url}  (any key will do; Ctrl-C to stop)")
                await anext(signals)
                nursery.cancel_scope.cancel()

    run_command(serve_until_told, f"cannot listen on {host} port {port}: ")
