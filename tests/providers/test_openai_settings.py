"""What operators may choose of OpenAI and xAI: what of it a session is asked for, and what they are told of it."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from sts_trio.errors import ConfigError
from sts_trio.providers import SETTINGS
from sts_trio.providers.base import SessionConfig, ToolOffer
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.opening import safety_identifier
from sts_trio.providers.openai.session import session
from sts_trio.providers.openai.settings import OpenAiSettings, RealtimeSettings
from sts_trio.settings import Settings, load_settings
from tests.fakes.realtime_oracle import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TODAY = date(2026, 11, 28)
Chosen = dict[str, str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for provider in ("OPENAI", "XAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", "key-that-nobody-may-see")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Chosen], Settings]:
    """Load the settings of a provider with these variables set."""

    def loaded(provider: str, chosen: Chosen) -> Settings:
        monkeypatch.setenv("STS_PROVIDER", provider)
        for name, text in chosen.items():
            monkeypatch.setenv(name, text)
        return load_settings(SETTINGS)

    return loaded


Load = Any


def asked(settings: Settings, config: SessionConfig | None = None) -> dict[str, Any]:
    """What a session is asked for."""
    assert isinstance(settings.provider, RealtimeSettings)
    options = settings.provider.options()
    return session(options, open_codec(options.format, options.rate), config or SessionConfig())


def fields(value: Any, path: str = "") -> dict[str, Any]:
    """A session as one value for each place in it."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {place: each for name, part in value.items() for place, each in fields(part, f"{path}.{name}").items()}


WORDS, VAD = ".audio.input.transcription", ".audio.input.turn_detection"
OPENAI: list[tuple[Chosen, dict[str, Any]]] = [
    ({}, {}),
    ({"OPENAI_VOICE": "voice_68af"}, {".audio.output.voice": ..., ".audio.output.voice.id": "voice_68af"}),
    ({"OPENAI_VOICE": '{"id": "voice_1"}'}, {".audio.output.voice": ..., ".audio.output.voice.id": "voice_1"}),
    ({"OPENAI_SPEED": "1.2"}, {".audio.output.speed": 1.2}),
    ({"OPENAI_CREATE_RESPONSE": "false"}, {f"{VAD}.create_response": False}),
    ({"OPENAI_INTERRUPT_RESPONSE": "false"}, {f"{VAD}.interrupt_response": False}),
    ({"OPENAI_LANGUAGE": "pt-BR"}, {f"{WORDS}.languages": ["pt"]}),
    ({"OPENAI_LANGUAGE": "de,en"}, {f"{WORDS}.languages": ["de", "en"]}),
    ({"OPENAI_LANGUAGE": "pt-BR,pt-PT"}, {f"{WORDS}.languages": ["pt"]}),
    (
        {"OPENAI_TRANSCRIPTION_MODEL": "whisper-1", "OPENAI_LANGUAGE": "pt-BR"},
        {f"{WORDS}.model": "whisper-1", f"{WORDS}.language": "pt"},
    ),
    ({"OPENAI_TRANSCRIPTION_KEYWORDS": "Silva, Müller"}, {f"{WORDS}.keywords": ["Silva", "Müller"]}),
    ({"OPENAI_TRANSCRIPTION_PROMPT": "A clinic."}, {f"{WORDS}.prompt": "A clinic."}),
    (
        {"OPENAI_TRANSCRIPTION_MODEL": "off", "OPENAI_LANGUAGE": "de", "OPENAI_TRANSCRIPTION_KEYWORDS": "Silva"},
        {f"{WORDS}.model": ..., WORDS: None},
    ),
    ({"OPENAI_PARALLEL_TOOL_CALLS": "false"}, {".parallel_tool_calls": False}),
    ({"OPENAI_REASONING_EFFORT": "minimal"}, {".reasoning.effort": "minimal"}),
    (
        {"OPENAI_RETENTION_RATIO": "0.8"},
        {".truncation": ..., ".truncation.type": "retention_ratio", ".truncation.retention_ratio": 0.8},
    ),
    (
        {"OPENAI_RETENTION_RATIO": "0.8", "OPENAI_CONTEXT_TOKENS": "8000"},
        {
            ".truncation": ...,
            ".truncation.type": "retention_ratio",
            ".truncation.retention_ratio": 0.8,
            ".truncation.token_limits.post_instructions": 8000,
        },
    ),
    # What the service is not told.
    ({"OPENAI_GREETING_INTERRUPTIBLE": "false", "OPENAI_MIN_INTERRUPTION_MS": "500"}, {}),
    ({"OPENAI_SAFETY_SECRET": "a-secret-of-ours-1", "OPENAI_TEMPERATURE": "0.8"}, {}),
]
FLAT_WORDS = ".audio.input.transcription"
XAI: list[tuple[Chosen, dict[str, Any]]] = [
    ({}, {}),
    ({"XAI_VOICE": "voice_of_another"}, {".voice": "voice_of_another"}),
    ({"XAI_SPEED": "0.9"}, {".audio.output.speed": 0.9}),
    ({"XAI_REASONING_EFFORT": "none"}, {".reasoning.effort": "none"}),
    ({"XAI_LANGUAGE": "pt-BR"}, {f"{FLAT_WORDS}.language_hint": "pt-BR"}),
    ({"XAI_KEYTERMS": "Silva, Müller"}, {f"{FLAT_WORDS}.keyterms": ["Silva", "Müller"]}),
    ({"XAI_TRANSCRIPTION_MODEL": "off"}, {f"{FLAT_WORDS}.model": ..., FLAT_WORDS: None}),
    ({"XAI_BUILTIN_TOOLS": "web_search"}, {".tools": [{"type": "web_search"}]}),
    ({"XAI_BUILTIN_TOOLS": "x_search,file_search"}, {".tools": [{"type": "x_search"}]}),
    (
        {"XAI_BUILTIN_TOOLS": "file_search", "XAI_COLLECTION_IDS": "c1,c2"},
        {".tools": [{"type": "file_search", "vector_store_ids": ["c1", "c2"], "max_num_results": 10}]},
    ),
    ({"XAI_GREETING_INTERRUPTIBLE": "false", "XAI_MIN_INTERRUPTION_MS": "500"}, {}),
]


