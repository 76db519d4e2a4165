"""What a check says of machine, door and files, in memory; and how its lines look where somebody reads them."""

from __future__ import annotations

import errno
import os
import re
import socket
from datetime import date
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from rich.console import Console

from sts_trio.check import check_all, machine
from sts_trio.check.door import check_callers, check_choice, check_file, check_names
from sts_trio.check.finding import Finding, Level, remedy
from sts_trio.check.machine import Holder, check_port, check_room, check_workers, find_holder
from sts_trio.cli.findings import Printed, PrintedPretty
from sts_trio.settings.names import UnknownName
from tests.call.fakes import into, wav_file
from tests.call.stage import KEY, make_settings
from tests.tools import http_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import trio

    from sts_trio.providers.dial import Endpoint
    from tests.tools.http_server import Answer


def taken(port: int, **chosen: Any) -> Any:
    return make_settings(host="127.0.0.1", port=port, **chosen)


@pytest.fixture(autouse=True)
def in_an_empty_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


# The machine.


async def test_who_holds_the_port_is_named_by_process_and_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        holder = find_holder(port)
        lines: list[str] = []
        assert not await check_port(taken(port), into(lines))
    assert holder is not None
    assert holder.pid == os.getpid()
    assert not holder.is_service
    assert lines == [
        f"wrong: PORT {port} is taken by {holder.name}, pid {os.getpid()}: stop that, or set PORT to another"
    ]
    assert find_holder(port) is None
    assert await check_port(taken(port), into(lines))
    assert lines[-1] == f"ok: PORT {port} is free"


async def test_a_holder_that_cannot_be_seen_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_holder(1, tmp_path) is None  # there is no /proc
    monkeypatch.setattr(machine, "find_holder", lambda _: None)
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not await check_port(taken(server.getsockname()[1]), into(lines))
    assert "is taken by a process that this user cannot see: stop that, or set PORT to another" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "service"),
    [
        (("/usr/bin/python3", "-m", "sts_trio", "serve", ""), True),
        (("/app/.venv/bin/python", "/app/.venv/bin/sts-trio", "serve", "--worker", "1", "0", "5"), True),
        (("/app/.venv/bin/python", "/app/.venv/bin/sts-trio", "emulate"), False),
        (("node", "serve"), False),
        ((), False),
    ],
)
def test_the_service_itself_is_known_by_its_command(arguments: tuple[str, ...], service: bool) -> None:
    assert Holder(1, "python3", arguments).is_service == service


HEALTHY = {"status": "ok", "calls": 0, "version": "0.1.0"}


