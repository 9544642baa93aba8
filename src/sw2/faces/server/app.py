"""The server as an ASGI app: programs and settings in, one object out, which any ASGI server can run.

`sw2 serve` runs it in uvicorn (`serving`). FastAPI's pages of documentation are off: they fetch scripts from another
host. Its telemetry is off as well: an environment variable would let it send what users wrote elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import sw2
from sw2.base.errors import Sw2Error
from sw2.core.capabilities import Chat, Embed, Generate
from sw2.core.documents import Documents
from sw2.core.program import Program
from sw2.core.tools import Tool
from sw2.faces.server import wire
from sw2.faces.server.chat import ChatTools, chat_router
from sw2.faces.server.completions import completions_router
from sw2.faces.server.embeddings import embeddings_router
from sw2.faces.server.errors import ApiError, api_error_of, bad_request, first_fault
from sw2.faces.server.feedback import feedback_router
from sw2.faces.server.gate import OPEN, Gate, Limits, Pages, held
from sw2.faces.server.keys import Keys
from sw2.faces.server.library import Library
from sw2.faces.server.log import Conversations, Lines, to_stderr
from sw2.faces.server.metrics import DocumentsMeter, Metrics
from sw2.faces.server.operations import operations_router
from sw2.faces.server.programs import Programs, Served
from sw2.faces.server.run import run_router

__all__ = ["Server", "Settings"]

_SILENT: Final[Any] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server works.

    Args:
        slots: how many texts of a program run at once, ≥ 1; the others wait.
        queue_size: how many more of a program may wait, ≥ 0.
        keys: who may ask; none for this machine alone.
        names: by key, the names by which its holder goes, for documents with owners; under `keys.NOBODY` those of
            whoever asks a server without keys.
        per_key: the most requests of one key at once, ≥ 1; None for no limit but the queue's.
        limits: for each request.
        conversations: a file that keeps what was asked and answered; None keeps nothing.
        tools: by the name of a program, those that the server runs for it.
        documents: what chats are answered from; opened, and closed by whoever opened it.
        documents_as: whether chats are answered from them, or their search is one of the server's tools.
        refresh_seconds: how long after one refresh of the documents the next one begins, > 0.
        pages: where a web page lives, if one is served beside the routes.
    """

    slots: int = 8
    queue_size: int = 64
    keys: Sequence[str] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    per_key: int | None = None
    limits: Limits = field(default_factory=Limits)
    conversations: Path | None = None
    tools: Mapping[str, Sequence[Tool]] = field(default_factory=dict)
    documents: Documents | None = None
    documents_as: Literal["answers", "tool"] = "answers"
    refresh_seconds: float = 60.0
    pages: Pages | None = None


