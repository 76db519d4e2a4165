"""Instructions of a call: from the settings, else a URL (a real server on loopback), else a file, in bounded time."""

from __future__ import annotations

import json
import math
import os
import ssl
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sts_trio.http_client import HttpClient, HttpFailed, HttpReply
from sts_trio.providers.instructions import MOST_CHARACTERS, InstructionSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

UUID = "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"
URL = "http://crm.test/agent?token=secret"
PRIVATE = "555 0142"


def body(value: object) -> bytes:
    return json.dumps(value).encode()


class FakeHttp:
    """Answers every GET with `reply` after `delay` seconds, or raises it; `asked` is what was asked for."""

    def __init__(self, reply: HttpReply | Exception, delay: float = 0.0) -> None:
        self.reply = reply
        self.delay = delay
        self.asked: list[tuple[str, float, dict[str, str]]] = []

    async def get(self, url: str, *, seconds: float, headers: Mapping[str, str] | None = None) -> HttpReply:
        self.asked.append((url, seconds, dict(headers or {})))
        await trio.sleep(self.delay)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


GOOD = FakeHttp(HttpReply(200, body({"system": "From the URL."})))


def source(
    *,
    text: str | None = None,
    url: str | None = URL,
    file: str | None = None,
    http: FakeHttp | HttpClient = GOOD,
    seconds: float = 3.0,
) -> InstructionSource:
    return InstructionSource(text=text, url=url, file=file, seconds=seconds, http=http)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "prompt.txt"
    path.write_text("From the file.\n", encoding="utf-8")
    return str(path)


# The order.


async def test_the_text_comes_first_and_asks_nobody(file: str) -> None:
    http = FakeHttp(HttpReply(200, b""))
    assert await source(text="From the settings.", file=file, http=http).load(UUID) == "From the settings."
    assert http.asked == []


async def test_then_the_url_and_then_the_file_and_then_nothing(file: str) -> None:
    with capture_logs() as logs:
        assert await source(file=file).load(UUID) == "From the URL."
        assert await source(url=None, file=file).load(UUID) == "From the file."
        assert await source(url=None).load(UUID) is None
    assert logs == []


# What is asked of the URL.


@pytest.mark.parametrize(
    ("uuid", "header"),
    [
        (UUID, UUID),
        ("call-7", "call-7"),
        (None, None),
        ("", None),
        ("a\r\nX-Evil: 1", None),
        ("ünï", None),
        ("two words", None),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
    ],
)
async def test_the_url_is_told_which_call_it_is_for_where_a_header_can_say_it(
    uuid: str | None, header: str | None
) -> None:
    http = FakeHttp(HttpReply(200, body({"system": "x"})))
    assert await source(http=http).load(uuid) == "x"
    ((url, _, headers),) = http.asked
    assert url == URL
    assert headers == ({} if header is None else {"X-DSAI-UUID": header})


# What may come back.


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"system": " Be brief.\n", "more": 1}, "Be brief."),
        ({"system": "Grüße 😀"}, "Grüße 😀"),
        ({"system": "x" * MOST_CHARACTERS}, "x" * MOST_CHARACTERS),
    ],
)
async def test_a_good_answer(answer: object, wanted: str) -> None:
    assert await source(http=FakeHttp(HttpReply(200, body(answer)))).load(UUID) == wanted


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (HttpReply(404, body({"system": "x"})), "it answered HTTP 404"),
        (HttpReply(500, b""), "it answered HTTP 500"),
        (HttpReply(302, b""), "it answered HTTP 302"),
        (HttpReply(204, b""), "it answered HTTP 204"),
        (HttpReply(200, b""), "something other than"),
        (HttpReply(200, b"<html>" + PRIVATE.encode()), "something other than"),
        (HttpReply(200, body({"prompt": PRIVATE})), "something other than"),
        (HttpReply(200, body({"system": None})), "something other than"),
        (HttpReply(200, body({"system": {PRIVATE: 1}})), "something other than"),
        (HttpReply(200, body([PRIVATE])), "something other than"),
        (HttpReply(200, b'{"system":"\xff"}'), "something other than"),
        (HttpReply(200, b"[" * 100_000), "something other than"),
        (HttpReply(200, b'{"system":"half a \\ud800 character"}'), "something other than"),
        (HttpReply(200, body({"system": ""})), "it is empty"),
        (HttpReply(200, body({"system": " \n"})), "it is empty"),
        (HttpReply(200, body({"system": "x" * (MOST_CHARACTERS + 1)})), "longer than 100000 characters"),
        (HttpFailed("http://crm.test/agent: refused"), "refused"),
        (RuntimeError("a fault of\na library"), "a fault of a library"),
        (ExceptionGroup("two", [ValueError("first"), ValueError("second")]), "first"),
    ],
)
async def test_every_failure_is_one_line_and_the_file_is_asked(
    reply: HttpReply | Exception, reason: str, file: str
) -> None:
    with capture_logs() as logs:
        assert await source(file=file, http=FakeHttp(reply)).load(UUID) == "From the file."
    (line,) = logs
    assert (line["log_level"], line["source"]) == ("warning", "http://crm.test/agent")
    assert reason in line["reason"]
    assert PRIVATE not in str(line)
    assert "secret" not in str(line)
    assert "\n" not in str(line["reason"])


# The time.


async def test_a_url_that_hangs_leaves_time_for_the_file(file: str) -> None:
    # In real time: a mock clock would jump to the limit while a thread reads the file.
    http = FakeHttp(HttpReply(200, b""), delay=math.inf)
    began = trio.current_time()
    with capture_logs() as logs:
        assert await source(file=file, http=http, seconds=1.0).load(UUID) == "From the file."
    assert 0.8 <= trio.current_time() - began <= 1.0
    assert [line["reason"] for line in logs] == ["no answer in time"]
    ((_, seconds, _),) = http.asked
    assert seconds == pytest.approx(0.8, abs=0.1)


