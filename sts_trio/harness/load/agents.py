"""EVI in a light mode: the agents of a load, all in one process.

It speaks enough of the protocol that any client of EVI is content: `chat_metadata` first, words before their voice,
`assistant_end`, a `user_message` with its 48 scores for each turn, `user_interruption`. Caller audio may come as binary
frames or as `audio_input`, in pieces of any size. It does not listen to it, but knows each frame by its stamp; from the
first it also learns which call this is, since not every connector passes an id on.
"""

from __future__ import annotations

import json
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from sts_trio.harness.address import CallFailed
from sts_trio.harness.load import child
from sts_trio.harness.load.board import Board
from sts_trio.harness.load.crowd import Crowd
from sts_trio.harness.load.frames import BINARY, TEXT, encode
from sts_trio.harness.load.handshake import take_chat
from sts_trio.harness.load.levels import FRAMES_PER_CHUNK, ChunkMaker
from sts_trio.harness.load.plan import AgentsDone, Glance, Ready, UpCall
from sts_trio.harness.load.profile import Step
from sts_trio.harness.load.stamps import Arrivals, UpstreamCount
from sts_trio.harness.load.tls import server_context
from sts_trio.harness.load.wheel import Wheel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from sts_trio.harness.load.crowd import Connection
    from sts_trio.harness.load.frames import Message
    from sts_trio.harness.load.plan import Plan


class _Said(msgspec.Struct):
    type: str
    data: bytes = b""


_decode = msgspec.json.Decoder(_Said).decode
_WORDS = json.dumps({"role": "assistant", "content": "Words of an agent under load."})
_USER = json.dumps(
    {
        "type": "user_message",
        "message": {"role": "user", "content": "Words of a caller under load."},
        "models": {"prosody": {"scores": {f"Emotion {at}": round(0.01 * at, 2) for at in range(48)}}},
        "from_text": False,
        "interim": False,
        "time": {"begin": 0, "end": 1000},
    }
).encode()


class Office:
    """All chats of the process, and what is measured of them."""

    def __init__(self, plan: Plan, board: Board, tls: ssl.SSLContext | None) -> None:
        self.plan = plan
        self.board = board
        self.tls = tls
        self.wheel = Wheel()
        self.crowd = Crowd(self.wheel)
        self.arrivals = Arrivals()
        self.maker = ChunkMaker(plan.rate)
        self.chats: list[Chat] = []

    async def answer(self, stream: trio.SocketStream) -> None:
        """Take a connection that has come in. One that is no chat is nobody's business."""
        self.crowd.stir()
        try:
            sock, rest = await take_chat(stream.socket, self.tls)
        except (CallFailed, OSError, trio.TooSlowError):
            return
        chat = Chat(self)
        chat.begin(self.crowd.join(sock, b"", chat, encode), rest)
        self.chats.append(chat)

    def done(self) -> AgentsDone:
        """Say all that is known."""
        calls = [
            UpCall(up.call, up.first, up.received, up.lost, up.doubled, up.reordered, up.damaged)
            for up in (chat.up for chat in self.chats)
            if up.call is not None
        ]
        return AgentsDone(self.arrivals.latency, self.arrivals.jitter, calls)

    def glance(self) -> Glance:
        """Say how things stand."""
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

    def __init__(self, office: Office) -> None:
        self._office = office
        self.up = UpstreamCount(office.plan.mark, office.arrivals)
        self.open = True
        self._connection: Connection
        self._id = f"{random.getrandbits(128):032x}"
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
        connection.send(
            TEXT,
            b'{"type":"chat_metadata","chat_id":"%s","chat_group_id":"%s","request_id":"1"}'
            % (self._id.encode(), self._id.encode()),
        )
        if rest:
            connection.feed(rest)

    def hear(self, message: Message) -> None:
        """See `crowd.Member`."""
        if message.opcode == BINARY:
            pcm = message.data
        elif message.opcode == TEXT:
            try:
                said = _decode(message.data)
            except (msgspec.DecodeError, UnicodeError):
                return
            if said.type != "audio_input":
                return
            pcm = said.data
        else:
            return
        now = time.monotonic_ns()
        self.up.feed(pcm, now)
        call = self.up.call
        if not self._speaking and call is not None and 0 <= call < self._office.plan.calls:
            self._speaking = True
            conversation = self._office.plan.conversation
            if conversation.speaks:
                # Spread over the cycle, and in the same way in every run.
                phase = random.Random(call).uniform(0, conversation.cycle)  # noqa: S311  not a secret
                self._turn_at = now + round(phase * 1e9)
                self._steps = conversation.turn(0)
                self._office.wheel.add(self._turn_at, self._act)

    def gone(self, why: str) -> None:  # noqa: ARG002  the caller's side tells why
        """See `crowd.Member`."""
        self.open = False

    def _act(self, now: int) -> int | None:
        if not self.open:
            return None
        _, step = self._steps[self._index]
        self._do(step, now)
        self._index += 1
        if self._index == len(self._steps):
            conversation = self._office.plan.conversation
            self._turn += 1
            self._turn_at += round(conversation.cycle * 1e9)
            self._steps, self._index = conversation.turn(self._turn), 0
        return self._turn_at + round(self._steps[self._index][0] * 1e9)

    def _do(self, step: Step, now: int) -> None:
        call = self.up.call or 0
        board, reply = self._office.board, f"{self._id}{self._turn}".encode()
        send = partial(self._connection.send, TEXT)
        match step:
            case Step.WORDS:
                self._turn_frame = self._frame
                send(
                    b'{"type":"assistant_message","id":"%s","message":%s,"models":{},"from_text":false,'
                    b'"is_quick_response":false}' % (reply, _WORDS.encode())
                )
            case Step.CHUNK:
                index = (self._frame - self._turn_frame) // FRAMES_PER_CHUNK
                data = self._office.maker.chunk(call, self._frame)
                message = b'{"type":"audio_output","id":"%s","index":%d,"data":"%s"}' % (reply, index, data)
                if index == 0:
                    board.turn_begins(call, self._turn, self._frame, time.monotonic_ns())
                send(message)
                self._frame += FRAMES_PER_CHUNK
            case Step.CUT:
                # One chunk is still to come, which belongs to the interrupted turn.
                board.cut(call, self._turn_frame, self._frame + FRAMES_PER_CHUNK, time.monotonic_ns())
                send(b'{"type":"user_interruption","time":%d}' % (now // 1_000_000))
            case Step.END:
                send(b'{"type":"assistant_end"}')
            case Step.USER:
                send(_USER)


async def run_agents(plan: Plan, tell: child.Tell, until: Callable[[], Awaitable[None]]) -> None:
    """Listen, and answer every chat, until told; then say what was measured.

    Raises:
        OSError: the address cannot be listened on, or the certificate cannot be read.
    """
    office = Office(plan, Board(plan.board_path, plan.calls), server_context(plan.tls) if plan.tls else None)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(plan.port, host=plan.host, backlog=1024)
        nursery.start_soon(partial(trio.serve_listeners, office.answer, listeners))
        nursery.start_soon(office.crowd.run)
        tell(Ready(listeners[0].socket.getsockname()[1]))
        nursery.start_soon(_glances, office, tell)
        await until()
        nursery.cancel_scope.cancel()
    tell(office.done())


async def _glances(office: Office, tell: child.Tell) -> None:
    while True:
        await trio.sleep(child.GLANCE_SECONDS)
        tell(office.glance())


if __name__ == "__main__":
    child.main(run_agents)
