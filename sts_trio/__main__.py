"""``python -m sts_trio``: the same as the ``sts-trio`` command."""

from sts_trio.cli import main

if __name__ == "__main__":
    main()
