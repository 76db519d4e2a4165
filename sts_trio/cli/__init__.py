"""The ``sts-trio`` command: parse, call, print.

Each command imports what it needs: `--help` and a wrong setting should not wait for the whole stack.
"""

from __future__ import annotations

import click

from sts_trio import __version__
from sts_trio.cli import service, trial


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Connect DSAI Core to a speech-to-speech agent. Settings come from the environment; see the README."""


for command in (service.serve, service.check, service.settings, trial.call, trial.demo, trial.emulate, trial.load):
    main.add_command(command)
