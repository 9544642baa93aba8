"""What chats and completions have in common: a job whose places are held, and its answer as one or as a stream.

The routes differ in how a piece becomes a choice. All that can be refused is refused before a stream begins, so that it
has its status; what goes wrong later is the stream's last event.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from pydantic import BaseModel
from starlette.responses import StreamingResponse

from sw2.faces.server.errors import api_error_of
from sw2.faces.server.gate import held, sse
from sw2.faces.server.programs import Served
from sw2.faces.server.worker import Job, Order

__all__ = [
    "STREAMED",
    "Head",
    "begin",
    "beside_the_loop",
    "finite_logprob",
    "in_its_own_thread",
    "reserve",
    "stream_of",
]

T = TypeVar("T")

STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The answer, or with `stream` its chunks.", "content": {"text/event-stream": {}}}
}
"""For OpenAPI."""

_LEAST_LOGPROB: Final = -9999.0


@final
@dataclass(frozen=True)
class Head:
    """What all chunks of an answer begin with."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, kind: str, model: str) -> Head:
        """That of a new answer, whose id begins with `kind`."""
        return cls(f"{kind}-{secrets.token_hex(12)}", int(time.time()), model)


async def beside_the_loop(function: Callable[..., T], *arguments: object) -> T:
    """Run what takes a processor's time (templates, tokenizers) in a thread, so that streams go on."""
    return await asyncio.to_thread(function, *arguments)


async def in_its_own_thread(function: Callable[..., T], *arguments: object) -> T:
    """Run what may take any time, such as somebody's tool: it holds up nothing else, nor the end of the process."""
    future: Future[T] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # the caller's
                future.set_exception(error)

    threading.Thread(target=run, name="tool", daemon=True).start()
    return await asyncio.wrap_future(future)


def reserve(scope: MutableMapping[str, Any], served: Served, places: int) -> None:
    """Take places, which the request holds until it ends; before its prompt is read, which takes time as well.

    Raises:
        ApiError: 429, the queue is full; 400, it never has so many places.
    """
    held(scope).release.callback(served.worker.reserve(places))


async def begin(scope: MutableMapping[str, Any], served: Served, orders: Sequence[Order]) -> Job:
    """Queue `orders`, for which places are reserved; what is under way of them ends with the request.

    Raises:
        ApiError: 400, the engine refuses one of them.
    """
    holds = held(scope)
    job = served.worker.write(orders)
    holds.release.callback(job.cancel)
    await job.accepted()
    read = sum(len(order.prompt) for order in orders)
    holds.facts["prompt_tokens"] = holds.facts.get("prompt_tokens", 0) + read
    holds.facts.setdefault("completion_tokens", 0)
    return job


def stream_of(chunks: AsyncIterator[BaseModel]) -> StreamingResponse:
    """Server-sent events: the chunks, and OpenAI's mark of the end."""

    async def events() -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield sse(chunk.model_dump(exclude_unset=True))
        except Exception as error:
            refusal = api_error_of(error)
            yield sse(refusal.body())
            if refusal.code == "internal_error":
                raise
            return
        yield b"data: [DONE]\n\n"

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def finite_logprob(logprob: float | None) -> float:
    """The logarithm as JSON has it; OpenAI's number stands for what is next to impossible.

    >>> finite_logprob(float("-inf"))
    -9999.0
    """
    assert logprob is not None, "they were asked for"
    return logprob if math.isfinite(logprob) else _LEAST_LOGPROB
