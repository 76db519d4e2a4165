"""Every environment variable: default, good and wrong values, unset words, aliases, `.env`, secrets, what is told."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import sts_trio.settings as reader
from sts_trio import settings as document
from sts_trio.errors import ConfigError
from sts_trio.logs import set_up_logging
from sts_trio.providers import PROVIDERS, SETTINGS, find_provider
from sts_trio.providers.hume.settings import HumeSettings
from sts_trio.settings import Settings
from sts_trio.settings.calls import EmotionRule, emotion_rules
from sts_trio.settings.headers import SecretHeaders
from sts_trio.settings.parsers import HiddenValueError, Secret, shown_url
from sts_trio.settings.service import DEFAULT_INSTRUCTIONS
from sts_trio.settings.variable import variables

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-1234-very-secret"
ROOT = Path(__file__).parents[2]
WEBHOOK = f"https://crm:{KEY}@crm/alert?token={KEY}"
RULES = f"""[
  {{"emotion": "Anger", "above": 0.6, "turns": 2, "tool": "dsai_transfer",
    "arguments": {{"transfer_extension": "2000"}}}},
  {{"emotion": " Surprise (negative) ", "above": 1, "webhook": "{WEBHOOK}"}}
]"""
VARIABLES = [variable for topic in document.topics(SETTINGS) for variable in topic.variables]

HEADERS = [
    ("{}", SecretHeaders()),
    (
        f'{{"X-Tenant": "clinic", "X-Key": "Key {KEY}"}}',
        SecretHeaders((("X-Tenant", Secret("clinic")), ("X-Key", Secret(f"Key {KEY}")))),
    ),
]

# Variable: its field, its default, then pairs of a text and what it means.
GOOD: dict[str, tuple[str, Any, list[tuple[str, Any]]]] = {
    "OPENAI_API_KEY": ("api_key", None, [(KEY, KEY)]),
    "OPENAI_BASE_URL": (
        "url",
        "https://api.openai.com/v1",
        [
            ("https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1/"),
            ("ws://127.0.0.1:1/v1/realtime?model=m", "ws://127.0.0.1:1/v1/realtime?model=m"),
        ],
    ),
    "OPENAI_KEY_HEADER": (
        "key_header",
        "auto",
        [("BEARER", "bearer"), ("Authorization", "bearer"), ("api-key", "api-key"), ("X-API-Key", "X-API-Key")],
    ),
    "OPENAI_TOKEN_FILE": ("token_file", None, [("/run/entra/token", "/run/entra/token")]),
    "OPENAI_HEADERS": ("headers", None, HEADERS),
    "XAI_HEADERS": ("headers", None, HEADERS),
    "HUMEAI_HEADERS": ("headers", None, HEADERS),
    "OPENAI_MODEL": ("model", "gpt-realtime-2.1", [("gpt-realtime-mini", "gpt-realtime-mini")]),
    "OPENAI_VOICE": (
        "voice",
        "marin",
        [("cedar", "cedar"), ("voice_68", "voice_68"), ('{"id": "voice_68"}', "voice_68")],
    ),
    "OPENAI_SPEED": ("speed", None, [("0.25", 0.25), ("1.5", 1.5)]),
    "OPENAI_GREETING_INTERRUPTIBLE": ("greeting_interruptible", True, [("false", False)]),
    "OPENAI_CREATE_RESPONSE": ("create_response", True, [("false", False)]),
    "OPENAI_INTERRUPT_RESPONSE": ("interrupt_response", True, [("no", False)]),
    "OPENAI_MIN_INTERRUPTION_MS": ("min_interruption_ms", 0, [("500", 500), ("10000", 10_000)]),
    "OPENAI_TRANSCRIPTION_KEYWORDS": (
        "transcription_keywords",
        (),
        [("Müller, Silva & Co,Müller", ("Müller", "Silva & Co")), ("a" * 50, ("a" * 50,))],
    ),
    "OPENAI_TRANSCRIPTION_PROMPT": ("transcription_prompt", None, [("A clinic.", "A clinic.")]),
    "OPENAI_CONTEXT_TOKENS": ("context_tokens", None, [("8000", 8000)]),
    "OPENAI_RETENTION_RATIO": ("retention_ratio", None, [("0", 0.0), ("0.8", 0.8), ("1", 1.0)]),
    "OPENAI_PARALLEL_TOOL_CALLS": ("parallel_tool_calls", None, [("true", True), ("false", False)]),
    "OPENAI_SAFETY_SECRET": ("safety_secret", None, [("a-secret-of-ours-1", "a-secret-of-ours-1")]),
    "OPENAI_INSTRUCTIONS": ("instructions", None, [("Be brief, grüße.", "Be brief, grüße.")]),
    "OPENAI_URL_INSTRUCTIONS": ("url_instructions", None, [("http://crm", "http://crm")]),
    "OPENAI_FILE_INSTRUCTIONS": ("file_instructions", None, [("p.txt", "p.txt")]),
    "OPENAI_WELCOME_MESSAGE": (
        "welcome_message",
        "Hello, how can I help you today?",
        [("Moin!", "Moin!"), ("", "")],
    ),
    "OPENAI_TURN_DETECTION": ("turn_detection", "server_vad", [("semantic_vad", "semantic_vad")]),
    "OPENAI_TURN_DETECTION_THRESHOLD": ("turn_detection_threshold", 0.5, [("0", 0.0), ("1", 1.0)]),
    "OPENAI_TURN_DETECTION_SILENCE_MS": ("turn_detection_silence_ms", 500, [("0", 0), ("10000", 10_000)]),
    "OPENAI_TURN_DETECTION_PREFIX_PADDING_MS": ("turn_detection_prefix_padding_ms", 300, [("5000", 5000)]),
    "OPENAI_TURN_DETECTION_EAGERNESS": ("turn_detection_eagerness", "auto", [("HIGH", "high")]),
    "OPENAI_TRANSCRIPTION_MODEL": (
        "transcription_model",
        "gpt-transcribe",
        [("off", "off"), ("whisper-1", "whisper-1")],
    ),
    "OPENAI_LANGUAGE": ("language", (), [("pt-BR", ("pt-BR",)), ("en, de,en", ("en", "de")), ("AUTO", ())]),
    "OPENAI_AUDIO_FORMAT": ("audio_format", "pcmu", [("pcma", "pcma"), ("PCM", "pcm")]),
    "OPENAI_NOISE_REDUCTION": ("noise_reduction", "off", [("far_field", "far_field")]),
    "OPENAI_REASONING_EFFORT": ("reasoning_effort", None, [("xhigh", "xhigh")]),
    "OPENAI_MAX_TOKENS": ("max_tokens", "inf", [("1", 1), ("4096", 4096), ("INF", "inf")]),
    "OPENAI_CA_FILE": ("ca_file", None, [("/etc/ca.pem", "/etc/ca.pem")]),
    "OPENAI_MAX_SESSION_SECONDS": ("max_session_seconds", 3480.0, [("1740", 1740.0)]),
    "XAI_API_KEY": ("api_key", None, [(KEY, KEY)]),
    "XAI_BASE_URL": ("url", "https://api.x.ai/v1", [("wss://grok/v1", "wss://grok/v1")]),
    "XAI_MODEL": ("model", "grok-voice-latest", [("grok-voice-think-fast-2.0", "grok-voice-think-fast-2.0")]),
    "XAI_VOICE": ("voice", "eve", [("leo", "leo"), ("a-new-one", "a-new-one")]),
    "XAI_SPEED": ("speed", None, [("0.7", 0.7), ("1.5", 1.5)]),
    "XAI_REASONING_EFFORT": ("reasoning_effort", None, [("none", "none"), ("HIGH", "high")]),
    "XAI_GREETING_INTERRUPTIBLE": ("greeting_interruptible", True, [("false", False)]),
    "XAI_MIN_INTERRUPTION_MS": ("min_interruption_ms", 0, [("500", 500)]),
    "XAI_KEYTERMS": ("keyterms", (), [("Silva, Müller", ("Silva", "Müller"))]),
    "XAI_BUILTIN_TOOLS": (
        "builtin_tools",
        (),
        [("web_search, X_SEARCH,web_search", ("web_search", "x_search")), ("file_search", ("file_search",))],
    ),
    "XAI_COLLECTION_IDS": ("collection_ids", (), [("c1, c2", ("c1", "c2"))]),
    "XAI_INSTRUCTIONS": ("instructions", None, [("Be brief.", "Be brief.")]),
    "XAI_URL_INSTRUCTIONS": ("url_instructions", None, [("http://crm", "http://crm")]),
    "XAI_FILE_INSTRUCTIONS": ("file_instructions", None, [("p.txt", "p.txt")]),
    "XAI_WELCOME_MESSAGE": ("welcome_message", "Hello, how can I help you today?", [("Moin!", "Moin!"), ("", "")]),
    "XAI_TURN_DETECTION": ("turn_detection", "server_vad", [("SERVER_VAD", "server_vad")]),
    "XAI_TURN_DETECTION_THRESHOLD": ("turn_detection_threshold", 0.85, [("0.1", 0.1), ("0.9", 0.9)]),
    "XAI_TURN_DETECTION_SILENCE_MS": ("turn_detection_silence_ms", 500, [("0", 0)]),
    "XAI_TURN_DETECTION_PREFIX_PADDING_MS": ("turn_detection_prefix_padding_ms", 333, [("0", 0)]),
    "XAI_TRANSCRIPTION_MODEL": ("transcription_model", "grok-transcribe", [("off", "off")]),
    "XAI_LANGUAGE": ("language", None, [("de", "de"), ("auto", None)]),
    "XAI_CA_FILE": ("ca_file", None, [("/etc/ca.pem", "/etc/ca.pem")]),
    "XAI_MAX_SESSION_SECONDS": ("max_session_seconds", 1740.0, [("30", 30.0)]),
    "HUMEAI_API_KEY": (
        "api_key",
        None,
        [(KEY, KEY), (f"  {KEY}\t", KEY), ("undefined-but-not-only", ...)],
    ),
    "HUMEAI_WS_URL": (
        "url",
        "wss://api.hume.ai/v0/evi/chat",
        [
            ("ws://127.0.0.1:6040", "ws://127.0.0.1:6040"),
            ("wss://evi.example/chat?region=eu", "wss://evi.example/chat?region=eu"),
            ("ws://[::1]:80/", "ws://[::1]:80/"),
        ],
    ),
    "HUMEAI_CONFIG_ID": ("config_id", None, [("1111-2222", "1111-2222")]),
    "HUMEAI_VOICE_ID": ("voice_id", None, [("voice", "voice")]),
    "HUMEAI_INSTRUCTIONS": (
        "instructions",
        None,
        [("Be brief, grüße.", "Be brief, grüße."), ("  two\nlines ", "two\nlines")],
    ),
    "HUMEAI_URL_INSTRUCTIONS": (
        "url_instructions",
        None,
        [(url, url) for url in ("http://crm", "https://me:pw@crm:8443/prompt?line=1", "HTTP://[::1]:80/")],
    ),
    "HUMEAI_FILE_INSTRUCTIONS": ("file_instructions", None, [("/etc/sts/prompt ü.txt", "/etc/sts/prompt ü.txt")]),
    "INSTRUCTIONS_SECONDS": ("instructions_seconds", 3.0, [("0.1", 0.1), ("30", 30.0)]),
    "HUMEAI_CA_FILE": ("ca_file", None, [("/etc/ca.pem", "/etc/ca.pem")]),
    "HUMEAI_MAX_SESSION_SECONDS": ("max_session_seconds", 1740.0, [("30", 30.0), ("600", 600.0)]),
    "RESUME_SECONDS": ("resume_seconds", 15.0, [("1", 1.0), ("120", 120.0)]),
    "BREAKER_FAILURES": ("breaker_failures", 5, [("0", 0), ("1000", 1000)]),
    "BREAKER_SECONDS": ("breaker_seconds", 10.0, [("1", 1.0), ("3600", 3600.0)]),
    "FALLBACK_WAV": ("fallback_wav", None, [("sorry.wav", "sorry.wav")]),
    "FALLBACK_EXTENSION": ("fallback_extension", None, [("2000", "2000")]),
    "HUMEAI_WELCOME_MESSAGE": (
        "welcome_message",
        "Hello, how can I help you today?",
        [("Moin!", "Moin!"), ("", ""), ("  ", "")],
    ),
    "HUMEAI_GREET_WITH_CONFIG": (
        "greet_with_config",
        False,
        [
            ("true", True),
            ("TRUE", True),
            ("1", True),
            ("yes", True),
            ("on", True),
            ("false", False),
            ("0", False),
        ],
    ),
    "CALL_VARIABLES": (
        "call_variables",
        (),
        [
            ("from", ("from",)),
            (" from, to ,vicidial[leadId],from,,", ("from", "to", "vicidial[leadId]")),
            ("From,from", ("From", "from")),
            (",", ()),
            (",".join(f"n{number}" for number in range(32)), tuple(f"n{number}" for number in range(32))),
            ("a," * 1000 + "x" * 64, ("a", "x" * 64)),
        ],
    ),
    "ALLOW_CALL_OVERRIDES": ("allow_call_overrides", False, [("true", True), ("0", False)]),
    "HOST": ("host", "0.0.0.0", [("127.0.0.1", "127.0.0.1"), ("::", "::")]),
    "PORT": ("port", 6039, [("0", 0), ("65535", 65535), (" 8080 ", 8080)]),
    "STS_TOKEN": (
        "sts_token",
        None,
        [(text, text) for text in ("0123456789abcdef", "aA0-._~+/aA0-._~+/==", "x" * 500)],
    ),
    "ALLOWED_ORIGINS": (
        "allowed_origins",
        (),
        [
            ("https://panel.example", ("https://panel.example",)),
            (
                " https://Panel.example:443/ ,http://[::1]:8080,, http://a:80",
                ("https://panel.example", "http://[::1]:8080", "http://a"),
            ),
            ("http://a,http://a/", ("http://a",)),
        ],
    ),
    "PLAYOUT_LEAD_MS": ("playout_lead_ms", 500, [("20", 20), ("10000", 10_000)]),
    "AMI_URL": (
        "ami_url",
        None,
        [
            ("http://dsai-ami:6006", "http://dsai-ami:6006"),
            ("http://dsai-ami:6006/", "http://dsai-ami:6006"),
            ("https://me:pw@ami/control//", "https://me:pw@ami/control"),
        ],
    ),
    "CALL_CONTROL_GRACE_MS": ("call_control_grace_ms", 3000, [("0", 0), ("30000", 30_000)]),
    "TOOLS_DIR": ("tools_dir", "tools", [("/srv/our tools", "/srv/our tools")]),
    "TOOL_SECONDS": ("tool_seconds", 8.0, [("0.1", 0.1), ("60", 60.0)]),
    "DECLARE_TOOLS": ("declare_tools", True, [("false", False)]),
    "DTMF_MODE": ("dtmf_mode", "input", [("context", "context"), ("OFF", "off")]),
    "DTMF_GAP_MS": ("dtmf_gap_ms", 1500, [("100", 100), ("10000", 10_000)]),
    "DTMF_INTERRUPTS": ("dtmf_interrupts", True, [("false", False), ("off", False)]),
    "EMOTIONS": ("emotions", True, [("false", False), ("off", False)]),
    "EMOTION_RULES": (
        "emotion_rules",
        (),
        [
            ("[]", ()),
            (
                RULES,
                (
                    EmotionRule("Anger", 0.6, 2, "dsai_transfer", '{"transfer_extension":"2000"}'),
                    EmotionRule("Surprise (negative)", 1.0, webhook=WEBHOOK),
                ),
            ),
            (
                '[{"emotion":"Joy","above":0,"turns":20,"tool":"note","webhook":null}]',
                (EmotionRule("Joy", 0.0, 20, "note"),),
            ),
            (
                json.dumps([{"emotion": "Joy", "above": 0.5, "tool": "t"}] * 16),
                (EmotionRule("Joy", 0.5, tool="t"),) * 16,
            ),
        ],
    ),
    "INIT_SECONDS": ("init_seconds", 10.0, [("1", 1.0), ("2.5", 2.5), ("120", 120.0)]),
    "READY_SECONDS": ("ready_seconds", 10.0, [("1", 1.0), ("120", 120.0)]),
    "PROVIDER_DEAD_SECONDS": ("provider_dead_seconds", 20.0, [("2", 2.0), ("600", 600.0)]),
    "PROVIDER_GARBAGE_SECONDS": ("provider_garbage_seconds", 5.0, [("1", 1.0), ("60", 60.0)]),
    "CORE_DEAD_SECONDS": ("core_dead_seconds", 30.0, [("2", 2.0), ("600", 600.0)]),
    "ANSWER_SECONDS": ("answer_seconds", 10.0, [("1", 1.0), ("120", 120.0)]),
    "SILENCE_SECONDS": ("silence_seconds", 0.0, [("0", 0.0), ("3600", 3600.0)]),
    "SILENCE_PROMPT": ("silence_prompt", "Are you still there?", [("Hallo?", "Hallo?"), ("", "")]),
    "MAX_CALL_SECONDS": ("max_call_seconds", 14_400.0, [("1", 1.0), ("86400", 86_400.0)]),
    "WORKERS": ("workers", 1, [("0", 0), ("128", 128)]),
    "MAX_CALLS": ("max_calls", 0, [("1", 1), ("100000", 100_000)]),
    "SHED_LAG_MS": ("shed_lag_ms", 100, [("0", 0), ("10000", 10_000)]),
    "DRAIN_SECONDS": ("drain_seconds", 600.0, [("0", 0.0), ("86400", 86_400.0)]),
    "LOG_LEVEL": ("log_level", "info", [("debug", "debug"), ("WARNING", "warning"), ("error", "error")]),
    "LOG_FORMAT": ("log_format", "auto", [("text", "text"), ("JSON", "json")]),
    "LOG_TRANSCRIPTS": ("log_transcripts", False, [("true", True)]),
}
DEFAULTS = Settings(provider=HumeSettings(api_key=Secret(KEY)))
CASES = [(name, text, field, value) for name, (field, _, good) in GOOD.items() for text, value in good]

AN_HTTP_URL = "a URL such as http://host/path"
A_SWITCH = (["maybe", "2", "tru e"], "true or false")
WRONG: dict[str, tuple[list[str], str]] = {
    "HUMEAI_WS_URL": (
        [
            *(
                "ftp://api.hume.ai",
                "api.hume.ai/chat",
                "x",
                "wss://",
                "wss:///chat",
                "wss://[::1/",
                "wss://hümé/",
            ),
            *(
                "wss://evi:99999/",
                "wss://evi:0/",
                "wss://evi:x",
                "wss://evi/a b",
                "wss://evi/a\nb",
                "wss://evi/ä",
            ),
        ],
        "a URL such as wss://host/path",
    ),
    "HUMEAI_INSTRUCTIONS": (["Gr\udcfc\udcdfe"], "text in UTF-8"),
    "HUMEAI_URL_INSTRUCTIONS": (["ws://crm", "crm/prompt", "http://", "http://crm:0", "http://crm/a b"], AN_HTTP_URL),
    "INSTRUCTIONS_SECONDS": (["0", "31", "nan", "3s"], "a number of seconds from 0.1 to 30"),
    "HUMEAI_GREET_WITH_CONFIG": A_SWITCH,
    "CALL_VARIABLES": (
        ["x" * 65, ",".join(f"n{number}" for number in range(33)), "fr\nom"],
        "at most 32 names of at most 64 characters, with commas between them",
    ),
    "ALLOW_CALL_OVERRIDES": A_SWITCH,
    "AMI_URL": (
        ["dsai-ami:6006", "tcp://dsai-ami", "true", "http://dsai-ami:60060606"],
        "a URL such as http://host:6006, without a query",
    ),
    "CALL_CONTROL_GRACE_MS": (["-1", "30001", "3.5"], "a whole number from 0 to 30000"),
    "TOOL_SECONDS": (["0", "61", "inf"], "a number of seconds from 0.1 to 60"),
    "DECLARE_TOOLS": A_SWITCH,
    "DTMF_MODE": (["on", "input,context"], "one of input, context, off"),
    "DTMF_GAP_MS": (["99", "10001"], "a whole number from 100 to 10000"),
    "PORT": (["65536", "-1", "80.0", "http", "0x50", "1e3", "²", "6 0"], "a whole number from 0 to 65535"),
    "ALLOWED_ORIGINS": (
        ["*", "panel.example", "https://", "https://a/b", "ws://a", "https://a b", "https://a;https://b"],
        "an origin such as https://host or http://host:8080",
    ),
    "PLAYOUT_LEAD_MS": (["19", "10001", "0", "half"], "a whole number from 20 to 10000"),
    "EMOTIONS": A_SWITCH,
    "INIT_SECONDS": (["0.9", "121", "nan", "inf", "-1", "10s"], "a number of seconds from 1 to 120"),
    "READY_SECONDS": (["0", "121", "nan", "inf"], "a number of seconds from 1 to 120"),
    "PROVIDER_DEAD_SECONDS": (["1", "601", "nan"], "a number of seconds from 2 to 600"),
    "PROVIDER_GARBAGE_SECONDS": (["0", "61", "nan"], "a number of seconds from 1 to 60"),
    "CORE_DEAD_SECONDS": (["1", "601", "nan"], "a number of seconds from 2 to 600"),
    "MAX_CALL_SECONDS": (["0", "86401", "inf"], "a number of seconds from 1 to 86400"),
    "WORKERS": (["-1", "129", "auto"], "a whole number from 0 to 128"),
    "MAX_CALLS": (["-1", "100001", "many"], "a whole number from 0 to 100000"),
    "SHED_LAG_MS": (["-1", "10001", "0.1"], "a whole number from 0 to 10000"),
    "DRAIN_SECONDS": (["-1", "86401", "nan"], "a number of seconds from 0 to 86400"),
    "HUMEAI_MAX_SESSION_SECONDS": (["29", "86401", "nan"], "a number of seconds from 30 to 86400"),
    "RESUME_SECONDS": (["0", "121"], "a number of seconds from 1 to 120"),
    "BREAKER_FAILURES": (["-1", "1001"], "a whole number from 0 to 1000"),
    "BREAKER_SECONDS": (["0", "3601"], "a number of seconds from 1 to 3600"),
    "ANSWER_SECONDS": (["0", "121"], "a number of seconds from 1 to 120"),
    "SILENCE_SECONDS": (["-1", "3601"], "a number of seconds from 0 to 3600"),
    "LOG_LEVEL": (["loud", "critical", "10"], "one of debug, info, warning, error"),
    "LOG_FORMAT": (["xml", "auto json"], "one of auto, text, json"),
    "LOG_TRANSCRIPTS": A_SWITCH,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with a key and nothing else of ours, in a directory without a `.env`."""
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        for name in variable.names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HUMEAI_API_KEY", KEY)
    return monkeypatch


