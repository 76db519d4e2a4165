"""The commands of who runs the service: `serve`, `check`, `settings`."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog

from sts_trio.cli.running import give_up, run_command
from sts_trio.errors import ConfigError
from sts_trio.logs import LogWriter, set_up_logging
from sts_trio.providers import SETTINGS
from sts_trio.settings import FORMATS, load_settings
from sts_trio.settings.names import unknown_names

if TYPE_CHECKING:
    from sts_trio.settings import Settings

log = structlog.get_logger(__name__)


@click.command(short_help="Run the service until SIGTERM.")
@click.option("--worker", "spec", nargs=3, type=int, hidden=True)
def serve(spec: tuple[int, int, int] | None) -> None:
    """Run the service on PORT (6039) until SIGTERM."""
    with LogWriter(sys.stdout or Path(os.devnull).open("w")) as writer:  # None: we were started with it closed
        _end_quietly_when_told(writer)
        _serve(spec, writer)


def _end_quietly_when_told(writer: LogWriter) -> None:
    """Until the service takes the signals over, they end the process with the last lines of its log.

    As a container's first process we would ignore SIGTERM otherwise. Not an exception: a tool that is loading may catch
    it, and what loads tools does.
    """

    def end(number: int, _: object) -> None:
        writer.close()
        os._exit(130 if number == signal.SIGINT else 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _serve(spec: tuple[int, int, int] | None, writer: LogWriter) -> None:
    chosen = _settings_or_exit()
    service = chosen.service
    number = spec[0] if spec else None
    set_up_logging(service.log_level, service.log_format, writer, chosen.secrets(), worker=number)
    if spec is None:
        log.info("starting", **chosen.shown())
        misspelt = [str(each) for each in unknown_names(SETTINGS, chosen.provider.name) if each.meant]
        for note in [*misspelt, *chosen.notes(datetime.now(UTC).date())]:
            log.warning("a setting wants attention", note=note)

    from sts_trio.workers.pool import worker_count

    trouble = f"cannot listen on HOST {service.host}, PORT {service.port}: "
    if spec is None and (workers := worker_count(service.workers, service.max_calls)) > 1:
        from sts_trio.workers.supervisor import run_supervisor

        # A worker is started as we were, flags of the interpreter and all; the hidden option makes the difference.
        command = [sys.executable, *sys.orig_argv[1:]]
        run_command(partial(run_supervisor, service, workers, command, lambda: writer.dropped), trouble)
        return

    from sts_trio.main import serve as serve_until_signalled
    from sts_trio.workers.worker import WorkerSpec

    worker = WorkerSpec(*spec) if spec else None
    serving = partial(serve_until_signalled, chosen, worker, lines_dropped=lambda: writer.dropped)
    run_command(serving, "" if spec else trouble)


@click.command(short_help="Would a call work with these settings?")
@click.option("--call", is_flag=True, help="Then place a call, until its greeting is heard.")
@click.option("--json", "as_json", is_flag=True, help="One object with all findings, for a monitor.")
def check(call: bool, as_json: bool) -> None:
    """Look at settings, names, port, tools and instructions, then open a chat with the provider as a call does."""
    from sts_trio.check import examine, examine_unusable
    from sts_trio.cli.findings import Printed

    set_up_logging("warning", "text", sys.stderr)
    printed = Printed.choose(as_json=as_json)

    async def look() -> bool:
        try:
            chosen = load_settings(SETTINGS)
        except ConfigError as exc:
            examine_unusable(exc.problems, SETTINGS, printed.add)
            printed.end()
            return False
        well = await examine(chosen, SETTINGS, printed.add, call=call)
        printed.end(chosen.provider.name)
        return well

    if not run_command(look):
        sys.exit(1)


@click.command(short_help="Print every setting and its meaning.")
@click.option(
    "--format",
    "form",
    default="markdown",
    metavar="FORM",
    type=click.Choice(list(FORMATS)),
    help="markdown (docs), env (.env.example) or compose.",
)
def settings(form: str) -> None:
    """Print every setting with its default and meaning."""
    click.echo(FORMATS[form](SETTINGS), nl=False)


def _settings_or_exit() -> Settings:
    try:
        return load_settings(SETTINGS)
    except ConfigError as exc:
        misspelt = [str(each) for each in unknown_names(SETTINGS, None) if each.meant]
        give_up([*exc.problems, *misspelt], 2)
