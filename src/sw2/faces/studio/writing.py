"""Texts for the page, from the same workers and under the same limits as the routes' of /v1.

A page is drawn anew with every piece, so pieces are joined to a dozen a second: a small network writes faster than a
browser draws. Closing the iterator (a person pressed Stop, or closed the page) frees the text's slot after the step
that runs.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from html import escape
from typing import Any, Final, NamedTuple

import gradio as gr
from pydantic import ValidationError

from sw2.base.errors import Sw2Error
from sw2.core.capabilities import Generate
from sw2.faces.server import wire
from sw2.faces.server.errors import ApiError
from sw2.faces.server.gate import Held, held
from sw2.faces.server.orders import orders
from sw2.faces.server.programs import Served
from sw2.faces.studio.look import fragment
from sw2.parts.decoding.text import Finish

__all__ = ["Piece", "asker", "told", "write"]

_BETWEEN: Final = 0.08
"""Seconds between two pieces at least."""


class Piece(NamedTuple):
    """All that was written so far, and why it ended, once it has."""

    text: str
    finished: Finish | None


def asker(request: gr.Request) -> Held:
    """Who asks (`who`), by the key that a browser has handed over, and by which names they go (`names`)."""
    assert request.request is not None, "it came over HTTP"
    return held(request.request.scope)


async def write(
    served: Served, prompt: Sequence[int], max_tokens: int, whose: str, **settings: Any
) -> AsyncIterator[Piece]:
    """Write on from a prompt.

    Args:
        served: a program that writes.
        prompt: tokens.
        max_tokens: the most tokens to write; as many as fit where these are more.
        whose: who asks; what was read for others is not used for them.
        settings: temperature, top_p, seed, as in OpenAI's API; None for what is usual.

    Raises:
        ApiError: the prompt is too long, the queue is full, or a setting is out of range.
    """
    writer = served.capability(Generate)  # type: ignore[type-abstract]
    try:
        asked = wire.Common(model=served.name, **settings)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ApiError(400, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    release = served.worker.reserve(1)
    try:
        made = orders(asked, [prompt], writer, max_tokens=max_tokens, logprobs=None, param="What was said", whose=whose)
        job = served.worker.write(made)
        text, shown = "", 0.0
        try:
            await job.accepted()
            async for _, piece in job:
                text += piece.text
                if piece.finished is not None or time.monotonic() - shown > _BETWEEN:
                    shown = time.monotonic()
                    yield Piece(text, piece.finished)
        finally:
            job.cancel()
    finally:
        release()


def told(error: Sw2Error | ApiError) -> str:
    """What a person sees of an error, as HTML: what is wrong and what to do."""
    text = error.message if isinstance(error, ApiError) else str(error)
    return fragment(f'<div class="sw2"><p class="fault" role="alert">{escape(text)}</p></div>')