def problems() -> list[str]:
    with pytest.raises(ConfigError) as info:
        load_settings()
    return info.value.problems


def load_settings() -> Settings:
    return reader.load_settings(SETTINGS)


def value_of(settings: Settings, name: str, field: str) -> object:
    """The value of the variable of this name, which is in a field of this name."""
    (found,) = [
        getattr(part, field)
        for part in (settings.provider, *settings.others, settings.calls, settings.service)
        for own, variable in variables(type(part)).items()
        if (own, variable.name) == (field, name)
    ]
    return found


def key_of(settings: Settings) -> str:
    assert settings.provider.api_key is not None
    return settings.provider.api_key.reveal()


# Values.


def test_the_table_of_this_test_holds_every_setting_under_its_own_name() -> None:
    names = [variable.name for variable in VARIABLES]
    assert set(names) == {"STS_PROVIDER", *GOOD}
    assert len(set(names)) == len(names)
    aliases = [alias for variable in VARIABLES for alias in variable.aliases]
    assert len({*names, *aliases}) == len(names) + len(aliases)


def test_the_variables_of_a_provider_begin_with_its_name() -> None:
    for table in SETTINGS:
        assert all(variable.name.startswith(f"{table.name.upper()}_") for variable in variables(table).values())


def test_without_variables_every_setting_has_its_default() -> None:
    settings = load_settings()
    for name, (field, default, _) in GOOD.items():
        if name != "HUMEAI_API_KEY":
            assert value_of(settings, name, field) == default
            assert type(value_of(settings, name, field)) is type(default)