async def test_a_url_alone_has_all_the_time(autojump_clock: trio.testing.MockClock) -> None:
    slow = FakeHttp(HttpReply(200, body({"system": "Late."})), delay=2.9)
    assert await source(http=slow).load(UUID) == "Late."
    slow.delay = 3.1
    assert await source(http=slow).load(UUID) is None
    assert trio.current_time() == pytest.approx(5.9)


async def test_a_call_that_ends_meanwhile_is_not_held_up(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as call, capture_logs() as logs:
        await source(http=FakeHttp(HttpReply(200, b""), delay=math.inf)).load(UUID)
    assert call.cancelled_caught
    assert logs == []


async def test_files_that_hang_delay_each_call_by_the_limit_at_most(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it for reading waits for a writer, as a dead network disk does for its server
    hanging = source(url=None, file=str(pipe), seconds=0.05)
    began = time.monotonic()
    try:
        with capture_logs() as logs:
            for _ in range(6):  # more than there are threads for it
                assert await hanging.load(UUID) is None
        assert 0.3 <= time.monotonic() - began < 3
        assert [line["reason"] for line in logs] == ["no answer in time"] * 6
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # let the threads go


# The file.


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"Be brief.\n", "Be brief."),
        (b"\xef\xbb\xbfBe brief.\r\n", "Be brief."),
        ("Grüße".encode(), "Grüße"),
        (("\U0001f600" * MOST_CHARACTERS).encode("utf-8-sig"), "\U0001f600" * MOST_CHARACTERS),
    ],
)
async def test_a_good_file(data: bytes, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "prompt"
    path.write_bytes(data)
    assert await source(url=None, file=str(path)).load(UUID) == wanted


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf\n", "it is empty"),
        (b"Gr\xfc\xdfe", "it is not UTF-8 (byte 2)"),
        (b"x" * (MOST_CHARACTERS + 1), "longer than 100000 characters"),
        (b"x" * (5 * MOST_CHARACTERS), "longer than 100000 characters"),
        (None, "No such file or directory"),
    ],
)
async def test_a_file_that_cannot_be_used_is_one_line_with_its_name(
    data: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "prompt"
    if data is not None:
        path.write_bytes(data)
    with capture_logs() as logs:
        assert await source(url=None, file=str(path)).load(UUID) is None
    (line,) = logs
    assert (line["log_level"], line["source"]) == ("warning", str(path))
    assert reason in line["reason"]


async def test_a_folder_or_an_impossible_name_is_no_file(tmp_path: Path) -> None:
    for name, reason in ((str(tmp_path), "Is a directory"), ("a\0b", "null byte")):
        with capture_logs() as logs:
            assert await source(url=None, file=name).load(UUID) is None
        assert reason in logs[0]["reason"]


async def test_an_edit_works_with_the_next_call(file: str, tmp_path: Path) -> None:
    loading = source(url=None, file=file)
    assert await loading.load(UUID) == "From the file."
    (tmp_path / "prompt.txt").write_text("Edited.", encoding="utf-8")
    assert await loading.load(UUID) == "Edited."


def test_neither_text_nor_url_is_in_the_repr() -> None:
    assert "secret" not in repr(source(text="secret"))


# Over a real connection.


@asynccontextmanager
async def serve_http(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on loopback that gives each request `answer` as it stands, or none; yields its address and requests."""
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                if not (data := await stream.receive_some()):
                    return
                request += data
            requests.append(request)
            if answer is None:
                await trio.sleep_forever()
            else:
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", requests
        nursery.cancel_scope.cancel()


def http(status: str, content: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


LOADED = http("200 OK", body({"system": "Hello."}))
CLIENT = HttpClient(ssl.create_default_context())


async def test_a_real_request_says_which_call_it_is_for() -> None:
    async with serve_http(LOADED) as (address, requests):
        assert await source(url=f"{address}/agent?token=1", http=CLIENT).load(UUID) == "Hello."
    (request,) = requests
    first, *headers = request.decode().split("\r\n")
    assert first == "GET /agent?token=1 HTTP/1.1"
    assert f"x-dsai-uuid: {UUID}" in [header.lower() for header in headers]


@pytest.mark.parametrize(
    "answer",
    [
        http("404 Not Found", body({"message": "no"})),
        http("500 Internal Server Error", b"oops"),
        http("200 OK", b"\xff\xfe no JSON"),
        http("200 OK", b"x" * 300_000),
        http("200 OK", b"{}")[:-1],  # breaks off
        b"\x16\x03\x01 no HTTP\r\n\r\n",
        b"",
        None,
    ],
)
async def test_a_bad_server_leaves_it_to_the_file(answer: bytes | None, file: str) -> None:
    seconds = 1.0 if answer is None else 5.0
    began = time.monotonic()
    async with serve_http(answer) as (address, _):
        with capture_logs() as logs:
            url = f"{address}/agent?token=secret"
            assert await source(url=url, file=file, http=CLIENT, seconds=seconds).load(UUID) == "From the file."
    assert time.monotonic() - began < 4
    (line,) = logs
    assert line["source"] == f"{address}/agent"
    assert "secret" not in str(line)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://", "http://[::1", "http://a\0b/", "nonsense"])
async def test_an_address_that_nobody_has_leaves_it_to_the_file(url: str, file: str) -> None:
    with capture_logs() as logs:
        assert await source(url=url, file=file, http=CLIENT).load(UUID) == "From the file."
    assert len(logs) == 1
