"""`sts-trio check`: would a call work with these settings? One line for each finding; a failure names its setting.

The provider is told what a call tells it: prompt, tools, voice, formats. `check_call` places a whole call in memory,
whose caller says nothing and listens.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import trio

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS, is_loud, seconds
from sts_trio.call.config import Prompt
from sts_trio.call.handler import CallHandler, Registry
from sts_trio.call.playout import Pace
from sts_trio.core.link import Arrival, SocketClosed
from sts_trio.core.wire import CallerAudio, Error, Init, PlayoutAudio
from sts_trio.errors import ConfigError, ProviderBusy, ProviderError, ProviderTimeout
from sts_trio.http_client import HttpFailed
from sts_trio.providers.base import AgentFault, CallInfo, SessionEnd
from sts_trio.settings.variable import variables
from sts_trio.wiring import (
    build_rules,
    find_tools,
    load_fallback,
    open_ami,
    open_http,
    open_provider,
    reach_services,
    read_instructions,
    rule_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.core.wire import FromCore, ToCore
    from sts_trio.providers.base import AgentLink
    from sts_trio.providers.dial import Dial
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool

    Report = Callable[[str], None]

# For an objection to what a session was told after it had begun: some protocols confirm nothing.
_OBJECTION_SECONDS = 0.5
_HANG_UP_SECONDS = 5.0  # for a call to end after its caller has hung up
_SILENCE = CallerAudio(bytes(FRAME_BYTES))


async def check_all(settings: Settings, report: Report, dial: Dial | None = None, *, call: bool = False) -> bool:
    """Check all that settings name, and the provider; with `call` also what a caller hears. Returns if all works."""
    tools = find_tools(settings, open_ami(settings, open_http()))
    problems = (*tools.problems, *rule_problems(settings, tools.tools))
    results = [
        check_tools(settings, tools.tools, problems, report),
        check_fallback(settings, report),
        await check_ami(settings, report),
    ]
    prompt = await check_instructions(settings, report)
    results += [prompt.found, await check_provider(settings, report, dial, prompt.prompt, tools.tools)]
    if call and results[-1]:
        results.append(await check_call(settings, report, dial, tools.tools))
    return all(results)


def check_tools(settings: Settings, tools: tuple[Tool, ...], problems: tuple[str, ...], report: Report) -> bool:
    """Tell which tools the service would load, and what is wrong with others."""
    report("ok: tools " + (", ".join(tool.name for tool in tools) or "(none)"))
    for problem in problems:
        report(f"failed: {_with_setting(problem, 'correct it, or TOOLS_DIR', settings)}")
    return not problems


def check_fallback(settings: Settings, report: Report) -> bool:
    """Load what a caller hears when the agent has failed."""
    if settings.calls.fallback_wav is None:
        return True
    try:
        length = seconds(len(load_fallback(settings.calls.fallback_wav)))
    except ConfigError as exc:
        report(f"failed: {exc}")
        return False
    report(f"ok: a fallback of {length:.1f} s")
    return True


async def check_ami(settings: Settings, report: Report) -> bool:
    """Ask the AMI service for anything: whatever its answer is, it is there."""
    if settings.calls.ami_url is None:
        return True
    try:
        await open_http().get(settings.calls.ami_url, seconds=5)
    except HttpFailed as exc:
        report(f"failed: AMI_URL: {exc}")
        return False
    report("ok: the AMI service is there")
    return True


class _Instructions(NamedTuple):
    """What a call would be told, and whether each source that was asked for had some."""

    prompt: Prompt
    found: bool


async def check_instructions(settings: Settings, report: Report) -> _Instructions:
    """Load the instructions as a call does."""
    provider = settings.provider
    if provider.config_id:
        return _Instructions(Prompt(None, "config"), True)
    failures: list[str] = []

    def tell(source: str, address: str, reason: str) -> None:
        where = "" if reason.startswith(address) else f" {address}:"
        failures.append(f"{provider.prefix}_{source.upper()}_INSTRUCTIONS:{where} {reason}")

    prompt = Prompt(*await read_instructions(settings, open_http()).find(None, tell))
    instead = "the default" if prompt.text is None else f"the {prompt.source}'s"
    for failure in failures:
        report(f"failed: {failure}; a call has {instead} in its place")
    if prompt.text is not None and prompt.source != "text":
        report(f"ok: instructions of {len(prompt.text)} characters")
    return _Instructions(prompt, not failures)


async def check_provider(
    settings: Settings, report: Report, dial: Dial | None, prompt: Prompt, tools: tuple[Tool, ...]
) -> bool:
    """Open a session as a call does, with its prompt and tools, and close it again, nothing said."""
    for note in settings.notes(datetime.now(UTC).date()):
        report(f"note: {note}")
    began = trio.current_time()
    told = build_rules(settings, tools).session_policy.session_config({}, tools)
    call = CallInfo(id="check", session_config=replace(told, instructions=prompt.text))
    try:
        provider = open_provider(settings, dial)
        async with provider(call) as link:
            await link.receive()  # what the provider says first; a session that has been opened has it
            took = (trio.current_time() - began) * 1000
            objection = await _objection(link)
    except (ConfigError, ProviderError) as exc:
        report(f"failed: {_explained(exc, settings)}")
        return False
    if objection:
        names = _names(settings, "voice", "voice_id", "config_id", "instructions")
        report(f"failed: {_with_setting(objection, f'check {names}', settings)}")
        return False
    config = settings.provider.config_id
    mode = f"config {config}" if config else "instructions and voice of the environment"
    report(f"ok: {provider.endpoint} opened a chat in {took:.0f} ms, with {mode}")
    return True


async def _objection(link: AgentLink) -> str:
    """What the provider has against the session that it has just opened, if anything."""
    with trio.move_on_after(_OBJECTION_SECONDS):
        while True:
            match await link.receive():
                case AgentFault(message=message):
                    return message
                case SessionEnd(cause=cause):
                    return cause
    return ""


async def check_call(settings: Settings, report: Report, dial: Dial | None, tools: tuple[Tool, ...]) -> bool:
    """Place a call, in memory, and wait for the first sound of the greeting that can be heard."""
    rules, provider = replace(build_rules(settings, tools), fallback=b""), settings.provider
    greets = bool(rules.session_policy.greeting_for({}))
    if not greets and not rules.session_policy.has_config:
        report(f"note: {provider.prefix}_WELCOME_MESSAGE is empty: the agent waits for the caller to speak first")
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
        report(f"ok: the greeting is heard {took * 1000:.0f} ms after the call began")
        return True
    if caller.errors:
        text = caller.errors[-1]
    elif caller.end:
        text = caller.end
    elif caller.silent:
        text = f"{seconds(caller.silent):.1f} s of the agent's voice came, and nothing can be heard in it"
    else:
        text = f"no sound of the greeting within {limit:g} s (READY_SECONDS and ANSWER_SECONDS)"
    hint = f"check {_names(settings, 'voice', 'voice_id', 'model', 'welcome_message')}"
    if not greets:
        hint = f"a configuration that does not greet wants {provider.prefix}_GREET_WITH_CONFIG=true"
    report(f"failed: {_with_setting(text, hint, settings) if caller.errors else f'{text}; {hint}'}")
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


def _explained(exc: ConfigError | ProviderError, settings: Settings) -> str:
    """What went wrong, and which setting to look at; most of it says so by itself."""
    url = _names(settings, "url")
    if isinstance(exc, ProviderTimeout):
        hint = f"check {url} and the way there, or give it longer by READY_SECONDS"
    elif isinstance(exc, ProviderBusy):
        hint = f"try again in a minute; if that lasts, the account of {_names(settings, 'api_key')} has too little room"
    elif "certificate" in str(exc):
        hint = f"name its authority by {_names(settings, 'ca_file')}, or check {url}"
    elif isinstance(exc, ProviderError) and exc.retryable:
        hint = f"try again in a minute, or check {url}"
    else:
        hint = f"check {url} and {_names(settings, 'api_key')}"
    return _with_setting(str(exc), hint, settings)


def _with_setting(text: str, hint: str, settings: Settings) -> str:
    """Add the hint, unless the text names a setting by itself."""
    return text if any(variable.name in text for variable, _ in settings.values()) else f"{text}; {hint}"


def _names(settings: Settings, *fields: str) -> str:
    """The variables of these fields, as far as the provider has them."""
    known = variables(type(settings.provider))
    names = [known[field].name for field in fields if field in known]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
