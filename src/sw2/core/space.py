"""A search space: settings, and the values of each that are worth a try.

    model.depth=2,4,8                                     choices: any values of the setting's type, at least two
    model.widths=[16,32],[32,64]                          lists are values too
    model.blocks=1..6                                     whole numbers, both ends among them
    learn.gradient.optim.learning_rate=1e-4..1e-2 log     numbers; "log" draws their logarithm evenly

Keys and values are those of `--set`; `--space` takes such texts, a model declares its own beside its entry
(`core.domain.ModelEntry.space`), and a TOML file holds them as a table, where choices may also be a list:

    "model.depth" = [2, 4, 8]
    [learn.gradient.optim]
    learning_rate = "1e-4..1e-2 log"

A space is held against the configs that it changes before anything is learned from it: an unknown key, a value of the
wrong type and one that fits in no combination are errors that name the place. Combinations that do not fit each other
(a width that the heads do not divide) are passed over when values are drawn.

What it does not do: settings that exist only beside a certain value of another one.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sw2.base.config import apply_settings, parse_setting, spell_setting, typed
from sw2.base.errors import UsageError
from sw2.base.seed import numpy_generator

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Choice",
    "Range",
    "Space",
    "Values",
    "flat_space",
    "parse_space",
    "parse_values",
    "read_space",
    "settings_of",
    "text_of",
]

_RANGE: Final = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+?)(\s+log)?\s*")
_TRIES: Final = 1000
"""How often a combination is drawn before it is held that there is no other one."""
_STEP: Final = 0.2
"""How far a number moves to its neighbour, as the deviation of a normal draw and a share of the range."""
_DIGITS: Final = 4
"""Numbers that are drawn have so many digits: more would be noise in every table."""


@dataclass(frozen=True)
class Choice:
    """One of several values, at least two, each another."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))

    def ends(self) -> tuple[Any, ...]:
        """Values that have to fit for all to fit."""
        return self.values

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1] of the way from the first to the last."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def near(self, value: Any, random: np.random.Generator) -> Any:
        """Another value."""
        others = [each for each in self.values if each != value]
        return others[int(random.integers(len(others)))]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, low < high; whole ones where both ends are, even by their logarithm with `log`."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' log' if self.log else ''}"

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> tuple[Any, ...]:
        """Values that have to fit for all to fit."""
        return (self.low, self.high)

    def at(self, share: float) -> Any:
        """The number at a share in [0, 1] of the way from the least to the largest."""
        half = 0.5 if self.whole else 0.0  # the ends are as likely as the others
        low, high = self.low - half, self.high + half
        # Sums of shares, for a difference of the ends may be no number.
        if self.log:
            found = math.exp((1 - share) * math.log(low) + share * math.log(high))
        else:
            found = (1 - share) * low + share * high
        return self.told(found)

    def told(self, number: float) -> Any:
        """The number of this range that stands for `number`: a whole one, or one of few digits."""
        found = math.floor(number + 0.5) if self.whole else float(f"{number:.{_DIGITS}g}")
        return min(max(found, self.low), self.high)

    def near(self, value: Any, random: np.random.Generator) -> Any:
        """A number not far from `value`, hardly ever itself."""
        low, at, high = ((math.log(each) if self.log else each / 2) for each in (self.low, value, self.high))
        share = (at - low) / (high - low) if high > low else 0.5
        for _ in range(_TRIES):
            found = self.at(min(max(share + _STEP * random.standard_normal(), 0.0), 1.0))
            if found != value:
                break
        return found


Values = Choice | Range


