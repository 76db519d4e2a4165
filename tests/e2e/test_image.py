"""The image, the compose file and the settings' example, as far as they can be checked without a container engine.

What the container would run is run here: its command, its health check, its stop signal, with nothing in the
environment but what the image gives, and without the right to write.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import tomllib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import yaml
from packaging.requirements import Requirement

from sts_trio import __version__
from sts_trio import settings as document
from sts_trio.providers import SETTINGS
from sts_trio.settings import load_settings
from sts_trio.settings.calls import emotion_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).parents[2]
PANEL_SECONDS = 15.0  # how long the panel waits for `healthy`
VARIABLES = [variable for topic in document.topics(SETTINGS) for variable in topic.variables]
NAMES = [variable.name for variable in VARIABLES]
ALIASES = [alias for variable in VARIABLES for alias in variable.aliases]
PROMPTS = [name for name in NAMES if name.endswith("_FILE_INSTRUCTIONS")]
DEFAULTS: dict[str, Any] = {variable.name: variable.default for variable in VARIABLES}


# The Dockerfile, read.


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a Dockerfile."""

    word: str
    rest: str

    @property
    def exec_form(self) -> list[str]:
        """The command, if it is written as a JSON list; no shell stands between it and a signal."""
        command: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return command


@cache
def stages() -> tuple[tuple[Step, ...], ...]:
    """The Dockerfile's instructions, stage by stage."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Step]] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "ARG" and not found:  # before the first stage: the base of all of them
                continue
            if word == "FROM":
                found.append([])
            found[-1].append(Step(word, rest.strip()))
    return tuple(tuple(steps) for steps in found)


def only(word: str) -> Step:
    """The one such instruction of the final stage."""
    (step,) = [step for step in stages()[-1] if step.word == word]
    return step


def environment() -> dict[str, str]:
    """What the image puts into the environment, but for its PATH."""
    pairs = " ".join(step.rest for step in stages()[-1] if step.word == "ENV").split()
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name != "PATH"}


def test_the_dockerfile_has_a_build_stage_and_a_final_one() -> None:
    build, final = stages()
    assert build[0].rest.split()[0] == final[0].rest, "the virtual environment's Python must be where it was"
    assert final[0].rest == "${BASE}"
    assert re.findall(r"^ARG (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == ["BASE=python:3.13-slim"]
    assert [step.word for step in final if step.word == "COPY"] == ["COPY"]
    assert only("COPY").rest.startswith("--from=build ")


def test_what_the_container_runs_gets_its_signals_and_needs_no_root() -> None:
    assert only("CMD").exec_form == ["sts-trio", "serve"]
    assert only("STOPSIGNAL").rest == "SIGTERM"
    assert only("EXPOSE").rest == str(DEFAULTS["PORT"])
    assert only("WORKDIR").rest == "/usr/src/app"
    assert "/usr/src/app/tools" in only("RUN").rest
    user, _, _ = only("USER").rest.partition(":")
    assert int(user) > 0
    words = [step.word for step in stages()[-1]]
    assert "ENTRYPOINT" not in words  # the compose file puts another command in place of CMD
    assert words.index("RUN") < words.index("USER") < words.index("CMD")
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_health_check_answers_within_the_panels_patience() -> None:
    options = dict(re.findall(r"--(\S+)=(\d+)s?", only("HEALTHCHECK").rest))
    # Docker probes for the first time after one interval; one probe may be too early.
    assert 2 * (int(options["interval"]) + int(options["timeout"])) < PANEL_SECONDS


def test_every_package_in_the_image_is_pinned() -> None:
    commands = [
        command.strip()
        for steps in stages()
        for step in steps
        if step.word == "RUN"
        for command in step.rest.split("&&")
    ]
    installs = [command for command in commands if re.search(r"\bpip\b.*\b(install|wheel)\b", command)]
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or ("--no-index" in command and "--no-deps" in command), command
    assert not [command for command in commands if re.search(r"\b(apt-get|apk|curl|wget)\b", command)]


def test_there_is_no_secret_in_the_image() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD", text, re.IGNORECASE)
    assert not [step for steps in stages() for step in steps if step.word in ("ARG", "ADD")]


def test_only_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for step in stages()[0] if step.word == "COPY" for name in step.rest.split()[:-1]}
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)
    assert not let_in & {".git", ".venv", ".env", "tests", "."}


# The pins.


def pins(name: str) -> dict[str, Requirement]:
    """A requirements file, by package; every line of it must be a pin, a hash or a comment."""
    text = re.sub(r" *\\\n", "", (ROOT / name).read_text())
    found = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]*( +--hash=sha256:[0-9a-f]{64})+", line), line
        requirement = Requirement(line.split()[0])
        found[requirement.name] = requirement
    return found


@pytest.mark.parametrize(
    ("file", "table", "key"),
    [("requirements.txt", "project", "dependencies"), ("requirements-build.txt", "build-system", "requires")],
)
def test_the_pins_are_what_the_project_asks_for(file: str, table: str, key: str) -> None:
    wanted = [Requirement(each) for each in tomllib.loads((ROOT / "pyproject.toml").read_text())[table][key]]
    pinned = pins(file)
    for requirement in wanted:
        (pin,) = pinned[requirement.name].specifier
        assert requirement.specifier.contains(pin.version), f"{requirement} is pinned to {pin.version}"


def test_the_pins_name_no_place_but_the_public_index() -> None:
    for name in ("requirements.txt", "requirements-build.txt"):
        assert not re.search(r"://|index|trusted-host|find-links|@|file:", (ROOT / name).read_text())


# The compose file.


@cache
def compose() -> dict[str, Any]:
    """The compose file as plain values."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yml").read_text())
    return found


