"""How calls are put together: settings in, what all calls share out. Only this module knows both.

Top to bottom: what all calls share, the rules of calls, the services that a call may use, the provider, the tools.
"""

from __future__ import annotations

import ssl
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from sts_trio.audio.pcm import BYTES_PER_SECOND, RATE, WavError, is_loud, parse_wav
from sts_trio.audio.resample import TelephoneResampler, prepare
from sts_trio.call.config import CallRules, NoInputRules, Prompt, ResumeRules, Services, SessionPolicy
from sts_trio.call.handler import CallHandler
from sts_trio.call.meter import Cause, Meter
from sts_trio.call.playout import Pace
from sts_trio.errors import ConfigError
from sts_trio.http_client import HttpClient, post_event
from sts_trio.providers import find_provider
from sts_trio.providers.dial import Breaker, TcpDial, guarded
from sts_trio.providers.instructions import InstructionSource
from sts_trio.providers.socket import SocketTimes
from sts_trio.settings.calls import DEFAULT_TOOLS_DIR
from sts_trio.tools.control import AmiClient, call_control_tools, hang_up, transfer
from sts_trio.tools.custom import LoadedTools, load_tools
from sts_trio.websocket.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.call.handler import Registry
    from sts_trio.providers.base import CallInfo
    from sts_trio.providers.dial import AgentProvider, Dial
    from sts_trio.settings import Settings
    from sts_trio.tools.tool import Tool


log = structlog.get_logger(__name__)

_TAKEN = {"dsai_transfer", "dsai_hangup", "hang_up", "web_search"}  # names of our own tools, and of Hume's


def build_handler(
    settings: Settings, registry: Registry, dial: Dial | None = None, meter: Meter | None = None
) -> CallHandler:
    """Build what all calls share. `dial` replaces TCP to the provider, in tests.

    What is wrong with a tool or a rule is logged, and stops nothing.

    Raises:
        ConfigError: the provider cannot be reached with these settings.
    """
    for rate in find_provider(settings.provider.name).spoken_rates:
        prepare(rate)
    http = open_http()
    ami = open_ami(settings, http)
    tools = find_tools(settings, ami)
    for problem in (*tools.problems, *rule_problems(settings, tools.tools)):
        log.warning("a tool or a rule cannot be used", problem=problem)
    return CallHandler(
        rules=build_rules(settings, tools.tools),
        pace=Pace(lead=settings.calls.playout_lead_ms / 1000),
        services=reach_services(settings, http, ami, dial, meter),
        registry=registry,
        log_transcripts=settings.service.log_transcripts,
        provider=settings.provider.name,
    )


def build_rules(settings: Settings, tools: tuple[Tool, ...]) -> CallRules:
    """Put into one value what the operator decided about calls."""
    provider, calls = settings.provider, settings.calls
    session_policy = SessionPolicy(
        greeting=provider.welcome_message,
        greet_with_config=provider.greet_with_config,
        has_config=provider.config_id is not None,
        variables=calls.call_variables,
        overrides=calls.allow_call_overrides,
        declare_tools=calls.declare_tools,
    )
    return CallRules(
        session_policy=session_policy,
        lifeline=ResumeRules(calls.resume_seconds, provider.max_session_seconds, calls.ready_seconds),
        silence=NoInputRules(calls.silence_seconds, calls.silence_prompt),
        fallback=find_fallback(settings),
        answer_seconds=calls.answer_seconds,
        tools=tools,
        tool_grace=calls.call_control_grace_ms / 1000,
        keypad=calls.dtmf_mode,
        keypad_gap=calls.dtmf_gap_ms / 1000,
        keys_interrupt=calls.dtmf_interrupts,
        emotion_rules=calls.emotion_rules,
        emotions=calls.emotions,
        init_seconds=calls.init_seconds,
        most_seconds=calls.max_call_seconds,
    )


