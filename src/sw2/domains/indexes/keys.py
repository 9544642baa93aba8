"""The types that keys have, and how what a user asks becomes a key of such a type.

    int64 · uint64 · float64 · timestamps, as int64 in a unit from days to nanoseconds since 1970 (UTC)

Asked is anything comparable: 2.5 among integers, 2^70, a date among seconds. What is not a key of the type stands for
the smallest key that is not below it, so that its lower bound is the same; behind the last number of the type there is
none, and its place is the end. Nothing is rounded to a neighbour.

NaN is a key that equals NaN and stands behind all numbers, as numpy sorts it; so does NaT among the questions. -0.0 is
0.0. A date without a time zone is in UTC.

What it does not do: keys that are text (`texts`); times finer than microseconds among the questions that are written as
text.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import UsageError

__all__ = ["TEXT", "TICKS", "Asked", "KeyKind", "asked"]

TICKS: Final = {"D": 86_400 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
"""Nanoseconds of each unit of time."""

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class KeyKind:
    """A type of keys: "int64", "uint64", "float64" or "text", and the unit where they are timestamps, else ""."""

    dtype: str
    unit: str = ""

    def __str__(self) -> str:
        return f"timestamps in {self.unit}" if self.unit else self.dtype

    def spoken(self, key: Any) -> int | float | str:
        """A key for people and JSON: a number, a time in ISO 8601, or a text, which comes as its bytes."""
        if self.dtype == "text":
            return bytes(key).decode()
        if self.unit:
            return str(np.datetime64(int(key), self.unit))  # type: ignore[call-overload]
        return float(key) if self.dtype == "float64" else int(key)


TEXT: Final = KeyKind("text")
"""The type of keys that are texts."""


@dataclass(frozen=True)
class Asked:
    """Questions as keys.

    Args:
        keys: [M], of the type: the smallest key that is not below what was asked.
        beyond: [M], true where there is no such key.
        exact: [M], true where the key is what was asked.
    """

    keys: np.ndarray
    beyond: NDArray[np.bool_]
    exact: NDArray[np.bool_]


def asked(values: Any, kind: KeyKind) -> Asked:
    """What was asked as keys of a type.

    Args:
        values: numbers, dates or their texts, alone or in an array of any shape; flattened. Where keys are timestamps,
            whole numbers of 64 bits are in their unit.
        kind: the type.

    Raises:
        UsageError: one of them cannot be compared with such keys.

    >>> asked([2.5, 7, -1], KeyKind("uint64")).keys.tolist()
    [3, 7, 0]
    """
    array = np.atleast_1d(np.asarray(values)).ravel()
    if array.dtype == np.dtype(kind.dtype):
        keys = np.ascontiguousarray(array)
        return Asked(keys, np.zeros(len(keys), bool), np.ones(len(keys), bool))
    if kind.unit and array.dtype.kind == "M":
        return _times(array, kind)
    if not kind.unit and array.dtype.kind in "iuf" and kind.dtype != "float64":
        return _as_integers(array, kind.dtype)
    if not kind.unit and ((array.dtype.kind == "f" and array.dtype.itemsize <= 8) or _small(array)):
        return asked(array.astype(np.float64), kind)
    rows = [_one(value, kind) for value in array.tolist()] if array.dtype.kind != "M" else [_one(array[0], kind)]
    return Asked(
        np.array([key for key, _, _ in rows], kind.dtype),
        np.array([beyond for _, beyond, _ in rows], bool),
        np.array([exact for _, _, exact in rows], bool),
    )


def _small(array: np.ndarray) -> bool:
    """Whether these are integers that a double holds exactly."""
    return array.dtype.kind in "iu" and (len(array) == 0 or (array.min() >= -(1 << 53) and array.max() <= 1 << 53))


def _as_integers(array: np.ndarray, dtype: str) -> Asked:
    lowest, highest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if array.dtype.kind == "f":
        up = np.ceil(array.astype(np.float64))
        beyond = ~(up < float(highest + 1))  # NaN too
        under = up < lowest
        keys = np.where(beyond | under, 0, up).astype(dtype)
        exact = (up == array) & ~beyond & ~under
    else:
        own = np.iinfo(array.dtype)
        beyond = array > highest if own.max > highest else np.zeros(len(array), bool)
        under = array < lowest if own.min < lowest else np.zeros(len(array), bool)
        keys = np.where(beyond | under, 0, array).astype(dtype)
        exact = ~beyond & ~under
    keys[under] = lowest
    return Asked(keys, beyond, exact)


def _times(array: np.ndarray, kind: KeyKind) -> Asked:
    unit, multiple = np.datetime_data(array.dtype)
    if unit not in TICKS or multiple != 1:
        array = array.astype("datetime64[s]")  # hours and years
        unit = "s"
    numbers, nat = array.view(np.int64), np.isnat(array)
    have, want = TICKS[unit], TICKS[kind.unit]
    if have >= want:
        factor = have // want
        most = np.iinfo(np.int64).max // factor
        beyond, under = numbers > most, numbers < -most
        keys = np.where(beyond | under, 0, numbers) * factor
        keys[under] = np.iinfo(np.int64).min
        exact = ~beyond & ~under
    else:
        factor = want // have
        keys = -(-numbers // factor)
        beyond, exact = np.zeros(len(keys), bool), keys * factor == numbers
    return Asked(keys, beyond | nat, exact & ~nat)


def _one(value: Any, kind: KeyKind) -> tuple[int | float, bool, bool]:
    """The key, whether there is none, and whether it is exact."""
    number = _moment(value, kind) if kind.unit else _number(value, kind)
    if kind.dtype == "float64":
        try:
            key = float(number)
        except OverflowError:
            key = math.inf if number > 0 else -math.inf
        if key < number:
            key = math.nextafter(key, math.inf)
        return key, False, key == number or number != number
    if number != number or number == math.inf:
        return 0, True, False
    lowest, highest = int(np.iinfo(kind.dtype).min), int(np.iinfo(kind.dtype).max)
    whole = lowest - 1 if number == -math.inf else math.ceil(number)
    if whole > highest:
        return 0, True, False
    return max(whole, lowest), False, whole == number and whole >= lowest


def _number(value: Any, kind: KeyKind) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        for read in (int, float):
            try:
                return read(value.strip())
            except ValueError:
                continue
    raise _incomparable(value, "a number", kind)


def _moment(value: Any, kind: KeyKind) -> int | float:
    """Units since 1970, as a whole number where it is one."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            raise _incomparable(
                value, "a date or time in ISO 8601, such as 2024-05-01 or 2024-05-01T12:30", kind
            ) from None
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        nanoseconds = (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
        tick = TICKS[kind.unit]
        return nanoseconds // tick if nanoseconds % tick == 0 else nanoseconds // tick + 0.5
    if isinstance(value, datetime.date):
        return _moment(datetime.datetime.combine(value, datetime.time()), kind)
    raise _incomparable(value, "a date or time", kind)


def _incomparable(value: Any, wanted: str, kind: KeyKind) -> UsageError:
    return UsageError(
        "This cannot be compared with the keys.", where=f"keys that are {kind}", wanted=wanted, got=repr(value)
    )
