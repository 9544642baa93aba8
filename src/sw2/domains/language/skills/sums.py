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

__all__ = ["evaluate", "written"]

_TOKEN: Final = re.compile(r"\s*(\d+(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+\.?|[-+*/()])")
_SAME: Final = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-"})
_LONGEST: Final = 400


def evaluate(expression: str) -> Decimal:
    """The value of an expression.

    >>> evaluate("2 * (3 + 0.50) - 1")
    Decimal('6.00')

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
    with decimal.localcontext(decimal.Context(prec=28)):
        value, rest = _sum(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"'{tokens[rest]}' is one too many")
    return value


def written(value: Decimal) -> str:
    """A value without exponent and without needless zeros.

    >>> written(evaluate("1.50 + 1.50")), written(evaluate("10 / 8"))
    ('3', '1.25')
    """
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _sum(tokens: list[str], at: int) -> tuple[Decimal, int]:
    value, at = _product(tokens, at)
    while at < len(tokens) and tokens[at] in "+-":
        right, end = _product(tokens, at + 1)
        value = value + right if tokens[at] == "+" else value - right
        at = end
    return value, at


def _product(tokens: list[str], at: int) -> tuple[Decimal, int]:
    value, at = _signed(tokens, at)
    while at < len(tokens) and tokens[at] in "*/":
        right, end = _signed(tokens, at + 1)
        if tokens[at] == "/" and not right:
            raise ValueError("division by zero")
        value = value * right if tokens[at] == "*" else value / right
        at = end
    return value, at


def _signed(tokens: list[str], at: int) -> tuple[Decimal, int]:
    if at >= len(tokens):
        raise ValueError("ends too early")
    token = tokens[at]
    if token == "-":
        value, at = _signed(tokens, at + 1)
        return -value, at
    if token == "(":
        value, at = _sum(tokens, at + 1)
        if at >= len(tokens) or tokens[at] != ")":
            raise ValueError("a parenthesis is not closed")
        return value, at + 1
    if token in "+*/)":
        raise ValueError(f"'{token}' where a number should be")
    return Decimal(token.replace(",", "")), at + 1
