"""The agents of a load, all in one process: a provider in a light mode, whose protocol is a `LightProvider`.

They detect no speech: they know each caller's frame by its stamp. The first stamp also tells which call it is, since
not every connector passes an id on.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from sts_trio.lab.harness.address import CallFailed
from sts_trio.lab.load.handshake import server_context, take_chat
from sts_trio.lab.load.hearing import SharedTimes
from sts_trio.lab.load.light_provider import LightEvi
from sts_trio.lab.load.light_realtime import LightRealtime, Voices
from sts_trio.lab.load.plan import AgentsDone, Glance, Ready, Step, UpCall
from sts_trio.lab.load.process import GLANCE_SECONDS, LoadError, Tell, run_child
from sts_trio.lab.load.socket_loop import SocketLoop, TimerHeap
from sts_trio.lab.load.stamps.base import Arrivals, UpstreamCount
from sts_trio.lab.load.stamps.down import FRAMES_PER_CHUNK, WavMaker
from sts_trio.lab.providers import WireProtocol
from sts_trio.lab.websocket import TEXT, encode_frame

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from sts_trio.lab.load.light_provider import LightProvider, OpenLightProvider
    from sts_trio.lab.load.plan import Plan
    from sts_trio.lab.load.socket_loop import Connection
from sts_trio.lab.websocket import Message


class AgentServer:
    """All chats of the process, and what is measured of them."""

    def __init__(
        self, plan: Plan, times: SharedTimes, open_provider: OpenLightProvider, tls: ssl.SSLContext | None
    ) -> None:
        self.plan = plan
        self.times = times
        self.timers = TimerHeap()
        self.loop = SocketLoop(self.timers)
        self.arrivals = Arrivals()
        self.chats: list[Chat] = []
        self._open_provider = open_provider
        self._tls = tls

    async def answer(self, stream: trio.SocketStream) -> None:
        """Take a connection that has come in. One that does not become a chat is dropped, and not counted."""
        self.loop.stir()
        try:
            sock, rest = await take_chat(stream.socket, self._tls)
        except (CallFailed, OSError, trio.TooSlowError):
            return
        chat = Chat(self, self._open_provider())
        chat.begin(self.loop.join(sock, b"", chat, encode_frame), rest)
        self.chats.append(chat)

    def done(self) -> AgentsDone:
        """Sum up what was measured."""
        calls = [
            UpCall(up.call, up.first, up.received, up.lost, up.doubled, up.reordered, up.damaged)
            for up in (chat.up for chat in self.chats)
            if up.call is not None
        ]
        return AgentsDone(self.arrivals.latency, self.arrivals.jitter, calls)

    def glance(self) -> Glance:
        """Sum up for the live table."""
        latency = self.arrivals.latency
        return Glance(
            calls=sum(chat.open for chat in self.chats),
            lost=sum(chat.up.lost for chat in self.chats),
            received=self.arrivals.received,
            p50=latency.quantile(0.5),
            p99=latency.quantile(0.99),
            largest=latency.largest if latency.total else None,
        )


class Chat:
    """One agent. It speaks as soon as it knows from a caller's frame which call it is in."""

    def __init__(self, server: AgentServer, provider: LightProvider) -> None:
        self._server = server
        self._provider = provider
        self.up = UpstreamCount(server.arrivals)
        self.open = True
        self._connection: Connection
        self._turn = 0
        self._turn_at = 0
        self._steps: list[tuple[float, Step]] = []
        self._index = 0
        self._frame = 0
        self._turn_frame = 0
        self._speaking = False

    def begin(self, connection: Connection, rest: bytes) -> None:
        """Say that the chat is open; `rest` came behind the handshake."""
        self._connection = connection
        self._send(self._provider.begin())
        if rest:
            connection.feed(rest)

    def hear(self, message: Message) -> None:
        """See `socket_loop.Member`."""
        now = time.monotonic_ns()
        stamps, answers = self._provider.hear(message, now)
        self._send(answers)
        self.up.take(stamps, now)
        call = self.up.call
        if not self._speaking and call is not None and 0 <= call < self._server.plan.calls:
            self._speaking = True
            conversation = self._server.plan.conversation
            if conversation.speaks:
                # Spread over the cycle, and in the same way in every run.
                phase = random.Random(call).uniform(0, conversation.cycle)  # noqa: S311  not a secret
                self._turn_at = now + round(phase * 1e9)
                self._steps = conversation.turn(0)
                self._server.timers.add(self._turn_at, self._act)

    def gone(self, why: str) -> None:  # noqa: ARG002  the caller's side tells why
        """See `socket_loop.Member`."""
        self.open = False

    def _act(self, now: int) -> int | None:
        if not self.open:
            return None
        _, step = self._steps[self._index]
        self._do(step, now)
        self._index += 1
        if self._index == len(self._steps):
            conversation = self._server.plan.conversation
            self._turn += 1
            self._turn_at += round(conversation.cycle * 1e9)
            self._steps, self._index = conversation.turn(self._turn), 0
        return self._turn_at + round(self._steps[self._index][0] * 1e9)

    def _do(self, step: Step, now: int) -> None:
        call, times = self.up.call or 0, self._server.times
        said = self._provider.tell(step, call, self._frame, now)
        match step:
            case Step.WORDS:
                self._turn_frame = self._frame
            case Step.CHUNK if said:
                if self._frame == self._turn_frame:
                    times.turn_begins(call, self._turn, self._frame, time.monotonic_ns())
                self._frame += FRAMES_PER_CHUNK
            case Step.CUT:
                # One chunk is still to come, which belongs to the interrupted turn.
                times.cut(call, self._turn_frame, self._frame + FRAMES_PER_CHUNK, time.monotonic_ns())
            case _:
                pass
        self._send(said)

    def _send(self, said: Sequence[bytes]) -> None:
        for text in said:
            self._connection.send(TEXT, text)


def light_providers(plan: Plan) -> OpenLightProvider:
    """How the agents of this plan speak."""
    match plan.played.protocol:
        case WireProtocol.EVI:
            return partial(LightEvi, WavMaker(plan.rate), plan.mark)
        case WireProtocol.REALTIME:
            return partial(LightRealtime, Voices(), plan.mark, resumes=plan.played.flat_session)


async def run_agents(plan: Plan, tell: Tell, until: Callable[[], Awaitable[None]]) -> None:
    """Listen, and answer every chat, until told; then say what was measured.

    Raises:
        LoadError: the address cannot be listened on.
        OSError: the certificate cannot be read any more.
    """
    tls = server_context(plan.tls) if plan.tls else None
    server = AgentServer(plan, SharedTimes(plan.times_path, plan.calls), light_providers(plan), tls)
    async with trio.open_nursery() as nursery:
        try:
            listeners = await trio.open_tcp_listeners(plan.port, host=plan.host, backlog=1024)
        except OSError as exc:
            place = f"{plan.host}:{plan.port}"
            raise LoadError(f"the agents cannot listen on {place}, see --agents: {exc.strerror or exc}") from exc
        nursery.start_soon(partial(trio.serve_listeners, server.answer, listeners))
        nursery.start_soon(server.loop.run)
        tell(Ready(listeners[0].socket.getsockname()[1]))
        nursery.start_soon(_glances, server, tell)
        await until()
        nursery.cancel_scope.cancel()
    tell(server.done())


async def _glances(server: AgentServer, tell: Tell) -> None:
    while True:
        await trio.sleep(GLANCE_SECONDS)
        tell(server.glance())


if __name__ == "__main__":
    run_child(run_agents)
