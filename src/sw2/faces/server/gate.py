"""What every request passes, before its route and after: key, limits, body, time, hanging up, log.

    key → draining? → requests at once → body (bounded in size and time, strict JSON) → route, at most so long
                                                                                     ↘ cancelled when the client goes

A web page may be served beside the routes (`Pages`). What it asks for may stay open for as long as the page does, so it
has no time limit, is not waited for when the server drains, and is no request at once of a key. A browser cannot be
made to ask for it by a page from elsewhere: where it says which page asks (`Origin`), that has to be ours.

The Gate is the outermost layer. It reads the whole body before a route runs; from then on the only thing that can come
from the client is that it is gone, so the Gate waits for that beside the route, and cancels the route. A route leaves
what it holds (places in a queue, texts under way) in the request's `Held`, which the Gate lets go of at the end,
whatever the end is.

A stream that has begun can have no other status any more: what goes wrong then is its last event, an error in OpenAI's
form.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sw2.base.store import parse_json
from sw2.faces.server.errors import ApiError, api_error_of, bad_request
from sw2.faces.server.keys import NOBODY, Keys
from sw2.faces.server.log import Lines, fault
from sw2.faces.server.metrics import Metrics

__all__ = ["OPEN", "Gate", "Held", "Limits", "Pages", "held", "sse"]

_HUNG_UP: Final = 499
OPEN: Final = ("/healthz", "/readyz")
"""What probes ask for, which have no key."""

_WHILE_DRAINING: Final = (*OPEN, "/metrics")


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one request may take.

    Args:
        body_bytes: the most bytes of a body.
        body_seconds: how long a body may take to come.
        seconds: how long a request may take, waiting included.
    """

    body_bytes: int = 16 * 2**20
    body_seconds: float = 30.0
    seconds: float = 600.0


@final
@dataclass(frozen=True, kw_only=True)
class Pages:
    """Where a web page lives.

    Args:
        prefix: what the paths of all that it asks for begin with.
        login: the path of the form that takes a key, to which a browser without one is led.
    """

    prefix: str
    login: str

    def has(self, path: str) -> bool:
        """Whether a path is the page's, or the form's."""
        return path.startswith(self.prefix) or path in ("/", self.login)


@final
class Held:
    """What a request holds, and what the log says of it.

    Attributes:
        who: asks, as logs name them.
        names: by which they go, for documents with owners.
        release: called at the end of the request, last first.
        facts: go into its line.
        fault: a mistake of ours that ended it; where it happened goes into the log.
    """

    def __init__(self) -> None:
        self.who = NOBODY
        self.names: Sequence[str] = ()
        self.release = contextlib.ExitStack()
        self.facts: dict[str, Any] = {}
        self.fault: Exception | None = None


def held(scope: MutableMapping[str, Any]) -> Held:
    """The `Held` of a request."""
    found: Held = scope["sw2.held"]
    return found