@pytest.mark.parametrize(
    ("provider", "chosen", "changes"),
    [(name, *row) for name, rows in (("openai", OPENAI), ("xai", XAI)) for row in rows],
    ids=str,
)
def test_a_session_is_asked_for_just_what_was_chosen(
    load: Load, provider: str, chosen: Chosen, changes: dict[str, Any]
) -> None:
    """What is `...` is gone; the rest is as it is without these variables."""
    before, after = fields(asked(load(provider, {}))), asked(load(provider, chosen))
    kept = {place: value for place, value in before.items() if place not in changes}
    assert fields(after) == kept | {place: value for place, value in changes.items() if value is not ...}
    if provider == "openai":
        checked(wire.SessionUpdate("settings", after))


def test_what_was_not_chosen_is_left_to_the_service(load: Load) -> None:
    """A field that a service does not know has it refuse all of them."""
    told = json.dumps([asked(load("openai", {})), asked(load("xai", {}))])
    for name in (
        "speed",
        "prompt",
        "keywords",
        "keyterms",
        "language",
        "parallel",
        "reasoning",
        "retention",
        "web_search",
    ):
        assert name not in told


def test_xais_own_tools_stand_beside_ours(load: Load) -> None:
    config = SessionConfig(tools=(ToolOffer("weather", "What it is like.", '{"type":"object"}'),))
    tools = asked(load("xai", {"XAI_BUILTIN_TOOLS": "web_search"}), config)["tools"]
    assert [tool.get("name", tool["type"]) for tool in tools] == ["web_search", "weather"]


def test_a_calls_own_voice_may_be_a_custom_one(load: Load) -> None:
    sent = asked(load("openai", {}), SessionConfig(voice="voice_of_the_call"))
    assert sent["audio"]["output"]["voice"] == {"id": "voice_of_the_call"}


# Models that have an end.