@final
class Server:
    """An ASGI app that serves programs.

    Args:
        programs: by the name under which each is served.
        settings: how.
        lines: the log.

    Attributes:
        routes: the FastAPI app behind the gate.
        keys: who may ask.
        lines: the log.
        library: the documents that chats are answered from.

    Raises:
        UsageError: the file for conversations is there and is none.
    """

    def __init__(
        self, programs: Mapping[str, Program], settings: Settings | None = None, lines: Lines = to_stderr
    ) -> None:
        settings, self.lines = settings or Settings(), lines
        self._conversations = None if settings.conversations is None else Conversations(settings.conversations)
        metrics = Metrics()
        self._programs = Programs(programs, slots=settings.slots, queue_size=settings.queue_size, metrics=metrics)
        self.routes = FastAPI(
            title="sw2",
            version=sw2.__version__,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            telemetry=_SILENT,
            responses={code: {"model": wire.Error, "description": text} for code, text in _REFUSALS.items()},
        )
        self.keys = Keys(settings.keys, settings.per_key, settings.names)
        self._gate = Gate(
            self.routes,
            keys=self.keys,
            limits=settings.limits,
            metrics=metrics,
            lines=lines,
            pages=settings.pages,
        )
        self.library: Library | None = None
        if settings.documents is not None:
            self.library = Library(settings.documents, settings.refresh_seconds, lines, DocumentsMeter(metrics))
        tools = ChatTools(settings.tools, settings.documents_as == "tool")
        for router in (
            chat_router(self._programs, self._conversations, self.library, tools),
            completions_router(self._programs),
            embeddings_router(self._programs),
            run_router(self._programs),
            operations_router(self._programs, metrics, lambda: self._gate.draining, self.library),
        ):
            self.routes.include_router(router)
        if self._conversations is not None:
            self.routes.include_router(feedback_router(self._conversations))
        self.routes.openapi = self._page  # type: ignore[method-assign]  # FastAPI's way to add to it
        for kind in (Sw2Error, ApiError, RequestValidationError, HTTPException, Exception):
            self.routes.add_exception_handler(kind, _refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)

    def open(self, name: str, program: Program) -> Served:
        """Serve one more program, which is known to `/v1` from now on; to be called in the event loop.

        What is no text has no route of its own under `/v1/run`: those are made, and described, when the server is.
        """
        return self._programs.add(name, program)

    def _page(self) -> dict[str, Any]:
        """FastAPI's page, which it makes anew for new routes only, and what a running server knows: models and keys."""
        page = FastAPI.openapi(self.routes)
        paths, schemas = page["paths"], page["components"]["schemas"]
        for body, (capability, example) in _BODIES.items():
            names = [each.name for each in self._programs.all() if each.offers(capability)]
            if names:  # an enumeration of nothing is none
                schemas[body]["properties"]["model"]["enum"] = names
                schemas[body]["examples"] = [{"model": names[0], **example}]
        if everything := [each.name for each in self._programs.all()]:
            paths["/v1/models/{model}"]["get"]["parameters"][0]["schema"]["enum"] = everything
        if self.keys.needed:
            page["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, methods in paths.items():
                if path not in OPEN:
                    for operation in methods.values():
                        operation["security"] = [{"key": []}]
        return page

    async def drain(self, seconds: float) -> bool:
        """Take no new requests and wait for those under way, which are ended with 503 after so long.

        Returns:
            Whether all ended by themselves.
        """
        in_time = await self._gate.drain(seconds)
        self.close()
        return in_time

    def alive(self) -> bool:
        """Whether all workers work."""
        return self._programs.alive()

    def close(self) -> None:
        """End all workers, and what keeps the documents up to date."""
        if self.library is not None:
            self.library.close()
        self._programs.close()
        if self._conversations is not None:
            self._conversations.close()


_BODIES: Final[Mapping[str, tuple[type, Mapping[str, Any]]]] = {
    "Chat": (Chat, {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}),
    "Completion": (Generate, {"prompt": "Once upon a time", "max_tokens": 20}),
    "Embeddings": (Embed, {"input": ["a tree", "a wood"]}),
}
"""The bodies that name a model: what it has to be able to do, and the rest of an example."""

_REFUSALS: Final[Mapping[int | str, str]] = {
    400: "The request is malformed, out of range, too long, or not supported.",
    401: "There is no key, or a wrong one.",
    403: "The host name is not this machine's.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "The queue is full, or the key has too many requests under way.",
    500: "A mistake of the server.",
    503: "The server is going down.",
    504: "The answer took too long.",
    "4XX": "The request is not answered.",  # and no 422, which FastAPI would name by itself
}


async def _refuse(request: Request, error: Exception) -> Response:
    """What routes raise, in OpenAI's form."""
    if isinstance(error, RequestValidationError):
        refusal = first_fault(error.errors())
    elif isinstance(error, HTTPException):
        refusal = _of_http(request, error)
    else:
        refusal = api_error_of(error)
    holds = held(request.scope)
    holds.facts["code"] = refusal.code or refusal.body()["error"]["type"]
    if refusal.status == 500:
        holds.fault = error
    return refusal.response()


def _of_http(request: Request, error: HTTPException) -> ApiError:
    """What Starlette raises by itself: no such path, another method, a body that cannot be read."""
    if error.status_code == 404:
        return ApiError(404, f"There is nothing at {request.url.path!r}.", code="unknown_path")
    if error.status_code == 405:
        return ApiError(
            405, f"{request.method} is not for {request.url.path!r}.", code="method_not_allowed", headers=error.headers
        )
    return bad_request(str(error.detail))