def resolved(value: str, outside: Mapping[str, str]) -> str:
    """Put values in place of ``${NAME-default}``, ``${NAME:-default}`` and ``${NAME:+word}``, as Compose does."""

    def choose(found: re.Match[str]) -> str:
        name, colon, sign, word = found.groups()
        given = outside.get(name)
        there = given is not None and (not colon or given != "")
        if sign == "+":
            return word if there else ""
        return given or "" if there else word

    inner = r"\$\{(\w+)(:?)([-+])([^${}]*)\}"  # innermost first: a default may be another one
    while (found := re.sub(inner, choose, value)) != value:
        value = found
    return value


def variables(service: str, **outside: str) -> dict[str, str | None]:
    """What a service gets; None for what is passed through from outside."""
    pairs = (each.partition("=") for each in compose()["services"][service]["environment"])
    return {name: resolved(value, outside) if equals else None for name, equals, value in pairs}


def seconds(text: str) -> int:
    """Docker's way to write a time."""
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups()  # type: ignore[union-attr]  # a mismatch fails the test
    return 60 * int(minutes or 0) + int(rest or 0)


def test_compose_passes_every_setting_through_and_invents_none() -> None:
    given = variables("dsai-sts-humeai")
    assert given.pop("PORT") == str(DEFAULTS["PORT"])
    for name in ("AMI_URL", *PROMPTS):  # those with a default of their own, below
        del given[name]
    assert sorted(given) == sorted({*NAMES, *ALIASES} - {"HOST", "PORT", "AMI_URL", "TOOLS_DIR", *PROMPTS})
    assert set(given.values()) == {None}, "an unset variable must stay unset"


@pytest.mark.parametrize("service", ["dsai-sts-humeai", "dsai-sts-demo"])
@pytest.mark.parametrize(
    ("outside", "url"),
    [({}, "http://dsai-ami:6006"), ({"AMI_URL": "http://other:1"}, "http://other:1"), ({"AMI_URL": ""}, None)],
)
def test_compose_controls_calls_through_the_familys_service_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, service: str, outside: dict[str, str], url: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUMEAI_API_KEY", "k")
    monkeypatch.setenv("AMI_URL", variables(service, **outside)["AMI_URL"] or "")
    assert load_settings(SETTINGS).calls.ami_url == url


