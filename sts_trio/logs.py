"""Logging: structlog for us and for the libraries; key=value on a terminal, JSON otherwise.

Every line of a call carries its id as `call`. Tracebacks come without the values of variables, which may be secret.

Nothing secret is logged on purpose. But the text of an exception may quote anything: so what the settings hold as
secret is starred in every line, whoever wrote it, and in tracebacks long numbers are, which may be telephones.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import EventDict, Processor, WrappedLogger

# Shorter secrets are words of common lines, which would be starred with them.
_SHORTEST_SECRET = 6
_LONG_NUMBER = re.compile(r"\d{6,}")


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


def set_up_logging(
    level: str, style: str, stream: TextIO, secrets: Iterable[str] = (), *, worker: int | None = None
) -> None:
    """Send all logging of the process to `stream`. `style` is ``auto``, ``text`` or ``json``.

    `secrets` are starred wherever they turn up. The number of a `worker` is in each of its lines.
    """

    def add_worker(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return line if worker is None else {"worker": worker, **line}

    text = style == "text" or (style == "auto" and stream.isatty())
    shared: list[Processor] = [
        add_worker,
        structlog.contextvars.merge_contextvars,
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
    last = Starring(renderer, secrets)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