GONE = "which ended on 7 May 2026; gpt-realtime-2.1 replaces it"
NONE = "which is no realtime model of OpenAI's; gpt-realtime-2.1 is"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt-4o", NONE),
        ("gpt-live-1", NONE),
        ("gpt-4o-realtime-preview", GONE),
        ("gpt-4o-mini-realtime-preview-2024-12-17", GONE),
    ],
)
def test_a_model_that_is_none_is_told_before_the_first_call_but_a_service_of_ones_own_may_have_it(
    load: Load, model: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load("openai", {"OPENAI_MODEL": model})
    assert caught.value.problems == [f"OPENAI_MODEL is '{model}', {told}"]
    provider = load("openai", {"OPENAI_ENDPOINT": "https://x.openai.azure.com/openai/v1"}).provider
    assert isinstance(provider, OpenAiSettings)
    assert provider.model == model


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("wss://api.openai.com/v1/", True),
        ("https://API.openai.com/v1/realtime", True),
        ("wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1", False),
        ("https://api.openai.com.example/v1", False),
    ],
)
def test_a_url_that_names_the_model_stands_above_the_setting(load: Load, url: str, told: bool) -> None:
    chosen = {"OPENAI_MODEL": "gpt-9", "OPENAI_BASE_URL": url}
    if told:
        with pytest.raises(ConfigError, match=NONE):
            load("openai", chosen)
    else:
        load("openai", chosen)


SPEECH, WORDS_END = "20 January 2027", "26 February 2027"


@pytest.mark.parametrize(
    ("variable", "model", "end", "successor"),
    [
        ("OPENAI_MODEL", "gpt-realtime", SPEECH, "gpt-realtime-2.1"),
        ("OPENAI_MODEL", "gpt-realtime-2025-08-28", SPEECH, "gpt-realtime-2.1"),
        ("OPENAI_MODEL", "gpt-realtime-mini", SPEECH, "gpt-realtime-2.1-mini"),
        ("OPENAI_MODEL", "gpt-realtime-mini-2025-12-15", SPEECH, "gpt-realtime-2.1-mini"),
        ("OPENAI_MODEL", "gpt-realtime-2", None, None),
        ("OPENAI_MODEL", "gpt-realtime-2.1", None, None),
        ("OPENAI_TRANSCRIPTION_MODEL", "whisper-1", WORDS_END, "gpt-transcribe"),
        ("OPENAI_TRANSCRIPTION_MODEL", "gpt-4o-transcribe", WORDS_END, "gpt-transcribe"),
        ("OPENAI_TRANSCRIPTION_MODEL", "gpt-4o-transcribe-diarize", WORDS_END, "gpt-transcribe"),
        ("OPENAI_TRANSCRIPTION_MODEL", "gpt-4o-mini-transcribe", WORDS_END, "gpt-transcribe"),
        ("OPENAI_TRANSCRIPTION_MODEL", "gpt-4o-mini-transcribe-2025-12-15", WORDS_END, "gpt-transcribe"),
        ("OPENAI_TRANSCRIPTION_MODEL", "gpt-transcribe", None, None),
        ("OPENAI_TRANSCRIPTION_MODEL", "off", None, None),
    ],
)
def test_each_model_that_has_an_end_is_told_with_its_date_and_when_it_is_over(
    load: Load, variable: str, model: str, end: str | None, successor: str | None
) -> None:
    settings = load("openai", {variable: model})
    if end is None:
        assert settings.notes(date(2030, 1, 1)) == []
        return
    assert settings.notes(TODAY) == [f"{variable} {model} ends on {end}; {successor} replaces it"]
    assert settings.notes(date(2027, 1, 19)) == settings.notes(TODAY)
    assert settings.notes(date(2027, 2, 26)) == [f"{variable} {model} ended on {end}; {successor} replaces it"]


