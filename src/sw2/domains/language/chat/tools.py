"""Tools: what a model may call, how a call is written, and the ones that the engine runs itself.

    The price is <tool_call>{"name": "calculator", "arguments": {"expression": "3 * 4.50"}}</tool_call>

is what a model writes; `message_of` makes it the message that everybody uses ("tool_calls" beside "content"). A text in
which a call cannot be understood stays a text, and `results` answers each of its calls with what was wrong: a model can
see that and try again, and nothing is lost.

The calculator is a parser, not `eval`: numbers, + - * / // % ** and parentheses, as Python reads them, in exact
fractions, so that sums of money are right; × ÷ − and commas between thousands are understood too. Lengths, depths and
sizes are bounded.

Sources: the form of calls is that of Hermes and Qwen, https://github.com/NousResearch/Hermes-Function-Calling.

What it does not do: calls that run side by side, tools that take time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Any, Final, NoReturn, final

from sw2.base.names import pick
from sw2.domains.language.chat.template import Message, Schema

__all__ = ["TOOLS", "Call", "Tool", "calculate", "calls_in", "message_of", "results", "schemas"]

_CALL: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
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


# ------------------------------------------------------------------------------------------------------- calculator

_TOKEN: Final = re.compile(r"\s*(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+|\*\*|//|[-+*/%()])")
_SAME: Final = str.maketrans({"×": "*", "÷": "/", "−": "-"})
_LONGEST: Final = 400
_DEEPEST: Final = 50
_LARGEST_BITS: Final = 4096


def calculate(expression: str) -> str:
    """The value of an arithmetic expression.

    >>> calculate("2 * (3 + 4.50)"), calculate("2 ** 10 % 1000"), calculate("1 / 3"), calculate("-7 // 2")
    ('15', '24', '0.333333333333', '-4')

    Raises:
        ValueError: it is no such expression, divides by zero, or is too long or too large.
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"the expression is longer than {_LONGEST} characters")
    return _spelled(_Parser(expression).whole())


class _Parser:
    """Python's precedence, by recursive descent: sum, product, sign, power, atom."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        text = text.translate(_SAME).rstrip()
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(
                    f"{text[at:].strip()[:1]!r} is not understood; there are + - * / // % ** ( ) and numbers"
                )
            self._tokens.append(found.group().strip().replace(",", ""))
            at = found.end()
        self._at = 0
        self._depth = 0

    def whole(self) -> Fraction:
        value = self._sum()
        if self._at < len(self._tokens):
            self._unexpected()
        return value

    def _next(self, *wanted: str) -> str | None:
        """The next token if it is one of these, which is then taken."""
        if self._at < len(self._tokens) and self._tokens[self._at] in wanted:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def _unexpected(self) -> NoReturn:
        there = repr(self._tokens[self._at]) if self._at < len(self._tokens) else "the end"
        raise ValueError(
            f"a number was expected instead of {there}" if there == "the end" else f"{there} does not fit here"
        )

    def _sum(self) -> Fraction:
        value = self._product()
        while operator := self._next("+", "-"):
            other = self._product()
            value = _bounded(value + other if operator == "+" else value - other)
        return value

    def _product(self) -> Fraction:
        value = self._sign()
        while operator := self._next("*", "/", "//", "%"):
            other = self._sign()
            if operator == "*":
                value = _bounded(value * other)
                continue
            if not other:
                raise ValueError("division by zero")
            if operator == "/":
                value = _bounded(value / other)
            else:
                value = Fraction(value // other) if operator == "//" else value % other
        return value

    def _sign(self) -> Fraction:
        if self._depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}")
        if operator := self._next("+", "-"):
            self._depth += 1
            value = self._sign()
            self._depth -= 1
            return -value if operator == "-" else value
        base = self._atom()
        if not self._next("**"):
            return base
        self._depth += 1
        exponent = self._sign()  # binds to the right, and takes a sign there
        self._depth -= 1
        return _power(base, exponent)

    def _atom(self) -> Fraction:
        if self._next("("):
            self._depth += 1
            value = self._sum()
            self._depth -= 1
            if not self._next(")"):
                raise ValueError("a parenthesis is not closed")
            return value
        if self._at >= len(self._tokens) or self._tokens[self._at] in "+-*/%()**//":
            self._unexpected()
        self._at += 1
        return Fraction(self._tokens[self._at - 1].removesuffix("."))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if not base and exponent < 0:
        raise ValueError("division by zero")
    if exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and bits * abs(exponent.numerator) > _LARGEST_BITS:
            raise ValueError("the result is too large")
        return Fraction(base**exponent.numerator)
    if base < 0:
        raise ValueError("a root of a negative number")
    try:
        return Fraction(float(base) ** float(exponent))
    except OverflowError:
        raise ValueError("the result is too large") from None


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _LARGEST_BITS:
        raise ValueError("the result is too large")
    return value


def _spelled(value: Fraction) -> str:
    """As a decimal: exact up to 30 digits, otherwise rounded to 12."""
    for digits in (30, 12):
        context = Context(prec=digits)
        decimal = context.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(context)
        if not context.flags[Inexact]:
            break
    return f"{decimal:f}" if not decimal or 1e-9 <= abs(decimal) < 1e30 else f"{decimal:e}"


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
