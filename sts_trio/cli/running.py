"""What commands share: their asynchronous part is run here, and what goes wrong in it becomes one line."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from sts_trio.errors import ConfigError, StsError, WorkerFailed
from sts_trio.text import first_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

T = TypeVar("T")


def run_command(command: Callable[[], Awaitable[T]], trouble: str = "", code: int = 1) -> T:
    """Run a command's asynchronous part; what goes wrong in it is one line, and Ctrl-C is none."""
    import trio

    result: list[T] = []

    async def run() -> None:
        result.append(await command())

    ends: list[Callable[[], NoReturn]] = []  # several may have happened: the first of this order is told
    try:
        trio.run(run)
    except* KeyboardInterrupt:
        ends.append(partial(sys.exit, 130))
    except* WorkerFailed as group:
        ends.append(partial(_end_like_worker, group))
    except* ConfigError as group:  # a file that a setting names is looked at when it is used
        ends.append(partial(give_up, [str(first_error(group))], 2))
    except* (StsError, OSError) as group:
        ends.append(partial(fail, trouble + str(first_error(group)), code))
    for end in ends:
        end()
    return result[0]


def check_directory(out: Path | None, code: int = 1) -> None:
    """Fail if this file cannot be written because its directory is not there."""
    if out is not None and not out.parent.is_dir():
        fail(f"cannot write {out}: there is no directory {out.parent}", code)


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
