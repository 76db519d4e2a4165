"""Several worker processes on one port, as an operator runs them: `WORKERS=2`."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.evi import open_core, open_evi, until
from tests.e2e.process import KEY, NUMBER, lines, running
from tests.e2e.service import hears
from tests.fakes.raw_client import hear_head, upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_websocket import WebSocketConnection


@asynccontextmanager
async def one_call(url: str, name: str) -> AsyncIterator[WebSocketConnection]:
    async with open_core(url) as core:
        await core.send_message(json.dumps({"type": "init", "uuid": name}))
        yield core


@dataclass(eq=False)
class Line:
    """A call that a task of its own holds, until it is told to hang up."""

    core: WebSocketConnection
    over: trio.Event = field(default_factory=trio.Event)

    @classmethod
    async def hold(cls, url: str, name: str, *, task_status: trio.TaskStatus[Line]) -> None:
        async with one_call(url, name) as core:
            line = cls(core)
            task_status.started(line)
            await line.over.wait()


async def get(url: str, path: str) -> httpx.Response:
    """Ask once, over a connection of its own."""
    target = url.replace("ws://", "http://").partition("?")[0].removesuffix("/") + path
    async with httpx.AsyncClient() as client:
        return await client.get(target)


async def calls_told(url: str, number: int) -> None:
    """Wait until /health tells of so many calls: each worker learns of the others' within 0.1 s."""
    with trio.fail_after(5):
        while (await get(url, "/health")).json()["calls"] != number:
            await trio.sleep(0.02)


async def scrape(url: str) -> dict[str, float]:
    """Return the samples of /metrics by name and the values of their labels."""
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families((await get(url, "/metrics")).text)
        for sample in family.samples
    }


async def knock(url: str) -> str:
    """Try to place a call; return the head of the answer."""
    host, _, port = url.removeprefix("ws://").partition("/")[0].rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(upgrade())
        return await hear_head(stream)