@pytest.mark.parametrize(("name", "text", "field", "value"), CASES)
def test_a_good_value_is_taken(
    environment: pytest.MonkeyPatch, name: str, text: str, field: str, value: object
) -> None:
    environment.setenv(name, text)
    got = value_of(load_settings(), name, field)
    if isinstance(got, Secret):
        assert got.reveal() == (text if value is ... else value)
    else:
        assert got == value


@pytest.mark.parametrize(
    ("name", "text", "wants"),
    [(name, text, wants) for name, (texts, wants) in WRONG.items() for text in texts],
)
def test_a_wrong_value_is_one_line_with_the_variable_what_it_got_and_what_it_wants(
    environment: pytest.MonkeyPatch, name: str, text: str, wants: str
) -> None:
    environment.setenv(name, text)
    assert problems() == [f"{name} is {text[:60]!r}; it must be {wants}"]


def test_a_long_wrong_value_is_cut(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PORT", "9" * 100_000)
    assert problems() == [f"PORT is '{'9' * 60}'; it must be a whole number from 0 to 65535"]


def test_several_problems_are_several_lines(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HUMEAI_API_KEY")
    environment.setenv("PORT", "high")
    environment.setenv("LOG_LEVEL", "loud")
    lines = problems()
    assert [line.split()[0] for line in lines] == ["no", "PORT", "LOG_LEVEL"]
    assert not any("\n" in line for line in lines)


# The provider.

A_VOICE = 'the name of a voice, its id, or {"id": "voice_..."}'
TERMS = "at most 100 words or phrases of at most 50 characters, without < and >, with commas between them"
REALTIME_WRONG = {
    "OPENAI_BASE_URL": (["api.openai.com", "ftp://x/v1"], "a URL such as https://host/v1"),
    "OPENAI_KEY_HEADER": (
        ["api key", "Host", "Sec-WebSocket-Key", "x:y", "schlüssel"],
        "auto, bearer, or the name of a header such as api-key",
    ),
    "OPENAI_TURN_DETECTION": (["none"], "one of server_vad, semantic_vad"),
    "OPENAI_TURN_DETECTION_THRESHOLD": (["1.1", "nan", "loud"], "a number from 0 to 1"),
    "OPENAI_LANGUAGE": (["english please", "e"], "a language such as en or pt-BR, or auto"),
    "OPENAI_AUDIO_FORMAT": (["opus"], "one of pcmu, pcma, pcm"),
    "OPENAI_MAX_TOKENS": (["0", "4097", "many"], "a whole number from 1 to 4096, or inf"),
    "OPENAI_VOICE": (['{"name": "x"}', "{", '{"id": 7}', '{"id": ""}'], A_VOICE),
    "OPENAI_SPEED": (["0.2", "2", "fast"], "a number from 0.25 to 1.5"),
    "OPENAI_TRANSCRIPTION_KEYWORDS": (["<b>", "a\nb", "x" * 51, ",".join(map(str, range(101)))], TERMS),
    "OPENAI_RETENTION_RATIO": (["80", "-0.1", "nan"], "a number from 0 to 1"),
    "OPENAI_CREATE_RESPONSE": A_SWITCH,
    "OPENAI_PARALLEL_TOOL_CALLS": A_SWITCH,
    "XAI_SPEED": (["0.6", "1.6"], "a number from 0.7 to 1.5"),
    "XAI_REASONING_EFFORT": (["low", "off"], "one of high, none"),
    "XAI_KEYTERMS": (["a>b", "x" * 51], TERMS),
    "XAI_BUILTIN_TOOLS": (
        ["web_search,fly", "websearch"],
        "some of web_search, x_search, file_search, with commas between them",
    ),
}


@pytest.mark.parametrize(
    ("name", "text", "wants"),
    [(name, text, wants) for name, (texts, wants) in REALTIME_WRONG.items() for text in texts],
)
def test_a_wrong_value_counts_only_where_its_provider_is_chosen(
    environment: pytest.MonkeyPatch, name: str, text: str, wants: str
) -> None:
    environment.setenv(name, text)
    assert load_settings().provider.name == "humeai"
    provider = name.partition("_")[0]
    environment.setenv("STS_PROVIDER", provider)
    environment.setenv(f"{provider}_API_KEY", KEY)
    assert problems() == [f"{name} is {text[:60]!r}; it must be {wants}"]


WRONG_HEADERS = {
    "X-Tenant: clinic": "a JSON object of names and texts",
    "[1]": "a JSON object of names and texts",
    '"x"': "a JSON object of names and texts",
    '{"X-Tenant": 7}': "a JSON object of names and texts",
    '{"X-Tenant": {"a": "b"}}': "a JSON object of names and texts",
    "[" * 100_000: "a JSON object of names and texts",
    '{"X-Tenant": "a\\r\\nX-Other: b"}': "headers whose values are printable ASCII on one line",
    '{"X-Tenant": "a\\nb"}': "headers whose values are printable ASCII on one line",
    '{"X-Tenant": ""}': "headers whose values are printable ASCII on one line",
    '{"X-Tenant": " a"}': "headers whose values are printable ASCII on one line",
    '{"X-Tenant": "ü"}': "headers whose values are printable ASCII on one line",
    '{"X Tenant": "a"}': "headers whose names are words without blanks",
    '{"X-T\\r\\nX-O": "a"}': "headers whose names are words without blanks",
    '{"": "a"}': "headers whose names are words without blanks",
    '{"X-T": "a", "x-t": "b"}': "headers whose names are words without blanks, each there once",
    '{"Host": "a"}': "headers beside the connection's own; host is not for you to set",
    '{"upgrade": "a"}': "headers beside the connection's own; upgrade is",
    '{"Sec-WebSocket-Protocol": "a"}': "headers beside the connection's own; sec-websocket-protocol is",
    '{"Content-Length": "1"}': "headers beside the connection's own; content-length is",
    '{"OpenAI-Beta": "realtime=v1"}': "headers beside the connection's own; openai-beta is",
    json.dumps({f"X-{number}": "a" for number in range(17)}): "at most 16 headers",
    json.dumps({"X-Tenant": "a" * 6001}): "at most 16 headers, of at most 6000 characters together",
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("text", WRONG_HEADERS, ids=lambda text: text[:40])
def test_headers_that_would_break_the_handshake_are_refused_and_not_repeated(
    environment: pytest.MonkeyPatch, text: str, provider: str
) -> None:
    environment.setenv("STS_PROVIDER", provider)
    environment.setenv(f"{provider.upper()}_API_KEY", KEY)
    environment.setenv(f"{provider.upper()}_HEADERS", text)
    [line] = problems()
    assert line.startswith(f"{provider.upper()}_HEADERS has a value that is not shown here; it must be ")
    assert WRONG_HEADERS[text] in line
    assert "clinic'" not in line


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"TOKEN_FILE": "/t", "API_KEY": ""}, None),
        ({"TOKEN_FILE": "", "API_KEY": ""}, "OPENAI_API_KEY is not set; it is required"),
        ({"TOKEN_FILE": "/t", "KEY_HEADER": "api-key"}, None),
        (
            {"TOKEN_FILE": "/t", "KEY_HEADER": "bearer"},
            "OPENAI_KEY_HEADER is bearer, as which the token of OPENAI_TOKEN",
        ),
        (
            {"TOKEN_FILE": "/t", "HEADERS": '{"authorization": "x"}'},
            "OPENAI_HEADERS has Authorization, in which the tok",
        ),
        ({"HEADERS": '{"authorization": "x"}'}, "OPENAI_HEADERS has Authorization, in which OPENAI_API_KEY is sent"),
        ({"HEADERS": '{"authorization": "x"}', "KEY_HEADER": "api-key"}, None),
        (
            {"HEADERS": '{"API-Key": "x"}', "KEY_HEADER": "api-key"},
            "OPENAI_HEADERS has api-key, in which OPENAI_API_KEY",
        ),
        ({"HEADERS": '{"API-Key": "x"}'}, None),
        (
            {"HEADERS": '{"openai-safety-identifier": "x"}', "SAFETY_SECRET": "a-secret-of-ours-1"},
            "OPENAI_HEADERS has OpenAI-Safety-Identifier, which OPENAI_SAFETY_SECRET makes",
        ),
        (
            {"HEADERS": '{"API-Key": "x"}', "BASE_URL": "https://x.openai.azure.com/openai/v1"},
            "OPENAI_HEADERS has api-key, in which OPENAI_API_KEY is sent",
        ),
    ],
)
def test_nothing_is_sent_twice_in_one_header_and_something_lets_us_in(
    environment: pytest.MonkeyPatch, chosen: dict[str, str], line: str | None
) -> None:
    environment.setenv("STS_PROVIDER", "openai")
    for name, value in ({"API_KEY": KEY} | chosen).items():
        environment.setenv(f"OPENAI_{name}", value)
    if line is None:
        load_settings()
    else:
        [problem] = problems()
        assert problem.startswith(line)


