"""One chat, without its connection: settings in force, the caller's audio, limits and errors. No waiting."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec import UNSET

from sts_trio.lab.emulator.chat import KEPT_SECONDS, KEPT_TEXTS, Action, ChatProtocol, Close
from sts_trio.lab.emulator.evi.handshake import parse_handshake
from sts_trio.lab.emulator.evi.malformed import MALFORMED
from sts_trio.lab.emulator.evi.settings import AudioFormat, SessionSettings
from sts_trio.lab.emulator.evi.wire import (
    AssistantInput,
    AudioInput,
    BadAnswer,
    ChatMetadata,
    Ended,
    ErrorMessage,
    Event,
    Pause,
    Resume,
    ToolError,
    ToolResponse,
    UserInput,
    WireError,
    Written,
    encode_server,
    parse_client,
)
from sts_trio.lab.emulator.parrot import Parrot
from sts_trio.lab.emulator.turns import Turn, TurnDetector
from sts_trio.lab.emulator.voice import VoiceFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sts_trio.lab.emulator.chat import ToClient
    from sts_trio.lab.emulator.evi.handshake import ChatQuery
    from sts_trio.lab.emulator.evi.wire import ClientMessage
    from sts_trio.lab.emulator.options import EmulatorOptions

KEPT_CHARACTERS = 100_000  # of one text
SAME_ERRORS = 10  # so many identical ones end a chat (Hume's errors page)


class EviChat(ChatProtocol):
    """One chat's state: the session settings in force, and what `ChatProtocol` has."""

    malformed = MALFORMED
    KEY_BEFORE_UPGRADE = True
    parse_upgrade = staticmethod(parse_handshake)

    def __init__(
        self,
        options: EmulatorOptions,
        query: ChatQuery,
        rng: np.random.Generator,
        group: str | None,
        now: float,
    ) -> None:
        super().__init__(options, query, _uuid(rng), group or _uuid(rng), now)
        self.settings = query.settings
        self._resumed = group is not None
        self._audio = bytearray()
        self._audio_bytes = 0
        self._onsets = 0
        self._user_inputs: deque[str] = deque(maxlen=KEPT_TEXTS)
        self._tool_answers: deque[ToolResponse | ToolError] = deque(maxlen=KEPT_TEXTS)
        self._request_id = _uuid(rng)
        self._errors: Counter[tuple[str, str]] = Counter()
        self._last_user_message = now
        self._format: AudioFormat | None = None
        self._detector: TurnDetector | None = None
        self._offset_ms: int | None = None
        self._carry = b""
        low, high = options.chunk_ms
        self._parrot = Parrot(
            options,
            VoiceFormat(options.rate, options.channels, lambda: int(rng.integers(low, high, endpoint=True))),
            verbose=query.verbose_transcription,
            new_id=lambda: rng.bytes(16).hex(),
            unix_ms=lambda: int(time.time() * 1000),
            began=now,
        )

    @property
    def caller_audio(self) -> bytearray:
        """See `ChatProtocol`."""
        return self._audio

    @property
    def caller_bytes(self) -> int:
        """See `ChatProtocol`."""
        return self._audio_bytes

    @property
    def onsets(self) -> int:
        """See `ChatProtocol`."""
        return self._onsets

    @property
    def resumed(self) -> bool:
        """See `ChatProtocol`."""
        return self._resumed

    @property
    def user_inputs(self) -> Sequence[str]:
        """See `ChatProtocol`."""
        return self._user_inputs

    @property
    def _answers(self) -> Iterable[ToolResponse | ToolError]:
        return self._tool_answers

    @property
    def custom_session_id(self) -> str | None:
        """The client's own name for this chat, put on every server message."""
        given = self.settings.custom_session_id
        return None if given is UNSET else given

    @property
    def prompt(self) -> str:
        """The prompt in force, with the variables in their places."""
        return self.settings.filled(self.settings.system_prompt or "")

    def open(self, now: float, *, metadata: bool = True) -> list[Action]:
        """Begin. A resumed chat is not greeted again (EVI: not documented)."""
        self._listen()
        actions: list[Action] = []
        if metadata:
            actions.append(ChatMetadata(chat_group_id=self.group_id, chat_id=self.chat_id, request_id=self._request_id))
            actions.append(self.settings.public())
        if self.query.problem:
            actions += self._error(WireError("E0101", "invalid_message", self.query.problem))
        greeting = self._options.greetings.get(self.query.config_id)
        if greeting is not None and not self._resumed:
            actions += self._parrot.say(self.settings.filled(greeting), now, from_text=False)
        return actions

    def encode(self, message: ToClient, now: float) -> list[str]:  # noqa: ARG002  # `ChatProtocol` has it
        """Return the text frames of a message."""
        if isinstance(message, Event | Ended | Written):
            raise TypeError(f"EVI has no {message}")
        return [encode_server(message, self.custom_session_id)]

    def refuse(self, code: str, slug: str, message: str) -> list[Action]:
        """End a chat that cannot begin: an unknown config, or a chat group that is not there."""
        return self._end(code, slug, message)

    def receive(self, data: str | bytes, now: float) -> list[Action]:
        """Take one frame from the client: text is a message, binary is audio."""
        if self._over:
            return []
        self.messages_received += 1
        try:
            if isinstance(data, bytes):
                return self._hear(data, now)
            return self._read(parse_client(data), now)
        except BadAnswer as exc:
            return [ToolError(tool_call_id=exc.tool_call_id, error=exc.message, code=exc.code, level="warn")]
        except WireError as exc:
            return self._error(exc)

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        inactive = self._last_user_message + self._options.inactivity
        return min(inactive, self._began + self._options.max_duration, self._parrot.deadline)

    def tick(self, now: float) -> list[Action]:
        """Keep the limits: they end the chat with an `error` and close 1000."""
        if self._over:
            return []
        if now >= self._began + self._options.max_duration:
            text = f"The chat reached its maximum length of {self._options.max_duration:g} s."
            return self._end("E0715", "max_duration_timeout", text)
        if now >= self._last_user_message + self._options.inactivity:
            text = f"There was no user message for {self._options.inactivity:g} s."
            return self._end("E0714", "inactivity_timeout", text)
        return self._parrot.tick(now)

    # --- inside ---

    def _read(self, message: ClientMessage, now: float) -> list[Action]:
        if not isinstance(message, SessionSettings) and message.custom_session_id is not None:
            self.settings = self.settings.updated(SessionSettings(custom_session_id=message.custom_session_id))
        match message:
            case AudioInput():
                return self._hear(message.pcm(), now)
            case SessionSettings():
                self.settings = self.settings.updated(message)
                self._listen()
                return [self.settings.public()]
            case UserInput():
                self._user_inputs.append(message.text[:KEPT_CHARACTERS])
                return self._heard(self._parrot.user_input(message.text, self.settings, now), now)
            case AssistantInput():
                return self._parrot.say(message.text, now)
            case ToolResponse() | ToolError():
                self._tool_answers.append(_cut(message))
                return self._parrot.tool_answer(message, now)
            case Pause():
                return self._parrot.pause(now)
            case Resume():
                return self._parrot.resume(now)

    def _listen(self) -> None:
        """Make ready for the audio format in force; a change begins a new stream."""
        audio = None if self.settings.audio is UNSET else self.settings.audio
        if audio == self._format:
            return
        self._format, self._carry, self._offset_ms = audio, b"", None
        end_ms = self._options.end_of_turn_silence_ms
        self._detector = TurnDetector(audio.sample_rate, end_ms) if audio else None

    def _hear(self, data: bytes, now: float) -> list[Action]:
        self._keep(data)
        if self._detector is None or self._format is None:
            return []  # raw audio that was never declared: EVI says nothing, and transcribes nothing
        if self._offset_ms is None:
            self._offset_ms = int((now - self._began) * 1000)
        data = self._carry + data
        whole = len(data) - len(data) % (2 * self._format.channels)
        self._carry = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").reshape(-1, self._format.channels)
        mono = samples[:, 0] if self._format.channels == 1 else samples.mean(axis=1).astype(np.int16)
        actions: list[Action] = []
        before = self._detector.onsets
        events = self._detector.feed(mono)
        self._onsets += self._detector.onsets - before
        for event in events:
            if isinstance(event, Turn):
                rate, offset_ms = self._format.sample_rate, self._offset_ms
                actions += self._heard(self._parrot.turn(event, rate, offset_ms, self.settings, now), now)
            else:
                actions += self._parrot.speaking(event, now)
        return actions

    def _keep(self, data: bytes) -> None:
        self._audio_bytes += len(data)
        self._audio += data
        a_second = 2 * self._format.sample_rate * self._format.channels if self._format else 96_000
        if len(self._audio) > (KEPT_SECONDS + 10) * a_second:  # not on each frame: it moves what is kept
            del self._audio[: -KEPT_SECONDS * a_second]

    def _heard(self, actions: list[Action], now: float) -> list[Action]:
        """The caller has had a turn, spoken or typed; `actions` are what it led to."""
        self._last_user_message = now
        self.settings = self.settings.after_reply()
        return actions

    def _error(self, error: WireError) -> list[Action]:
        self._errors[error.code, error.message] += 1
        if self._errors[error.code, error.message] >= SAME_ERRORS:
            return self._end(error.code, error.slug, error.message)
        if len(self._errors) > 100:  # texts come from the client in part: do not collect them for ever
            self._errors.clear()
        return [self._error_message(error.code, error.slug, error.message)]

    def _end(self, code: str, slug: str, message: str) -> list[Action]:
        self._over = True
        return [self._error_message(code, slug, message), Close()]

    def _error_message(self, code: str, slug: str, message: str) -> ErrorMessage:
        return ErrorMessage(code=code, slug=slug, message=message, request_id=self._request_id)


def _uuid(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def _cut(answer: ToolResponse | ToolError) -> ToolResponse | ToolError:
    content = answer.content if answer.content is None else answer.content[:KEPT_CHARACTERS]
    return msgspec.structs.replace(answer, content=content)
