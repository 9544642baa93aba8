"""What the server measures, in Prometheus' text form.

    sw2_requests_total{route,status}          answered, refused and given up (499: the client hung up)
    sw2_request_seconds{route}                from the first byte of a request to the last of its answer
    sw2_requests_in_flight
    sw2_prompt_tokens_total{model}            read; of these sw2_reused_prompt_tokens_total were known already
    sw2_written_tokens_total{model}           its rate is the tokens per second of a model
    sw2_text_tokens_per_second{model}         of each text, from its first token on
    sw2_first_token_seconds{model}            from the order of a text to its first piece, waiting included
    sw2_slots{model}, sw2_slots_in_use{model}, sw2_queue_length{model}
    sw2_cache_use{model}                      the share of the cache of keys and values that running texts fill, 0 to 1

and where chats are answered from documents

    sw2_documents_files, sw2_documents_passages, sw2_documents_embedded_passages
    sw2_documents_refreshes_total{result}     "done" or "failed"
    sw2_documents_refreshed_seconds           when the last one was done, in seconds since 1970
    sw2_documents_search_seconds              how long it took to find passages for a question
    sw2_documents_answers_total{model,how}    "answered", "quoted" or "refused"

The tokens of a text that was cut short, because its client hung up or its time was over, count as those of others.

Labels are routes as they are registered and names of served programs, never what a client spelled, so that their
number is bounded. Each server has its own registry; several in one process do not add up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final, final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sw2.core.documents import Embedded, Refreshed

__all__ = ["CONTENT_TYPE", "DocumentsMeter", "Meter", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_RATES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@final
class Metrics:
    """All metrics of a server.

    Attributes:
        registry: where they are.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        model = ["model"]
        self._requests = Counter("sw2_requests", "Requests.", ["route", "status"], registry=registry)
        self._request_seconds = Histogram(
            "sw2_request_seconds", "How long requests took.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._in_flight = Gauge("sw2_requests_in_flight", "Requests under way.", registry=registry)
        self.prompt_tokens = Counter("sw2_prompt_tokens", "Tokens of prompts.", model, registry=registry)
        self.reused_tokens = Counter(
            "sw2_reused_prompt_tokens", "Tokens of prompts that were known already.", model, registry=registry
        )
        self.written_tokens = Counter("sw2_written_tokens", "Tokens written.", model, registry=registry)
        self.rate = Histogram(
            "sw2_text_tokens_per_second", "Speed of each text.", model, buckets=_RATES, registry=registry
        )
        self.first_token = Histogram(
            "sw2_first_token_seconds", "Time to the first token.", model, buckets=_SECONDS, registry=registry
        )
        self.slots = Gauge("sw2_slots", "Texts that run at once.", model, registry=registry)
        self.slots_in_use = Gauge("sw2_slots_in_use", "Texts that run now.", model, registry=registry)
        self.cache_use = Gauge("sw2_cache_use", "Share of the cache that running texts fill.", model, registry=registry)
        self.queue_length = Gauge("sw2_queue_length", "Texts or answers that wait.", model, registry=registry)

    def begun(self) -> None:
        """A request came."""
        self._in_flight.inc()

    def ended(self, route: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._in_flight.dec()
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)


@final
class Meter:
    """The metrics of one model; a worker tells it what happens."""

    def __init__(self, metrics: Metrics, model: str, slots: int) -> None:
        self._prompt = metrics.prompt_tokens.labels(model)
        self._reused = metrics.reused_tokens.labels(model)
        self._written = metrics.written_tokens.labels(model)
        self._rate = metrics.rate.labels(model)
        self._first_token = metrics.first_token.labels(model)
        self._in_use = metrics.slots_in_use.labels(model)
        self._waiting = metrics.queue_length.labels(model)
        self._cache = metrics.cache_use.labels(model)
        metrics.slots.labels(model).set(slots)

    def queued(self, running: int, waiting: int) -> None:
        self._in_use.set(running)
        self._waiting.set(waiting)

    def cache(self, use: float) -> None:
        self._cache.set(use)

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def text(self, prompt: int, reused: int, written: int, seconds: float) -> None:
        self._prompt.inc(prompt)
        self._reused.inc(reused)
        self._written.inc(written)
        if written > 1 and seconds > 0:  # the first token is there when the clock starts
            self._rate.observe((written - 1) / seconds)


@final
class DocumentsMeter:
    """The metrics of the documents; a server without any has none of them."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._files = Gauge("sw2_documents_files", "Documents that were read.", registry=registry)
        self._passages = Gauge("sw2_documents_passages", "Passages of documents.", registry=registry)
        self._embedded = Gauge("sw2_documents_embedded_passages", "Passages with a vector.", registry=registry)
        self._refreshes = Counter("sw2_documents_refreshes", "Refreshes.", ["result"], registry=registry)
        self._refreshed = Gauge("sw2_documents_refreshed_seconds", "When the last refresh was done.", registry=registry)
        self._seconds = Histogram(
            "sw2_documents_search_seconds", "How long finding passages took.", buckets=_SECONDS, registry=registry
        )
        self._answers = Counter("sw2_documents_answers", "Answers.", ["model", "how"], registry=registry)

    def refreshed(self, done: Refreshed) -> None:
        """A refresh is done."""
        self._files.set(done.files)
        self._passages.set(done.passages)
        self._refreshes.labels("done").inc()
        self._refreshed.set(time.time())

    def failed(self) -> None:
        """A refresh failed, or the embedding after it."""
        self._refreshes.labels("failed").inc()

    def embedded(self, far: Embedded) -> None:
        """So many passages have a vector."""
        self._embedded.set(far.embedded)

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        """Passages are looked for inside."""
        with self._seconds.time():
            yield

    def settled(self, model: str, how: str) -> None:
        """A question was answered or not."""
        self._answers.labels(model, how).inc()
