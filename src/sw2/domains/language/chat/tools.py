"""Tools: what a model may call, how a call is written, and the ones that the engine runs itself.

    The price is <tool_call>{"name": "calculator", "arguments": {"expression": "3 * 4.50"}}</tool_call>

is what a model writes; `message_of` makes it the message that everybody uses ("tool_calls" beside "content"). A text in
which a call cannot be understood stays a text, and `results` answers each of its calls with what was wrong: a model can
see that and try again, and nothing is lost.

Sources: the form of calls is that of Hermes and Qwen, https://github.com/NousResearch/Hermes-Function-Calling.

What it does not do: calls that run side by side, tools that take time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from sw2.base.names import pick
from sw2.domains.language.calculator import calculate
from sw2.domains.language.chat.template import Message, Schema

__all__ = ["TOOLS", "Call", "Tool", "beside_calls", "calculate", "calls_in", "message_of", "results", "schemas"]

_OPENING: Final = "<tool_call>"
_CALL: Final = re.compile(_OPENING + r"(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_LONGEST_RESULT: Final = 2000


@final
@dataclass(frozen=True)
class Tool:
    """A tool that the engine runs.

    Args:
        name: as models call it.
        description: one sentence for the model.
        parameters: a JSON schema of its arguments, an object.
        run: takes the arguments, whatever a model wrote there, and returns the result; raises ValueError with a
            sentence for the model.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str]

    @property
    def schema(self) -> Schema:
        """In the form that everybody uses."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


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
    found = list(_CALL.finditer(text))
    if not found:
        return text, []
    beside = [
        text[begin:end] for begin, end in zip([0, *(f.end() for f in found)], [*(f.start() for f in found), len(text)])
    ]
    return "\n".join(piece.strip() for piece in beside if piece.strip()), [_call(each.group(1)) for each in found]


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


def results(text: str, offered: Sequence[Schema]) -> list[Message] | None:
    """The messages that answer the calls in what a model wrote: none when it calls nothing.

    Args:
        text: what it wrote.
        offered: the tools that it was told of.

    Returns:
        A message for each call, in order; what is wrong with a call is its result. None when a call is understood and
        its tool is not one that the engine runs: then somebody else has to.
    """
    names = [_function(tool)["name"] for tool in offered]
    messages: list[Message] = []
    for call in calls_in(text)[1]:
        if not call.fault and call.name in names and call.name not in TOOLS:
            return None
        messages.append({"role": "tool", "name": call.name or "error", "content": _result(call, names)})
    return messages


def _result(call: Call, names: Sequence[str]) -> str:
    if call.fault:
        return f"error: this call is not understood: {call.fault}"
    if call.name not in names:
        return f"error: there is no tool {call.name!r}, only {', '.join(names) or 'none'}"
    try:
        return TOOLS[call.name].run(call.arguments)[:_LONGEST_RESULT]
    except ValueError as error:
        return f"error: {error}"


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
