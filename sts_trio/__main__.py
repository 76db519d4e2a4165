"""``python -m sts_trio``: the same as the ``sts-trio`` command."""

import os
import signal
import sys
from types import FrameType

# They run until they are told to stop: a signal is no failure of theirs.
_SERVICES = ("serve", "emulate")


def main() -> None:
    """Run the command. A signal ends it quietly, also while it is still being loaded."""
    _listen_to_signals()
    try:
        from sts_trio.cli import main as command  # noqa: PLC0415 - it takes a third of a second

        command()
    except KeyboardInterrupt:
        sys.exit(130)


def _listen_to_signals() -> None:
    """Have the signals that stop a process end this one at once, until a command takes them over.

    The kernel keeps every signal without a handler from a container's first process: `docker stop` would wait in vain.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has SIGHUP ignored
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    # Not an exception: an import that is under way may catch it.
    os._exit(0 if sys.argv[1:2] and sys.argv[1] in _SERVICES else 128 + number)


if __name__ == "__main__":
    main()