def test_all_that_end_are_told_and_elsewhere_whose_dates_they_are(load: Load) -> None:
    chosen = {"OPENAI_MODEL": "gpt-realtime", "OPENAI_TRANSCRIPTION_MODEL": "whisper-1"}
    assert len(load("openai", chosen).notes(TODAY)) == 2
    notes = load("openai", chosen | {"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}).notes(TODAY)
    assert "at OpenAI" not in str(notes)
    notes = load("openai", chosen | {"OPENAI_BASE_URL": "http://litellm:4000/v1"}).notes(TODAY)
    assert [note for note in notes if "2027 at OpenAI; " in note] == notes


@pytest.mark.parametrize("provider", ["openai", "xai"])  # Hume's has come to its own
def test_no_default_has_an_end(load: Load, provider: str) -> None:
    assert load(provider, {}).notes(date(2035, 1, 1)) == []


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            {"OPENAI_TRANSCRIPTION_MODEL": "whisper-1", "OPENAI_TRANSCRIPTION_KEYWORDS": "Silva"},
            "OPENAI_TRANSCRIPTION_KEYWORDS: whisper-1 takes none; gpt-transcribe does",
        ),
        (
            {"OPENAI_TRANSCRIPTION_MODEL": "gpt-4o-transcribe", "OPENAI_LANGUAGE": "de,en"},
            "OPENAI_LANGUAGE: gpt-4o-transcribe takes one language only; gpt-transcribe takes several",
        ),
        (
            {"OPENAI_CONTEXT_TOKENS": "8000"},
            "OPENAI_CONTEXT_TOKENS needs OPENAI_RETENTION_RATIO beside it, such as 0.8",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_the_first_call(load: Load, chosen: Chosen, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("openai", chosen)
    assert caught.value.problems == [told]


# Names of other connectors.


@pytest.mark.parametrize(
    ("provider", "chosen", "told"),
    [
        (
            "openai",
            {"OPENAI_TEMPERATURE": "0.8"},
            ["OPENAI_TEMPERATURE is set and not read: the Realtime API has no temperature any more"],
        ),
        ("openai", {"OPENAI_TEMPERATURE": "undefined"}, []),
        ("openai", {"XAI_CONNECT_TIMEOUT_MS": "15000"}, []),
        (
            "xai",
            {"XAI_CONNECT_TIMEOUT_MS": "15000", "OPENAI_TEMPERATURE": "1"},
            ["XAI_CONNECT_TIMEOUT_MS is set and not read: READY_SECONDS limits that"],
        ),
        (
            "xai",
            {"XAI_BUILTIN_TOOLS": "web_search,file_search"},
            ["XAI_BUILTIN_TOOLS: file_search is left out, since XAI_COLLECTION_IDS names nothing to look into"],
        ),
    ],
)
def test_what_is_set_and_does_nothing_is_told_once(load: Load, provider: str, chosen: Chosen, told: list[str]) -> None:
    assert load(provider, chosen).notes(TODAY) == told


# All that the connectors of the same family read, as their documents have it (versions 1.11.3 and 1.1.0).
FAMILY = {
    "openai": "API_KEY MODEL VOICE INSTRUCTIONS URL_INSTRUCTIONS FILE_INSTRUCTIONS LANGUAGE TRANSCRIPTION_MODEL "
    "TURN_DETECTION TURN_DETECTION_EAGERNESS TEMPERATURE MAX_TOKENS REASONING_EFFORT",
    "xai": "API_KEY MODEL VOICE INSTRUCTIONS URL_INSTRUCTIONS FILE_INSTRUCTIONS WELCOME_MESSAGE LANGUAGE "
    "TRANSCRIPTION_MODEL TURN_DETECTION TURN_DETECTION_THRESHOLD TURN_DETECTION_SILENCE_MS "
    "TURN_DETECTION_PREFIX_PADDING_MS CONNECT_TIMEOUT_MS BUILTIN_TOOLS COLLECTION_IDS",
}


@pytest.mark.parametrize("provider", FAMILY)
def test_every_name_of_the_family_is_read_or_named_as_ignored(load: Load, provider: str) -> None:
    settings = load(provider, {})
    known = {variable.name for variable, _ in settings.values()} | set(settings.provider.ignored)
    assert {f"{provider.upper()}_{name}" for name in FAMILY[provider].split()} <= known


# Who the caller is, for OpenAI.


def test_a_caller_is_a_hash_that_is_theirs_alone_and_nobody_can_undo() -> None:
    [(name, value)] = safety_identifier("a-secret-of-ours-1", "+49 (171) 55").items()
    assert name == "OpenAI-Safety-Identifier"
    assert len(value) == 64
    for same in ("4917155", "004917155", "+49 171 55"):
        assert safety_identifier("a-secret-of-ours-1", same) == {name: value}
    for secret, number in (("a-secret-of-ours-1", "+49 171 56"), ("another-secret-16", "+49 171 55")):
        assert safety_identifier(secret, number)[name] != value
    assert safety_identifier("a-secret-of-ours-1", "Alice") == safety_identifier("a-secret-of-ours-1", "alice")


@pytest.mark.parametrize("number", ["", "  ", "anonymous", "Anonymous", "unknown", "undefined", "null", "restricted"])
def test_a_caller_whose_number_is_withheld_has_none(number: str) -> None:
    assert safety_identifier("a-secret-of-ours-1", number) == {}


def test_without_a_secret_there_is_none() -> None:
    assert safety_identifier(None, "+49 171 55") == {}
