"""A thread for each program: it owns the program's TextEngine, and hands pieces of text back to the event loop.

    handler ──write(orders)──→ inbox ──→ thread: submit · step · take ──pieces──→ Job, an async iterator
            ──call(function)─→                   or run it between two steps

Notable
- Everything that touches the network happens in the thread, one thing at a time; handlers only wait. The inbox is
  emptied between two steps, so a request joins the batch, and a request whose client is gone leaves it, after at most
  one step.
- The queue is bounded in *places*: a text under way or waiting takes one, an answer of another kind takes one. They are
  reserved before anything is queued, all that a request needs or none, and only by the event loop, so that they need no
  lock.
- A step that fails (the network gives no numbers) ends everything that was in it, each with the error; the thread lives
  on. Which of the requests was at fault cannot be told.

What it does not do: priorities, preemption, several event loops.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, final

from sw2.core.capabilities import Generate
from sw2.faces.server.errors import ApiError, api_error_of
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.decoding.text import TextEngine, TextPiece, TextRequest

__all__ = ["Job", "Order", "Worker", "Written"]

T = TypeVar("T")

_LONGEST_WAIT: Final = 60
"""Seconds that a client is told to wait at most."""

_Came = tuple[int, TextPiece] | ApiError | None
"""What comes to a job: a piece of one of its texts, the error that ends it, or None once it is accepted."""


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """One text to write.

    Args:
        prompt: tokens.
        sampling: how the next token is chosen.
        max_tokens: the most tokens to write, ≥ 1.
        stop: the text ends before the first of these strings.
        logprobs: None, or how many of the likeliest tokens to name in each place.
        constraint: what the text has to be.
        whose: who asked; what was read for others is not used for it.
    """

    prompt: Sequence[int]
    sampling: Sampling
    max_tokens: int
    stop: Sequence[str] = ()
    logprobs: int | None = None
    constraint: Constraint | None = None
    whose: str = ""


class Written(Protocol):
    """Told what a worker does, from its thread and from the loop's; `metrics.Meter` is one."""

    def queued(self, running: int, waiting: int) -> None:
        """So many texts or answers are under way, and so many wait."""

    def cache(self, use: float) -> None:
        """The share of the cache that running texts fill, after a step or when one was cut short."""

    def first_token(self, seconds: float) -> None:
        """A text began, so long after it was ordered."""

    def text(self, prompt: int, reused: int, written: int, seconds: float) -> None:
        """A text ended: tokens of its prompt, those that were known, those written, and how long the writing took."""


