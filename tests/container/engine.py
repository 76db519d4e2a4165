"""A container engine for the tests: Podman with a store, settings and networks of its own, and Compose in front of it.

Nothing of the machine's own containers is seen or touched, and no registry is asked: the base of the image is a tar
file that `.ci/base` makes of Debian's packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, RLIMIT_NPROC, getrlimit
from typing import TYPE_CHECKING

from sts_trio import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
# As Compose calls it. Podman would else look for it under localhost/ only.
IMAGE = f"docker.io/library/dsai-sts-humeai:{__version__}"
_BASE = "localhost/sts-trio-base:latest"
_PACKAGES = "podman buildah runc netavark aardvark-dns catatonit iptables mmdebstrap debian-archive-keyring"
_BUILD_SECONDS = 600
_SECONDS = 120
_SOCKET_SECONDS = 10
_MOST_OF_EACH = 4096  # files, processes


class Unavailable(Exception):
    """There is no engine here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    raw: bytes
    """What it printed; Podman's complaints about a machine without systemd are in `errors`."""
    errors: str
    seconds: float

    @property
    def out(self) -> str:
        """The same as text."""
        return self.raw.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Engine:
    """Podman and Compose, each with the same store."""

    environment: Mapping[str, str]
    compose_command: Path
    project: Path
    """A copy of what Compose reads of the repository, where a test may write."""

    def podman(self, *words: str, check: bool = True, seconds: float = _SECONDS) -> Ended:
        """Run `podman`."""
        return self._run(["podman", *words], {}, check=check, seconds=seconds)

    def compose(self, *words: str, **given: str) -> Ended:
        """Run `docker compose` in the project, with these settings in its environment."""
        return self._run([str(self.compose_command), *words], given, check=True, seconds=_SECONDS)

    def up(self, *, words: Sequence[str] = (), options: Sequence[str] = (), service: str = "", **given: str) -> Ended:
        """Run `docker compose WORDS... up OPTIONS... SERVICE` with the image that has been built."""
        here = ("--detach", "--no-build", "--pull", "never")
        return self.compose(*words, "up", *here, *options, *([service] if service else []), **given)

    def state(self, name: str) -> dict[str, object]:
        """What a container is doing."""
        found: list[dict[str, dict[str, object]]] = json.loads(self.podman("inspect", name).out)
        return found[0]["State"]

    def is_healthy(self, name: str) -> bool:
        """Run the image's own health check; Docker does so by itself, Podman where there is systemd."""
        return self.podman("healthcheck", "run", name, check=False).code == 0

    def _run(self, command: list[str], given: Mapping[str, str], *, check: bool, seconds: float) -> Ended:
        began = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self.project,
            env={**self.environment, **given},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        ended = Ended(done.returncode, done.stdout, done.stderr.decode(errors="replace"), time.monotonic() - began)
        assert not check or ended.code == 0, f"{' '.join(command)}: {ended.code}\n{ended.out}{ended.errors}"
        return ended


@contextmanager
def open_engine(folder: Path, made: Path) -> Iterator[Engine]:
    """Set up an engine in `folder`, with the image built. `made`: where `.ci/base` has put its files, or puts them.

    Raises:
        Unavailable: what it needs is not on this machine.
    """
    missing = [name for name in ("podman", "runc", "mmdebstrap") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        lacking = f"no {', '.join(missing)}" if missing else "not root"
        raise Unavailable(f"no container engine: {lacking} (as root: apt-get install {_PACKAGES})")
    if not (made / "base.tar").exists():
        done = subprocess.run(
            ["bash", ROOT / ".ci/base", made], stderr=subprocess.PIPE, timeout=_BUILD_SECONDS, check=False
        )
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise Unavailable(f"no base for the image can be made of Debian's packages (.ci/base): {last}")
    engine = Engine(_environment(folder), made / "docker-compose", folder / "project")
    _copy_project(engine.project)
    if (told := engine_works(engine)) is not None:
        raise Unavailable(f"Podman does not work here: {told}")
    socket = folder / "podman.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time", "0", f"unix://{socket}"],
        env=engine.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _build(engine, made / "base.tar")
        until = time.monotonic() + _SOCKET_SECONDS
        while not socket.exists():
            assert time.monotonic() < until, "Podman's service does not open its socket"
            time.sleep(0.1)
        yield engine
    finally:
        engine.podman("rm", "--all", "--force", "--time", "1", check=False)
        engine.podman("network", "prune", "--force", check=False)
        service.terminate()
        service.wait(_SOCKET_SECONDS)
        engine.podman("rmi", "--all", "--force", check=False)


def engine_works(engine: Engine) -> str | None:
    """Return what Podman says against starting at all; None: nothing."""
    told = engine.podman("info", check=False)
    return None if told.code == 0 else told.errors.strip().splitlines()[-1]


def _environment(folder: Path) -> dict[str, str]:
    # Podman asks for more than may be had in some sandboxes.
    limits = [f'"{name}={_limit(kind)}"' for name, kind in (("nofile", RLIMIT_NOFILE), ("nproc", RLIMIT_NPROC))]
    (folder / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n"
        # runc: crun refuses a machine that has both versions of cgroups.
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nexit_command_delay = 5\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{folder}/networks"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    )
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "BUILDAH_FORMAT": "docker",  # the other one has no health check
        "DOCKER_HOST": f"unix://{folder}/podman.sock",
    }


def _limit(kind: int) -> str:
    hard = getrlimit(kind)[1]
    limit = _MOST_OF_EACH if hard == RLIM_INFINITY else min(hard, _MOST_OF_EACH)
    return f"{limit}:{limit}"


def _copy_project(folder: Path) -> None:
    folder.mkdir()
    for name in ("compose.yml", "deploy"):
        (folder / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)


def _build(engine: Engine, base: Path) -> None:
    """Build the image as `docker build` does: the Dockerfile, and what the repository lets into it."""
    engine.podman("import", str(base), _BASE)
    words = ("--pull=never", "--network=host", "--build-arg", f"BASE={_BASE}", "--tag", IMAGE, str(ROOT))
    engine.podman("build", *words, seconds=_BUILD_SECONDS)