def workers_of(process: trio.Process) -> dict[int, int]:
    """Return the workers' process ids by their numbers."""
    found = {}
    # A child is listed with the thread that started it.
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    for child in " ".join((thread / "children").read_text() for thread in threads).split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"--worker" in words:
            found[int(words[words.index(b"--worker") + 1])] = int(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


async def test_workers_share_calls_capacity_and_metrics_and_one_that_dies_takes_only_its_own_calls(
    tmp_path: Path,
) -> None:
    async with (
        open_evi() as evi,
        running(tmp_path, evi.url, WORKERS="2", MAX_CALLS="5") as (process, url, log),
        trio.open_nursery() as phones,
    ):
        # Five at once, and among them some that ask for something else: 3 and 2, and not one more.
        before = workers_of(process)
        calls: list[Line] = []

        async def place(number: int) -> None:
            calls.append(await phones.start(Line.hold, url, f"u-{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(place, number)
                nursery.start_soon(get, url, "/health")
        await until(lambda: len(evi.chats) == 5)
        await calls_told(url, 5)
        refused = await knock(url)
        assert " 503 " in refused
        ready = await get(url, "/ready")
        assert ready.status_code == 503
        assert ready.json()["message"] == "all 5 lines are in use (see MAX_CALLS)"
        told = await scrape(url)
        assert told["sts_calls_active websocket"] == told["sts_calls_started_total websocket"] == 5
        assert told["sts_calls_limit"] == 5
        assert told["sts_calls_refused_total full"] == 1
        assert told["sts_accepting_calls"] == 0
        assert told["sts_workers"] == 2
        assert told["sts_workers_unheard"] == 0
        assert {f"process_open_fds {who}" for who in ("1", "2", "supervisor")} < told.keys()

        # A place that becomes free is there for the next call.
        calls.pop().over.set()
        await calls_told(url, 4)
        await until(lambda: len(evi.chats) == 4)
        ready = await get(url, "/ready")
        assert ready.status_code == 200
        assert ready.headers["connection"] == "close", "the next request may be a call, to be placed anew"
        await place(5)
        await calls_told(url, 5)
        await until(lambda: len(evi.chats) == 5)

        # One worker is killed: the other's calls go on, and soon there is another in its place.
        assert (await scrape(url))["sts_calls_started_total websocket"] == 6
        os.kill(before[1], signal.SIGKILL)
        await until(lambda: "another takes its place" in log.read_text())
        await until(lambda: len(evi.chats) == 2)
        whole = [call for call in calls if await hears(evi, call.core)]
        assert len(whole) == 2
        [died] = [line for line in lines(log) if "another takes its place" in str(line["event"])]
        assert (died["worker"], died["status"], died["calls_lost"]) == (1, "was killed by SIGKILL", 3)
        await until(lambda: len(workers_of(process)) == 2)
        after = workers_of(process)
        assert after[2] == before[2]
        assert after[1] != before[1]
        with trio.fail_after(10):
            while (told := await scrape(url))["sts_workers"] != 2:
                await trio.sleep(0.05)
        assert told["sts_calls_started_total websocket"] == 6, "what the dead one told stays"
        assert told["sts_calls_active websocket"] == 2
        assert told["sts_worker_restarts_total"] == 1
        await place(6)  # to the new one, which has no call
        await calls_told(url, 3)

        # The drain: calls of both finish, /ready says 503 for as long, and the exit is an ordinary one.
        process.send_signal(signal.SIGTERM)
        await until(lambda: log.read_text().count("draining: no new calls") == 2)
        assert (await get(url, "/ready")).status_code == 503
        assert " 503 " in await knock(url)
        assert await hears(evi, whole[0].core)
        assert await hears(evi, calls[-1].core)
        assert process.poll() is None
        for call in calls:
            call.over.set()
        with trio.fail_after(5):
            assert await process.wait() == 0
    ends = [(line["worker"], line["call"]) for line in lines(log) if line["event"] == "call ended"]
    assert {worker for worker, _ in ends} == {1, 2}
    assert len(ends) == 4
    text = log.read_text()
    assert "did not stop in order" not in text
    assert KEY not in text
    assert NUMBER not in text
    assert not any(map(is_alive, after.values()))


@pytest.mark.parametrize("in_a_drain", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_workers_whose_supervisor_is_killed_let_their_calls_finish_and_end(
    tmp_path: Path, in_a_drain: bool
) -> None:
    async with (
        open_evi() as evi,
        running(tmp_path, evi.url, WORKERS="2") as (process, url, log),
        one_call(url, "u-1") as core,
    ):
        await until(lambda: evi.chats)
        workers = workers_of(process)
        if in_a_drain:  # only the one with a call is left then
            process.terminate()
            await until(lambda: log.read_text().count('"stopped"') == 1)
        process.kill()
        await until(lambda: log.read_text().count("draining: no new calls") == 2)
        await trio.sleep(0.2)  # whatever else the end of the supervisor may do to a call
        assert await hears(evi, core)
        await core.aclose()
        await until(lambda: not any(map(is_alive, workers.values())))
    assert [line["cause"] for line in lines(log) if line["event"] == "call ended"] == ["caller_hung_up"]
    assert sorted(str(line.get("worker")) for line in lines(log) if line["event"] == "stopped") == ["1", "2"]


@pytest.mark.slow
async def test_a_second_signal_ends_the_calls_of_all_workers_at_once_however_soon_it_comes(tmp_path: Path) -> None:
    async with (
        open_evi() as evi,
        running(tmp_path, evi.url, WORKERS="2") as (process, url, _),
        one_call(url, "u-1") as one,
        one_call(url, "u-2") as other,
    ):
        await until(lambda: len(evi.chats) == 2)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(5):
            assert await process.wait() == 0
        for core in (one, other):
            assert json.loads(await core.get_message())["message"] == "the service is stopping"


@pytest.mark.slow
async def test_a_worker_that_is_stopped_is_left_out_and_its_sums_stay(tmp_path: Path) -> None:
    """SIGSTOP: it is there, and mute. New calls go to the other, and those that were handed to it and not taken."""
    async with open_evi() as evi, running(tmp_path, evi.url, WORKERS="2") as (process, url, log):
        async with one_call(url, "u-1"), one_call(url, "u-2"):
            await until(lambda: len(evi.chats) == 2)
            assert (await scrape(url))["sts_calls_active websocket"] == 2
            stopped = workers_of(process)[1]
            os.kill(stopped, signal.SIGSTOP)
            try:
                with trio.fail_after(3):  # it has as many as the other: one of them goes to it, and on to the other
                    for _ in range(3):
                        await get(url, "/health")
                await until(lambda: "a worker does not answer" in log.read_text())
                told = await scrape(url)
                assert told["sts_calls_started_total websocket"] == 2
                assert told["sts_calls_active websocket"] == 1
                assert told["sts_workers_unheard"] == 1
                async with one_call(url, "u-3"), one_call(url, "u-4"):
                    await until(lambda: len(evi.chats) == 4)
            finally:
                os.kill(stopped, signal.SIGCONT)
            with trio.fail_after(5):
                while (await scrape(url))["sts_workers_unheard"] != 0:
                    await trio.sleep(0.05)
        process.terminate()
        with trio.fail_after(5):
            assert await process.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "status", "said"),
    [
        ({"HUMEAI_CA_FILE": "no.pem"}, 2, "HUMEAI_CA_FILE is no.pem, which cannot be used"),
        ({"PORT": "TAKEN"}, 1, "cannot listen on HOST 127.0.0.1, PORT "),
    ],
)
async def test_what_is_wrong_at_the_start_is_one_line_also_with_workers(
    tmp_path: Path, environment: dict[str, str], status: int, said: str
) -> None:
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = str(taken.socket.getsockname()[1]) if "PORT" in environment else "0"
    async with taken:
        result = await trio.run_process(
            [sys.executable, "-m", "sts_trio", "serve"],
            env={"HUMEAI_API_KEY": KEY, "HOST": "127.0.0.1", "WORKERS": "3"} | environment | {"PORT": port},
            cwd=tmp_path,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert result.returncode == status
    assert said in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1