@final
class Job:
    """Texts under way; iterate it for their pieces as they come, each with its number among the orders.

    Attributes:
        reused: for each text how many tokens of its prompt were known; right once it has ended.
    """

    def __init__(self, worker: Worker, orders: Sequence[Order]) -> None:
        self.orders = orders
        self.reused = [0] * len(orders)
        self._worker = worker
        self._open = len(orders)
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[_Came] = asyncio.Queue()

    async def accepted(self) -> None:
        """Wait until the engine has taken all orders; to be awaited once, before iterating.

        Raises:
            ApiError: it refuses one, and none is under way.
        """
        came = await self._pieces.get()
        if isinstance(came, ApiError):
            raise came
        assert came is None, "the first thing that comes"

    async def __aiter__(self) -> AsyncIterator[tuple[int, TextPiece]]:
        while self._open:
            came = await self._pieces.get()
            if isinstance(came, ApiError):
                raise came
            assert came is not None, "it was awaited"
            self._open -= came[1].finished is not None
            yield came

    def cancel(self) -> None:
        """End what is still under way; its slots are free after the step that runs."""
        self._worker._inbox.put(_Cancel(self))

    def _give(self, pieces: Sequence[_Came]) -> None:
        """From the thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, pieces)
        except RuntimeError:  # the loop is closed, and nobody waits any more
            self.cancel()

    def _take(self, pieces: Sequence[_Came]) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)


@final
@dataclass(frozen=True)
class _Cancel:
    job: Job


@final
@dataclass(frozen=True)
class _Call:
    function: Callable[[], Any]
    future: Future[Any]


@final
@dataclass(frozen=True)
class _End:
    error: ApiError


@final
@dataclass
class _Text:
    """A text in the engine, of which job it is, and when it was ordered and begun."""

    job: Job
    number: int
    ordered: float
    begun: float = 0.0
    written: int = 0


@final
class Worker:
    """Writes texts, or calls a program, in its own thread.

    Args:
        writer: what writes; None for a program that is only called.
        slots: how many texts run at once, ≥ 1.
        queue_size: how many more may wait, ≥ 0.
        meter: told what happens.

    Attributes:
        places: how many texts or answers may be here at once, running ones included.
    """

    def __init__(self, name: str, writer: Generate | None, *, slots: int, queue_size: int, meter: Written) -> None:
        self._slots = slots if writer is not None else 1
        self.places = self._slots + queue_size
        self._taken = 0
        self._meter = meter
        self._seconds = 1.0  # of a text or answer, a moving average
        self._inbox: queue.SimpleQueue[Job | _Cancel | _Call | _End] = queue.SimpleQueue()
        self._engine: TextEngine | None = None if writer is None else writer.text_engine(slots)
        self._texts: dict[TextRequest, _Text] = {}
        self._thread = threading.Thread(target=self._run, name=f"worker of {name}", daemon=True)
        self._thread.start()

    # -- in the event loop ---------------------------------------------------------------------------------------

    def reserve(self, places: int) -> Callable[[], None]:
        """Take places and return what gives them back.

        Raises:
            ApiError: there never are so many (400), or not now (429, with the seconds after which to ask again).
        """
        if places > self.places:
            raise ApiError(
                400, f"This asks for {places} answers at once; the server has room for {self.places}.", param="n"
            )
        if self._taken + places > self.places:
            wait = math.ceil(self._seconds * (self._taken + places - self.places) / self._slots)
            raise ApiError(
                429,
                f"The queue is full: {self._taken} of {self.places} places are taken. Ask again later.",
                code="queue_full",
                headers={"retry-after": str(min(max(wait, 1), _LONGEST_WAIT))},
            )
        self._take(places)
        return lambda: self._take(-places)

    def _take(self, places: int) -> None:
        self._taken += places
        running = min(self._taken, self._slots)
        self._meter.queued(running, self._taken - running)

    def write(self, orders: Sequence[Order]) -> Job:
        """Queue texts; their places were reserved. Cancel the job when nobody wants it any more."""
        job = Job(self, orders)
        self._inbox.put(job)
        return job

    async def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the thread, between two steps; its place was reserved. Not begun if nobody waits for it."""
        future: Future[T] = Future()
        self._inbox.put(_Call(function, future))
        return await asyncio.wrap_future(future)

    def alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive()

    def close(self, seconds: float = 10) -> None:
        """End everything that is under way with 503, and the thread; waits for it so long."""
        self._inbox.put(_End(ApiError(503, "The server is going down.", code="shutting_down")))
        self._thread.join(seconds)

    # -- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                came = self._inbox.get(block=not self._texts)
            except queue.Empty:
                self._step()
                continue
            if isinstance(came, _End):
                self._refuse(came.error)
                return
            if isinstance(came, Job):
                self._submit(came)
            elif isinstance(came, _Cancel):
                self._drop(came.job)
            else:
                self._call(came)

    def _submit(self, job: Job) -> None:
        assert self._engine is not None, "handlers ask for what the program can do"
        now = time.perf_counter()
        try:
            for number, order in enumerate(job.orders):
                request = self._engine.submit(
                    order.prompt,
                    order.sampling,
                    max_tokens=order.max_tokens,
                    stop=order.stop,
                    logprobs=order.logprobs,
                    constraint=order.constraint,
                    whose=order.whose,
                )
                self._texts[request] = _Text(job, number, now)
        except Exception as error:  # whatever it is, it is this job's and not the thread's
            self._drop(job)
            job._give([api_error_of(error)])
        else:
            job._give([None])

    def _drop(self, job: Job) -> None:
        assert self._engine is not None
        for request in [request for request, text in self._texts.items() if text.job is job]:
            self._engine.cancel(request)
            self._ended(request, time.perf_counter())
        self._meter.cache(self._engine.cache_use())

    def _call(self, call: _Call) -> None:
        if not call.future.set_running_or_notify_cancel():
            return
        begun = time.perf_counter()
        try:
            call.future.set_result(call.function())
        except Exception as error:  # the caller's
            call.future.set_exception(error)
        self._took(time.perf_counter() - begun)

    def _step(self) -> None:
        assert self._engine is not None
        try:
            fresh = self._engine.step()
        except Exception as error:
            self._fail(api_error_of(error))
            return
        now = time.perf_counter()
        given: dict[Job, list[_Came]] = {}
        for request in fresh:
            piece, text = request.take(), self._texts.get(request)
            if piece is None or text is None:
                continue
            if not text.begun:
                text.begun = now
                self._meter.first_token(now - text.ordered)
            text.written += len(piece.tokens)
            if piece.finished is not None:
                text.job.reused[text.number] = request.request.reused
                self._took(now - text.ordered)
                self._ended(request, now)
            given.setdefault(text.job, []).append((text.number, piece))
        self._meter.cache(self._engine.cache_use())
        for job, pieces in given.items():
            job._give(pieces)

    def _ended(self, request: TextRequest, now: float) -> None:
        """Forget a text, and count it if it began."""
        text = self._texts.pop(request)
        if text.begun:
            self._meter.text(len(request.request.prompt), request.request.reused, text.written, now - text.begun)

    def _refuse(self, error: ApiError) -> None:
        """Fail what is under way and what still waits in the inbox."""
        self._fail(error)
        while not self._inbox.empty():
            came = self._inbox.get()
            if isinstance(came, Job):
                came._give([error])
            elif isinstance(came, _Call) and came.future.set_running_or_notify_cancel():
                came.future.set_exception(error)

    def _fail(self, error: ApiError) -> None:
        """End everything that is under way."""
        for job in {text.job for text in self._texts.values()}:
            self._drop(job)
            job._give([error])

    def _took(self, seconds: float) -> None:
        self._seconds += 0.1 * (seconds - self._seconds)
