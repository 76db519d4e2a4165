"""The image is built from its Dockerfile and run: alone, and by Compose as the compose files say."""

from __future__ import annotations

import os
import re
import time
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sts_trio import __version__
from tests.container.engine import IMAGE, ROOT, Engine, Unavailable, open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

PANEL_SECONDS = 15.0  # how long the panel waits for `healthy`
GONE_SECONDS = 5.0
TIMES = int(os.environ.get("UP_DOWN_TIMES", "20"))
_LOOK = "sts-trio --version; id -u; pwd; ls -A; echo > x || echo no"
HELD = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")
_MADE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sts-trio-container"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    try:
        with open_engine(tmp_path_factory.mktemp("engine"), _MADE) as found:
            yield found
    except Unavailable as exc:
        pytest.skip(str(exc))


@pytest.fixture(autouse=True)
def nothing_is_left(engine: Engine) -> Iterator[None]:
    yield
    engine.podman("rm", "--all", "--force", "--time", "1")
    engine.podman("network", "prune", "--force")
    for name in (".env", "second.env", "sales.env", "prompt.txt"):
        (engine.project / name).unlink(missing_ok=True)


def wait_until(true: Callable[[], bool], seconds: float = PANEL_SECONDS) -> float:
    """Wait for it. Returns how many seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + seconds
        time.sleep(0.1)
    return time.monotonic() - began


def test_the_image_is_what_its_labels_say_and_nobody_in_particular(engine: Engine) -> None:
    said = engine.podman("run", "--rm", *HELD, IMAGE, "sh", "-c", _LOOK)
    version, user, folder, tools, *refused = said.out.splitlines()
    assert version.split()[-1] == __version__
    assert int(user) > 0
    assert (folder, tools) == ("/usr/src/app", "tools")
    assert refused[-1] == "no"
    label = '{{index .Labels "org.opencontainers.image.version"}}'
    assert engine.podman("image", "inspect", IMAGE, "--format", label).out.strip() == __version__


def test_the_service_needs_no_byte_code_that_is_not_there(engine: Engine) -> None:
    ask = (
        "import os, sys, sts_trio.main; "
        "print([n for n, m in sys.modules.items() if (c := getattr(m, '__cached__', None)) and not os.path.exists(c)])"
    )
    assert engine.podman("run", "--rm", *HELD, IMAGE, "python", "-c", ask).out.strip() == "[]"


@pytest.mark.parametrize("init", [[], ["--init"]], ids=["alone", "init"])
def test_it_becomes_healthy_and_a_sigterm_ends_it_in_order(engine: Engine, init: list[str]) -> None:
    engine.podman("run", "--detach", "--name", "one", *init, *HELD, "--env", "HUMEAI_API_KEY=k", IMAGE)
    took = wait_until(lambda: engine.is_healthy("one"))
    stopped = engine.podman("stop", "--time", "60", "one")
    print(f"healthy after {took:.1f} s, gone {stopped.seconds:.1f} s after SIGTERM")
    assert engine.state("one")["ExitCode"] == 0
    assert stopped.seconds < GONE_SECONDS
    assert '"event": "stopped"' in engine.podman("logs", "one").out


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3])
def test_a_sigterm_in_the_first_moments_is_not_lost_without_an_init_either(engine: Engine, delay: float) -> None:
    engine.podman("run", "--detach", "--name", "one", *HELD, "--env", "HUMEAI_API_KEY=k", IMAGE)
    time.sleep(delay)
    assert engine.podman("stop", "--time", "60", "one").seconds < GONE_SECONDS
    assert engine.state("one")["ExitCode"] == 0


def test_up_and_down_at_once_leaves_nothing_behind_for_long(engine: Engine) -> None:
    took = []
    for _ in range(TIMES):
        engine.up(HUMEAI_API_KEY="k")
        took.append(engine.compose("down").seconds)
        assert engine.podman("ps", "--all", "--quiet").out == ""
    print(f"down at once after up, {TIMES} times: {min(took):.1f} to {max(took):.1f} s")
    assert max(took) < GONE_SECONDS


def test_something_is_heard_as_the_head_of_the_file_says(engine: Engine) -> None:
    head = (ROOT / "compose.yml").read_text().partition("services:")[0]
    profile, service = re.findall(r"docker compose (--profile emulator) up --build (\S+)", head)[0]
    call, fetch = re.findall(r"docker compose (exec [^>\n]*)", head)
    engine.up(words=profile.split(), service=service)
    wait_until(lambda: engine.is_healthy(service))
    print(engine.compose(*call.split()).out)
    recording = engine.project / "call.wav"
    recording.write_bytes(engine.compose(*fetch.split()).raw)
    with wave.open(str(recording)) as heard:
        left_and_right = heard.readframes(heard.getnframes())
        assert heard.getnchannels() == 2
    agent = memoryview(left_and_right).cast("h")[1::2]
    assert sum(abs(sample) > 500 for sample in agent) > 8000, "a second of the agent's voice"
    down = engine.compose(*profile.split(), "down")
    assert down.seconds < 2 * GONE_SECONDS  # two containers, one after the other
    assert engine.podman("ps", "--all", "--quiet").out == ""


def test_a_prompt_file_is_read_and_its_absence_fails_nothing(engine: Engine) -> None:
    show = ("exec", "-T", "dsai-sts-humeai", "sh", "-c", "cat prompt.txt; echo /$OPENAI_FILE_INSTRUCTIONS")
    engine.up(OPENAI_API_KEY="k")
    assert engine.compose(*show).out == "/\n"
    engine.compose("down")
    (engine.project / "prompt.txt").write_text("Be brief.")
    given = {"OPENAI_API_KEY": "k", "PROMPT_FILE": "./prompt.txt"}
    engine.up(**given)
    assert engine.compose(*show, **given).out == "Be brief./prompt.txt\n"


def test_a_second_agent_and_a_second_project_are_reached_by_names_of_their_own(engine: Engine) -> None:
    (engine.project / ".env").write_text("HUMEAI_API_KEY=k\n")
    (engine.project / "second.env").write_text("STS_PROVIDER=openai\nOPENAI_API_KEY=o\n")
    (engine.project / "sales.env").write_text("XAI_API_KEY=x\n")
    second = ("-f", "compose.yml", "-f", "deploy/compose/second-agent.yml")
    sales = ("-p", "sales", "--env-file", "sales.env", "-f", "compose.yml", "-f", "deploy/compose/second-project.yml")
    engine.up(words=second)
    engine.up(words=sales)
    names = ("dsai-sts-humeai", "dsai-sts-second", "sales-sts")
    assert set(engine.podman("ps", "--format", "{{.Names}}").out.split()) == set(names)
    for name in names:
        wait_until(lambda name=name: engine.is_healthy(name))  # type: ignore[misc]  # mypy cannot infer it
    ask = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}:6039/health', timeout=5).status)"
    for name in names:
        assert engine.podman("exec", "sales-sts", "python", "-c", ask, name).out.strip() == "200"
    for name, provider in zip(names, ("humeai", "openai", "xai"), strict=True):
        assert f'"STS_PROVIDER": "{provider}"' in engine.podman("logs", name).out
    engine.compose(*sales, "down")
    assert len(engine.podman("ps", "--quiet").out.split()) == 2


def test_several_share_one_name(engine: Engine) -> None:
    scale = ("-f", "compose.yml", "-f", "deploy/compose/scale.yml")
    engine.up(words=scale, service="dsai-sts-humeai", options=("--scale", "dsai-sts-humeai=3"), HUMEAI_API_KEY="k")
    running = engine.podman("ps", "--format", "{{.Names}}").out.split()
    assert len(running) == 3
    ask = "import socket; print(len({a[4][0] for a in socket.getaddrinfo('dsai-sts-humeai', 6039)}))"
    assert engine.podman("exec", running[0], "python", "-c", ask).out.strip() == "3"
    engine.compose(*scale, "down")
