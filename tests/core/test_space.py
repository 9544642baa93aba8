"""Search spaces: what their texts say, what is drawn from them, and that a wrong one is refused."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.config import parse_setting, spell_setting, to_toml
from sw2.base.errors import Sw2Error, UsageError
from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.domain import Request
from sw2.core.space import Choice, Range, flat_space, parse_space, parse_values, read_space, settings_of
from sw2.core.task import Context


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Numbers."""

    rate: float = 0.1
    share: float | None = None

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise UsageError("The rate is out of range.", got=self.rate)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The heads divide the width."""

    width: int = 8
    heads: int = 1
    widths: tuple[int, ...] = (1, 2)
    act: Literal["relu", "tanh"] = "relu"
    on: bool = False
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError("The heads do not divide the width.", got=self.width)


SECTIONS = {"model": Shape()}
finite = st.floats(allow_nan=False, allow_infinity=False)


def test_what_texts_say() -> None:
    assert parse_values("2, 4,8", "") == Choice((2, 4, 8))
    assert parse_values("relu,tanh", "") == Choice(("relu", "tanh"))
    assert parse_values("[1, 2], [3]", "") == Choice(([1, 2], [3]))
    assert parse_values("none,0.5", "") == Choice(("none", 0.5))
    assert parse_values("1..8", "") == Range(1, 8)
    assert parse_values("1e-4 .. 1e-2 log", "") == Range(1e-4, 1e-2, log=True)
    assert parse_values("0.1..0.5", "") == Range(0.1, 0.5)
    assert parse_values("-2..-1", "") == Range(-2, -1)


@pytest.mark.parametrize(
    "text", ["", " ", ",", "4", "[2,4]", "2,2", "3..3", "4..2", "0..1 log", "nan..1", "1..inf", "1]\nother = [2"]
)
def test_texts_that_say_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        parse_values(text, "--space key")


@given(st.text(max_size=20) | st.text("0123456789.,-elog []", max_size=20))
def test_any_text_is_values_or_the_users_error(text: str) -> None:
    values: Choice | Range | Sw2Error
    try:
        values = parse_values(text, "--space key")
    except Sw2Error as error:
        values = error
    if isinstance(values, Sw2Error):
        assert values.where == "--space key"
        assert values.wanted
    elif isinstance(values, Choice):
        assert len(values.values) >= 2
    else:
        assert values.low < values.high


@given(finite, finite, st.booleans(), st.floats(0, 1), st.integers(0, 9))
def test_numbers_stay_in_their_range(one: float, other: float, log: bool, share: float, seed: int) -> None:
    low, high = sorted((abs(one), abs(other)) if log else (one, other))
    if low == high or (log and low == 0):
        return
    values = Range(low, high, log)
    drawn = values.at(share)
    assert low <= drawn <= high
    assert low <= values.near(drawn, numpy_generator(seed)) <= high


@given(st.integers(1, 10**6), st.integers(1, 50), st.booleans(), st.floats(0, 1))
def test_whole_numbers_stay_whole(low: int, more: int, log: bool, share: float) -> None:
    values = Range(low, low + more, log)
    drawn = values.at(share)
    assert type(drawn) is int
    assert low <= drawn <= low + more
    assert type(values.near(drawn, numpy_generator(0))) is int
    if not log:
        assert {values.at((n + 0.5) / (more + 1)) for n in range(more + 1)} == set(range(low, low + more + 1))


def test_logarithms_are_drawn_evenly() -> None:
    values = Range(1e-4, 1.0, log=True)
    random = numpy_generator(0)
    below = sum(values.at(float(random.random())) < 1e-2 for _ in range(2000))
    assert 900 < below < 1100


@given(st.integers(2, 12), st.integers(2, 5), st.integers(0, 99))
def test_what_is_drawn_fits_is_new_and_can_be_set(width: int, heads: int, seed: int) -> None:
    texts = {"width": f"{width}..{width + heads}", "model.heads": f"1..{heads}", "model.inner.rate": "1e-3..1 log"}
    space = parse_space(texts, SECTIONS)
    assert list(space.entries) == ["model.width", "model.heads", "model.inner.rate"]
    assert space.cells is None
    random, tried = numpy_generator(seed), list[dict[str, Any]]()
    for _ in range(5):
        found = space.fresh(random, tried)
        assert found is not None
        assert found["model.width"] % found["model.heads"] == 0
        assert type(found["model.inner.rate"]) is float
        tried.append(found)
        # As --set takes it, and back.
        assert dict(parse_setting(text) for text in settings_of(found)) == found
        other = space.neighbour(found, random, tried)
        if other is not None:
            assert len([key for key in found if found[key] != other[key]]) == 1
            assert space.fits(other)


def test_an_exhausted_space_says_so() -> None:
    space = parse_space({"model.on": "false,true", "model.act": ["relu", "tanh"]}, SECTIONS)
    assert space.cells == 4
    tried: list[dict[str, Any]] = []
    for number in range(4):
        found = space.fresh(numpy_generator(number), tried)
        assert found is not None
        tried.append(found)
    assert space.fresh(numpy_generator(4), tried) is None
    assert space.neighbour(tried[0], numpy_generator(4), tried) is None


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({}, "nothing to search"),
        ({"model.widht": "1,2"}, "model.width"),
        ({"model": "1,2"}, "no setting"),
        ({"model.inner": "1,2"}, "does not fit"),
        ({"model.width.deep": "1,2"}, "no setting"),
        ({"model.width": "1.5,2.5"}, "does not fit"),
        ({"model.width": "3,5", "model.heads": "2,4"}, "fits in no combination"),
        ({"nodel.width": "1,2"}, "no setting"),
        ({"model.inner.rate": "-2..-1"}, "out of range"),
        ({"model.inner.rate": "0..1"}, "out of range"),
        ({"model.act": "relu,gelu"}, "does not fit"),
        ({"width": "1,2", "model.width": "1,2"}, "decided twice"),
        ({"model.width": [4]}, "nothing to choose"),
        ({"model.width": []}, "nothing to choose"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(texts: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_space(texts, SECTIONS)
    assert says in str(caught.value)
    assert "--space" in str(caught.value.where)


def test_a_whole_number_for_a_setting_with_parts_is_no_range_of_whole_numbers() -> None:
    space = parse_space({"model.inner.rate": "1..2"}, SECTIONS)
    assert not space.entries["model.inner.rate"].whole  # type: ignore[union-attr]
    assert parse_space({"model.inner.share": "none,0.5"}, SECTIONS).entries["model.inner.share"] == Choice((None, 0.5))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('"model.width" = [2, 4]\n[model.inner]\nrate = "1e-3..1 log"\n[model]\nwidths = [[1], [2, 3]]\n')
    found = read_space(path)
    assert found == {"model.width": [2, 4], "model.inner.rate": "1e-3..1 log", "model.widths": [[1], [2, 3]]}
    assert parse_space(found, SECTIONS).entries["model.widths"] == Choice(([1], [2, 3]))
    # As a search keeps it in its config.toml.
    assert flat_space(tomllib.loads(to_toml({"space": found}))["space"], "") == found
    path.write_text("[model]\nwidth = 3\n")
    with pytest.raises(UsageError, match="has one value"):
        read_space(path)
    path.write_text("[model")
    with pytest.raises(UsageError, match="cannot be read"):
        read_space(path)


@given(st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}", fullmatch=True),
       st.recursive(st.integers() | finite | st.booleans() | st.none() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3), max_leaves=5))  # fmt: skip
def test_a_setting_is_spelled_as_it_is_parsed(key: str, value: Any) -> None:
    def back(each: Any) -> Any:  # None is written "none"
        return "none" if each is None else [back(one) for one in each] if isinstance(each, list) else each

    name, found = parse_setting(spell_setting(key, value))
    assert (name, found) == (key, back(value))
    assert not isinstance(value, float) or math.copysign(1, found) == math.copysign(1, value)


SPACES = [name for name, entry in catalog().models.items() if entry.space]


@pytest.mark.parametrize("name", SPACES)
def test_what_models_declare_fits_with_every_preset(name: str) -> None:
    found = catalog()
    task_name, entry = next((n, e) for n, e in found.tasks.items() if name in e.models and e.recipe)
    task = found.task(task_name)
    data = task.read(entry.data, task.Options(), Context())
    for preset in ("tiny", "small", "full"):
        recipe = found.recipe(task_name)(Request(data=data, preset=preset, minutes=1.0, model=name))
        sections = {"prep": recipe.prep_config, "model": recipe.model_config, "learn": recipe.learn_config}
        space = parse_space(found.model_entry(name).space, sections)
        for number in range(40):
            values = space.draw(numpy_generator(number))
            assert space.fits(values), (preset, values)
