"""Would a caller hear the greeting? A whole call in memory, whose caller says nothing and listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS, is_loud, seconds
from sts_trio.call.handler import CallHandler, Registry
from sts_trio.call.playout import Pace
from sts_trio.check.finding import Finding, Level, name_settings, with_setting
from sts_trio.core.link import Arrival, SocketClosed
from sts_trio.core.wire import CallerAudio, Error, Init, PlayoutAudio
from sts_trio.wiring import build_rules, open_http, reach_services

if TYPE_CHECKING:
    from sts_trio.check.finding import Report
    from sts_trio.core.wire import FromCore, ToCore
    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool

_HANG_UP_SECONDS = 5.0  # for a call to end after its caller has hung up
_SILENCE = CallerAudio(bytes(FRAME_BYTES))


async def check_call(settings: Settings, report: Report, dial: Dial | None, tools: tuple[Tool, ...]) -> bool:
    """Place a call, in memory, and wait for the first sound of the greeting that can be heard."""
    rules, provider = build_rules(settings, tools), settings.provider
    greets = bool(rules.session_policy.greeting_for({}))
    if not greets and not rules.session_policy.has_config:
        setting = f"{provider.prefix}_WELCOME_MESSAGE"
        report(Finding(Level.NOTE, "call", f"{setting} is empty: the agent waits for the caller to speak first"))
        return True
    limit = settings.calls.ready_seconds + settings.calls.answer_seconds
    caller = _SilentCaller()
    handler = CallHandler(rules, Pace(), reach_services(settings, open_http(), None, dial), Registry())
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            await handler.answer(caller, Arrival({}))
            caller.heard.set()

        nursery.start_soon(hold)
        with trio.move_on_after(limit):
            await caller.heard.wait()
        took = trio.current_time() - began
        caller.hang_up()
        nursery.cancel_scope.deadline = trio.current_time() + _HANG_UP_SECONDS
    if caller.loud:
        heard = f"the greeting is heard {took * 1000:.0f} ms after the call began"
        report(Finding(Level.OK, "call", heard))
        return True
    if caller.errors:
        text = caller.errors[-1]
    elif caller.end:
        text = caller.end
    elif caller.silent:
        text = f"{seconds(caller.silent):.1f} s of the agent's voice came, and nothing can be heard in it"
    else:
        text = f"no sound of the greeting within {limit:g} s (READY_SECONDS and ANSWER_SECONDS)"
    hint = f"check {name_settings(settings, 'voice', 'voice_id', 'model', 'welcome_message')}"
    if not greets:
        hint = f"a configuration that does not greet wants {provider.prefix}_GREET_WITH_CONFIG=true"
    text = with_setting(text, hint, settings) if caller.errors else f"{text}; {hint}"
    report(Finding(Level.WRONG, "call", text))
    return False


class _SilentCaller:
    """Core's end of a call: a `CoreLink` whose caller says nothing, and listens until a sound comes."""

    def __init__(self) -> None:
        self.heard = trio.Event()  # or the call is over
        self.loud = False
        self.silent = 0  # bytes of a voice in which nothing can be heard
        self.errors: list[str] = []
        self.end = ""
        self._gone = trio.Event()
        self._said_init = False

    def hang_up(self) -> None:
        """End the call, as a caller does."""
        self._gone.set()

    async def receive(self) -> FromCore | SocketClosed:
        """See `CoreLink.receive`: silence in real time, as a telephone sends it."""
        if not self._said_init:
            self._said_init = True
            return Init()
        with trio.move_on_after(FRAME_SECONDS):
            await self._gone.wait()
            return SocketClosed(1000)
        return _SILENCE

    async def send(self, message: ToCore) -> None:
        """See `CoreLink.send`."""
        await trio.lowlevel.checkpoint()
        match message:
            case PlayoutAudio(audio=pcm) if is_loud(pcm):
                self.loud = True
                self.heard.set()
            case PlayoutAudio(audio=pcm):
                self.silent += len(pcm)
            case Error(message=text):
                self.errors.append(text)

    async def close(self, code: int, reason: str) -> None:
        """See `CoreLink.close`."""
        await trio.lowlevel.checkpoint()
        self.end = f"the call ended: {reason or code}"
        self._gone.set()