@pytest.mark.parametrize(
    ("answer", "begins"),
    [
        (http_server.reply(200, HEALTHY), ["ok: PORT {port} is held by this service itself, which runs ("]),
        (
            http_server.reply(200, HEALTHY | {"log_lines_dropped": 12}),
            ["ok: PORT {port} is held by", "wrong: the running service has lost 12 lines of its log: "],
        ),
        (http_server.reply(200, {"status": "UP"}), ["wrong: PORT {port} is taken by "]),
        (http_server.reply(404, b"<html>"), ["wrong: PORT {port} is taken by "]),
    ],
)
async def test_who_answers_as_the_service_does_is_the_service(answer: Answer, begins: list[str]) -> None:
    lines: list[str] = []
    async with http_server.serving(answer) as other:
        port = int(other.url.rpartition(":")[2])
        well = await check_port(taken(port), into(lines))
    assert [line.startswith(begin.format(port=port)) for line, begin in zip(lines, begins, strict=True)] == [
        True for _ in begins
    ]
    assert well == (not any(line.startswith("wrong") for line in lines))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EACCES, "x"), f"user {os.getuid()} may not; set PORT to 1024 or more"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "this machine has no such address; set HOST to one of its own, or to 0.0."),
        (OSError(errno.EAFNOSUPPORT, "x"), "this machine has no IPv6; set HOST to 0.0.0.0"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "this name has no address; correct HOST"),
        (OSError(errno.ENOBUFS, "x"), "No buffer space available; correct HOST"),
    ],
)
async def test_why_nothing_can_be_listened_on_is_told(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(machine, "listen", refuse)
    lines: list[str] = []
    assert not await check_port(taken(80), into(lines))
    assert lines[0].startswith(f"wrong: cannot listen on HOST 127.0.0.1, PORT 80: {line}")


class Disk(NamedTuple):
    f_bavail: int
    f_frsize: int = 4096
    f_favail: int = 10
    f_files: int = 100


@pytest.mark.parametrize(
    ("disk", "line"),
    [
        (Disk(0), "wrong: the disk of /var/log/sts.log, the service's log, is full: make room; "),
        (Disk(10**6, f_favail=0), "wrong: the disk of /var/log/sts.log, the service's log, is full: make room; "),
        (Disk(2560), "note: the disk of /var/log/sts.log, the service's log, has only 10 MB left: make room soon. "),
        (Disk(10**6), None),
        (Disk(10**6, f_favail=0, f_files=0), None),  # it counts no files, as btrfs does
    ],
)
def test_a_disk_that_is_full_or_nearly_is_told(
    disk: Disk, line: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    lines: list[str] = []
    well = check_room("/var/log/sts.log", tmp_path, into(lines))
    assert well == (line is None or line.startswith("note"))
    assert [told.startswith(line or "") for told in lines] == [True] * (line is not None)
    assert all("LOG_LEVEL" in told for told in lines)


@pytest.mark.parametrize(
    ("chosen", "cores", "line"),
    [
        ({"workers": 0}, 4, "ok: 4 workers on 4 cores (WORKERS is 0)"),
        ({}, 1, "ok: 1 worker on 1 core (WORKERS is 1)"),
        (
            {"workers": 8},
            2,
            "note: 8 workers on 2 cores, where they wait for each other: set WORKERS to 0, for one on each core",
        ),
    ],
)
def test_workers_are_told(chosen: dict[str, Any], cores: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sts_trio.workers.pool.usable_cores", lambda: cores)
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    lines: list[str] = []
    check_workers(make_settings(**chosen), into(lines))
    assert lines == [line]


# The door.


@pytest.mark.parametrize(
    ("url", "chosen", "line"),
    [
        (None, {}, "note: everybody who reaches PORT 6039 may call: set STS_TOKEN, "),
        (None, {"host": "127.0.0.1"}, "ok: only this machine may call, as HOST is 127.0.0.1"),
        (None, {"allowed_origins": ("https://a.b",)}, "note: everybody who reaches PORT 6039"),
        ("ws://sts:6039/?token=abc", {}, "ok: STS_URL, which Core reads, leads to our port"),
        ("wss://proxy/sts?token=abc", {}, "ok: STS_URL, which Core reads, leads to our port"),
        ("ws://sts:6040/", {}, "note: STS_URL, which Core reads, leads to port 6040, and PORT is 6039; make them "),
        ("sts:6039", {}, "wrong: STS_URL, which Core reads, is no URL such as ws://dsai-sts-humeai:6039; correct it"),
        ("ws://sts:port", {}, "wrong: STS_URL, which Core reads, is no URL such as "),
    ],
)  # fmt: skip
def test_who_may_call_is_told_and_whether_cores_setting_leads_here(
    url: str | None, chosen: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url is not None:
        monkeypatch.setenv("STS_URL", url)
    lines: list[str] = []
    check_callers(make_settings(**chosen), into(lines))
    assert lines[-1].startswith(line)


def test_the_choice_of_the_provider_is_told_with_model_and_voice() -> None:
    lines: list[str] = []
    check_choice(make_settings("openai"), into(lines))
    check_choice(make_settings("openai", url="https://gw/v1/realtime?model=deployed", voice="sage"), into(lines))
    check_choice(make_settings(config_id="cfg-1", voice_id="night"), into(lines))
    assert lines == [
        "ok: provider openai (OpenAI), as STS_PROVIDER is set, model gpt-realtime-2.1, voice marin",
        "ok: provider openai (OpenAI), as STS_PROVIDER is set, the model that OPENAI_BASE_URL names, voice sage",
        "ok: provider humeai (Hume EVI), as STS_PROVIDER is set, configuration cfg-1",
    ]


def test_many_names_that_are_nobodys_are_one_line() -> None:
    lines: list[str] = []
    check_names([UnknownName(f"NAME_{number}", ".env") for number in range(11)], into(lines))
    (line,) = lines
    assert line.startswith("note: nothing here reads these of .env: NAME_0, NAME_1, ")
    assert "NAME_7 and 3 more; " in line


def test_a_directory_in_the_files_place_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    lines: list[str] = []
    check_file(into(lines))
    assert lines[0].startswith("wrong: .env is a directory, and nothing is read of it: Docker makes one ")


# Files and addresses that fail.


def missing(path: Path) -> str:
    return "make it, or correct the name"


def forbidden(path: Path) -> str:
    path.write_text("Be brief.")
    path.chmod(0)
    return "who we are, read it"


def directory(path: Path) -> str:
    path.mkdir()
    return "Docker makes a directory where the file to mount is missing"


def latin(path: Path) -> str:
    path.write_bytes("Größe".encode("latin-1"))
    return "save it as UTF-8"


def nothing(path: Path) -> str:
    path.write_text(" \n")
    return "write something into it"


@pytest.mark.parametrize("make", [missing, forbidden, directory, latin, nothing])
async def test_a_prompt_file_that_fails_says_why_and_what_to_do(make: Callable[[Path], str], tmp_path: Path) -> None:
    do = make(tmp_path / "prompt.txt")
    if make is forbidden and os.access(tmp_path / "prompt.txt", os.R_OK):
        pytest.skip("this user may read everything")
    lines: list[str] = []
    settings = make_settings(file_instructions=str(tmp_path / "prompt.txt"))
    assert not await check_all(settings, into(lines, "prompt"), to_nowhere)
    (line,) = lines
    assert line.startswith(f"wrong: HUMEAI_FILE_INSTRUCTIONS: {tmp_path}/prompt.txt: ")
    assert f"{do}; a call has the default in its place" in line or do in line


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/x", "Connection refused; start what should listen there, or correct host and port"),
        ("http://nobody.invalid/x", "; correct the host name, or mend DNS|; mend DNS: no name server answers"),
    ],
)
async def test_an_address_that_fails_says_why_and_what_to_do(url: str, why: str) -> None:
    lines: list[str] = []
    settings = make_settings(url_instructions=url, ami_url=url)
    assert not await check_all(settings, into(lines, "prompt", "ami"), to_nowhere)
    ami, prompt = lines
    assert ami.startswith(f"wrong: AMI_URL: {url}")
    assert ami.endswith(", or set AMI_URL empty: no transfers then")
    assert prompt.startswith("wrong: HUMEAI_URL_INSTRUCTIONS: ")
    assert all(any(each in line for each in why.split("|")) for line in lines)


async def test_an_address_that_never_answers_says_so() -> None:
    lines: list[str] = []
    async with http_server.serving(http_server.silence) as crm:
        settings = make_settings(url_instructions=crm.url, instructions_seconds=0.2)
        assert not await check_all(settings, into(lines, "prompt"), to_nowhere)
    assert "no answer in time; see why it is slow, or give it longer by INSTRUCTIONS_SECONDS; a call has" in lines[0]


async def to_nowhere(endpoint: Endpoint) -> trio.abc.Stream:
    raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))


