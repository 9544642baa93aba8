"""A calculator: numbers, + - * / // % ** and parentheses, as Python reads them, in exact fractions.

    sum     = product (("+" | "-") product)*
    product = sign (("*" | "/" | "//" | "%") sign)*
    sign    = ("+" | "-") sign | atom ["**" sign]
    atom    = number | "(" sum ")"

A parser, not `eval`: a text can only ever become a number or an error, and sums of money are right. × ÷ − are read as
* / -, commas between thousands are read over. Lengths, depths and sizes are bounded.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Final, NoReturn

__all__ = ["calculate", "spelled", "steps"]

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
    return spelled(steps(expression)[-1])


def steps(expression: str) -> list[Fraction]:
    """The value of each operation of an expression in turn, that of the whole last.

    >>> steps("2 * (3 + 4.50)")
    [Fraction(15, 2), Fraction(15, 1)]

    Raises:
        ValueError: as `calculate`.
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"the expression is longer than {_LONGEST} characters")
    parser = _Parser(expression)
    value = parser.whole()
    return parser.steps if value in parser.steps[-1:] else [*parser.steps, value]


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
        self.steps: list[Fraction] = []

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
            value = self._step(value + other if operator == "+" else value - other)
        return value

    def _product(self) -> Fraction:
        value = self._sign()
        while operator := self._next("*", "/", "//", "%"):
            other = self._sign()
            if operator == "*":
                value = self._step(value * other)
                continue
            if not other:
                raise ValueError("division by zero")
            if operator == "/":
                value = self._step(value / other)
            else:
                value = self._step(Fraction(value // other) if operator == "//" else value % other)
        return value

    def _step(self, value: Fraction) -> Fraction:
        self.steps.append(_bounded(value))
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
        return self._step(_power(base, exponent))

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


def spelled(value: Fraction) -> str:
    """As a decimal: exact up to 30 digits, otherwise rounded to 12."""
    for digits in (30, 12):
        context = Context(prec=digits)
        decimal = context.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(context)
        if not context.flags[Inexact]:
            break
    return f"{decimal:f}" if not decimal or 1e-9 <= abs(decimal) < 1e30 else f"{decimal:e}"
