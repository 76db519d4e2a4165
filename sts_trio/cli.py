"""The ``sts-trio`` command: parse, call, print.

Each command imports what it needs: `--help` and a wrong setting should not wait for the whole stack.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar

import click

from sts_trio.errors import ConfigError
from sts_trio.logs import set_up_logging
from sts_trio.setting import PROVIDERS
from sts_trio.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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
def serve() -> None:
    """Run the service on PORT (6039) until SIGTERM."""
    # Until the service takes the signals over: as a container's first process we would ignore SIGTERM otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = _settings_or_exit(2)
    set_up_logging(settings.log_level, settings.log_format, sys.stdout, settings.secrets())

    from sts_trio.main import serve as serve_until_signalled

    _run(partial(serve_until_signalled, settings), f"cannot listen on HOST {settings.host}, PORT {settings.port}: ")


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


def _settings_or_exit(code: int) -> Settings:
    try:
        return load_settings()
    except ConfigError as exc:
        _give_up(exc.problems, code)


def _give_up(problems: list[str], code: int) -> NoReturn:
    for problem in problems:
        click.echo(f"sts-trio: {problem}", err=True)
    sys.exit(code)


def _check_directory(out: Path | None) -> None:
    if out is not None and not out.parent.is_dir():
        _fail(f"cannot write {out}: there is no directory {out.parent}")


def _run(command: Callable[[], Awaitable[T]], trouble: str = "") -> T:
    """Run a command's asynchronous part; what goes wrong in it is one line, and Ctrl-C is none."""
    import trio

    from sts_trio.harness.address import CallFailed
    from sts_trio.harness.speech import SpeechError

    result: list[T] = []

    async def run() -> None:
        result.append(await command())

    try:
        trio.run(run)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* ConfigError as group:  # a file that a setting names is looked at when it is used
        _give_up([str(_first(group))], 2)
    except* (CallFailed, SpeechError, OSError) as group:
        _fail(trouble + str(_first(group)))
    return result[0]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(message: str) -> NoReturn:
    click.echo(f"sts-trio: {message}", err=True)
    sys.exit(1)