def find_fallback(settings: Settings) -> bytes:
    """Load what a caller hears when the agent has failed; for a file that cannot be read the tone, and a log line.

    Raises:
        SilentFallbackError: nothing can be heard in the file.
    """
    if settings.calls.fallback_wav is None:
        return b""
    try:
        return load_fallback(settings.calls.fallback_wav)
    except SilentFallbackError:
        raise  # it would do what it is there to prevent
    except ConfigError as exc:
        log.error("callers whose agent fails will hear the tone", problem=str(exc))
        return load_fallback(TONE)


# The services that a call may use.


def reach_services(
    settings: Settings, http: HttpClient, ami: AmiClient | None, dial: Dial | None = None, meter: Meter | None = None
) -> Services:
    """Build what a call may use of the world: the agent, the operator's own services, and who measures it."""
    meter = meter or Meter()
    calls = settings.calls
    sources = read_instructions(settings, http)

    async def instructions(call: CallInfo) -> Prompt:
        # A stored configuration holds the prompt.
        return Prompt(None, "config") if settings.provider.config_id else Prompt(*await sources.find(call.uuid))

    async def release(uuid: str, cause: Cause) -> bool:
        if ami is None:
            return False
        failed = cause is Cause.PROVIDER_FAILED
        if failed and calls.fallback_extension and await transfer(ami, uuid, calls.fallback_extension):
            return True
        has_fallback = failed and (calls.fallback_wav or calls.fallback_extension)
        if has_fallback or cause in (Cause.AGENT_ENDED, Cause.CALLER_SILENT):
            await hang_up(ami, uuid)
        return False

    breaker = Breaker(calls.breaker_failures, calls.breaker_seconds, meter.breaker_opened)
    return Services(
        open_agent=guarded(open_provider(settings, dial), breaker),
        instructions=instructions,
        webhook=partial(post_event, http),
        release=release,
        meter=meter,
    )


def open_http() -> HttpClient:
    """Build the way to services of the operator's own."""
    return HttpClient(ssl.create_default_context())


def open_ami(settings: Settings, http: HttpClient) -> AmiClient | None:
    """Build the way to the AMI service, if there is one."""
    return AmiClient(settings.calls.ami_url, http.apart()) if settings.calls.ami_url else None


def read_instructions(settings: Settings, http: HttpClient) -> InstructionSource:
    """Build the sources of the agent's prompt."""
    return InstructionSource(
        text=settings.provider.instructions,
        url=settings.provider.url_instructions,
        file=settings.provider.file_instructions,
        seconds=settings.calls.instructions_seconds,
        http=http.apart(),
    )


# The provider.


def open_provider(settings: Settings, dial: Dial | None = None) -> AgentProvider:
    """Build the way to the agent. `dial` replaces TCP in tests.

    Raises:
        ConfigError: there is no such provider, no key, or the file of certificates cannot be used.
    """
    chosen = settings.provider
    provider = find_provider(chosen.name)
    if not chosen.has_credentials:
        raise ConfigError([f"{chosen.prefix}_API_KEY is not set; it is required"])
    calls = settings.calls
    times = SocketTimes(
        open=calls.ready_seconds,
        dead=calls.provider_dead_seconds,
        garbage=calls.provider_garbage_seconds,
        answer=calls.answer_seconds,
    )
    key = chosen.api_key.reveal() if chosen.api_key else ""
    return provider.open(chosen, key, dial or TcpDial(trust(settings)), times)


def trust(settings: Settings) -> ssl.SSLContext:
    """Whom to believe in TLS with the provider: the system's authorities, and the operator's own.

    Raises:
        ConfigError: the provider's `_CA_FILE` cannot be used.
    """
    context = client_context()
    if file := settings.provider.ca_file:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError([f"{settings.provider.prefix}_CA_FILE is {file}, which cannot be used: {exc}"]) from exc
    return context


# The tools. What is wrong with one is told, and ends nothing.


