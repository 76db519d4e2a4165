"""The ``sts-trio`` command: parse, call, print.

Each command imports what it needs: `--help` and a wrong setting should not wait for the whole stack.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import click

from sts_trio.errors import ConfigError, WorkerFailed
from sts_trio.logs import set_up_logging
from sts_trio.settings.environment import load_settings
from sts_trio.settings.setting import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.settings import Settings

T = TypeVar("T")
Provider = Literal["humeai", "openai", "xai"]

_provider = click.option(
    "--provider",
    default=PROVIDERS[0],
    show_default=True,
    type=click.Choice(PROVIDERS),
    help="Whose protocol the agent speaks.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sts-trio")
def main() -> None:
    """Connect DSAI Core to a speech-to-speech agent. Settings come from the environment; see the README."""


@main.command()
@click.option("--worker", "place", nargs=3, type=int, hidden=True)
def serve(place: tuple[int, int, int] | None) -> None:
    """Run the service on PORT (6039) until SIGTERM."""
    # Until the service takes the signals over: as a container's first process we would ignore SIGTERM otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = _settings_or_exit(2)
    number = place[0] if place else None
    set_up_logging(settings.log_level, settings.log_format, sys.stdout, settings.secrets(), worker=number)

    from sts_trio.workers.cores import worker_count

    trouble = f"cannot listen on HOST {settings.host}, PORT {settings.port}: "
    if place is None and (workers := worker_count(settings.workers, settings.max_calls)) > 1:
        from sts_trio.workers.switch import run_switch

        # A worker is started as we were, flags of the interpreter and all; the hidden option makes the difference.
        _run(partial(run_switch, settings, workers, [sys.executable, *sys.orig_argv[1:]]), trouble)
        return

    from sts_trio.main import serve as serve_until_signalled
    from sts_trio.workers.seat import Place

    _run(partial(serve_until_signalled, settings, Place(*place) if place else None), "" if place else trouble)


@main.command()
def check() -> None:
    """Check settings, tools and instructions, then open a chat with the provider and say what answered."""
    settings = _settings_or_exit(1)
    click.echo("ok: settings")
    set_up_logging("warning", "text", sys.stderr)

    from sts_trio.check import check_all

    if not _run(partial(check_all, settings, click.echo)):
        sys.exit(1)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=6049,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@_provider
@click.option(
    "--rate", default=48_000, show_default=True, type=click.Choice([48_000, 24_000]), help="Hz of its voice (EVI)."
)
@click.option(
    "--faults",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What is to go wrong, as JSON or TOML (docs/faults.md).",
)
def emulate(host: str, port: int, provider: Provider, rate: int, faults: Path | None) -> None:
    """Run a provider's server whose agent is a parrot; point HUMEAI_WS_URL, or the like, at it."""
    set_up_logging("info", "auto", sys.stderr)

    import trio

    from sts_trio.emulator import Emulator, EmulatorOptions, FaultsError, parse_faults, serve_emulator

    options = EmulatorOptions(service=provider, rate=rate)
    if faults is not None:
        try:
            options = parse_faults(faults.read_bytes(), str(faults)).applied(options)
        except OSError as exc:
            _fail(f"cannot read {faults}: {exc.strerror}")
        except FaultsError as exc:
            _fail(str(exc))

    async def run() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                serving = partial(serve_emulator, Emulator(options), host=host, port=port)
                url = await nursery.start(serving)
                name = "HUMEAI_WS_URL" if provider == "humeai" else f"{provider.upper()}_BASE_URL"
                click.echo(f"{name}={url}  (any key will do; Ctrl-C to stop)")
                await anext(signals)
                nursery.cancel_scope.cancel()

    _run(run, f"cannot listen on {host} port {port}: ")


@main.command()
@click.argument("url")
@click.option("--wav", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What the caller says.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write what was said and heard (stereo).")
def call(url: str, wav: Path | None, out: Path | None) -> None:
    """Place one call to any STS connector at URL (ws:// or http://), as Core does, and show what comes back.

    Over http:// only audio is heard.
    """
    from rich.console import Console

    from sts_trio.harness.show import call_and_show

    _check_directory(out)
    if not _run(partial(call_and_show, url, Console(), wav=wav, out=out)):
        sys.exit(1)


@main.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("demo.wav"),
    show_default=True,
    help="Write the call here: caller left, agent right.",
)
@_provider
def demo(out: Path, provider: Provider) -> None:
    """Place a call through service and emulator on this machine: no key, no network, half a minute."""
    set_up_logging("warning", "text", sys.stderr)

    from rich.console import Console

    from sts_trio.demo import demo as place_demo_call

    _check_directory(out)
    if not _run(partial(place_demo_call, Console(), out, provider)).passed:
        sys.exit(1)


