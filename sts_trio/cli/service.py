"""The commands of who runs the service: `serve`, `check`."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from sts_trio.cli.running import give_up, run_command
from sts_trio.errors import ConfigError
from sts_trio.logs import set_up_logging
from sts_trio.settings.environment import load_settings

if TYPE_CHECKING:
    from sts_trio.settings import Settings


@click.command()
@click.option("--worker", "spec", nargs=3, type=int, hidden=True)
def serve(spec: tuple[int, int, int] | None) -> None:
    """Run the service on PORT (6039) until SIGTERM."""
    # Until the service takes the signals over: as a container's first process we would ignore SIGTERM otherwise. Not an
    # exception: a tool that is loading may catch it, and what loads tools does.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = _settings_or_exit(2)
    number = spec[0] if spec else None
    set_up_logging(settings.log_level, settings.log_format, sys.stdout, settings.secrets(), worker=number)

    from sts_trio.workers.pool import worker_count

    trouble = f"cannot listen on HOST {settings.host}, PORT {settings.port}: "
    if spec is None and (workers := worker_count(settings.workers, settings.max_calls)) > 1:
        from sts_trio.workers.supervisor import run_supervisor

        # A worker is started as we were, flags of the interpreter and all; the hidden option makes the difference.
        run_command(partial(run_supervisor, settings, workers, [sys.executable, *sys.orig_argv[1:]]), trouble)
        return

    from sts_trio.main import serve as serve_until_signalled
    from sts_trio.workers.worker import WorkerSpec

    run_command(partial(serve_until_signalled, settings, WorkerSpec(*spec) if spec else None), "" if spec else trouble)


@click.command()
def check() -> None:
    """Check settings, tools and instructions, then open a chat with the provider and say what answered."""
    settings = _settings_or_exit(1)
    click.echo("ok: settings")
    set_up_logging("warning", "text", sys.stderr)

    from sts_trio.check import check_all

    if not run_command(partial(check_all, settings, click.echo)):
        sys.exit(1)


def _settings_or_exit(code: int) -> Settings:
    try:
        return load_settings()
    except ConfigError as exc:
        give_up(exc.problems, code)
