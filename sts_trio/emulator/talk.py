"""What a chat is to the server, whatever protocol it speaks: frames in, actions out, actions to frames. No waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sts_trio.emulator.wire import Cancelled, Event, ServerMessage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sts_trio.emulator.actions import Action
    from sts_trio.emulator.wire import ToolError, ToolResponse

ToClient = ServerMessage | Event | Cancelled


class Talk(Protocol):
    """`chat.Chat` for EVI, `openai.chat.RealtimeChat` for the Realtime protocol; both document what they have."""

    chat_id: str
    group_id: str
    messages_received: int
    caller_audio: bytearray
    caller_bytes: int
    onsets: int

    @property
    def resumed(self) -> bool: ...
    @property
    def user_inputs(self) -> Sequence[str]: ...
    @property
    def prompt(self) -> str: ...
    @property
    def tool_answers(self) -> dict[str, list[ToolResponse | ToolError]]: ...
    @property
    def deadline(self) -> float: ...
    @property
    def junk(self) -> Mapping[str, str]: ...
    def open(self, now: float, *, metadata: bool = True) -> list[Action]: ...
    def refuse(self, code: str, slug: str, message: str) -> list[Action]: ...
    def receive(self, data: str | bytes, now: float) -> list[Action]: ...
    def tick(self, now: float) -> list[Action]: ...
    def encode(self, message: ToClient) -> list[str]: ...