def find_tools(
    settings: Settings, ami: AmiClient | None, on_fault: Callable[[BaseException], object] | None = None
) -> LoadedTools:
    """Gather what agents may ask for: call control, if there is a service for it, and the operator's own tools.

    `on_fault` is shown what one of those raises.
    """
    directory = settings.calls.tools_dir
    log.debug("loading tools", directory=directory)  # files are run: if one never ends, this is the last line
    control = call_control_tools(ami) if ami else ()
    own = load_tools(
        Path(directory),
        explicit=directory != DEFAULT_TOOLS_DIR,
        seconds=settings.calls.tool_seconds,
        taken=_TAKEN,
        on_fault=on_fault,
    )
    return LoadedTools((*control, *own.tools), own.problems)


def rule_problems(settings: Settings, tools: tuple[Tool, ...]) -> list[str]:
    """Say which of the EMOTION_RULES will never do anything."""
    provider, rules = settings.provider, settings.calls.emotion_rules
    emotions = find_provider(provider.name).emotions
    if rules and not emotions:
        return [f"EMOTION_RULES: {provider.name} reports no emotions, so no rule will ever do anything"]
    by_name = {tool.name: tool for tool in tools}
    known = {emotion.casefold() for emotion in emotions}
    problems = []
    for rule in rules:
        if rule.emotion.casefold() not in known:
            close = get_close_matches(rule.emotion.title(), emotions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            problems.append(f"EMOTION_RULES: {provider.title} reports no emotion {rule.emotion!r}{hint}")
        if rule.tool is not None and rule.tool not in by_name:
            problems.append(f"EMOTION_RULES: there is no tool {rule.tool!r} (see TOOLS_DIR and AMI_URL)")
        elif rule.tool is not None and (why := by_name[rule.tool].check(rule.arguments)):
            problems.append(f"EMOTION_RULES: {rule.tool} cannot be called like this: {why}")
    return problems


TONE = "tone"
_TONE_PERIODS = 8  # four seconds
_LONGEST_SECONDS = 30

# The congestion tone that nearly every caller knows: 425 Hz, a quarter of a second on, a quarter off (ITU-T E.180).
_CONGESTION_HERTZ = 425
_CONGESTION_SECONDS = 0.25
_LEVEL = 0.1  # of full scale: -20 dBFS, what exchanges send is -10 dBm0 and less
_EDGE_SECONDS = 0.005  # faded, so that nothing clicks


class SilentFallbackError(ConfigError):
    """The fallback is silence."""


def load_fallback(choice: str) -> bytes:
    """Return telephone PCM: the WAV file `choice`, 30 s of it at most, or, for ``tone``, the network's congestion tone.

    Raises:
        ConfigError: the file cannot be read, or holds no audio that we understand.
        SilentFallbackError: nothing can be heard in it.
    """
    if choice == TONE:
        return congestion_tone(_TONE_PERIODS)
    try:
        wav = parse_wav(Path(choice).read_bytes())
    except (OSError, WavError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise ConfigError([f"FALLBACK_WAV is {choice}, which cannot be used: {reason}"]) from exc
    resampler = TelephoneResampler()
    pcm = b"".join(resampler.feed(part) for part in wav.cut(1.0)) + resampler.flush()
    pcm = pcm[: _LONGEST_SECONDS * BYTES_PER_SECOND]
    if not is_loud(pcm):
        raise SilentFallbackError(
            [f"FALLBACK_WAV is {choice}, in which nothing can be heard; the caller would wait in silence"]
        )
    return pcm


def congestion_tone(periods: int) -> bytes:
    """Return `periods` of on and off, half a second each: 8000 Hz, s16le, mono."""
    on = np.arange(round(_CONGESTION_SECONDS * RATE))
    edge = np.minimum(1.0, np.minimum(on, on[::-1]) / (_EDGE_SECONDS * RATE))
    beep = np.rint(np.sin(2 * np.pi * _CONGESTION_HERTZ * on / RATE) * edge * _LEVEL * 32767).astype("<i2")
    return np.tile(np.concatenate([beep, np.zeros_like(beep)]), periods).tobytes()
