"""The door: which request gets which answer (Core contract, section 1.2).

A WebSocket upgrade is a call, whatever its path. Everything else is plain HTTP, and is quart's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from sts_trio.web.asgi import RETRY_AFTER_SECONDS, take_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        Scope,
    )
    from quart.typing import ResponseReturnValue

    from sts_trio.web.asgi import Answer, Doorkeeper

    Scrape = Callable[[], tuple[bytes, str]]


_USE_WEBSOCKET = "set STS_URL to ws:// and this host and port."


class Door(QuartTrio):
    """A quart app whose WebSockets are all calls, and go past quart (`web.asgi` says why)."""

    def __init__(self, answer: Answer, keeper: Doorkeeper) -> None:
        super().__init__(__name__, static_folder=None)
        self._answer = answer
        self._keeper = keeper

    async def asgi_app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one connection of the ASGI server.

        Slashes at the end of a path mean nothing here, and a path may be missing altogether (`GET ?uuid=1`, at which
        quart stumbles). Never a redirect: neither a WebSocket client nor a streaming POST follows one.
        """
        if scope["type"] == "websocket":
            await take_call(scope, receive, send, self._answer, self._keeper)
            return
        if scope["type"] == "http":
            scope["path"] = scope["path"].rstrip("/") or "/"
        await super().asgi_app(scope, receive, send)


def create_app(
    answer: Answer, keeper: Doorkeeper, status: Callable[[], dict[str, object]], scrape: Scrape | None = None
) -> Door:
    """Build the app.

    `answer` holds a call; `keeper` decides which are taken (503 for the others); `status` is what `GET /health` and
    `GET /ready` tell beside their own `status`, or in its place; `scrape` returns the text of `GET /metrics` and its
    content type. An app object serves once.
    """
    app = Door(answer, keeper)

    @app.get("/health", provide_automatic_options=False)
    async def health() -> ResponseReturnValue:
        return {"status": "ok", **status()}

    @app.get("/ready", provide_automatic_options=False)
    async def ready() -> ResponseReturnValue:
        if (refusal := keeper.refusal()) is None:
            return {"status": "ready", **status()}
        told = {**status(), "status": refusal.reason, "message": refusal.message}
        return told, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}

    if scrape is not None:

        @app.get("/metrics", provide_automatic_options=False)
        async def metrics() -> ResponseReturnValue:
            text, content_type = scrape()
            return Response(text, content_type=content_type)

    @app.get("/", provide_automatic_options=False)
    @app.get("/speech-to-speech-stream", provide_automatic_options=False)
    async def upgrade_required() -> ResponseReturnValue:
        # RFC 9110, 7.8: who sends Upgrade names it in Connection too.
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return {"message": f"This is a WebSocket service: {_USE_WEBSOCKET}"}, 426, headers

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> ResponseReturnValue:
        if isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            return {"message": f"Not this way: {_USE_WEBSOCKET}"}, 405, {"Allow": allowed}
        return {"message": error.name}, error.code or 500

    return app
