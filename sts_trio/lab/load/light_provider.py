"""A provider in a light mode, and EVI as one (docs/protocols/evi.md): enough of it for any client. Pure.

`chat_metadata` first, words before their voice, `assistant_end`, a `user_message` with its 48 scores for each turn,
`user_interruption`. Caller audio may come as binary frames or as `audio_input`, in pieces of any size.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from sts_trio.lab.load.plan import Step
from sts_trio.lab.load.stamps.down import FRAMES_PER_CHUNK
from sts_trio.lab.load.stamps.pcm import PcmStampReader
from sts_trio.lab.websocket import BINARY, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.lab.load.stamps.base import Stamp
    from sts_trio.lab.load.stamps.down import WavMaker
    from sts_trio.lab.websocket import Message


class LightProvider(Protocol):
    """One chat's. Nothing waits; all messages are whole, as JSON."""

    def begin(self) -> Sequence[bytes]:
        """What is said when the chat is open."""
        ...

    def hear(self, message: Message, now_ns: int, /) -> tuple[Sequence[Stamp | None], Sequence[bytes]]:
        """Take a message: the stamps of the caller's frames in it, and what is to be answered."""
        ...

    def tell(self, step: Step, call: int, frame: int, now_ns: int, /) -> Sequence[bytes]:
        """Take a step of a turn. A chunk begins with `frame`; nothing is returned for one that is not to be sent."""
        ...


OpenLightProvider = Callable[[], LightProvider]


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


class LightEvi:
    """See `LightProvider`."""

    def __init__(self, maker: WavMaker, mark: int) -> None:
        self._maker = maker
        self._reader = PcmStampReader(mark)
        self._id = f"{random.getrandbits(128):032x}".encode()
        self._turn = 0
        self._turn_frame: int | None = None

    def begin(self) -> Sequence[bytes]:
        """See `LightProvider`."""
        return [b'{"type":"chat_metadata","chat_id":"%s","chat_group_id":"%s","request_id":"1"}' % (self._id, self._id)]

    def hear(self, message: Message, now_ns: int) -> tuple[Sequence[Stamp | None], Sequence[bytes]]:
        """See `LightProvider`. It has nothing to answer."""
        if message.opcode == BINARY:
            return self._reader.read(message.data, now_ns), ()
        if message.opcode == TEXT:
            try:
                said = _decode(message.data)
            except (msgspec.DecodeError, UnicodeError):
                return (), ()
            if said.type == "audio_input":
                return self._reader.read(said.data, now_ns), ()
        return (), ()

    def tell(self, step: Step, call: int, frame: int, now_ns: int) -> Sequence[bytes]:
        """See `LightProvider`."""
        match step:
            case Step.WORDS:
                self._turn, self._turn_frame = self._turn + 1, frame
                return [
                    b'{"type":"assistant_message","id":"%s%d","message":%s,"models":{},"from_text":false,'
                    b'"is_quick_response":false}' % (self._id, self._turn, _WORDS.encode())
                ]
            case Step.CHUNK:
                index = (frame - (self._turn_frame or 0)) // FRAMES_PER_CHUNK
                data = self._maker.chunk(call, frame)
                return [
                    b'{"type":"audio_output","id":"%s%d","index":%d,"data":"%s"}' % (self._id, self._turn, index, data)
                ]
            case Step.CUT:
                return [b'{"type":"user_interruption","time":%d}' % (now_ns // 1_000_000)]
            case Step.END:
                return [b'{"type":"assistant_end"}']
            case Step.USER:
                return [_USER]
            case Step.CUT_OVER:
                return []