def test_headers_are_secrets_in_a_log(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HUMEAI_HEADERS", f'{{"X-Tenant": "clinic", "X-Key": "Key {KEY}x"}}')
    settings = load_settings()
    assert {"clinic", f"Key {KEY}x", f"{KEY}x"} <= set(settings.secrets())
    assert settings.shown()["HUMEAI_HEADERS"] == "X-Tenant: ***, X-Key: ***"
    for words in (str(settings.shown()), repr(settings)):
        assert "clinic" not in words
        assert KEY not in words


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_the_chosen_providers_key_is_required(environment: pytest.MonkeyPatch, provider: str) -> None:
    environment.delenv("HUMEAI_API_KEY")
    environment.setenv("STS_PROVIDER", provider)
    [line] = problems()
    assert line.startswith(f"{provider.upper()}_API_KEY is not set; it is required")
    environment.setenv(f"{provider.upper()}_API_KEY", KEY)
    environment.setenv(f"{provider.upper()}_INSTRUCTIONS", "Be brief.")
    chosen = load_settings().provider
    assert (chosen.name, chosen.prefix, chosen.instructions) == (provider, provider.upper(), "Be brief.")
    assert chosen.api_key == Secret(KEY)
    assert KEY in load_settings().secrets()


def test_the_key_of_a_provider_that_is_not_chosen_is_a_secret_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPENAI_API_KEY", "sk-of-another")
    settings = load_settings()
    assert "sk-of-another" in settings.secrets()
    assert "sk-of-another" not in f"{settings} {settings.shown()}"


@pytest.mark.parametrize("text", ["humeai", "HumeAI", " HUMEAI "])
def test_a_provider_is_named_in_any_case(environment: pytest.MonkeyPatch, text: str) -> None:
    environment.setenv("STS_PROVIDER", text)
    assert load_settings().provider.name == "humeai"


def test_a_provider_that_is_not_in_the_table_is_refused_with_the_list_of_those_that_are() -> None:
    with pytest.raises(ConfigError, match=f"no provider 'eliza'; STS_PROVIDER must be one of {', '.join(PROVIDERS)}"):
        find_provider("eliza")


def test_an_unknown_provider_is_one_line(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HUMEAI_API_KEY")
    environment.setenv("STS_PROVIDER", "eliza")
    assert problems() == [f"STS_PROVIDER is 'eliza'; it must be one of {', '.join(PROVIDERS)}"]


# Unset, aliases, `.env`.


@pytest.mark.parametrize("unset", ["", "  ", "undefined", "null", "UNDEFINED", " null "])
def test_an_unset_word_means_the_default(environment: pytest.MonkeyPatch, unset: str) -> None:
    for name in set(GOOD) - {"HUMEAI_API_KEY", "SILENCE_PROMPT", *(name for name in GOOD if "WELCOME" in name)}:
        environment.setenv(name, unset)
    assert load_settings() == DEFAULTS


@pytest.mark.parametrize("unset", [None, "", "undefined", "null"])
def test_a_missing_key_is_one_line(environment: pytest.MonkeyPatch, unset: str | None) -> None:
    environment.delenv("HUMEAI_API_KEY")
    if unset is not None:
        environment.setenv("HUMEAI_API_KEY", unset)
    [line] = problems()
    assert line.startswith("no key of a provider is set; set one of HUMEAI_API_KEY, OPENAI_API_KEY, XAI_API_KEY.")
    assert "sts-trio demo" in line


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (("XAI_API_KEY",), "xai"),
        (("OPENAI_API_KEY",), "openai"),
        (("HUMEAI_API_KEY", "XAI_API_KEY"), "humeai"),
        (("HUME_API_KEY", "OPENAI_API_KEY"), "humeai"),
    ],
)
def test_the_provider_is_the_one_whose_key_is_set(
    environment: pytest.MonkeyPatch, keys: tuple[str, ...], chosen: str
) -> None:
    environment.delenv("HUMEAI_API_KEY")
    for key in keys:
        environment.setenv(key, KEY)
    assert load_settings().provider.name == chosen


