"""The calculator's values as decimals: what examples are made with and answers are judged by.

A quotient that does not end keeps 28 digits.
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction

from sw2.domains.language import calculator

__all__ = ["evaluate", "steps", "written"]


def evaluate(expression: str) -> Decimal:
    """The value of an expression.

    >>> evaluate("2 * (3 + 0.50) - 1")
    Decimal('6')

    Raises:
        ValueError: it is no expression, or it divides by zero.
    """
    return steps(expression)[-1]


def steps(expression: str) -> list[Decimal]:
    """The value of each operation of an expression in turn, that of the whole last.

    Raises:
        ValueError: as `evaluate`.
    """
    context = Context(prec=28)
    values = calculator.steps(expression)
    return [context.divide(Decimal(each.numerator), Decimal(each.denominator)) for each in values]


def written(value: Decimal) -> str:
    """A value as the calculator writes it.

    >>> written(Decimal("3.00")), written(evaluate("10 / 8"))
    ('3', '1.25')
    """
    return calculator.spelled(Fraction(value))
