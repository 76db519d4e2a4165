"""The command `load`: many calls at once, measured. It needs no key, and no Core."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from sts_trio.cli.options import Number, output, provider
from sts_trio.cli.running import fail, open_console, require_writable, run_command

_WITH_TLS = """With --tls the connector needs wss:// in that address, and HUMEAI_CA_FILE=FILE or OPENAI_CA_FILE=FILE
(one in Node: NODE_EXTRA_CA_CERTS=FILE). FILE is made so:

\b
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \\
  -nodes -days 365 -subj /CN=127.0.0.1 -keyout FILE -out FILE \\
  -addext subjectAltName=IP:127.0.0.1 \\
  -addext keyUsage=critical,digitalSignature,keyCertSign
"""


@click.command(epilog=_WITH_TLS, short_help="Measure a connector with many calls at once.")
@click.argument("url", required=False)
@click.option("--serve", is_flag=True, help="Start `sts-trio serve` for it, in place of a URL.")
@click.option("--pin", type=Number(0, whole=True), metavar="CORE", help="With --serve: on this core, alone.")
@click.option("--calls", default=10, show_default=True, type=Number(1, 10_000, whole=True), help="Calls at once.")
@click.option("--seconds", default=20.0, show_default=True, type=Number(0.5, 86_400), help="Measured time.")
@click.option("--ramp", default=50.0, show_default=True, type=Number(0.1, 1000), help="New calls a second.")
@click.option("--settle", default=2.0, show_default=True, type=Number(0, 3600), help="Seconds before measuring.")
@click.option(
    "--profile",
    default="talk",
    metavar="NAME",
    type=click.Choice(["talk", "listen", "chatty", "silent"]),
    help="Who talks: talk, listen, chatty or silent.",
)
@click.option(
    "--rate",
    default=48_000,
    metavar="HZ",
    type=click.Choice([48_000, 24_000]),
    help="EVI's voice: 48000 (default) or 24000.",
)
@provider
@click.option(
    "--agents",
    "--evi",
    "agents",
    default="127.0.0.1:6050",
    show_default=True,
    metavar="PLACE",
    help="Where agents listen.",
)
@click.option(
    "--tls",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Agents behind TLS: key and certificate (PEM).",
)
@click.option("--pid", type=Number(1, whole=True), help="The server's process, if its port does not tell.")
@click.option("--versus", metavar="URL2", help="Another connector, measured in turns.")
@click.option("--versus-pid", type=Number(1, whole=True), help="The other's process.")
@click.option("--rounds", type=Number(1, 100, whole=True), help="Medians of so many; 1, with --versus 3.")
@output("--json", "json_file", help="Write all figures there.")
@output("--html", "page", help="Write a page with the curves there.")
@click.option("--max-p99-ms", type=Number(0), help="Limit: latency up, p99.")
@click.option("--max-first-p99-ms", type=Number(0), help="Limit: the agent's first audio, p99.")
@click.option("--max-stop-ms", type=Number(0), help="Limit: the longest stop after a barge-in.")
@click.option("--max-lost", type=Number(0), help="Limit: frames lost, doubled, swapped, damaged.")
@click.option("--max-stale", type=Number(0), help="Limit: frames of an interrupted turn.")
@click.option("--max-failed", type=Number(0), help="Limit: calls that failed.")
@click.option("--max-cpu", type=Number(0), help="Limit: thousandths of a core a call.")
@click.option("--max-memory-kb", type=Number(0), help="Limit: memory of a call.")
@click.option("--max-cpu-ratio", type=Number(0), help="Limit: CPU per call over that of --versus.")
def load(
    url: str | None,
    serve: bool,
    agents: str,
    json_file: Path | None,
    page: Path | None,
    rounds: int | None,
    **rest: Any,
) -> None:
    """Hold many calls at once through the connector at URL (ws://), and measure what it adds.

    Plays both ends, Core's and the provider's: start the connector with HUMEAI_WS_URL=ws://127.0.0.1:6050/v0/evi/chat,
    or with OPENAI_BASE_URL=ws://127.0.0.1:6050/v1 for --provider openai, or say --serve. Exit code 1: a limit was
    exceeded. 2: the load could not be run.
    """
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
    require_writable(json_file, page)
    limits = {name.removeprefix("max_"): rest.pop(name) for name in list(rest) if name.startswith("max_")}
    place = parse_place(agents)
    if place is None:
        fail(f"--agents is {agents}; it must be HOST:PORT, such as 127.0.0.1:6050", 2)
    options = LoadOptions(
        url=url,
        agents=place,
        json=json_file,
        page=page,
        rounds=rounds or (3 if rest["versus"] else 1),
        limits=Limits(**limits),
        **rest,
    )
    if not run_command(partial(run_load, options, open_console()), code=2):
        sys.exit(1)