def test_of_two_keys_that_may_be_meant_none_is_taken(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HUMEAI_API_KEY")
    environment.setenv("OPENAI_API_KEY", KEY)
    environment.setenv("XAI_API_KEY", KEY)
    assert problems() == ["more than one key is set; set STS_PROVIDER to openai or xai"]


@pytest.mark.parametrize("unset", [None, "", "undefined", "null"])
@pytest.mark.parametrize(
    ("alias", "name", "field", "value"),
    [
        ("HUME_API_KEY", "HUMEAI_API_KEY", "api_key", "sk-other"),
        ("HUME_CONFIG_ID", "HUMEAI_CONFIG_ID", "config_id", "c-1"),
        ("HUMEAI_ENDPOINT", "HUMEAI_WS_URL", "url", "ws://evi:1/"),
    ],
)
def test_an_alias_counts_when_the_name_itself_is_unset(
    environment: pytest.MonkeyPatch, alias: str, name: str, field: str, value: str, unset: str | None
) -> None:
    environment.setenv(alias, value)
    environment.delenv(name, raising=False)
    if unset is not None:
        environment.setenv(name, unset)
    got = getattr(load_settings().provider, field)
    assert (got.reveal() if isinstance(got, Secret) else got) == value


def test_the_name_beats_its_alias(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HUME_API_KEY", "sk-other")
    assert key_of(load_settings()) == KEY


def test_a_wrong_value_of_an_alias_is_told_by_the_name_that_was_used(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HUMEAI_ENDPOINT", "ftp://evi")
    [line] = problems()
    assert line.startswith("HUMEAI_ENDPOINT is 'ftp://evi'")


def test_no_name_that_the_panel_refuses_is_without_an_alias_that_it_takes() -> None:
    refused = re.compile(r".*_URL|PROVIDER_.*")  # docs/protocols/core.md 7.5; the panel itself sets PORT and AMI_URL
    for variable in VARIABLES:
        # The first two are limits that a panel's operator can do without.
        ours = variable.name in {"PROVIDER_DEAD_SECONDS", "PROVIDER_GARBAGE_SECONDS", "AMI_URL"}
        assert ours or any(not refused.fullmatch(name) for name in variable.names)


@pytest.mark.parametrize("empty", ["", "   "])
def test_an_empty_welcome_message_turns_the_greeting_off(environment: pytest.MonkeyPatch, empty: str) -> None:
    environment.setenv("HUMEAI_WELCOME_MESSAGE", empty)
    assert load_settings().provider.welcome_message == ""


@pytest.mark.parametrize("unset", ["undefined", "null"])
def test_a_welcome_message_that_nobody_filled_in_is_the_default(environment: pytest.MonkeyPatch, unset: str) -> None:
    environment.setenv("HUMEAI_WELCOME_MESSAGE", unset)
    assert load_settings().provider.welcome_message == "Hello, how can I help you today?"


def test_the_file_env_is_read_and_the_environment_beats_it(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HUMEAI_API_KEY")
    environment.setenv("PORT", "7001")
    Path(".env").write_text(
        f'# a comment\nHUMEAI_API_KEY="{KEY}"\nPORT=7000\nLOG_LEVEL=\nHUMEAI_WELCOME_MESSAGE=\n'
        "HUMEAI_INSTRUCTIONS=Grüße = gut\n",
        encoding="utf-8",
    )
    settings = load_settings()
    assert key_of(settings) == KEY
    assert settings.service.port == 7001
    assert settings.service.log_level == "info"
    assert settings.provider.welcome_message == ""
    assert settings.provider.instructions == "Grüße = gut"


def test_a_file_env_above_the_working_directory_is_not_read(environment: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=7000\n")
    below = Path("below")
    below.mkdir()
    environment.chdir(below)
    assert load_settings().service.port == 6039


def test_a_file_env_that_is_no_text_is_one_line() -> None:
    Path(".env").write_bytes(b"HUMEAI_INSTRUCTIONS=Gr\xfc\xdfe\n")
    [line] = problems()
    assert ".env cannot be read" in line
    assert "\n" not in line


def test_a_file_env_with_a_byte_order_mark_is_read_from_its_first_line() -> None:
    Path(".env").write_bytes(b"\xef\xbb\xbfPORT=7000\n")
    assert load_settings().service.port == 7000


def test_a_directory_of_that_name_is_ignored() -> None:
    Path(".env").mkdir()
    assert load_settings().service.port == 6039


# Secrets.


@pytest.mark.parametrize("key", ["two words", "grüße", "tab\there", "line\nbreak", "nul\x01"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(
    environment: pytest.MonkeyPatch, key: str
) -> None:
    environment.setenv("HUMEAI_API_KEY", key)
    [line] = problems()
    assert line.startswith("HUMEAI_API_KEY has a value that is not shown here; it must be a key")
    assert key not in line
    assert repr(key) not in line


@pytest.mark.parametrize(
    "url",
    [
        f"wss://me:{KEY}@evi/",
        f"wss://{KEY}@evi/",
        f"wss://evi/?api_key={KEY}",
        f"wss://evi/?a=b&access_token={KEY}",
    ],
)
def test_a_url_with_a_key_in_it_is_refused_without_showing_it(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("HUMEAI_WS_URL", url)
    [line] = problems()
    assert line.startswith("HUMEAI_WS_URL has a value that is not shown here")
    assert "HUMEAI_API_KEY" in line
    assert KEY not in line


@pytest.mark.parametrize("name", ["HUMEAI_WS_URL", "HUMEAI_URL_INSTRUCTIONS", "AMI_URL"])
@pytest.mark.parametrize("url", [f"ftp://me:{KEY}@host/", f"me:{KEY}@host", f"host/?key={KEY}", f"http://:1/#{KEY}"])
def test_a_wrong_url_that_may_hold_a_password_or_a_token_is_not_shown(
    environment: pytest.MonkeyPatch, name: str, url: str
) -> None:
    environment.setenv(name, url)
    [line] = problems()
    assert line.startswith(f"{name} has a value that is not shown here; it must be a URL such as ")
    assert KEY not in line


@pytest.mark.parametrize("url", ["http://ami/?key=1", "http://ami/?", "http://ami/#top"])
def test_the_address_of_the_ami_service_has_no_query(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("AMI_URL", url)
    assert problems() == [
        "AMI_URL has a value that is not shown here; it must be a URL such as http://host:6006, without a query"
    ]


def test_the_key_is_starred_in_every_form_that_could_reach_a_log() -> None:
    settings = load_settings()
    key = settings.provider.api_key
    assert key is not None
    forms = [str(key), repr(key), f"{key}", f"{key!r}", str([key]), str(settings), repr(settings)]
    forms += [str(settings.shown()), str(dataclasses.asdict(settings)), str(copy.deepcopy(key))]
    ways: list[Callable[[Any], str]] = [
        json.dumps,
        "".join,
        lambda it: "key: " + it[0],
        lambda it: f"{it[0]:>30}",
    ]
    for way in ways:
        with contextlib.suppress(TypeError):  # refusing is as good as starring
            forms.append(way([key]))
    assert not [form for form in forms if KEY in form]
    assert key.reveal() == KEY


@pytest.mark.parametrize(
    "token", ["short", "x" * 15, "spaces in the middle of it", "ümläut-ümläut-ümläut", "a" * 16 + "&b=c"]
)
def test_a_token_that_no_url_or_header_can_carry_is_refused_without_showing_it(
    environment: pytest.MonkeyPatch, token: str
) -> None:
    environment.setenv("STS_TOKEN", token)
    [problem] = problems()
    assert problem.startswith("STS_TOKEN has a value that is not shown here; it must be at least 16 letters")
    assert token not in problem


@pytest.mark.parametrize("style", ["json", "text"])
def test_the_key_is_starred_by_the_logs_themselves(style: str, restored_logging: None) -> None:
    stream = io.StringIO()
    set_up_logging("info", style, stream)
    settings = load_settings()
    structlog.get_logger().info("starting", key=settings.provider.api_key, all=settings, **settings.shown())
    assert "***" in stream.getvalue()
    assert KEY not in stream.getvalue()


def test_what_is_shown_names_every_variable_and_cuts_long_texts_and_queries(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HUMEAI_INSTRUCTIONS", "i" * 500)
    environment.setenv("HUMEAI_WS_URL", "wss://evi/chat?token=hidden")
    environment.setenv("HUMEAI_CONFIG_ID", "c-1")
    shown = load_settings().shown()
    assert set(shown) == {"STS_PROVIDER", *GOOD}
    assert shown["STS_PROVIDER"] == "humeai"
    assert shown["HUMEAI_API_KEY"] == "***"
    assert shown["AMI_URL"] == "None"
    assert shown["EMOTION_RULES"] == "0"
    assert shown["HUMEAI_INSTRUCTIONS"] == "i" * 60 + "…"
    assert shown["HUMEAI_WS_URL"] == "wss://evi/chat"
    assert shown["HUMEAI_CONFIG_ID"] == "c-1"


def test_urls_are_shown_without_their_secrets_and_rules_as_their_number(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HUMEAI_WS_URL", f"wss://evi/chat?token={KEY}")
    environment.setenv("HUMEAI_URL_INSTRUCTIONS", f"https://me:{KEY}@crm:8443/prompt?token={KEY}#{KEY}")
    environment.setenv("AMI_URL", f"http://{KEY}@ami/control")
    environment.setenv("EMOTION_RULES", RULES)
    environment.setenv("CALL_VARIABLES", "from,to")
    environment.setenv("STS_TOKEN", KEY)
    settings = load_settings()
    assert set(settings.secrets()) == {KEY, "me", "crm", f"token={KEY}"}
    shown = settings.shown()
    assert shown["HUMEAI_URL_INSTRUCTIONS"] == "https://crm:8443/prompt"
    assert shown["AMI_URL"] == "http://ami/control"
    assert shown["EMOTION_RULES"] == "2"
    assert shown["CALL_VARIABLES"] == "from, to"
    for words in (str(shown), repr(settings), str(settings)):
        assert KEY not in words
        assert "2000" not in words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host:1/a", "http://host:1/a"),
        ("https://a@b:c@host/p?q=http://x@y#z", "https://host/p"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://[::1/", "a broken URL"),
    ],
)
def test_a_url_is_shown_without_user_password_query_and_fragment(url: str, words: str) -> None:
    assert shown_url(url) == words


# Rules about emotions.


def a_rule(**fields: object) -> dict[str, object]:
    return {"emotion": "Anger", "above": 0.6, "tool": "t"} | fields


@pytest.mark.parametrize(
    ("rules", "wants"),
    [
        ("x", " (JSON is malformed: invalid character (byte 0))"),
        ("true", " (Expected `array`, got `bool`)"),
        (a_rule(), " (Expected `array`, got `object`)"),
        ("[" * 100_000, ""),
        ("[\udcff]", ""),
        ([1], "; rule 1: it must be an object"),
        ([a_rule(), {"above": 0.5, "tool": "t"}], "; rule 2: it has no emotion"),
        ([{"emotion": "Anger", "tool": "t"}], "; rule 1: it has no above"),
        ([a_rule(treshold=1)], "; rule 1: a rule has no field 'treshold'"),
        ([a_rule(**{"a\n` - at `$.b": 1})], "; rule 1: a rule has no field 'a\\n` - at `$.b'"),
        ([a_rule(**{"x" * 1000: 1})], f"; rule 1: a rule has no field '{'x' * 64}'"),
        ([a_rule(emotion="")], "; rule 1: emotion must be a name of 1 to 64 characters"),
        ([a_rule(emotion="  ")], "; rule 1: emotion must be a name of 1 to 64 characters"),
        ([a_rule(emotion="An\nger")], "; rule 1: emotion must be a name of 1 to 64 characters"),
        ([a_rule(emotion="x" * 65)], "; rule 1: emotion must be a name of 1 to 64 characters"),
        ([a_rule(emotion=7)], "; rule 1: emotion must be a name of 1 to 64 characters"),
        ([a_rule(above=1.01)], "; rule 1: above must be a number from 0 to 1"),
        ([a_rule(above=-0.1)], "; rule 1: above must be a number from 0 to 1"),
        ([a_rule(above="0.5")], "; rule 1: above must be a number from 0 to 1"),
        ([a_rule(turns=0)], "; rule 1: turns must be a whole number from 1 to 20"),
        ([a_rule(turns=21)], "; rule 1: turns must be a whole number from 1 to 20"),
        ([a_rule(turns=1.5)], "; rule 1: turns must be a whole number from 1 to 20"),
        ([a_rule(turns=True)], "; rule 1: turns must be a whole number from 1 to 20"),
        ([a_rule(tool="a b")], "; rule 1: tool must be the name of a tool"),
        ([a_rule(tool="t\n")], "; rule 1: tool must be the name of a tool"),
        ([a_rule(tool=None)], "; rule 1: it must have either a tool or a webhook"),
        ([a_rule(webhook="http://crm/")], "; rule 1: it must have either a tool or a webhook"),
        ([a_rule(tool=None, webhook=f"crm/{KEY}")], f"; rule 1: webhook must be {AN_HTTP_URL}"),
        ([a_rule(tool=None, webhook=7)], f"; rule 1: webhook must be {AN_HTTP_URL}"),
        ([a_rule(arguments=[KEY])], "; rule 1: arguments must be an object"),
        (
            [a_rule(tool=None, webhook="http://crm/", arguments={"a": KEY})],
            "; rule 1: arguments go with a tool, not with a webhook",
        ),
    ],
)
def test_a_wrong_rule_is_one_line_that_says_which_and_what_but_shows_no_value(
    environment: pytest.MonkeyPatch, rules: object, wants: str
) -> None:
    environment.setenv("EMOTION_RULES", rules if isinstance(rules, str) else json.dumps(rules))
    assert problems() == [
        f"EMOTION_RULES has a value that is not shown here; it must be a JSON list of rules{wants}",
    ]


def test_there_are_at_most_so_many_rules(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("EMOTION_RULES", json.dumps([a_rule()] * 17))
    [line] = problems()
    assert line.endswith("it must be a JSON list of at most 16 rules")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
A_RULE = st.fixed_dictionaries(
    {"emotion": st.text() | ANYTHING, "above": st.floats(0, 1) | ANYTHING},
    optional={
        "turns": st.integers(0, 21) | ANYTHING,
        "tool": st.from_regex(r"[a-z_-]{1,70}", fullmatch=True) | ANYTHING,
        "arguments": st.dictionaries(st.text(), ANYTHING, max_size=2) | ANYTHING,
        "webhook": st.just(WEBHOOK) | ANYTHING,
        "more": ANYTHING,
    },
)


@given(A_RULE | ANYTHING)
def test_whatever_a_rule_holds_it_is_taken_or_refused_in_one_line(rule: object) -> None:
    refusal = ""
    try:
        [taken] = emotion_rules(json.dumps([rule]))
        assert (taken.tool is None) != (taken.webhook is None)
        assert isinstance(json.loads(taken.arguments), dict)
    except HiddenValueError as exc:
        refusal = str(exc)
    assert not refusal or re.fullmatch(r"a JSON list of rules; rule 1: .+", refusal)


# What the reader of the docs and of `.env.example` is told.


def test_the_help_and_the_example_tell_the_prompt_that_is_left_when_there_is_no_other() -> None:
    assert f"`{DEFAULT_INSTRUCTIONS}`" in variables(HumeSettings)["instructions"].help
    assert DEFAULT_INSTRUCTIONS in (ROOT / ".env.example").read_text(encoding="utf-8")


def test_every_setting_is_described_in_every_form() -> None:
    for variable in VARIABLES:
        assert f"| `{variable.name}` |" in document.markdown(SETTINGS)
        assert re.search(rf"^#?{variable.name}=", document.env(SETTINGS), re.MULTILINE)
        for name in variable.names:
            assert (f"- {name}\n" in document.compose(SETTINGS)) == variable.forwarded


def test_the_example_of_a_file_env_with_all_its_lines_in_force_has_the_defaults(
    environment: pytest.MonkeyPatch,
) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    Path(".env").write_text(re.sub(r"^#([A-Z][A-Z0-9_]*=)", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    assert load_settings() == DEFAULTS
