"""/v1/run/{program}: answers of every other kind of task, described from the program's own kinds.

    {"inputs": [{"image": "data:image/png;base64,…"}, …]}  →  {"model": …, "answers": [{"label": …, …}, …]}

Each such program has a route of its own, so that the OpenAPI page says what it takes and gives.

    kind           in JSON
    image          the picture's file in base64, perhaps as a data URL; never a path
    text, document a text; never a path
    label          a text, one of its options where they are known
    distribution   an object of numbers
    number         a number
    vector         a list of numbers
    boolean        true or false
    record         any value
    conversation   messages, or {"messages": […], "tools": […]}

An input that has a default may be left out.

What it does not do: programs that write text, which have routes of their own and are asked there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model
from starlette.responses import JSONResponse, Response

from sw2.base.names import pick
from sw2.base.store import finite
from sw2.core.kinds import Kind
from sw2.faces.server import wire
from sw2.faces.server.chat import plain_messages
from sw2.faces.server.errors import bad_request
from sw2.faces.server.gate import held
from sw2.faces.server.programs import Programs, Served
from sw2.faces.server.writing import reserve

__all__ = ["run_router"]

_MOST_INPUTS: Final = 256
_STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


_PICTURE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
"""A PNG of one grey pixel, as an example."""


class _Conversation(BaseModel):
    model_config = _STRICT

    messages: Annotated[list[wire.Message], Field(min_length=1)]
    tools: list[dict[str, Any]] = []


_TAKEN: Final[Mapping[str, Any]] = {
    "image": Annotated[
        str,
        Field(min_length=1, description="The picture's file in base64, perhaps as a data URL.", examples=[_PICTURE]),
    ],
    "text": str,
    "document": str,
    "label": str,
    "distribution": dict[str, float],
    "number": float,
    "vector": list[float],
    "boolean": bool,
    "record": Any,
    "conversation": Annotated[
        Annotated[_Conversation, Tag("an object")] | Annotated[list[wire.Message], Field(min_length=1), Tag("a list")],
        Discriminator(lambda value: "a list" if isinstance(value, list) else "an object"),
    ],
}
"""The type in JSON of each kind of input."""

_GIVEN: Final[Mapping[str, Any]] = {**_TAKEN, "image": str, "conversation": Any}
"""That of each kind of output."""


def run_router(programs: Programs) -> APIRouter:
    """A route for each program that does not write."""
    router = APIRouter()
    for served in programs.all():
        if served.writer is None:
            _add(router, served)

    @router.post("/v1/run/{program}", include_in_schema=False)
    async def elsewhere(program: str) -> Response:
        """What has no route of its own: an unknown program, or one that writes."""
        served = programs[program]
        paths = "/v1/chat/completions" if "Chat" in served.program.capabilities() else "/v1/completions"
        raise bad_request(f"The model '{served.name}' writes text; ask it at {paths}.", code="model_cannot")

    return router


def _add(router: APIRouter, served: Served) -> None:
    task = served.program.task
    title = "".join(part.capitalize() for part in served.name.replace(".", "-").replace("_", "-").split("-"))
    taken: dict[str, Any] = {
        name: (
            _typed(kind, _TAKEN),
            Field(default=... if kind.default is None else kind.default, description=kind.about or None),
        )
        for name, kind in task.inputs.items()
    }
    item: type[BaseModel] = create_model(f"{title}Input", __config__=_STRICT, **taken)
    body = create_model(
        f"{title}Inputs",
        __config__=_STRICT,
        inputs=(Annotated[list[item], Field(min_length=1, max_length=_MOST_INPUTS)], ...),  # type: ignore[arg-type,valid-type]
    )
    outputs: dict[str, Any] = {each: (_typed(output, _GIVEN), ...) for each, output in task.outputs.items()}
    answer = create_model(f"{title}Answer", **outputs)
    answers = create_model(f"{title}Answers", model=(str, ...), answers=(list[answer], ...))  # type: ignore[arg-type,valid-type]

    async def run(request: Request, asked: Any) -> Response:
        held(request.scope).facts["model"] = served.name
        raws = [_question(task.inputs, each, f"inputs[{n}]") for n, each in enumerate(asked.inputs)]
        reserve(request.scope, served, 1)
        found = await served.worker.call(lambda: served.program.map(raws))
        return JSONResponse(finite({"model": served.name, "answers": [dict(each) for each in found]}))

    # FastAPI reads the body's type from the signature.
    run.__annotations__["asked"] = body
    router.add_api_route(
        f"/v1/run/{served.name}",
        run,
        methods=["POST"],
        response_model=answers,
        tags=["run"],
        name=f"run {served.name}",
        operation_id=f"run_{served.name}",
        description=f"Answers of the program '{served.name}' for {task.name}.",
    )


def _typed(kind: Kind, types: Mapping[str, Any]) -> Any:
    """The type in JSON of one input or output; what was cut off is no option."""
    if not kind.options:
        return pick("kind", kind.name, types)
    return Literal[kind.options] if types is _TAKEN else Literal[kind.options] | None


def _question(kinds: Mapping[str, Kind], given: BaseModel, param: str) -> Any:
    """The raw question of a request: the value of a single input, or a mapping."""
    raws = {name: _raw(kind, getattr(given, name), f"{param}.{name}") for name, kind in kinds.items()}
    return raws if len(raws) > 1 else next(iter(raws.values()))


def _raw(kind: Kind, value: Any, param: str) -> Any:
    """The raw value that a program takes for what stands in a request.

    Raises:
        ApiError: 400.
    """
    plain: Mapping[str, Callable[[Any, str], Any]] = {"image": _picture, "conversation": _conversation}
    return plain[kind.name](value, param) if kind.name in plain else value


def _picture(text: str, param: str) -> bytes:
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise bad_request(f"{param}: a data URL must be in base64.", param=param)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"{param}: this is not base64: {error}", param=param) from error


def _conversation(value: Any, param: str) -> Any:
    del param
    if isinstance(value, _Conversation):
        return {"messages": plain_messages(value.messages), "tools": value.tools}
    return plain_messages(value)
