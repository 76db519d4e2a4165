"""The web app: which request gets which answer (docs/protocols/core.md 1.2).

A WebSocket upgrade is a call, whatever its path; so is a POST on one of `CALL_PATHS`. Everything else is plain HTTP,
and is quart's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from sts_trio.call.handler import Refusals
from sts_trio.call.meter import HTTP, WEBSOCKET
from sts_trio.web.auth import RETRY_AFTER_SECONDS, Authorizer, refuse_request, refuse_upgrade, split_query
from sts_trio.web.call_socket import take_call
from sts_trio.web.call_stream import take_stream
from sts_trio.web.connections import FIRST_REQUEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        HTTPScope,
        Scope,
    )
    from quart.typing import ResponseReturnValue

    from sts_trio.web.auth import Admission, Denial
    from sts_trio.web.call_socket import Answer
    from sts_trio.web.call_stream import AnswerStream

    Scrape = Callable[[], Awaitable[tuple[bytes, str] | None]]

CALL_PATHS = ("/", "/speech-to-speech-stream")
# `/health` and `/ready` are open: Docker or a balancer can seldom send a secret, and the answers hold little.
SECRET_PATHS = ("/metrics",)

_HOW_TO_CALL = (
    "set STS_URL to ws:// and this host and port, or, for a call over plain HTTP (POST), to http:// and the same."
)


class App(QuartTrio):
    """A quart app whose calls go past quart (`web.call_socket` says why)."""

    def __init__(
        self,
        answer: Answer,
        answer_stream: AnswerStream,
        admission: Admission,
        authorizer: Authorizer,
        refusals: Refusals,
    ) -> None:
        super().__init__(__name__, static_folder=None)
        self._answer = answer
        self._answer_stream = answer_stream
        self._admission = admission
        self._authorizer = authorizer
        self._refusals = refusals

    async def asgi_app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request, or WebSocket, of the ASGI server. The callers' token is taken out of the query here."""
        if (first_request := scope.get("state", {}).get(FIRST_REQUEST)) is not None:
            first_request()  # no checkpoint comes between this and the place that a call takes
        if scope["type"] == "websocket":
            denial = self._authorizer.denies_call(scope["headers"], scope["query_string"])
            scope["query_string"], _ = split_query(scope["query_string"])
            if denial is not None:
                self._refusals.note(denial.reason, status=denial.status, leg=WEBSOCKET)
                await refuse_upgrade(receive, send, denial.status, denial.message, denial.reason)
            else:
                await take_call(scope, receive, send, self._answer, self._admission)
            return
        if scope["type"] == "http":
            scope["path"] = plain_path(scope["path"])
            is_call = scope["method"] == "POST" and scope["path"] in CALL_PATHS
            denial = self._denies_request(scope, is_call)
            scope["query_string"], _ = split_query(scope["query_string"])
            if denial is not None:
                self._refusals.note(denial.reason, status=denial.status, leg=HTTP)
                await refuse_request(send, denial.status, denial.message, denial.reason)
                return
            if is_call:
                await take_stream(scope, receive, send, self._answer_stream, self._admission)
                return
        await super().asgi_app(scope, receive, send)

    def _denies_request(self, scope: HTTPScope, is_call: bool) -> Denial | None:
        if is_call:
            return self._authorizer.denies_call(scope["headers"], scope["query_string"])
        if scope["path"] in SECRET_PATHS:
            return self._authorizer.denies_reader(scope["headers"], scope["query_string"])
        return None


def plain_path(path: str) -> str:
    """Return the path that a request means.

    Slashes at the end mean nothing here, nor do repeated ones, and a path may be missing altogether (`GET ?uuid=1`, at
    which quart stumbles). A whole URL is a valid target, too (RFC 9112, 3.2.2). Never a redirect instead: neither a
    WebSocket client nor a streaming POST follows one.
    """
    if path.startswith(("http://", "https://")):
        _, _, rest = path.partition("://")
        path = rest.partition("/")[2]
    elif path == "*":  # OPTIONS of the server as a whole
        return path
    return "/" + "/".join(part for part in path.split("/") if part)


def create_app(
    answer: Answer,
    answer_stream: AnswerStream,
    admission: Admission,
    status: Callable[[], dict[str, object]],
    scrape: Scrape | None = None,
    authorizer: Authorizer | None = None,
    refusals: Refusals | None = None,
) -> App:
    """Build the app.

    `answer` and `answer_stream` hold a call, over a WebSocket and over plain HTTP; `admission` decides which are taken
    (503 for the others); `status` gives fields for the JSON of `GET /health` and `GET /ready`, and may replace the
    field `status` itself; `scrape` returns the text of `GET /metrics` and its content type (None: 503); `authorizer`
    says who may call, without one everybody; `refusals` is told of what is turned away. An app object serves once.
    """
    refusals = refusals or Refusals()
    app = App(answer, answer_stream, admission, authorizer or Authorizer(), refusals)

    @app.get("/health", provide_automatic_options=False)
    async def health() -> ResponseReturnValue:
        return {"status": "ok", **status()}

    @app.get("/ready", provide_automatic_options=False)
    async def ready() -> ResponseReturnValue:
        if (refusal := admission.refusal()) is None:
            return {"status": "ready", **status()}
        told = {**status(), "status": refusal.reason, "message": refusal.message}
        return told, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}

    if scrape is not None:

        @app.get("/metrics", provide_automatic_options=False)
        async def metrics() -> ResponseReturnValue:
            if (page := await scrape()) is None:
                late = {"message": "the metrics could not be gathered in time; ask again"}
                return late, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}
            text, content_type = page
            return Response(text, content_type=content_type)

    async def upgrade_required() -> ResponseReturnValue:
        refusals.note("no_upgrade", status=426)
        # RFC 9110, 7.8: who sends Upgrade names it in Connection too.
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return {"message": f"This is for telephone calls: {_HOW_TO_CALL}"}, 426, headers

    for path in CALL_PATHS:
        app.get(path, provide_automatic_options=False)(upgrade_required)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> ResponseReturnValue:
        if not isinstance(error, MethodNotAllowed):
            if error.code == 404:
                refusals.note("path", status=404)
            return {"message": error.name}, error.code or 500
        refusals.note("method", status=405)
        allowed, instead = set(error.valid_methods or ()), "this path only answers GET."
        if request.path in CALL_PATHS:
            allowed, instead = allowed | {"POST"}, _HOW_TO_CALL
        return {"message": f"Not this way: {instead}"}, 405, {"Allow": ", ".join(sorted(allowed))}

    return app
