"""A provider in a light mode, and EVI as one (docs/protocols/evi.md): enough of it for any client. Pure.

`chat_metadata` first, words before their voice, `assistant_end`, a `user_message` with its 48 scores for each turn,
`user_interruption`. Caller audio may come as binary frames or as `audio_input`, in pieces of any size.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sts_trio.lab.emulator.evi.wire import (
    AssistantEnd,
    AssistantMessage,
    AudioInput,
    ChatMetadata,
    Interval,
    Models,
    Prosody,
    UserInterruption,
    UserMessage,
    WireError,
    Words,
    encode_audio,
    encode_server,
    parse_client,
)
from sts_trio.lab.load.plan import Step
from sts_trio.lab.load.stamps.down import FRAMES_PER_CHUNK
from sts_trio.lab.load.stamps.pcm import PcmStampReader
from sts_trio.lab.websocket import BINARY, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.lab.emulator.evi.wire import ServerMessage
    from sts_trio.lab.load.stamps.base import Stamp
    from sts_trio.lab.load.stamps.down import WavMaker
    from sts_trio.lab.websocket import Message


class LightProvider(Protocol):
    """One chat in a provider's protocol. Its methods never wait; all messages are whole, as JSON."""

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


_SCORES = {f"Emotion {at}": round(0.01 * at, 2) for at in range(48)}
_USER = UserMessage(
    message=Words("user", "Words of a caller under load."),
    models=Models(Prosody(_SCORES)),
    time=Interval(0, 1000),
    interim=False,
    from_text=False,
)


class LightEvi:
    """See `LightProvider`."""

    def __init__(self, maker: WavMaker, mark: int) -> None:
        self._maker = maker
        self._reader = PcmStampReader(mark)
        self._id = f"{random.getrandbits(128):032x}"
        self._turn = 0
        self._turn_frame: int | None = None

    def begin(self) -> Sequence[bytes]:
        """See `LightProvider`."""
        return [_encoded(ChatMetadata(chat_group_id=self._id, chat_id=self._id, request_id="1"))]

    def hear(self, message: Message, now_ns: int) -> tuple[Sequence[Stamp | None], Sequence[bytes]]:
        """See `LightProvider`. It has nothing to answer."""
        if message.opcode == BINARY:
            return self._reader.read(message.data, now_ns), ()
        if message.opcode == TEXT:
            try:
                said = parse_client(message.data)
                if isinstance(said, AudioInput):
                    return self._reader.read(said.pcm(), now_ns), ()
            except WireError:
                pass  # only audio is looked at
        return (), ()

    def tell(self, step: Step, call: int, frame: int, now_ns: int) -> Sequence[bytes]:
        """See `LightProvider`."""
        match step:
            case Step.WORDS:
                self._turn, self._turn_frame = self._turn + 1, frame
                words = Words("assistant", "Words of an agent under load.")
                return [
                    _encoded(
                        AssistantMessage(
                            id=self._segment, message=words, models=Models(), from_text=False, is_quick_response=False
                        )
                    )
                ]
            case Step.CHUNK:
                index = (frame - (self._turn_frame or 0)) // FRAMES_PER_CHUNK
                return [encode_audio(self._segment, index, self._maker.chunk(call, frame))]
            case Step.CUT:
                return [_encoded(UserInterruption(time=now_ns // 1_000_000))]
            case Step.END:
                return [_encoded(AssistantEnd())]
            case Step.USER:
                return [_encoded(_USER)]
            case Step.CUT_OVER:
                return []

    @property
    def _segment(self) -> str:
        return f"{self._id}{self._turn}"


def _encoded(message: ServerMessage) -> bytes:
    return encode_server(message).encode()