def sse(value: object) -> bytes:
    """A server-sent event with a JSON value."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


@final
class Gate:
    """An ASGI app around another.

    Args:
        app: the routes.
        keys: who may ask.
        limits: for each request.
        metrics: told of each request.
        lines: the log.
        pages: where a web page lives, if one does.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys, limits: Limits, metrics: Metrics, lines: Lines, pages: Pages | None = None
    ) -> None:
        self._app, self._keys, self._limits, self._metrics, self._lines = app, keys, limits, metrics, lines
        self._pages = pages
        self._draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    async def drain(self, seconds: float) -> bool:
        """Refuse new requests and wait for those under way; whether they ended in time."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return self._idle.is_set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:  # nothing here speaks anything else; closing is the answer that refuses a WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        holds = scope["sw2.held"] = Held()
        name = "req_" + secrets.token_hex(12)
        answer = _Answer(send, name)
        probes = scope["path"] in _WHILE_DRAINING
        page = self._pages if self._pages is not None and self._pages.has(scope["path"]) else None
        counted = not probes and page is None
        self._metrics.begun()
        if counted:
            self._running += 1
            self._idle.clear()
        try:
            headers = Headers(scope=scope)
            if page is not None:
                _check_origin(headers)
            if scope["path"] not in OPEN:
                holds.who = self._who(headers, page, scope)
                holds.names = self._keys.names(holds.who)
            if self._draining and not probes:
                raise ApiError(503, "The server is going down.", code="shutting_down", headers={"connection": "close"})
            if counted:
                holds.release.callback(self._keys.enter(holds.who))
            body = await self._body(headers, receive)
            seconds_left = self._limits.seconds if page is None else None
            await self._unless_gone(scope, body, receive, answer, seconds_left)
        except _Gone:
            answer.status = _HUNG_UP
        except Exception as error:
            refusal = api_error_of(error)
            if refusal.status == 500:
                holds.fault = error
            await answer.refuse(refusal, scope, receive)
        finally:
            holds.release.close()
            if counted:
                self._running -= 1
                if not self._running:
                    self._idle.set()
            route = str(getattr(scope.get("route"), "path", "none"))
            seconds = time.perf_counter() - began
            self._metrics.ended(route, answer.status, seconds)
            if holds.fault is not None:
                self._lines("fault", {"id": name, **fault(holds.fault)})
            code = {} if answer.code is None else {"code": answer.code}
            self._lines(
                "request",
                {
                    "id": name, "route": route, "method": scope["method"], "status": answer.status,
                    "seconds": round(seconds, 3), "key": holds.who, **holds.facts, **code,
                },
            )  # fmt: skip

    def _who(self, headers: Headers, page: Pages | None, scope: Scope) -> str:
        """Who asks; a browser that brings no key is led to the form, and the form is open.

        Raises:
            ApiError: 401 or 403, or 303 to the form.
        """
        if page is None:
            return self._keys.who(headers.get("authorization"), headers.get("host", ""))
        if scope["path"] == page.login and self._keys.needed:
            return NOBODY
        try:
            return self._keys.who(headers.get("authorization"), headers.get("host", ""), headers.get("cookie"))
        except ApiError as error:
            if error.status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                raise ApiError(303, "A key is needed.", code="login", headers={"location": page.login}) from error
            raise

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, held to its limits."""
        most = self._limits.body_bytes
        too_large = ApiError(413, f"The body is larger than {most} bytes.", code="body_too_large")
        try:
            said = int(headers.get("content-length", 0))
        except ValueError as error:
            raise bad_request("The header content-length is no number.") from error
        if said > most:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise ApiError(408, "The body did not come in time.", code="slow_body") from error
        body = b"".join(parts)
        if body and "json" in headers.get("content-type", "").lower():
            _check_json(body)
        return body

    async def _unless_gone(
        self, scope: Scope, body: bytes, receive: Receive, answer: _Answer, seconds: float | None
    ) -> None:
        """Run the route; cancel it when the client hangs up or the time is over."""
        gone = asyncio.Event()
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def hang_up() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        route = asyncio.ensure_future(self._app(scope, replay, answer))
        listener = asyncio.ensure_future(hang_up())
        try:
            done, _ = await asyncio.wait({route, listener}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if route in done:
                route.result()
            elif listener in done:
                if not answer.ended:  # once all is sent it is no hanging up
                    raise _Gone
                await route
            else:
                raise ApiError(504, f"The answer took longer than {self._limits.seconds:g} seconds.", code="time_limit")
        finally:
            for task in (route, listener):
                task.cancel()
            await asyncio.gather(route, listener, return_exceptions=True)


def _check_origin(headers: Headers) -> None:
    """Refuse what a page from elsewhere lets a browser ask.

    Raises:
        ApiError: 403.
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        raise ApiError(403, "This page is asked from its own address only.", code="foreign_origin")


def _check_json(body: bytes) -> None:
    """Refuse what is no JSON, or could not be written as such again: NaN, numbers too large, half a character."""
    try:
        json.dumps(parse_json(body), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        why = "half a character" if isinstance(error, UnicodeEncodeError) else f"{error}"[:200]
        raise bad_request(f"The body is not JSON: {why}", code="invalid_json") from error


class _Gone(Exception):
    """The client hung up."""


@final
class _Answer:
    """`send`, with what was sent so far."""

    def __init__(self, send: Send, name: str) -> None:
        self._send, self._name = send, name
        self.status = 500  # until something is sent
        self.code: str | None = None
        self.begun = self.ended = self._streams = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            self._streams = any(b"event-stream" in value for _, value in message["headers"])
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self._name.encode())]}
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, error: ApiError, scope: Scope, receive: Receive) -> None:
        """Send an error, as it still can be."""
        if self.ended:
            return
        self.code = error.code or str(error.body()["error"]["type"])
        if not self.begun:
            await error.response()(scope, receive, self)
        elif self._streams:
            await self({"type": "http.response.body", "body": sse(error.body()), "more_body": False})
