"""A whole load on loopback: short, few calls, real processes."""

from __future__ import annotations

import json
import os
import socket
from io import StringIO
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from rich.console import Console

from sts_trio.cli import main
from sts_trio.lab.load.command import LoadOptions, load, parse_place, provider_settings
from sts_trio.lab.load.limits import Limits
from sts_trio.lab.load.service import free_port, listener_on, usage


async def test_calls_through_our_own_service_lose_nothing_and_are_measured(tmp_path: Path) -> None:
    shown, report = StringIO(), tmp_path / "load.json"
    options = LoadOptions(
        calls=3,
        seconds=1.2,  # call 1 begins its first turn after 0.27 s: who speaks when is the same in every run
        settle=0.1,
        profile="chatty",
        agents=("127.0.0.1", free_port()),
        json=report,
        limits=Limits(lost=0, stale=0, failed=0, cpu_ratio=1.0),
    )
    with trio.fail_after(60):
        passed = await load(options, Console(file=shown, width=120))
    written = json.loads(report.read_bytes())
    (run,) = written["runs"]
    assert run["failures"] == {}
    assert [run[name] for name in ("up_lost", "down_lost", "up_damaged", "down_damaged", "stale")] == [0] * 5
    assert run["up"]["count"] > 150
    assert run["first_audio"]["count"] >= 1
    assert run["cpu_per_call"] > 0
    assert run["memory_idle"] > 10_000
    # Without another connector there is no ratio, and a limit on what was not measured is exceeded.
    assert written["exceeded"] == ["CPU per call against the other: not measured, limit 1 times"]
    assert not passed
    assert "latency up" in shown.getvalue()
    assert "over the limit: CPU per call" in shown.getvalue()


def test_a_connector_that_is_not_there_is_one_line_and_exit_code_2() -> None:
    url = f"ws://127.0.0.1:{free_port()}/?from=004930"
    done = CliRunner().invoke(main, ["load", url, "--calls", "1", "--evi", f"127.0.0.1:{free_port()}"])
    assert done.exit_code == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("sts-trio: no call to ws://127.0.0.1:")
    assert "cannot connect: Connection refused" in said
    assert "004930" not in done.output + done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--serve"),
        (["ws://127.0.0.1:1", "--serve"], "either"),
        (["http://127.0.0.1:1"], "ws://"),
        (["wss://127.0.0.1:1"], "ws://"),
        (["ws://127.0.0.1:1", "--evi", "6050"], "HOST:PORT"),
        (["ws://127.0.0.1:1", "--json", "/nowhere/at/all.json"], "no directory"),
        (["ws://nosuchhost.invalid:1"], "ws://nosuchhost.invalid:1/ can be placed"),
        (["--serve", "--pin", "4096"], "--pin"),
        (["ws://127.0.0.1:1", "--pin", "0"], "--pin has a meaning only with --serve"),
        (["--serve", "--pid", "1"], "--pid has a meaning only with a URL"),
        (["ws://127.0.0.1:1", "--versus-pid", "1"], "only with --versus"),
        (["ws://127.0.0.1:1", "--pid", "4194305"], "there is no process 4194305"),
        (["ws://127.0.0.1:1", "--json", "/proc/no.json"], "cannot write /proc/no.json: "),
        (["--serve", "--seconds", "nan"], "'nan' is not a number from 0.5 to 86400"),
        (["--serve", "--html", "/nowhere/at/all.html"], "no directory"),
        (["--serve", "--calls", "2.5"], "not a whole number from 1 to 10000"),
        (["--serve", "--max-p99-ms", "nan"], "'nan' is not a number from 0 on"),
        (["--serve", "--max-lost", "-1"], "not a number from 0 on"),
        (["ws://127.0.0.1:1", "--provider", "nobody"], "nobody"),
        (["--serve", "--tls", "/nowhere/tls.pem"], "does not exist"),
        (["--serve", "--tls", __file__], "must hold a key and its certificate"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(arguments: list[str], word: str) -> None:
    done = CliRunner().invoke(main, ["load", *arguments])
    assert done.exit_code == 2
    assert word in done.stderr


def test_a_place_that_the_agents_cannot_have_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        place = f"127.0.0.1:{sock.getsockname()[1]}"
        file = tmp_path / "load.json"
        done = CliRunner().invoke(main, ["load", "ws://127.0.0.1:1", "--agents", place, "--json", str(file)])
    assert done.exit_code == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith(f"sts-trio: the agents cannot listen on {place}, see --agents: ")
    assert "already in use" in said
    assert not file.exists()


def test_the_process_behind_a_port_is_found() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert listener_on(port) is None
        sock.listen()
        assert listener_on(port) == os.getpid()


def test_where_the_agents_listen_is_a_host_and_a_port() -> None:
    assert parse_place("127.0.0.1:6050") == ("127.0.0.1", 6050)
    assert parse_place("[::1]:6050") == ("::1", 6050)
    assert provider_settings(LoadOptions()) == {
        "STS_PROVIDER": "humeai",
        "HUMEAI_WS_URL": "ws://127.0.0.1:6050/v0/evi/chat",
    }
    assert provider_settings(LoadOptions(provider="xai", agents=("::1", 6050), tls=Path("/tls.pem"))) == {
        "STS_PROVIDER": "xai",
        "XAI_BASE_URL": "wss://[::1]:6050/v1",
        "XAI_CA_FILE": "/tls.pem",
    }
    assert [parse_place(text) for text in ("6050", "host:", ":1", "h:0", "h:99999", "h:x")] == [None] * 6


def test_use_grows_and_a_process_that_is_gone_has_none() -> None:
    before = usage(os.getpid())
    assert before is not None
    sum(n * n for n in range(400_000))
    after = usage(os.getpid())
    assert after is not None
    assert 0 < after.cpu_since(before) < 60
    assert after.memory > 1_000_000
    assert usage(2**22 + 1) is None
