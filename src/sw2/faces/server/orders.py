"""From a request to orders for a worker: sampling, bounds, the room in the context, one seed for each choice.

What nobody says is what `sw2 run` takes (`parts.decoding.sampling.USUAL`). Without a seed each request draws its own;
the first choice of a request has the request's seed itself, so that one choice and the first of several are the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sw2.base.seed import derive
from sw2.core.capabilities import Generate
from sw2.faces.server import wire
from sw2.faces.server.errors import ApiError, bad_request
from sw2.faces.server.worker import Order
from sw2.parts.decoding.sampling import USUAL, Sampling

__all__ = ["check_stream", "orders", "refuse_format", "usage"]


def refuse_format(wanted: wire.ResponseFormat | None) -> None:
    """Refuse a form of answer that is not plain text.

    Raises:
        ApiError: 400.
    """
    if wanted is not None and wanted.type != "text":
        raise bad_request(
            f"response_format: {wanted.type!r} is not supported; only 'text' is.",
            param="response_format",
            code="unsupported_parameter",
        )


def check_stream(asked: wire.Common) -> None:
    """Refuse options of a stream where there is none.

    Raises:
        ApiError: 400.
    """
    if asked.stream_options is not None and not asked.stream:
        raise bad_request("stream_options: allowed only together with stream: true.", param="stream_options")


def sampling(asked: wire.Common) -> Sampling:
    """How the tokens of the first choice are chosen."""
    said: dict[str, Any] = {
        name: getattr(asked, name)
        for name in (
            *("temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
            *("presence_penalty", "frequency_penalty"),
        )
        if getattr(asked, name) is not None
    }
    if asked.logit_bias:
        biases = {int(token): bias for token, bias in asked.logit_bias.items()}
        if len(biases) < len(asked.logit_bias):
            raise bad_request("logit_bias: a token stands here twice.", param="logit_bias")
        said["logit_bias"] = tuple(biases.items())
    seed = secrets.randbits(63) if asked.seed is None else asked.seed % 2**64
    return replace(USUAL, seed=seed, **said)


def orders(
    asked: wire.Common,
    prompts: Sequence[Sequence[int]],
    writer: Generate,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    param: str,
) -> list[Order]:
    """The orders of a request: for each prompt its choices, one after the other.

    Args:
        max_tokens: the most tokens of each; None for as many as fit, which is also what more is taken for.
        logprobs: None, or how many of the likeliest tokens to name in each place.
        param: what prompts are called in the request.

    Raises:
        ApiError: 400, a prompt leaves no room.
    """
    first = sampling(asked)
    made = []
    for prompt in prompts:
        room = writer.context - len(prompt)
        if room < 1:
            raise ApiError(
                400,
                f"{param}: these are {len(prompt)} tokens; the model reads {writer.context}, of which one at least is "
                "the answer's. Shorten it.",
                param=param,
                code="context_length_exceeded",
            )
        made += [
            Order(
                prompt=prompt,
                sampling=first if choice == 0 else replace(first, seed=derive(first.seed, "choice", choice)),
                max_tokens=room if max_tokens is None else min(max_tokens, room),
                stop=asked.stops,
                logprobs=logprobs,
            )
            for choice in range(asked.n or 1)
        ]
    return made


def usage(made: Sequence[Order], choices: int, reused: Sequence[int], written: int) -> wire.Usage:
    """What a request took; a prompt counts once, however many choices there are."""
    read = sum(len(order.prompt) for order in made[::choices])
    return wire.Usage(
        prompt_tokens=read,
        completion_tokens=written,
        total_tokens=read + written,
        prompt_tokens_details=wire.PromptDetails(cached_tokens=sum(reused[::choices])),
    )
