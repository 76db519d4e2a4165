"""How sessions of the Realtime protocol are opened: an `OpenAgent` for OpenAI, xAI and whoever speaks it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.errors import ProviderError, ProviderTimeout
from sts_trio.providers.dial import hiding
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.barge_in import BargeInGate
from sts_trio.providers.openai.gateway import Access, advise, beta_advice, credentials, target
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.link import RealtimeLink
from sts_trio.providers.openai.opening import SessionSetup, Transcriber, safety_identifier
from sts_trio.providers.openai.protocol import RealtimeProtocol
from sts_trio.providers.openai.token_file import new_readers, read_token
from sts_trio.providers.reading import Reader
from sts_trio.providers.socket import SocketTimes, open_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import CallInfo
    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.providers.openai.session import Options

log = structlog.get_logger(__name__)

_NUMBER = "from"  # the caller's number among the parameters of Core's URL (docs/protocols/core.md 6.1)


@dataclass(frozen=True, slots=True)
class RealtimeProvider:
    """How to open sessions: an `OpenAgent`. Key, token and headers stay out of URLs, logs, errors and `repr`.

    `safety_key`: what callers' numbers are hashed with for the service.
    """

    endpoint: Endpoint
    api_key: str = field(repr=False)
    dial: Dial = field(repr=False)
    options: Options
    times: SocketTimes = field(default_factory=SocketTimes)
    access: Access = field(default_factory=Access)
    safety_key: str | None = field(default=None, repr=False, kw_only=True)
    transcriber: Transcriber = field(default_factory=Transcriber, init=False, repr=False)
    _readers: trio.CapacityLimiter = field(default_factory=new_readers, init=False, repr=False)

    def __post_init__(self) -> None:
        """Be ready to take secrets out of a text: the first error must not hold up other calls."""
        hiding(self.api_key, *self.access.headers.values())("")

    def __call__(self, call: CallInfo) -> AbstractAsyncContextManager[RealtimeLink]:
        """Open a session for `call`, ready for audio within `times.open`; leaving the context closes it.

        Raises (on entry):
            ProviderError: refused, not ready in time, lost, or not speaking the protocol.
        """
        return self._open(call, call.resume if isinstance(call.resume, History) else History())

    @asynccontextmanager
    async def _open(self, call: CallInfo, history: History) -> AsyncIterator[RealtimeLink]:
        """Open a session; if it is refused and had asked for a conversation, try once more without that.

        How a service says that it has forgotten a conversation is not documented. If it was a wrong key that was
        refused, it is refused again.
        """
        asked = history.conversation
        while True:
            try:
                async with self._session(call, history) as link:
                    asked = None  # it was opened: what fails from here on is no refusal
                    yield link
                return
            except ProviderError as exc:
                if asked is None or exc.retryable:
                    raise
                log.info("the conversation is not taken up; it is told anew", cause=str(exc))
            asked = history.conversation = None

    @asynccontextmanager
    async def _session(self, call: CallInfo, history: History) -> AsyncIterator[RealtimeLink]:
        options, number = self.options, history.begin_session()
        codec = open_codec(options.format, options.rate)
        transcribes = self.transcriber.wanted(trio.current_time())
        setup = SessionSetup(options, codec, history, call.session_config, resumed=number > 1, transcribes=transcribes)
        protocol = RealtimeProtocol(
            options.dialect,
            codec,
            history,
            number,
            self.times.answer,
            interrupts=options.turns.interrupts,
            answers=options.turns.answers,
        )
        ready_by = trio.current_time() + self.times.open
        token = await self._token(ready_by)
        hide = hiding(self.api_key, token, *self.access.headers.values())
        async with open_socket(
            self.endpoint,
            path=target(self.endpoint, options, history.conversation),
            headers={
                **credentials(self.endpoint, self.api_key, self.access, token),
                **safety_identifier(self.safety_key, call.query.get(_NUMBER, "")),
            },
            dial=self.dial,
            times=self.times,
            advise=lambda refusal: advise(refusal, self.endpoint, options, self.api_key, self.access),
            fits=wire.LANGUAGE.fits,
            hide=hide,
        ) as socket:
            reader = Reader(wire.LANGUAGE, options.dialect.name, self.times.garbage)
            link = RealtimeLink(socket, reader, options.dialect, codec, protocol, hide)
            try:
                with trio.move_on_at(ready_by) as waiting:
                    await link.wait_ready(setup)
                if waiting.cancelled_caught:
                    text = f"{self.endpoint} took the connection but sent no session.updated within"
                    raise ProviderTimeout(setup.complaint(f"{text} {self.times.open:g} s"))
            except ProviderError as exc:
                history.conversation = None  # it may be the conversation that cannot be resumed
                if not (advice := beta_advice(self.endpoint, options.dialect)):
                    raise
                raise type(exc)(f"{exc}; {advice}") from exc
            finally:
                self._note(setup)
            if options.barge_in or not options.greeting_stops:
                protected = not options.greeting_stops and not history.began
                link.shut(BargeInGate(options.barge_in, trio.current_time(), protected=protected))
            try:
                yield link
            finally:
                log.info("agent session over", **link.tokens)

    def _note(self, setup: SessionSetup) -> None:
        """Log what a session lacks that has begun all the same."""
        prefix = self.options.dialect.prefix
        if setup.refused:
            self.transcriber.refused(trio.current_time())
            log.warning(
                "the caller's words are not written down: the service refused the model for that",
                cause=setup.refused,
                setting=f"{prefix}_TRANSCRIPTION_MODEL",
            )
        if setup.unknown:
            log.warning(
                "the session that takes over does not know all that the caller said: it was not written down",
                turns=setup.unknown,
                setting=f"{prefix}_TRANSCRIPTION_MODEL",
            )

    async def _token(self, until: float) -> str | None:
        file = self.access.token_file
        if file is None:
            return None
        return await read_token(file, f"{self.options.dialect.prefix}_TOKEN_FILE", until, time(), self._readers)
