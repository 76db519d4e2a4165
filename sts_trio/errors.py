"""Faults that end a call or stop the program. Expected ends are values (`call.outcome.CallOutcome`).

StsError
├── ConfigError              a setting is missing or wrong
├── WorkerFailed             the first worker process ended before it was ready
└── ProviderError            the agent's side failed
    ├── ProviderRefused      it answered, and said no (key, config, credit): trying again will not help
    │   └── ConversationGone   it does not know the conversation that was to be resumed
    ├── ProviderTimeout      it did not answer in time
    ├── ProviderLost         no connection could be made, or it broke
    │   └── ProviderBusy       it works, and has no room for another session at the moment
    ├── ProviderUnavailable  it refused call after call, and is not asked at the moment
    └── ProviderProtocolError  it sent what its protocol does not allow

Every message is one line for a person: what happened, which setting or peer, what to do. No secret, no caller text.
"""

from __future__ import annotations


class StsError(Exception):
    """Base of all our faults."""


class ConfigError(StsError):
    """One or more settings are missing or wrong; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class WorkerFailed(StsError):
    """The first worker ended before it was ready. If it exited with a `status` above 0, it has said why itself."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProviderError(StsError):
    """The agent's side failed. `retryable`: a new connection may well work."""

    retryable = False


class ProviderRefused(ProviderError):
    """The provider answered and refused: a wrong key, an unknown config, no credit."""


class ConversationGone(ProviderRefused):
    """The provider does not know the conversation that was to be resumed; a new one may be begun."""


class ProviderTimeout(ProviderError):
    """The provider did not answer within the time that the settings give it."""

    retryable = True


class ProviderLost(ProviderError):
    """The connection to the provider could not be made, or it broke."""

    retryable = True


class ProviderBusy(ProviderLost):
    """The provider has no room for another session at the moment (HTTP 429, too many at once). It works."""


class ProviderUnavailable(ProviderError):
    """The provider has refused call after call, and is not asked at the moment: a new call is told so at once."""


class ProviderProtocolError(ProviderError):
    """The provider sent something that its protocol does not allow, or nothing that makes sense."""

    retryable = True
