"""What commands share: their asynchronous part is run here, and what goes wrong in it becomes one line."""

from __future__ import annotations

import errno
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from sts_trio.errors import ConfigError, StsError, WorkerFailed
from sts_trio.text import first_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from rich.console import Console

T = TypeVar("T")


def run_command(command: Callable[[], Awaitable[T]], trouble: str = "", code: int = 1) -> T:
    """Run a command's asynchronous part; what goes wrong in it is one line, and Ctrl-C is none."""
    import trio

    result: list[T] = []

    async def run() -> None:
        result.append(await command())

    gone: list[BrokenPipeError] = []
    ends: list[Callable[[], NoReturn]] = []  # several may have happened: the first of this order is told
    try:
        trio.run(run)
    except* BrokenPipeError as group:  # nobody reads what we print: click ends us quietly
        gone.extend(each for each in [first_error(group)] if isinstance(each, BrokenPipeError))
    except* KeyboardInterrupt:
        ends.append(partial(sys.exit, 130))
    except* WorkerFailed as group:
        ends.append(partial(_end_like_worker, group))
    except* ConfigError as group:  # a file that a setting names is looked at when it is used
        ends.append(partial(give_up, [str(first_error(group))], 2))
    except* (StsError, OSError) as group:
        ends.append(partial(fail, trouble + str(first_error(group)), code))
    for each in gone:
        raise each
    for end in ends:
        end()
    return result[0]


async def told_to_stop() -> None:
    """Wait for Ctrl-C, or SIGTERM: what runs is then ended in order. The next Ctrl-C ends the program as ever."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)


def open_console() -> Console:
    """Make a console for what a command shows; a reader that has gone (`| head`) ends the command quietly."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return Terminal()


def require_writable(*files: Path | None) -> None:
    """End with a line if one of these files cannot be written: before a call, not after it."""
    from sts_trio.lab.keeping import CannotWrite, check_writable

    try:
        check_writable(*files)
    except CannotWrite as exc:
        fail(str(exc), 2)


def give_up(problems: list[str], code: int) -> NoReturn:
    """End with a line for each problem."""
    for problem in problems:
        click.echo(f"sts-trio: {problem}", err=True)
    sys.exit(code)


def fail(message: str, code: int = 1) -> NoReturn:
    """End with this line."""
    click.echo(f"sts-trio: {message}", err=True)
    sys.exit(code)


def _end_like_worker(group: BaseExceptionGroup[WorkerFailed]) -> NoReturn:
    failed = group.exceptions[0]
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    if failed.status > 0:
        sys.exit(failed.status)  # it has said itself what is wrong
    fail(str(failed))
