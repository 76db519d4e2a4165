"""The commands to try it with, `emulate`, `call` and `demo`, and `load`. None needs a key, or Core."""

from __future__ import annotations

import math
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

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
    help="What is to go wrong, as JSON or TOML (docs/internals/faults.md).",
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


class _Number(click.FloatRange):
    """A range that NaN is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        number = super().convert(value, param, ctx)
        return self.fail(f"{value} is no number", param, ctx) if math.isnan(number) else number


_WITH_TLS = """With --tls the connector needs wss:// in that address, and HUMEAI_CA_FILE=FILE or OPENAI_CA_FILE=FILE
(one in Node: NODE_EXTRA_CA_CERTS=FILE). FILE is made so:

\b
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \\
  -nodes -days 365 -subj /CN=127.0.0.1 -keyout FILE -out FILE \\
  -addext subjectAltName=IP:127.0.0.1 \\
  -addext keyUsage=critical,digitalSignature,keyCertSign
"""


@click.command(epilog=_WITH_TLS)
@click.argument("url", required=False)
@click.option("--serve", is_flag=True, help="Start `sts-trio serve` for it, in place of a URL.")
@click.option(
    "--pin", type=click.IntRange(0), metavar="CORE", help="With --serve: it on this core, the load on others."
)
@click.option("--calls", default=10, show_default=True, type=click.IntRange(1, 10_000), help="Calls at once.")
@click.option("--seconds", default=20.0, show_default=True, type=_Number(0.5, 86_400), help="Measured time.")
@click.option("--ramp", default=50.0, show_default=True, type=_Number(0.1, 1000), help="New calls a second.")
@click.option(
    "--settle",
    default=2.0,
    show_default=True,
    type=_Number(0, 3600),
    help="Seconds between the last new call and the measured time.",
)
@click.option(
    "--profile",
    default="talk",
    show_default=True,
    type=click.Choice(["talk", "listen", "chatty", "silent"]),
    help="Who talks: both, mostly the agent, in short turns with barge-ins, nobody.",
)
@click.option(
    "--rate", default=48_000, show_default=True, type=click.Choice([48_000, 24_000]), help="Hz of EVI's voice."
)
@click.option(
    "--provider",
    default=next(iter(PROVIDERS)),
    show_default=True,
    type=click.Choice(list(PROVIDERS)),
    help="Whose protocol the agents speak.",
)
@click.option(
    "--agents",
    "--evi",
    "agents",
    default="127.0.0.1:6050",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the agents listen.",
)
@click.option(
    "--tls",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The agents behind TLS (wss://); FILE (PEM) has their key and certificate.",
)
@click.option("--pid", type=click.IntRange(1), help="The server's process, if its port on this machine does not tell.")
@click.option(
    "--versus", metavar="URL2", help="Another connector, measured in turns with the first; ratios at the end."
)
@click.option("--versus-pid", type=click.IntRange(1), help="The other's process.")
@click.option("--rounds", type=click.IntRange(1, 100), help="How often; medians count.  [default: 1; 3 with --versus]")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
@click.option("--max-p99-ms", type=_Number(0), help="Limit: latency up, p99.")
@click.option("--max-first-p99-ms", type=_Number(0), help="Limit: the agent's first audio, p99.")
@click.option("--max-stop-ms", type=_Number(0), help="Limit: the longest stop after a barge-in.")
@click.option("--max-lost", type=_Number(0), help="Limit: frames lost, doubled, reordered or damaged.")
@click.option("--max-stale", type=_Number(0), help="Limit: frames of an interrupted turn.")
@click.option("--max-failed", type=_Number(0), help="Limit: calls that failed.")
@click.option("--max-cpu", type=_Number(0), help="Limit: CPU per call, in thousandths of a core.")
@click.option("--max-memory-kb", type=_Number(0), help="Limit: memory per call over the idle process.")
@click.option("--max-cpu-ratio", type=_Number(0), help="Limit: CPU per call over that of --versus.")
def load(url: str | None, serve: bool, agents: str, json_file: Path | None, rounds: int | None, **rest: Any) -> None:
    """Hold many calls at once through the connector at URL (ws://), and measure what it adds.

    Plays both ends, Core's and the provider's: start the connector with HUMEAI_WS_URL=ws://127.0.0.1:6050/v0/evi/chat,
    or with OPENAI_BASE_URL=ws://127.0.0.1:6050/v1 for --provider openai, or say --serve. Exit code 1: a limit was
    exceeded. 2: the load could not be run.
    """
    from rich.console import Console

    from sts_trio.lab.load.command import LoadOptions, parse_place
    from sts_trio.lab.load.command import load as run_load
    from sts_trio.lab.load.limits import Limits

    if serve == (url is not None):
        fail("load needs either the URL of a connector, such as ws://127.0.0.1:6039, or --serve", 2)
    for name, value, needed, there in (
        ("--pid", rest["pid"], "a URL", not serve),
        ("--pin", rest["pin"], "--serve", serve),
        ("--versus-pid", rest["versus_pid"], "--versus", rest["versus"]),
    ):
        if value is not None and not there:
            fail(f"{name} has a meaning only with {needed}", 2)
    check_directory(json_file, 2)
    limits = {name.removeprefix("max_"): rest.pop(name) for name in list(rest) if name.startswith("max_")}
    place = parse_place(agents)
    if place is None:
        fail(f"--agents is {agents}; it must be HOST:PORT, such as 127.0.0.1:6050", 2)
    options = LoadOptions(
        url=url,
        agents=place,
        json=json_file,
        rounds=rounds or (3 if rest["versus"] else 1),
        limits=Limits(**limits),
        **rest,
    )
    if not run_command(partial(run_load, options, Console()), code=2):
        sys.exit(1)
