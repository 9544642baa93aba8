"""Tools: what a model may call, how a call is written, and the ones that the engine runs itself.

    The price is <tool_call>{"name": "calculator", "arguments": {"expression": "3 * 4.50"}}</tool_call>

is what a model writes; `message_of` makes it the message that everybody uses ("tool_calls" beside "content"), and
`calling` is the constraint under which it can write nothing else. A text in which a call cannot be understood stays a
text, and `results` answers each of its calls with what was wrong: a model can see that and try again, and nothing is
lost.

Sources: the form of calls is that of Hermes and Qwen, https://github.com/NousResearch/Hermes-Function-Calling.

What it does not do: calls that run side by side, tools that take time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sw2.base.errors import UsageError
from sw2.base.names import pick
from sw2.core.tools import Tool
from sw2.domains.language.calculator import calculate
from sw2.domains.language.chat.template import Message, Schema, plain_tool
from sw2.parts.decoding.constraint import Constraint

__all__ = ["TOOLS", "Call", "beside_calls", "calculate", "calling", "calls_in", "message_of", "results", "schemas"]

_OPENING: Final = "<tool_call>"
_CLOSING: Final = "</tool_call>"
_LONGEST_RESULT: Final = 2000
_JSON: Final = json.JSONDecoder()


@final
@dataclass(frozen=True)
class Call:
    """A call that a model wrote: whose, with what; or what is wrong with it."""

    name: str
    arguments: Mapping[str, Any]
    fault: str = ""


def calls_in(text: str) -> tuple[str, list[Call]]:
    """What a model wrote beside its calls, and the calls.

    >>> calls_in('Well. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    ('Well.', [Call(name='add', arguments={'a': 1}, fault='')])
    """
    found = list(_spans(text))
    if not found:
        return text, []
    begins, ends = [begin for begin, _, _ in found], [end for _, end, _ in found]
    beside = [text[begin:end] for begin, end in zip([0, *ends], [*begins, len(text)], strict=True)]
    return "\n".join(piece.strip() for piece in beside if piece.strip()), [_call(inside) for _, _, inside in found]


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each call begins and ends, and what stands inside."""
    end = 0
    while (begin := text.find(_OPENING, end)) >= 0:
        inside = begin + len(_OPENING)
        # An argument may spell the end of a call: what is JSON goes first to where its value ends.
        last = text.find(_CLOSING, _value_end(text, inside))
        end = len(text) if last < 0 else last + len(_CLOSING)
        yield begin, end, text[inside : len(text) if last < 0 else last]


def _value_end(text: str, begin: int) -> int:
    """Where the JSON value ends that begins here, white space before it left out; `begin` where there is none."""
    start = begin + len(text[begin:]) - len(text[begin:].lstrip())
    try:
        return _JSON.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return begin


def beside_calls(text: str) -> str:
    """The beginning of a text under way that is certainly no part of a call.

    >>> [beside_calls(text) for text in ("Well. <", "Well. <b>", 'Well. <tool_call>{"name"', "Well. ")]
    ['Well.', 'Well. <b>', 'Well.', 'Well.']
    """
    begin = text.find(_OPENING)
    if begin < 0:
        ends = range(min(len(_OPENING) - 1, len(text)), 0, -1)
        begin = len(text) - next((size for size in ends if text.endswith(_OPENING[:size])), 0)
    return text[:begin].rstrip()


def _call(text: str) -> Call:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Call("", {}, f"not JSON ({error})")
    name = value.get("name") if isinstance(value, dict) else None
    arguments = value.get("arguments", {}) if isinstance(value, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return Call("", {}, 'wanted {"name": a text, "arguments": an object}')
    return Call(name, arguments)


def message_of(text: str) -> Message:
    """The assistant's message that a written text stands for."""
    content, calls = calls_in(text)
    if not calls or any(call.fault for call in calls):
        return {"role": "assistant", "content": text}
    written = [
        {
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for call in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": written}


def results(text: str, offered: Sequence[Schema | Tool]) -> list[Message] | None:
    """The messages that answer the calls in what a model wrote: none when it calls nothing.

    Args:
        text: what it wrote.
        offered: the tools that it was told of. Of those that are only described, ours (`TOOLS`) are run.

    Returns:
        A message for each call, in order; what is wrong with a call is its result. None when a call is understood and
        its tool is not one that is run here: then somebody else has to, and nothing is run.
    """
    tools = dict(map(_runner, offered))
    calls = calls_in(text)[1]
    if any(not call.fault and call.name in tools and tools[call.name] is None for call in calls):
        return None
    return [{"role": "tool", "name": call.name or "error", "content": _result(call, tools)} for call in calls]


def _runner(tool: Schema | Tool) -> tuple[str, Tool | None]:
    """A tool's name, and what runs it here."""
    if isinstance(tool, Tool):
        return tool.name, tool
    name = str(_function(tool)["name"])
    return name, TOOLS.get(name)


def _result(call: Call, tools: Mapping[str, Tool | None]) -> str:
    if call.fault:
        return f"error: this call is not understood: {call.fault}"
    tool = tools.get(call.name)
    if tool is None:
        return f"error: there is no tool {call.name!r}, only {', '.join(tools) or 'none'}"
    try:
        return tool.run(call.arguments)[:_LONGEST_RESULT]
    except ValueError as error:
        return f"error: {error}"[:_LONGEST_RESULT]


def calling(offered: Sequence[Schema], *, in_text: bool = False, most: int | None = None) -> Constraint:
    """What a text has to be that is one call of one of these tools, or with `in_text` has such calls; see `core`'s.

    Raises:
        UsageError: arguments of a tool are not an object, or its schema cannot be followed.
    """
    frames = []
    for number, tool in enumerate(offered):
        function = plain_tool(tool, number)["function"]
        schema = function.get("parameters") or {"additionalProperties": False}  # without any there are none to give
        kind = schema.get("type", "object")
        if kind != "object":
            raise UsageError(
                "The arguments of a call are an object.",
                where=f"tool {function['name']}",
                wanted='parameters of "type": "object"',
                got=kind,
            )
        before = f'{_OPENING}{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "arguments": '
        frames.append((before, {**schema, "type": "object"}, "}" + _CLOSING))
    return Constraint.text_with_frames(_OPENING, frames, most) if in_text else Constraint.framed(frames)


def _function(tool: Schema) -> Mapping[str, Any]:
    function: Mapping[str, Any] = tool.get("function", tool)
    return function


def schemas(names: Sequence[str]) -> list[Schema]:
    """The tools of these names, as a conversation offers them.

    Raises:
        UnknownName: the engine has no such tool.
    """
    return [pick("tool", name, TOOLS).schema for name in names]


def _run_calculator(arguments: Mapping[str, Any]) -> str:
    expression = arguments.get("expression")
    if isinstance(expression, (int, float)) and not isinstance(expression, bool) and math.isfinite(expression):
        expression = str(expression)
    if not isinstance(expression, str):
        raise ValueError('wanted {"expression": "2 + 2"}')
    return calculate(expression)


_CALCULATOR: Final = Tool(
    "calculator",
    "The value of an expression.",
    {
        "type": "object",
        "properties": {"expression": {"type": "string", "description": "numbers, + - * / and parentheses"}},
        "required": ["expression"],
    },
    _run_calculator,
)

TOOLS: Final[Mapping[str, Tool]] = {tool.name: tool for tool in (_CALCULATOR,)}
