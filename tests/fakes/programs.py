"""Programs that some tests use and no machine must have: without one, the test is skipped and says which is missing.

`.ci/run` installs curl and HAProxy.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

import pytest


def needs(program: str) -> pytest.MarkDecorator:
    """Mark a test that calls this program."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed (apt install {program})"
    )


@cache
def compose() -> tuple[str, ...]:
    """The command, if there is a Compose 2 on this machine."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            shown = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
            if shown.stdout.startswith(("2.", "v2.")):
                return command
    return ()


NEEDS_COMPOSE = pytest.mark.skipif(not compose(), reason="there is no Compose 2 here (Debian 13: docker-compose)")
NEEDS_CURL = needs("curl")
NEEDS_OPENSSL = needs("openssl")
