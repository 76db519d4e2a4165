"""The commands to try it with: `emulate`, `call`, `demo`. None needs a key, or Core."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import click

from sts_trio.cli.running import check_directory, fail, run_command
from sts_trio.logs import set_up_logging
from sts_trio.providers import PROVIDERS
from sts_trio.settings.variable import variables

_provider = click.option(
    "--provider",
    default=next(iter(PROVIDERS)),
    show_default=True,
    type=click.Choice(list(PROVIDERS)),
    help="Whose protocol the agent speaks.",
)


@click.command()
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
            fail(f"cannot read {faults}: {exc.strerror}")
        except FaultsError as exc:
            fail(str(exc))

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


@click.command()
@click.argument("url")
@click.option("--wav", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What the caller says.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write what was said and heard (stereo).")
def call(url: str, wav: Path | None, out: Path | None) -> None:
    """Place one call to any STS connector at URL (ws:// or http://), as Core does, and show what comes back.

    Over http:// only audio is heard.
    """
    from rich.console import Console

    from sts_trio.lab.harness.show import call_and_show

    check_directory(out)
    if not run_command(partial(call_and_show, url, Console(), wav=wav, out=out)):
        sys.exit(1)


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("demo.wav"),
    show_default=True,
    help="Write the call here: caller left, agent right.",
)
@_provider
def demo(out: Path, provider: str) -> None:
    """Place a call through service and emulator on this machine: no key, no network, half a minute."""
    set_up_logging("warning", "text", sys.stderr)

    from rich.console import Console

    from sts_trio.lab.demo import demo as place_demo_call

    check_directory(out)
    if not run_command(partial(place_demo_call, Console(), out, provider)).passed:
        sys.exit(1)