@pytest.mark.parametrize("service", ["dsai-sts-humeai", "dsai-sts-demo"])
@pytest.mark.parametrize(("outside", "source"), [({}, "./tools"), ({"TOOLS_DIR": "/srv/t"}, "/srv/t")])
def test_compose_mounts_the_operators_tools_where_the_service_looks_for_them(
    service: str, outside: dict[str, str], source: str
) -> None:
    mount = compose()["services"][service]["volumes"][0]
    # The long form: in the short one, TOOLS_DIR=tools would name a volume instead of a directory.
    assert mount["type"] == "bind"
    assert resolved(mount["source"], outside) == source
    assert mount["target"] == f"{only('WORKDIR').rest}/{DEFAULTS['TOOLS_DIR']}"
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": True}
    assert "TOOLS_DIR" not in variables(service), "a path outside means nothing inside"


@pytest.mark.parametrize(
    ("outside", "source", "read"),
    [
        ({}, "/dev/null", ""),
        ({"PROMPT_FILE": ""}, "/dev/null", ""),
        ({"PROMPT_FILE": "./prompt.txt"}, "./prompt.txt", "prompt.txt"),
        ({"PROMPT_FILE": "./p", "HUMEAI_FILE_INSTRUCTIONS": "/f"}, "./p", "/f"),
    ],
)
def test_a_prompt_file_is_mounted_and_read_whatever_the_provider(
    outside: dict[str, str], source: str, read: str
) -> None:
    mount = compose()["services"]["dsai-sts-humeai"]["volumes"][1]
    assert mount["type"] == "bind"
    assert resolved(mount["source"], outside) == source
    assert mount["target"] == f"{only('WORKDIR').rest}/prompt.txt"
    assert mount["read_only"] is True
    given = variables("dsai-sts-humeai", **outside)
    assert len(PROMPTS) == 3
    assert given["HUMEAI_FILE_INSTRUCTIONS"] == read
    for name in PROMPTS[1:]:
        assert given[name] == ("prompt.txt" if outside.get("PROMPT_FILE") else "")


def test_compose_is_the_seeds_service_on_the_seeds_network() -> None:
    service = compose()["services"]["dsai-sts-humeai"]
    assert service["container_name"] == "dsai-sts-humeai"
    assert service["restart"] == "always"
    assert "profiles" not in service, "`docker compose up` alone must start it"
    assert "ports" not in service
    assert service["init"] is True
    network = compose()["networks"]["dsai"]
    assert network == {"name": "dsai", "external": "${DSAI_NETWORK_EXTERNAL:-false}"}, "who makes it first decides how"


def test_compose_lets_running_calls_finish() -> None:
    # After the drain, calls get 5 s to say good-bye and the server 5 s to close.
    assert seconds(compose()["services"]["dsai-sts-humeai"]["stop_grace_period"]) >= DEFAULTS["DRAIN_SECONDS"] + 15
    drain = float(variables("dsai-sts-demo")["DRAIN_SECONDS"] or 0)
    assert seconds(compose()["services"]["dsai-sts-demo"]["stop_grace_period"]) >= drain + 15