@main.command()
@click.argument("url", required=False)
@click.option("--serve", is_flag=True, help="Start `sts-trio serve` for it, in place of a URL.")
@click.option(
    "--pin", type=click.IntRange(0), metavar="CORE", help="With --serve: it on this core, the load on others."
)
@click.option("--calls", default=10, show_default=True, type=click.IntRange(1, 10_000), help="Calls at once.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(0.5, 86_400), help="Measured time.")
@click.option("--ramp", default=50.0, show_default=True, type=click.FloatRange(0.1, 1000), help="New calls a second.")
@click.option(
    "--profile",
    default="talk",
    show_default=True,
    type=click.Choice(["talk", "listen", "chatty", "silent"]),
    help="Who talks: both, mostly the agent, in short turns with barge-ins, nobody.",
)
@click.option(
    "--rate", default=48_000, show_default=True, type=click.Choice([48_000, 24_000]), help="Hz of the agents."
)
@click.option("--evi", default="127.0.0.1:6050", show_default=True, help="HOST:PORT where the light EVI listens.")
@click.option("--pid", type=click.IntRange(1), help="The server's process, if its port on this machine does not tell.")
@click.option(
    "--versus", metavar="URL2", help="Another connector, measured in turns with the first; ratios at the end."
)
@click.option("--versus-pid", type=click.IntRange(1), help="The other's process.")
@click.option("--rounds", type=click.IntRange(1, 100), help="How often; medians count.  [default: 1; 3 with --versus]")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
@click.option("--max-p99-ms", type=float, help="Limit: latency up, p99.")
@click.option("--max-first-p99-ms", type=float, help="Limit: the agent's first audio, p99.")
@click.option("--max-stop-ms", type=float, help="Limit: the longest stop after a barge-in.")
@click.option("--max-lost", type=float, help="Limit: frames lost, doubled, reordered or damaged.")
@click.option("--max-stale", type=float, help="Limit: frames of an interrupted turn.")
@click.option("--max-failed", type=float, help="Limit: calls that failed.")
@click.option("--max-cpu", type=float, help="Limit: CPU per call, in thousandths of a core.")
@click.option("--max-memory-kb", type=float, help="Limit: memory per call over the idle process.")
@click.option("--max-cpu-ratio", type=float, help="Limit: CPU per call over that of --versus.")
def load(url: str | None, serve: bool, evi: str, json_file: Path | None, rounds: int | None, **rest: Any) -> None:
    """Hold many calls at once through the connector at URL (ws://), and measure what it adds.

    Plays both ends, Core's and EVI's: start the connector with HUMEAI_WS_URL=ws://127.0.0.1:6050/v0/evi/chat, or say
    --serve. Exit code 1: a limit was exceeded. 2: the load could not be run.
    """
    from rich.console import Console

    from sts_trio.harness.load.command import LoadOptions, parse_place
    from sts_trio.harness.load.command import load as run_load
    from sts_trio.harness.load.gate import Limits

    if serve == (url is not None):
        _fail("load needs either the URL of a connector, such as ws://127.0.0.1:6039, or --serve", 2)
    _check_directory(json_file, 2)
    limits = {name.removeprefix("max_"): rest.pop(name) for name in list(rest) if name.startswith("max_")}
    place = parse_place(evi)
    if place is None:
        _fail(f"--evi is {evi}; it must be HOST:PORT, such as 127.0.0.1:6050", 2)
    options = LoadOptions(
        url=url,
        evi=place,
        json=json_file,
        rounds=rounds or (3 if rest["versus"] else 1),
        limits=Limits(**limits),
        **rest,
    )
    if not _run(partial(run_load, options, Console()), code=2):
        sys.exit(1)


def _settings_or_exit(code: int) -> Settings:
    try:
        return load_settings()
    except ConfigError as exc:
        _give_up(exc.problems, code)


def _give_up(problems: list[str], code: int) -> NoReturn:
    for problem in problems:
        click.echo(f"sts-trio: {problem}", err=True)
    sys.exit(code)


def _check_directory(out: Path | None, code: int = 1) -> None:
    if out is not None and not out.parent.is_dir():
        _fail(f"cannot write {out}: there is no directory {out.parent}", code)


def _run(command: Callable[[], Awaitable[T]], trouble: str = "", code: int = 1) -> T:
    """Run a command's asynchronous part; what goes wrong in it is one line, and Ctrl-C is none."""
    import trio

    from sts_trio.harness.address import CallFailed
    from sts_trio.harness.load.process import LoadError
    from sts_trio.harness.speech import SpeechError

    result: list[T] = []

    async def run() -> None:
        result.append(await command())

    try:
        trio.run(run)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* WorkerFailed as group:
        _end_like_worker(group)
    except* ConfigError as group:  # a file that a setting names is looked at when it is used
        _give_up([str(_first(group))], 2)
    except* (CallFailed, SpeechError, LoadError, OSError) as group:
        _fail(trouble + str(_first(group)), code)
    return result[0]


def _end_like_worker(group: BaseExceptionGroup[WorkerFailed]) -> NoReturn:
    failed = group.exceptions[0]
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    if failed.status > 0:
        sys.exit(failed.status)  # it has said itself what is wrong
    _fail(str(failed))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(message: str, code: int = 1) -> NoReturn:
    click.echo(f"sts-trio: {message}", err=True)
    sys.exit(code)
