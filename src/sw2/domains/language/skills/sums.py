"""The value of an expression in exact decimals: what examples are made with and answers are judged by.

    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/") signed)*
    signed  = "-" signed | number | "(" sum ")"

A parser, not `eval`: a text can only ever become a number or an error. × ÷ − are read as * / -, and commas between
thousands are read over. A quotient that does not end keeps 28 digits.
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from typing import Final

__all__ = ["evaluate", "steps", "written"]

_TOKEN: Final = re.compile(r"\s*(\d+(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+\.?|[-+*/()])")
_SAME: Final = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-"})
_LONGEST: Final = 400
_DEEPEST: Final = 50


def evaluate(expression: str) -> Decimal:
    """The value of an expression.

    >>> evaluate("2 * (3 + 0.50) - 1")
    Decimal('6.00')

    Raises:
        ValueError: it is no expression, or it divides by zero.
    """
    return steps(expression)[-1]


def steps(expression: str) -> list[Decimal]:
    """The value of each operation of an expression in turn, that of the whole last.

    >>> steps("2 * (3 + 0.50) - 1")
    [Decimal('3.50'), Decimal('7.00'), Decimal('6.00')]

    Raises:
        ValueError: it is no expression, or it divides by zero.
    """
    text = expression.translate(_SAME).strip()
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} characters")
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"'{text[at:].strip()[:20]}' is no number, operator or parenthesis")
        tokens.append(found.group(1))
        at = found.end()
    parser = _Parser(tokens)
    with decimal.localcontext(decimal.Context(prec=28)):
        value = parser.sum()
    if parser.at != len(tokens):
        raise ValueError(f"'{tokens[parser.at]}' is one too many")
    return parser.steps if value in parser.steps[-1:] else [*parser.steps, value]


def written(value: Decimal) -> str:
    """A value without exponent and without needless zeros.

    >>> written(evaluate("1.50 + 1.50")), written(evaluate("10 / 8"))
    ('3', '1.25')
    """
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


class _Parser:
    """Recursive descent over `tokens`, of which those before `at` are read."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0
        self.steps: list[Decimal] = []

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def sum(self) -> Decimal:
        value = self.product()
        while self.next() in ("+", "-"):
            operator, right = self.take(), self.product()
            value = value + right if operator == "+" else value - right
            self.steps.append(value)
        return value

    def product(self) -> Decimal:
        value = self.signed()
        while self.next() in ("*", "/"):
            operator, right = self.take(), self.signed()
            if operator == "/" and not right:
                raise ValueError("division by zero")
            value = value * right if operator == "*" else value / right
            self.steps.append(value)
        return value

    def signed(self) -> Decimal:
        if not self.next():
            raise ValueError("ends too early")
        token = self.take()
        if token in ("-", "("):
            self.depth += 1
            if self.depth > _DEEPEST:
                raise ValueError(f"nested deeper than {_DEEPEST}")
            value = -self.signed() if token == "-" else self.sum()
            self.depth -= 1
            if token == "(" and (not self.next() or self.take() != ")"):
                raise ValueError("a parenthesis is not closed")
            return value
        if token in "+*/)":
            raise ValueError(f"'{token}' where a number should be")
        return Decimal(token.replace(",", ""))