@pytest.mark.parametrize("name", ["dsai-sts-humeai", "dsai-sts-demo", "evi-emulator"])
def test_compose_gives_no_service_more_than_it_needs(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"] == f"dsai-sts-humeai:{__version__}"
    assert not service.keys() & {"privileged", "cap_add", "user"}


def test_the_profile_without_a_key_talks_to_its_own_emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services = compose()["services"]
    assert services["dsai-sts-demo"]["profiles"] == services["evi-emulator"]["profiles"] == ["emulator"]
    assert services["dsai-sts-demo"]["depends_on"] == ["evi-emulator"]
    monkeypatch.chdir(tmp_path)
    for name in (*NAMES, *ALIASES):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables("dsai-sts-demo").items():
        monkeypatch.setenv(name, value or "")
    port = services["evi-emulator"]["command"][-1]
    assert load_settings(SETTINGS).provider.url == f"ws://evi-emulator:{port}/v0/evi/chat"


# The example of an .env file.


def test_the_example_has_every_setting_with_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["HUMEAI_API_KEY="]
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", "\n".join(lines), re.MULTILINE))
    assert list(shown) == NAMES
    # Filled in as it stands, it must give what an empty environment gives.
    for name in (*NAMES, *ALIASES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "\n".join(f"{name}={value}" for name, value in (shown | {"HUMEAI_API_KEY": "k"}).items())
    )
    for variable, value in load_settings(SETTINGS).values():
        if variable.name != "HUMEAI_API_KEY":
            assert value == variable.default, variable.name


def test_the_rules_in_the_example_can_be_taken_as_they_stand() -> None:
    examples = re.findall(r"^# (\[.*\])$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        assert len(emotion_rules(example)) == 1


# What the container would run, run here.


def container(given: Mapping[str, str]) -> dict[str, str]:
    """The environment of the container's processes: the image's, what it was started with, and nothing of ours."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **environment(), **given}


def forbid_writing() -> None:
    """Let no byte go into any file (pipes are none): a read-only file system that root cannot get around either."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@asynccontextmanager
async def running(command: list[str], given: Mapping[str, str], folder: Path) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        command,
        env=container(given),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=forbid_writing,
    )
    try:
        async with process.stdout:  # type: ignore[union-attr]  # it is a pipe
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def read_until(process: trio.Process, pattern: str) -> re.Match[str]:
    """Read what the process prints until it says `pattern`."""
    said = ""
    while True:
        chunk = await process.stdout.receive_some()  # type: ignore[union-attr]  # it is a pipe
        assert chunk, f"it ended without {pattern!r}; it said:\n{said}"
        said += chunk.decode()
        if found := re.search(pattern, said):
            return found


async def health(given: Mapping[str, str], folder: Path) -> int:
    """Run the image's health check once; returns its exit code."""
    ended = await trio.run_process(
        only("HEALTHCHECK").exec_form,
        env=container(given),
        cwd=folder,
        check=False,
        capture_stdout=True,
        capture_stderr=True,
        preexec_fn=forbid_writing,
    )
    return ended.returncode


async def test_the_container_becomes_healthy_and_stops_when_told(tmp_path: Path) -> None:
    with trio.fail_after(PANEL_SECONDS):
        async with running(only("CMD").exec_form, {"HUMEAI_API_KEY": "k", "PORT": "0"}, tmp_path) as service:
            port = (await read_until(service, r"ready for calls.*http://0\.0\.0\.0:(\d+)"))[1]
            assert await health({"PORT": port}, tmp_path) == 0
            service.send_signal(signal.SIGTERM)
            with trio.fail_after(3):
                assert await service.wait() == 0
            assert await health({"PORT": port}, tmp_path) == 1
    assert not list(await trio.Path(tmp_path).iterdir()), "it wrote into its working directory"


async def answer_once(listener: trio.SocketListener, status: str) -> None:
    async with await listener.accept() as stream:
        await stream.receive_some()
        await stream.send_all(f"HTTP/1.1 {status}\r\n\r\n".encode())


@pytest.mark.parametrize(("status", "code"), [("200 OK", 0), ("503 Service Unavailable", 1), ("500 200", 1)])
async def test_the_health_check_believes_only_a_200(
    status: str, code: int, tmp_path: Path, nursery: trio.Nursery
) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.2")
    async with listener:
        nursery.start_soon(answer_once, listener, status)
        port = listener.socket.getsockname()[1]
        with trio.fail_after(5):
            assert await health({"HOST": "127.0.0.2", "PORT": str(port)}, tmp_path) == code


async def test_the_emulator_of_the_compose_file_opens_a_chat_and_stops_when_told(tmp_path: Path) -> None:
    service = compose()["services"]["evi-emulator"]
    command = [*service["command"][:-1], "0"]  # its port, on a machine where another may have it
    with trio.fail_after(30):
        async with running(command, {}, tmp_path) as emulator:
            port = (await read_until(emulator, r"HUMEAI_WS_URL=ws://[^:]+:(\d+)/"))[1]
            given = {"HUMEAI_API_KEY": "demo", "HUMEAI_WS_URL": f"ws://127.0.0.1:{port}/v0/evi/chat"}
            check = await trio.run_process(["sts-trio", "check"], env=container(given), cwd=tmp_path, check=False)
            assert check.returncode == 0
            emulator.send_signal(signal.Signals[service.get("stop_signal", "SIGTERM")])
            assert await emulator.wait() == 0
