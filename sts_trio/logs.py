"""Logging: structlog for us and for the libraries; key=value on a terminal, JSON otherwise.

Each line begins with `timestamp`, `level` and `event`: constant words, whose data are fields of their own. Then come
`logger`, who wrote it, and, where there is one, the number of the `worker` and the id of the `call` (`name_call`).
Tracebacks come without the values of variables, which may be secret.

The service's lines go through a `LogWriter`: whoever logs never waits for whoever reads the log, and hears of no fault.

Nothing secret is logged on purpose. But the text of an exception may quote anything: so what the settings hold as
secret is starred in every line, whoever wrote it and however it is spelled, and in tracebacks long numbers are, which
may be telephones. What strangers wrote is cleaned where it comes in; what a library quotes is made harmless here.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import select
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO, cast

import structlog

from sts_trio.text import Stars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
        self._json = isinstance(renderer, structlog.processors.JSONRenderer)  # it leaves all from U+007F on as it is
        self._stars = Stars(text for text in secrets if len(text) >= _SHORTEST_SECRET)

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        try:
            line = str(self._renderer(logger, name, dict(event)))  # some take it apart
        except Exception as exc:  # a value that cannot be shown: whoever logs it must not hear of that
            known = {field: event[field] for field in _FIRST if isinstance(event.get(field), str | int)}
            line = str(self._renderer(logger, name, known | {"unreadable": type(exc).__name__}))
        return _UNSEEN.sub(_escaped, self._stars(line)) if self._json else self._stars(line)


# What a terminal may obey, and what makes two lines of one (ECMA-48, Unicode 5.8 and 23.2): control characters, line
# separators, marks of direction, halves of characters.
_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_OBEYED = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN.pattern[1:]}")
_BREAKS = re.compile("[\t\n]")
_LONGEST_VALUE = 20_000  # characters; a traceback through all of our layers has some 8,000


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _bounded(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Cut what is endless: a stranger may have written it."""
    for name, value in line.items():
        if isinstance(value, str) and len(value) > _LONGEST_VALUE:
            line[name] = f"{value[:_LONGEST_VALUE]}… ({len(value)} characters)"
    return line


def _for_a_terminal(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Write out what a terminal would obey, which JSON does by itself. Only a traceback may have several lines."""
    for name, value in line.items():
        if isinstance(value, str):
            shown = _OBEYED.sub(_escaped, value)
            line[name] = shown if name in ("exception", "stack") else _BREAKS.sub(_escaped, shown)
    return line


def _without_long_numbers(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if isinstance(traceback := line.get("exception"), str):
        line["exception"] = _LONG_NUMBER.sub("***", traceback)
    return line


def _important_first(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    return {name: line[name] for name in _FIRST if name in line} | dict(line)


class Sink(Protocol):
    """Where whole lines go: a `LogWriter`, or a stream."""

    @property
    def encoding(self) -> str | None: ...
    def isatty(self) -> bool: ...
    def write(self, text: str, /) -> object: ...
    def flush(self) -> None: ...


# What waits while nobody reads, in characters: some 14,000 lines, which 100 calls make in an hour. It takes 4 MB (up to
# four times that in scripts other than Latin). When it is full, the newest lines are dropped and counted.
_MOST_WAITING = 4 * 2**20
_FLUSH_SECONDS = 1.0  # for the last lines, at the end
_LOST = "log lines were lost: whatever reads the log has stopped, or is gone, or its disk is full"


class LogWriter:
    """Writes lines to the file beneath `stream`, in a thread of its own; a context that ends with a flush.

    Logging from any thread costs a few microseconds, and neither waits nor raises, whatever becomes of the file. What
    cannot be written is dropped and counted; once the file takes lines again, one of them tells how many were lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        """Lines that were lost, so far."""
        self.encoding = stream.encoding
        self._stream = stream
        self._descriptor = stream.fileno()
        self._waiting = 0
        self._told = 0  # of the lines that were lost
        self._torn = False  # the last line was cut off in its middle
        self._counting = threading.RLock()  # held for an addition only; a finalizer or a signal may log within it
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.tell_loss: Callable[[int], str] = lambda lines: f"{_LOST}: {lines}\n"
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream.isatty()

    def write(self, text: str, /) -> None:
        """Have a line written; from any thread. Returns at once, and raises nothing."""
        with self._counting:
            if self._waiting + len(text) > _MOST_WAITING:
                self.dropped += 1
                return
            self._waiting += len(text)
        self._lines.put(text)

    def flush(self) -> None:
        """Nothing to do: the thread writes each line at once."""

    def close(self) -> None:
        """Wait for what waits to be written, `_FLUSH_SECONDS` at most. Lines that come later are lost."""
        self._lines.put(None)
        self._thread.join(_FLUSH_SECONDS)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            with self._counting:
                self._waiting -= len(text)
            if not self._put(text):
                with self._counting:
                    self.dropped += 1
            elif self._lines.empty():
                self._tell()
        self._tell()

    def _tell(self) -> None:
        if (dropped := self.dropped) > self._told and self._put(self.tell_loss(dropped - self._told)):
            self._told = dropped

    def _put(self, text: str) -> bool:
        """Write one line; several workers may share the file, and a short line alone is never mixed with others'."""
        data = ("\n" * self._torn + text).encode(self.encoding or "utf-8", "backslashreplace")
        sent = 0
        try:
            while sent < len(data):
                try:
                    sent += os.write(self._descriptor, data[sent:])
                except BlockingIOError:  # whoever started us made it so
                    select.select((), (self._descriptor,), ())
        except (OSError, ValueError):  # ValueError: a descriptor that select cannot take
            self._torn = self._torn or sent > 0
            return False
        self._torn = False
        return True


class _Handler(logging.StreamHandler[Any]):
    """The standard library's own tells of its faults on stderr, which may be as stuck as the log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name there
        """Take a record that cannot be formatted for lost."""


class _Logger(structlog.WriteLogger):
    """Writes lines to `stream`, and knows its name as loggers of the standard library do."""

    def __init__(self, stream: Sink, name: str = "") -> None:
        super().__init__(cast("TextIO", stream))  # it needs no more of it
        self.name = name


def set_up_logging(
    level: str, style: str, stream: Sink, secrets: Iterable[str] = (), *, worker: int | None = None
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
        _bounded,
    ]
    renderer: Processor
    if text:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    else:
        unicode = (stream.encoding or "utf-8").lower().startswith("utf")
        renderer = structlog.processors.JSONRenderer(ensure_ascii=not unicode)  # stays JSON, whatever it is encoded in
    clean: list[Processor] = [_for_a_terminal] if text else []
    last: list[Processor] = [*clean, _important_first, Starring(renderer, secrets)]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=open_logger,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    if isinstance(stream, LogWriter):

        def tell_loss(lines: int) -> str:
            line: Any = {"event": _LOST, "lines": lines}
            for processor in (*shared, *last):
                line = processor(open_logger(__name__), "warning", line)
            return f"{line}\n"

        stream.tell_loss = tell_loss
