"""`sts-trio load` as a command: every profile and provider, one connector against another, and what may befall it.

Loads run side by side: they have the same waits, and no figure of them is judged.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trustme

from sts_trio.lab.load.service import free_port, listener_on, usage

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

T = TypeVar("T")

COMMAND = [sys.executable, "-m", "sts_trio"]
URL2 = "ws://127.0.0.1:"
MOST_SECONDS = 60


@dataclass
class Done:
    """A load that has ended."""

    code: int
    shown: str
    report: dict[str, Any]

    @property
    def run(self) -> dict[str, Any]:
        """The only run."""
        (run,) = self.report["runs"]
        return dict(run)


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "COLUMNS": "200", "HOST": "127.0.0.1", "SHED_LAG_MS": "0", **more}


def until(what: Callable[[], T | None]) -> T:
    """Wait for something, and return it."""
    give_up = time.monotonic() + MOST_SECONDS
    while (found := what()) is None:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """One load of each kind."""
    here = tmp_path_factory.mktemp("load")
    authority = trustme.CA()
    cert = authority.issue_cert("127.0.0.1")
    tls = here / "tls.pem"
    tls.write_bytes(cert.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    agents, other = f"127.0.0.1:{free_port()}", free_port()
    kinds = {
        # Call 1 is interrupted 2.8 s after its beginning.
        "chatty": "--calls 3 --settle 1 --seconds 2 --provider openai --tls tls.pem --max-stale 0 --max-lost 0",
        # Call 1 is spoken to from 1.4 s on, call 0 much later.
        "listen": "--calls 2 --settle 2 --seconds 2 --provider xai --max-lost 0 --max-failed 0",
        "silent": "--calls 3 --settle 0.5 --seconds 0.5 --provider openai --max-failed 0",
        "talk": f"--calls 2 --settle 0.1 --seconds 0.6 --rounds 1 --versus {URL2}{other} --max-cpu-ratio 0.001",
    }
    kinds = {kind: f"{arguments} --json {kind}.json" for kind, arguments in kinds.items()}
    at = {kind: f"127.0.0.1:{free_port()}" for kind in kinds} | {"talk": agents}
    settings = environment(HUMEAI_API_KEY="key", HUMEAI_WS_URL=f"ws://{agents}/v0/evi/chat", PORT=str(other))
    with subprocess.Popen([*COMMAND, "serve"], env=settings, cwd=here, stderr=subprocess.DEVNULL) as service:
        try:
            until(lambda: listener_on(other))
            running = {
                kind: subprocess.Popen(
                    [*COMMAND, "load", "--serve", *f"--profile {kind} --agents {at[kind]} {arguments}".split()],
                    env=environment(),
                    cwd=here,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for kind, arguments in kinds.items()
            }
            return {kind: _done(process, here / f"{kind}.json") for kind, process in running.items()}
        finally:
            service.terminate()


def _done(process: subprocess.Popen[str], file: Path) -> Done:
    try:
        shown, _ = process.communicate(timeout=MOST_SECONDS)
    finally:
        process.kill()
    assert file.exists(), shown
    return Done(process.returncode, shown, json.loads(file.read_text()))


def test_chatty_agents_are_interrupted_and_not_a_frame_of_them_is_stale(loads: dict[str, Done]) -> None:
    done = loads["chatty"]
    assert (done.code, done.run["failures"], done.report["exceeded"]) == (0, {}, [])
    assert done.run["stop"]["count"] >= 1
    assert (done.run["missed_stops"], done.run["stale"], done.run["down_lost"], done.run["up_lost"]) == (0, 0, 0, 0)
    assert done.run["up"]["count"] > 250
    assert (done.report["provider"], done.report["tls"]) == ("openai", True)
    assert "OPENAI_BASE_URL=wss://127.0.0.1:" in done.shown


def test_to_listening_callers_the_agent_speaks_on_and_on(loads: dict[str, Done]) -> None:
    done = loads["listen"]
    assert (done.code, done.run["failures"]) == (0, {})
    # Call 1 is spoken to before the measured 2 s, in all of them, and after them; no other turn begins.
    assert done.run["first_audio"] is None
    assert 90 <= done.run["late_audio"]["count"] <= 101
    assert (done.run["stop"], done.run["down_damaged"], done.run["up_damaged"]) == (None, 0, 0)


def test_in_silent_calls_there_is_no_audio_and_the_calls_are_open_all_the_same(loads: dict[str, Done]) -> None:
    done = loads["silent"]
    assert (done.code, done.run["failures"]) == (0, {})
    assert (done.run["up_frames"], done.run["down_frames"], done.run["up"]) == (0, 0, None)
    assert done.run["setup"]["count"] == 3
    assert done.run["memory_per_call"] > 10


def test_one_connector_is_measured_against_another(loads: dict[str, Done]) -> None:
    done = loads["talk"]
    first, second = done.report["runs"]
    assert first["url"] != second["url"]
    assert all(run["up"]["count"] >= 50 and not run["up_lost"] and not run["failures"] for run in (first, second))
    assert done.report["medians"]["cpu_per_call"] == first["cpu_per_call"]
    assert done.report["versus_medians"]["cpu_per_call"] == second["cpu_per_call"]
    ratio = done.report["ratios"]["cpu_per_call"]
    assert ratio == pytest.approx(first["cpu_per_call"] / second["cpu_per_call"])
    assert done.code == 1
    assert done.report["exceeded"] == [f"CPU per call against the other: {ratio:g} times, limit 0.001"]
    assert f"over the limit: CPU per call against the other: {ratio:g} times" in done.shown
    (heads,) = [line for line in done.shown.splitlines() if "ratio" in line and "ws://" in line]
    assert first["url"] in heads
    assert second["url"] in heads


def test_whatever_ends_a_load_is_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    kinds = {"ctrl-c": "--seconds 60", "SIGTERM": "--seconds 60", "server killed": "--seconds 1 --max-failed 0"}
    running, ports = {}, {kind: free_port() for kind in kinds}
    for kind, arguments in kinds.items():
        at = f"--calls 2 --settle 1 --agents 127.0.0.1:{ports[kind]} {arguments}".split()
        with (tmp_path / kind).open("wb") as shown:
            command = [*COMMAND, "load", "--serve", *at]
            # In a group of its own: Ctrl-C on a terminal reaches a whole group.
            running[kind] = subprocess.Popen(
                command, env=environment(), cwd=tmp_path, stdout=shown, stderr=subprocess.STDOUT, start_new_session=True
            )
    try:
        served = {kind: until(partial(_service_port, tmp_path / kind)) for kind in kinds}
        services = {kind: until(partial(listener_on, port)) for kind, port in served.items()}
        for port in served.values():
            until(partial(_called_on, port))
        os.killpg(running["ctrl-c"].pid, signal.SIGINT)
        running["SIGTERM"].terminate()
        os.kill(services["server killed"], signal.SIGKILL)
        codes = {kind: process.wait(MOST_SECONDS) for kind, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    shown_by = {kind: (tmp_path / kind).read_text() for kind in kinds}
    assert codes == {"ctrl-c": 130, "SIGTERM": 2, "server killed": 1}, shown_by
    assert "Traceback" not in "".join(shown_by.values())
    assert shown_by["ctrl-c"].count("\n") == 1  # how the service was started
    assert shown_by["SIGTERM"].splitlines()[1:] == ["sts-trio: the load was ended by SIGTERM"]
    assert "over the limit: failed: 2 calls, limit 0" in shown_by["server killed"]
    assert [pid for pid in services.values() if usage(pid) is not None] == []
    assert [listener_on(port) for port in ports.values()] == [None] * 3


def _service_port(shown: Path) -> int | None:
    port = re.search(r"PORT=(\d+)", shown.read_text())
    return int(port[1]) if port else None


def _called_on(port: int) -> bool | None:
    """Whether a connection to this port is established; None if not."""
    fields = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(at.endswith(f":{port:04X}") and state == "01" for _, at, _, state, *_ in fields) or None
