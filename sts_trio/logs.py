"""Logging: structlog for us and for the libraries; key=value on a terminal, JSON otherwise.

Each line begins with `timestamp`, `level` and `event`: constant words, whose data are fields of their own. Then come
`logger`, who wrote it, and, where there is one, the number of the `worker` and the id of the `call` (`name_call`).
Tracebacks come without the values of variables, which may be secret.

Nothing secret is logged on purpose. But the text of an exception may quote anything: so what the settings hold as
secret is starred in every line, whoever wrote it, and in tracebacks long numbers are, which may be telephones.
"""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import EventDict, Processor, WrappedLogger

# Shorter secrets are words of common lines, which would be starred with them.
_SHORTEST_SECRET = 6
_LONG_NUMBER = re.compile(r"\d{6,}")
_FIRST = ("timestamp", "level", "event", "logger", "worker", "call")


class _CallName:
    """What a call is called in its log lines. All its tasks share one, so that it can change for all of them."""

    __slots__ = ("id",)

    def __init__(self, id_: str) -> None:
        self.id = id_


_call: ContextVar[_CallName | None] = ContextVar("call", default=None)


def name_call(id_: str) -> None:
    """Give each line of this task, and of all tasks and threads that it starts from now on, this id as `call`."""
    _call.set(_CallName(id_))


def rename_call(id_: str) -> None:
    """Change the id of the call that this task is part of, for all of its tasks: Core's own is known with `init` only.

    Without a call around it does nothing.
    """
    if (name := _call.get()) is not None:
        name.id = id_


def add_call(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add the id of the call that the line is written in (a structlog processor)."""
    if (name := _call.get()) is not None:
        line["call"] = name.id
    return line


class Starring:
    """The last processor: has `renderer` make the line, and puts stars into it in place of `secrets`."""

    def __init__(self, renderer: Processor, secrets: Iterable[str]) -> None:
        self._renderer = renderer
        forms = {form for text in secrets if len(text) >= _SHORTEST_SECRET for form in _forms(text)}
        words = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, words))) if words else None

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        line = str(self._renderer(logger, name, event))
        return self._pattern.sub("***", line) if self._pattern else line


def _forms(text: str) -> set[str]:
    """How a text may stand in a line: as it is, or in the `repr` of an exception's text; and either of them in JSON."""
    plain = {text, repr(text)[1:-1]}
    return plain | {json.dumps(form, ensure_ascii=False)[1:-1] for form in plain}


def _without_long_numbers(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if isinstance(traceback := line.get("exception"), str):
        line["exception"] = _LONG_NUMBER.sub("***", traceback)
    return line


def _important_first(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    return {name: line[name] for name in _FIRST if name in line} | dict(line)


class _Logger(structlog.WriteLogger):
    """Writes lines to `stream`, and knows its name as loggers of the standard library do."""

    def __init__(self, stream: TextIO, name: str = "") -> None:
        super().__init__(stream)
        self.name = name


def set_up_logging(
    level: str, style: str, stream: TextIO, secrets: Iterable[str] = (), *, worker: int | None = None
) -> None:
    """Send all logging of the process to `stream`. `style` is ``auto``, ``text`` or ``json``.

    `secrets` are starred wherever they turn up. The number of a `worker` is in each of its lines.
    """

    def add_worker(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return line if worker is None else {"worker": worker, **line}

    def open_logger(*name: str) -> _Logger:
        return _Logger(stream, *name)

    text = style == "text" or (style == "auto" and stream.isatty())
    shared: list[Processor] = [
        add_worker,
        add_call,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_long_numbers,
    ]
    renderer: Processor
    if text:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    last: list[Processor] = [_important_first, Starring(renderer, secrets)]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=open_logger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
