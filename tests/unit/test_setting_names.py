"""Names that no table of settings knows: what was meant, and what is left alone because others use it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sts_trio.providers import SETTINGS
from sts_trio.settings import load_settings, topics
from sts_trio.settings.names import UnknownName, read_foreign, unknown_names

ROOT = Path(__file__).parents[2]
KNOWN = [name for topic in topics(SETTINGS) for variable in topic.variables for name in variable.names]


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file, and none of our names in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("HUME", "OPENAI_", "XAI_", "STS_")):
            monkeypatch.delenv(name)


def meant_by(name: str, chosen: str = "openai", place: str = ".env", value: str = "x") -> UnknownName | None:
    """What is told of one name that is set in `.env`."""
    Path(place).write_text(f"{name}='{value}'\n")
    found = unknown_names(SETTINGS, chosen)
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HUMEAI_VOICE", "HUMEAI_VOICE_ID"),
        ("HUME_VOICE_ID", "HUMEAI_VOICE_ID"),
        ("HUMEAI_APIKEY", "HUMEAI_API_KEY"),
        ("HUME_AI_API_KEY", "HUMEAI_API_KEY"),
        ("WELCOME_MESSAGE", "OPENAI_WELCOME_MESSAGE"),
        ("OPENAI_GREETING", "OPENAI_WELCOME_MESSAGE"),
        ("OPENAI_PROMPT", "OPENAI_INSTRUCTIONS"),
        ("OPENAI_SYSTEM_PROMPT", "OPENAI_INSTRUCTIONS"),
        ("INSTRUCTIONS", "OPENAI_INSTRUCTIONS"),
        ("OPENAI_INSTRUCTIONS_FILE", "OPENAI_FILE_INSTRUCTIONS"),
        ("OPENAI_INSTRUCTION_URL", "OPENAI_URL_INSTRUCTIONS"),
        ("OPENAI_MODLE", "OPENAI_MODEL"),
        ("OPENAPI_API_KEY", "OPENAI_API_KEY"),
        ("OPEN_AI_API_KEY", "OPENAI_API_KEY"),
        ("openai_api_key", "OPENAI_API_KEY"),
        ("XAI_VOICE_ID", "XAI_VOICE"),
        ("STS_PROVIDERS", "STS_PROVIDER"),
        ("TOKEN", "STS_TOKEN"),
        ("STS_MAX_CALLS", "MAX_CALLS"),
        ("MAX_CALL", "MAX_CALLS"),
        ("WORKER", "WORKERS"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("OPENAI_EMOTIONS", "EMOTIONS"),
        ("TRANSCRIPTION_MODEL", "OPENAI_TRANSCRIPTION_MODEL"),
    ],
)
def test_the_setting_that_was_meant_is_named(name: str, meant: str) -> None:
    found = meant_by(name)
    assert found is not None
    assert (found.name, found.meant) == (name, meant)
    assert str(found) == f"{name} in .env is not the name of a setting; did you mean {meant}?"


@pytest.mark.parametrize("name", ["DEEPGRAM_API_KEY", "OPENROUTER_API_KEY", "POSTGRES_PASSWORD", "HUMEAI_MODEL"])
def test_a_name_like_none_of_ours_is_told_without_a_guess(name: str) -> None:
    found = meant_by(name)
    assert found is not None
    assert (found.meant, found.counts) == ("", False)


@pytest.mark.parametrize(
    "name",
    [
        *("STS_URL", "ASR_URL", "LLM_URL", "TTS_URL", "HTTP_PORT", "WEBHOOK_URL", "WEBHOOK_SECRET"),
        *("AGENT_ID", "AGENT_NAME", "PROVIDER_ID", "PROVIDER_STS_ID", "PROVIDER_STS_TYPE", "BACKEND_URL"),
        *("AMI_HOST", "AMI_USERNAME", "ARI_URL", "AVR_WEBHOOK", "COMPOSE_PROJECT_NAME", "DOCKER_HOST"),
        *("STS_TRIO_SERVICE_HOST", "STS_TRIO_PORT_6039_TCP_ADDR", "OPENAI_ORG_ID", "OPENAI_PROJECT", "TCP_NODELAY"),
        *("INTERRUPT_LISTENING", "XAI_MANAGEMENT_KEY", "OPENAI_TEMPERATURE", "HTTPS_PROXY", "TZ"),
    ],
)  # fmt: skip
def test_a_name_that_others_use_on_purpose_is_left_alone(name: str) -> None:
    assert meant_by(name) is None


def test_what_kubernetes_gives_for_a_service_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_PORT", "tcp://10.0.0.1:6039")
    assert unknown_names(SETTINGS, "openai") == []
    monkeypatch.setenv("STS_PORT", "6040")
    assert [each.meant for each in unknown_names(SETTINGS, "openai")] == ["PORT"]


@pytest.mark.parametrize("name", KNOWN)
def test_no_setting_is_misspelt(name: str) -> None:
    assert meant_by(name) is None


def test_what_our_compose_files_use_is_left_alone() -> None:
    text = "".join(file.read_text() for file in (ROOT / "compose.yml", *(ROOT / "deploy/compose").glob("*.yml")))
    used = re.findall(r"\$\{([A-Z_]+)", text)
    assert {"DSAI_NETWORK_EXTERNAL", "PROMPT_FILE"} <= set(used)
    for name in set(used):
        assert meant_by(name) is None, name


def test_the_example_file_has_no_misspelt_name() -> None:
    text = (ROOT / ".env.example").read_text()
    Path(".env").write_text(re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE))
    assert unknown_names(SETTINGS, "openai") == []


def test_of_the_environment_only_names_with_our_prefixes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELCOME_MESSAGE", "Hi")
    monkeypatch.setenv("XAI_VOICES", "eve")
    assert unknown_names(SETTINGS, "xai") == [UnknownName("XAI_VOICES", "the environment", "XAI_VOICE", counts=True)]


@pytest.mark.parametrize("value", ["", "  ", "undefined", "null"])
def test_what_nobody_filled_in_is_not_told(value: str) -> None:
    assert meant_by("HUMEAI_VOICE", value=value) is None


@pytest.mark.parametrize(
    ("chosen", "other", "counts"),
    [
        ("humeai", "", True),
        ("openai", "", False),  # nothing of that provider counts
        ("humeai", "HUMEAI_VOICE_ID", False),  # what was meant is set as well
        (None, "", True),  # its key may be what was misspelt
    ],
)
def test_a_misspelt_name_counts_where_the_right_one_would_change_something(
    chosen: str | None, other: str, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if other:
        monkeypatch.setenv(other, "night")
    Path(".env").write_text("HUMEAI_VOICE=day\n")
    assert [each.counts for each in unknown_names(SETTINGS, chosen)] == [counts]


def test_a_file_that_is_refused_costs_no_names_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_MODLE", "x")
    Path(".env").write_text("WORKER=$PORT\n")
    assert [each.name for each in unknown_names(SETTINGS, "openai")] == ["OPENAI_MODLE"]


def test_the_environment_beats_the_file_for_names_of_others_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_foreign("STS_URL") is None
    Path(".env").write_text("STS_URL=ws://file:6039\n")
    assert read_foreign("STS_URL") == "ws://file:6039"
    monkeypatch.setenv("STS_URL", "ws://environment:6039")
    assert read_foreign("STS_URL") == "ws://environment:6039"


@pytest.mark.parametrize(
    ("environment", "by"),
    [
        ({"OPENAI_API_KEY": "k"}, "OPENAI_API_KEY"),
        ({"HUMEAI_API_KEY": "k", "OPENAI_API_KEY": "k"}, "HUMEAI_API_KEY"),
        ({"STS_PROVIDER": "openai", "OPENAI_API_KEY": "k"}, "STS_PROVIDER"),
    ],
)
def test_it_is_known_what_chose_the_provider(
    environment: dict[str, str], by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings(SETTINGS).chosen_by == by
