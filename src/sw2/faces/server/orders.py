"""From a request to orders for a worker: sampling, bounds, the room in the context, one seed for each choice.

What nobody says is what `sw2 run` takes (`parts.decoding.sampling.USUAL`). Without a seed each request draws its own;
the first choice of a request has the request's seed itself, so that one choice and the first of several are the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sw2.base.errors import UsageError
from sw2.base.seed import derive
from sw2.core.capabilities import Generate
from sw2.faces.server import wire
from sw2.faces.server.errors import ApiError, api_error_of, bad_request
from sw2.faces.server.worker import Order
from sw2.parts.decoding.constraint import Constraint
from sw2.parts.decoding.sampling import USUAL, Sampling

__all__ = ["check_stream", "constraint_of", "orders", "usage"]


def constraint_of(wanted: wire.ResponseFormat | None) -> Constraint | None:
    """What the answer has to be as a whole; None where it may be any text.

    Raises:
        ApiError: 400, there is no schema, or plainly none that could be followed. More is found when it is compiled.
    """
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Constraint.json_schema({"type": "object"})
    if wanted.json_schema is None:
        raise bad_request("response_format.json_schema: it is missing.", param="response_format.json_schema")
    try:
        return Constraint.json_schema(wanted.json_schema.schema_)
    except UsageError as error:
        raise api_error_of(error, param="response_format.json_schema.schema") from error


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
    constraint: Constraint | None = None,
    whose: str = "",
) -> list[Order]:
    """The orders of a request: for each prompt its choices, one after the other.

    Args:
        max_tokens: the most tokens of each; None for as many as fit, which is also what more is taken for.
        logprobs: None, or how many of the likeliest tokens to name in each place.
        param: what prompts are called in the request.
        constraint: what each answer has to be.
        whose: who asks.

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
                constraint=constraint,
                whose=whose,
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
