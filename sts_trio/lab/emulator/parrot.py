"""The agent: a parrot. It gives each utterance back in the caller's own voice. Events in, actions out, no waiting.

Said in text, it answers with the bundled greeting recording, whatever the text (it cannot read aloud): the text of
`assistant_input` is in its `assistant_message`, the sound is always "Hello, how can I help you today?".

It knows what the client still plays by its own estimate: speech begins when it is decided on, and plays at real time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.lab.emulator import emotions, voice
from sts_trio.lab.emulator.chat import Action, Close, Flush, Item, Say
from sts_trio.lab.emulator.evi.settings import Context
from sts_trio.lab.emulator.evi.wire import (
    AssistantEnd,
    AssistantMessage,
    AssistantProsody,
    AudioOutput,
    Interval,
    Models,
    Prosody,
    ToolCall,
    ToolError,
    ToolResponse,
    UserInterruption,
    UserMessage,
    Words,
)
from sts_trio.lab.emulator.text_commands import WantsAnswer, WantsEnd, WantsTool, understand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sts_trio.lab.emulator.evi.settings import SessionSettings, Tool
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.turns import Speaking, Turn
    from sts_trio.lab.emulator.voice import Recording, VoiceFormat

INTERIM_MS = 500  # a provisional transcript for each half second of speech
LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class PendingTool:
    """A tool call that is sent at `asked`, and waits for its answer until `until`."""

    id: str
    fallback: str
    asked: float
    until: float


class Parrot:
    """One chat's agent. `new_id` makes hex ids, `unix_ms` tells the wall time, `began` is the chat's own start."""

    def __init__(
        self,
        options: EmulatorOptions,
        voice_format: VoiceFormat,
        *,
        verbose: bool,
        new_id: Callable[[], str],
        unix_ms: Callable[[], int],
        began: float,
    ) -> None:
        self._options = options
        self._format = voice_format
        self._verbose = verbose
        self._new_id = new_id
        self._unix_ms = unix_ms
        self._began = began
        self._greeting = voice.greeting()
        self._plays_from = self._plays_until = -math.inf
        self._sent_until = -math.inf
        self._interim_ms = 0
        self._paused = False
        self._owed: Callable[[float], list[Action]] | None = None
        self._tool: PendingTool | None = None

    # --- what the caller does ---

    def speaking(self, speech: Speaking, now: float) -> list[Action]:
        """The caller is speaking: perhaps over us, for long enough that it counts."""
        actions: list[Action] = []
        until = self._plays_until if self._options.interrupt_after_end else self._sent_until
        over_ms = min(speech.run_ms, (now - self._plays_from) * 1000)
        if now < until and over_ms >= self._options.min_interruption_ms:
            self._silent(now)
            actions += [Flush(), UserInterruption(time=self._unix_ms())]
        if self._verbose and speech.turn_ms - self._interim_ms >= INTERIM_MS:
            self._interim_ms = speech.turn_ms
            end = self._since_began(now)
            words = Words("user", _seconds_of_speech(speech.turn_ms))
            actions.append(
                UserMessage(
                    message=words,
                    models=Models(),
                    time=Interval(max(end - speech.turn_ms, 0), end),
                    interim=True,
                    from_text=False,
                    language=LANGUAGE,
                )
            )
        return actions

    def turn(self, turn: Turn, rate: int, offset_ms: int, settings: SessionSettings, now: float) -> list[Action]:
        """The caller has finished an utterance, at `rate` Hz, in a stream that began `offset_ms` into the chat."""
        self._interim_ms = 0
        text = _seconds_of_speech(turn.end_ms - turn.begin_ms)
        said = UserMessage(
            message=Words("user", text),
            models=Models(Prosody(emotions.scores(turn.samples, rate))),
            time=Interval(offset_ms + turn.begin_ms, offset_ms + turn.end_ms),
            interim=False,
            from_text=False,
            language=LANGUAGE,
        )
        recording = voice.Recording(turn.samples, rate)
        words = f"You said: {text}{_context(settings)}"
        return [said, *self._answer(lambda at: [self._say(words, recording, at)], now)]

    def user_input(self, text: str, settings: SessionSettings, now: float) -> list[Action]:
        """The client said `text` for the caller; `text_commands` tells what it asks for."""
        at = self._since_began(now)
        said = UserMessage(
            message=Words("user", text),
            models=Models(),
            time=Interval(at, at),
            interim=False,
            from_text=True,
        )
        return [said, *self._answer(lambda then: self._reply(text, settings, then), now)]

    def say(self, text: str, now: float, *, from_text: bool = True) -> list[Action]:
        """Speak `text`, as told by the client or by the config's `on_new_chat`. Nothing while paused."""
        return [] if self._paused else [self._say(text, self._greeting, now, from_text=from_text)]

    def pause(self, now: float) -> list[Action]:
        """Be quiet until resumed; what is being said is cut off (EVI: not documented)."""
        self._paused = True
        self._silent(now)
        return [Flush()]

    def resume(self, now: float) -> list[Action]:
        """Speak again, and answer the last that the caller said meanwhile."""
        self._paused = False
        owed, self._owed = self._owed, None
        return owed(now) if owed else []

    # --- tools ---

    def tool_answer(self, answer: ToolResponse | ToolError, now: float) -> list[Action]:
        """The client answered a tool call. An answer to no pending call is answered with an error."""
        if self._tool is None or answer.tool_call_id != self._tool.id:
            return [ToolError(tool_call_id=answer.tool_call_id, error="No such tool call is waiting.", level="warn")]
        fallback, self._tool = self._tool.fallback, None
        text = answer.content if answer.content is not None else fallback
        return self._answer(lambda at: [self._say(text, self._greeting, at)], now)

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._tool.until if self._tool else math.inf

    def tick(self, now: float) -> list[Action]:
        """Give up on a tool that is late."""
        if self._tool is None or now < self._tool.until:
            return []
        late, self._tool = self._tool, None
        error = ToolError(tool_call_id=late.id, error="The tool response did not come in time.", level="warn")
        return [error, *self._answer(lambda at: [self._say(late.fallback, self._greeting, at)], now)]

    # --- inside ---

    def _answer(self, reply: Callable[[float], list[Action]], now: float) -> list[Action]:
        """Answer the caller now, or remember it while paused (only the last one). A tool still out is forgotten."""
        self._tool = None
        if self._paused:
            self._owed = reply
            return []
        return reply(now)

    def _reply(self, text: str, settings: SessionSettings, now: float) -> list[Action]:
        match understand(text, settings):
            case WantsTool(tool, arguments, first):
                return self._call(tool, arguments, first, now)
            case WantsEnd():
                hung_up = ToolResponse(
                    tool_call_id=f"call_{self._new_id()}", content="", tool_name="hang_up", tool_type="builtin"
                )
                return [self._say("Goodbye.", self._greeting, now, then=(AssistantEnd(), hung_up, Close()))]
            case WantsAnswer(words):
                return [self._say(words + _context(settings), self._greeting, now)]

    def _call(self, tool: Tool, arguments: str, first: str, now: float) -> list[Action]:
        """Ask for a tool; what is said first goes out before it, and ends no turn (docs/protocols/evi.md 5.4)."""
        call = ToolCall(
            name=tool.name,
            parameters=arguments,
            tool_call_id=f"call_{self._new_id()}",
            tool_type="function",
            response_required=True,
        )
        actions: list[Action] = [self._say(first, self._greeting, now, then=(call,))] if first else [call]
        asked = self._sent_until if first else now
        fallback = tool.fallback_content or f"{tool.name} is not available."
        self._tool = PendingTool(call.tool_call_id, fallback, asked, asked + self._options.tool_limit)
        return actions

    def _say(
        self,
        text: str,
        speech: Recording,
        now: float,
        *,
        from_text: bool = False,
        then: tuple[Item, ...] = (AssistantEnd(),),
    ) -> Say:
        if now >= self._plays_until:
            self._plays_from = now
        self._plays_until = max(now, self._plays_until) + speech.seconds
        self._sent_until = max(now, self._sent_until) + speech.seconds / self._options.speed
        return Say(self._segment(self._new_id(), text, speech, from_text, then))

    def _segment(
        self, segment: str, text: str, speech: Recording, from_text: bool, then: tuple[Item, ...]
    ) -> Iterator[tuple[float, Item]]:
        """One segment of speech and what follows it, paced by the time its audio takes."""
        yield (
            0.0,
            AssistantMessage(
                id=segment,
                message=Words("assistant", text),
                models=Models(),
                from_text=from_text,
                is_quick_response=False,
                language=LANGUAGE,
            ),
        )
        at = 0.0
        for index, chunk in enumerate(voice.chunks(speech, self._format)):
            at = chunk.at
            yield at, AudioOutput(id=segment, index=index, data=chunk.wav)
        scores = emotions.scores(speech.samples, speech.rate)
        yield at, AssistantProsody(id=segment, models=Models(Prosody(scores)))
        for item in then:
            yield at, item

    def _silent(self, now: float) -> None:
        if self._tool is not None and now < self._tool.asked:
            self._tool = None  # its request was still to be sent, and is forgotten with the speech before it
        self._plays_until = min(self._plays_until, now)
        self._sent_until = min(self._sent_until, now)

    def _since_began(self, now: float) -> int:
        return int((now - self._began) * 1000)


def _seconds_of_speech(ms: int) -> str:
    return f"({ms / 1000:.1f} s of speech)"


def _context(settings: SessionSettings) -> str:
    """What a reply shows of the context in force, in the form in which EVI adds it to the caller's words."""
    return f" {{Context: {settings.context.text}}}" if isinstance(settings.context, Context) else ""