@dataclass(frozen=True)
class Space:
    """Settings by their whole names, with what each may be; held against the configs `sections` already.

    Args:
        entries: of each key its values.
        sections: the configs that are changed, by name.
    """

    entries: Mapping[str, Values]
    sections: Mapping[str, Any]

    @property
    def cells(self) -> int | None:
        """How many combinations there are, those that do not fit counted too; None where numbers have no steps."""
        found = 1
        for each in self.entries.values():
            if isinstance(each, Choice):
                found *= len(each.values)
            elif each.whole:
                found *= int(each.high - each.low) + 1
            else:
                return None
        return found

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """A combination, each value as likely as any other; it need not fit."""
        return {key: values.at(float(random.random())) for key, values in self.entries.items()}

    def fresh(self, random: np.random.Generator, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """A combination that fits and is none of `tried`; None when none was found, so that likely all were tried."""
        for _ in range(_TRIES):
            found = self.draw(random)
            if found not in tried and self.fits(found):
                return found
        return None

    def neighbour(
        self, values: Mapping[str, Any], random: np.random.Generator, tried: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """`values` with one of them changed, so that it fits and is none of `tried`; None when none was found."""
        keys = list(self.entries)
        for _ in range(_TRIES):
            key = keys[int(random.integers(len(keys)))]
            found = {**values, key: self.entries[key].near(values[key], random)}
            if found not in tried and self.fits(found):
                return found
        return None

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether the configs take this combination."""
        try:
            apply_settings(self.sections, settings_of(values))
        except UsageError:
            return False
        return True


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """A combination as texts of `--set`."""
    return [spell_setting(key, value) for key, value in values.items()]


def text_of(values: Sequence[Any]) -> str:
    """Choices as the text that `parse_values` reads.

    >>> text_of([[16, 32], [32]])
    '[16, 32], [32]'
    """
    return ", ".join(spell_setting("", value)[1:] for value in values)


def parse_values(text: str, where: str) -> Values:
    """What the text behind `KEY=` says that a setting may be; see the top of this file.

    Raises:
        UsageError: it is neither a range nor at least two different values.
    """
    found = _RANGE.fullmatch(text)
    if found and (low := _number(found[1])) is not None and (high := _number(found[2])) is not None:
        log = found[3] is not None
        if not low < high or (log and low <= 0):
            raise UsageError(
                "There is nothing in this range.",
                where=where,
                wanted="LOW..HIGH with LOW below HIGH" + (", both above 0 for a logarithm" if log else ""),
                got=text.strip(),
            )
        return Range(low, high, log)
    try:
        document = tomllib.loads(f"values = [{text}]")
    except tomllib.TOMLDecodeError:
        document = {"values": [parse_setting(f"value={each}")[1] for each in text.split(",")]}
    return _choice(document["values"] if len(document) == 1 else [text], where)


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            found: int | float = kind(text)
            return found if math.isfinite(found) else None
        except (ValueError, OverflowError):
            continue
    return None


def _choice(values: Sequence[Any], where: str) -> Choice:
    different = [each for number, each in enumerate(values) if each not in values[:number]]
    if len(different) != len(values) or len(values) < 2 or "" in values:
        raise UsageError(
            "There is nothing to choose from.",
            where=where,
            wanted="at least two different values, as 2,4,8, or a range, as 1e-4..1e-2 log",
            got=", ".join(map(str, values)) or "nothing",
            do="A setting with one value belongs to --set." if len(values) == 1 else None,
        )
    return Choice(tuple(values))


def parse_space(texts: Mapping[str, Any], sections: Mapping[str, Any], given: Sequence[str] = ()) -> Space:
    """The space that `texts` describes, held against the configs that it is to change.

    Args:
        texts: of each key its values: a text, or a list of choices.
        sections: the configs by name.
        given: texts of `--set`, whose keys are decided.

    Raises:
        UsageError: naming the first key that is unknown or decided already, or the first value that does not fit.
    """
    if not texts:
        raise UsageError(
            "There is nothing to search.",
            where="--space",
            wanted="at least one setting with its values",
            got="none",
            do='Say what to try: --space "model.depth=2,4,8"; docs/settings.md has the keys of each task.',
        )
    decided = {typed(sections, *parse_setting(text), f"--set {text}")[0] for text in given}
    entries: dict[str, Values] = {}
    for key, said in texts.items():
        where = f"--space {key}"
        values = _choice(said, where) if isinstance(said, (list, tuple)) else parse_values(str(said), where)
        parts = [typed(sections, key, each, where) for each in values.ends()]
        whole = parts[0][0]
        if whole in entries or whole in decided:
            raise UsageError(
                f"The setting '{whole}' is decided twice.",
                where=where,
                wanted="each setting once, in --space or in --set",
                got=f"{key} again",
            )
        kept = tuple(value for _, value in parts)
        entries[whole] = replace(values, low=kept[0], high=kept[1]) if isinstance(values, Range) else Choice(kept)
    space = Space(entries, sections)
    for key in entries:
        _hold(space, key)
    return space


def _hold(space: Space, key: str) -> None:
    """Complain about a value of `key` that fits neither by itself nor in a combination.

    Raises:
        UsageError: what the configs say of it.
    """
    for value in space.entries[key].ends():
        random = numpy_generator(0, "fits", key, str(value))
        if any(space.fits({**space.draw(random), key: value}) for _ in range(_TRIES)):
            continue
        try:
            apply_settings(space.sections, settings_of({key: value}))
        except UsageError as error:
            error.where = f"--space {key}, value {value}"
            raise
        raise UsageError(
            "This value fits in no combination of this space.",
            where=f"--space {key}",
            wanted="values that go together with some of the others",
            got=value,
        )


def read_space(path: Path) -> dict[str, Any]:
    """The texts and lists of a TOML file by their whole keys, for `parse_space`.

    Raises:
        UsageError: there is no such file, or it holds something else.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "This search space cannot be read.", where=path, wanted="a TOML file", got=str(error)
        ) from error
    return flat_space(document, str(path))


def flat_space(values: Mapping[str, Any], where: str, before: str = "") -> dict[str, Any]:
    """Tables in tables as whole keys.

    Raises:
        UsageError: a value that is neither a text nor a list.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{before}{name}"
        if isinstance(value, Mapping):
            found |= flat_space(value, where, f"{key}.")
        elif isinstance(value, (str, list)):
            found[key] = value
        else:
            raise UsageError(
                f"The setting '{key}' has one value.",
                where=where,
                wanted='a list of choices, or a range such as "1e-4..1e-2 log"',
                got=value,
                do="Set it by --set.",
            )
    return found
