"""``python -m sts_trio``: the same as the ``sts-trio`` command."""

import sys


def main() -> None:
    """Run the command. Ctrl-C ends it without a traceback, also while it is still being loaded."""
    try:
        from sts_trio.cli import main as command  # noqa: PLC0415 - it takes a third of a second

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