async def test_no_route_to_the_provider_is_one_line_with_cause_setting_and_what_to_do(autojump_clock: object) -> None:
    lines: list[str] = []
    assert not await check_all(make_settings("openai"), into(lines, "session"), to_nowhere)
    assert lines == [
        "wrong: cannot connect to realtime.test:443: No route to host (check OPENAI_BASE_URL); "
        "mend the way there: route, firewall"
    ]


async def test_a_fallback_that_nobody_can_hear_ends_no_check(tmp_path: Path) -> None:
    (tmp_path / "silence.wav").write_bytes(wav_file(bytes(16_000), 8000))
    lines: list[str] = []
    settings = make_settings(fallback_wav="silence.wav")
    assert not await check_all(settings, into(lines, "fallback", "session"), to_nowhere, call=True)
    assert lines[0].startswith("wrong: FALLBACK_WAV is silence.wav, in which nothing can be heard; ")
    assert lines[1].startswith("wrong: cannot connect to evi.test:443: ")


@pytest.mark.parametrize(
    ("url", "day", "told"),
    [
        ("wss://api.hume.ai/v0/evi/chat", date(2026, 11, 13), True),
        ("wss://api.hume.ai/v0/evi/chat", date(2026, 11, 12), False),
        ("wss://evi.example/v0/evi/chat", date(2027, 1, 1), False),
    ],
)
def test_a_service_that_has_ended_is_told_with_what_to_do(url: str, day: date, told: bool) -> None:
    notes = make_settings(url=url).notes(day)
    assert len(notes) == told
    assert all(note.startswith("HUMEAI_WS_URL is Hume's own, ") and "STS_PROVIDER" in note for note in notes)


def test_what_is_not_known_has_no_remedy() -> None:
    assert remedy("it is odd") == ""
    assert remedy("it answered HTTP 500") == "look at that service's log"


# How it looks.


def test_a_finding_is_one_line_whatever_a_peer_or_a_file_name_brings() -> None:
    assert str(Finding(Level.NOTE, "tools", "a\nb\x1b[31mc")) == "note: a bc"


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_on_a_terminal_lines_are_wrapped_beside_their_level(width: int) -> None:
    shown = StringIO()
    printed = PrintedPretty(Console(file=shown, width=width, force_terminal=True, highlight=False))
    message = "PORT 6039 is taken by [nginx], pid 7: stop that, or set PORT to another"
    for level in Level:
        printed.add(Finding(level, "port", message))
    printed.end()
    assert "\x1b[" in shown.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
    lines = plain.rstrip().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[-1].strip() == "1 to mend, 1 to know."
    assert " ".join(plain.split()).count(message) == len(Level)
    assert all(line[:6].strip() in ("", *Level) for line in lines[:-2])


def test_in_a_pipe_lines_are_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    printed = Printed.choose(as_json=False)
    printed.add(Finding(Level.WRONG, "port", "word " * 100 + KEY))
    printed.end()
    assert capsys.readouterr().out == "wrong: " + "word " * 100 + KEY + "\n"
