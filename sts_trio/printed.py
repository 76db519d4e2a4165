"""What is printed while the service runs becomes lines of its log: by operators' tools, by libraries, by Python itself.

The process's own streams would make whoever prints wait for a reader that has stopped, or fail with one that is gone,
a disk that is full, an encoding that is too narrow: a tool, or the event loop that Python warns of something in.
"""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)

_LONGEST_LINE = 10_000  # characters; what is longer becomes several


class PrintedLines(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr`, called `name`. Threads that print at once are kept apart."""

    encoding = "utf-8"

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = threading.local()  # `text`: a line of this thread that is not complete

    def writable(self) -> bool:
        """Say yes (see `io.TextIOBase`)."""
        return True

    def write(self, text: str, /) -> int:
        """Take any text; each line that it completes is logged."""
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        while len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        self._begun.text = rest
        for line in lines:
            if line.strip():
                log.info("printed", stream=self._name, text=line)
        return len(text)


@contextmanager
def printed_to_log() -> Iterator[None]:
    """Have all that is printed in this context logged, from any thread."""
    with redirect_stdout(PrintedLines("stdout")), redirect_stderr(PrintedLines("stderr")):
        yield
