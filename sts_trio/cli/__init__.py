"""The ``sts-trio`` command: parse, call, print.

Each command imports what it needs: `--help` and a wrong setting should not wait for the whole stack.
"""

from __future__ import annotations

import click

from sts_trio import __version__
from sts_trio.cli import load, service, tools, trial

_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,  # of help, where the terminal is that wide
}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, help="Show the version.")
def main() -> None:
    """Connect DSAI Core to a speech-to-speech agent.

    Settings come from the environment and the file .env; `sts-trio settings` prints them all.
    """


for command in (
    service.serve,
    service.check,
    service.settings,
    tools.tools,
    trial.demo,
    trial.call,
    trial.emulate,
    load.load,
):
    main.add_command(command)
