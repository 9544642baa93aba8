"""Configs: round trips through dictionaries and TOML for anything that fits, and the path in every refusal."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.config import (
    apply_settings,
    check_ranges,
    check_shares,
    from_dict,
    parse_setting,
    settings_for,
    to_dict,
    to_toml,
)
from sw2.base.errors import UnknownName, UsageError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1e-3
    shape: Literal["cosine", "stable"] = "stable"
    betas: tuple[float, float] = (0.9, 0.95)
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = 3
    on: bool = True
    text: str = ""
    widths: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ()
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    stages: tuple[Inner, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Demanding:
    size: int
    share: float = 0.5


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# TOML is UTF-8: everything but lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
INNER = st.builds(
    Inner,
    rate=FLOATS,
    shape=st.sampled_from(["cosine", "stable"]),
    betas=st.tuples(FLOATS, FLOATS),
    name=st.none() | TEXTS.filter(lambda text: text != "none"),
)
OUTER = st.builds(
    Outer,
    count=st.integers(),
    on=st.booleans(),
    text=TEXTS,
    widths=st.lists(st.integers()).map(tuple),
    names=st.lists(TEXTS).map(tuple),
    limit=st.none() | st.integers(),
    inner=INNER,
    stages=st.lists(INNER, max_size=3).map(tuple),
)


@given(OUTER)
def test_dictionaries_round_trip(config: Outer) -> None:
    assert from_dict(Outer, to_dict(config)) == config


@given(OUTER, INNER)
def test_toml_round_trips(config: Outer, other: Inner) -> None:
    document = tomllib.loads(to_toml({"first": to_dict(config), "second": to_dict(other)}))
    assert from_dict(Outer, document["first"]) == config
    assert from_dict(Inner, document["second"]) == other


@given(st.text(min_size=1), st.integers() | FLOATS | st.booleans() | TEXTS | st.lists(st.integers()))
def test_any_value_fits_or_is_refused_with_its_path(key: str, value: Any) -> None:
    """No input makes anything but a config or a UsageError."""
    for name in (key, *(each.name for each in fields(Outer))):
        try:
            config = from_dict(Outer, {name: value}, "model")
        except UsageError as error:
            assert f"model.{name}" in error.message  # noqa: PT017
        else:
            assert isinstance(config, Outer)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"count": 2.5}, "int"), ({"count": True}, "int"), ({"count": "3"}, "int"), ({"on": 1}, "bool"),
        ({"on": "yes"}, "bool"), ({"text": 3}, "str"), ({"widths": 3}, "tuple[int, ...]"),
        ({"limit": "x"}, "int or none"),
        ({"inner": 3}, "Inner"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(values: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_dict(Outer, values, "model")
    (name,) = values
    assert caught.value.message == f"The setting 'model.{name}' has a value that does not fit."
    assert caught.value.wanted == wanted
    assert caught.value.got == repr(values[name])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "0.1"])
def test_a_float_is_a_finite_number(value: Any) -> None:
    with pytest.raises(UsageError):
        from_dict(Demanding, {"size": 1, "share": value})


def test_a_whole_number_is_a_float_and_a_float_of_an_int() -> None:
    made = from_dict(Demanding, {"size": 1, "share": 1})
    assert type(made.share) is float


def test_nested_paths() -> None:
    with pytest.raises(UsageError, match=r"'model\.inner\.betas\[1\]'"):
        from_dict(Outer, {"inner": {"betas": [0.9, "x"]}}, "model")
    with pytest.raises(UsageError, match=r"'model\.stages\[0\]\.rate'"):
        from_dict(Outer, {"stages": [{"rate": "x"}]}, "model")
    with pytest.raises(UsageError, match=r"'model\.inner\.betas'"):
        from_dict(Outer, {"inner": {"betas": [0.9]}}, "model")


def test_unknown_and_missing_keys() -> None:
    with pytest.raises(UnknownName, match=r"no setting called 'model\.inner\.rates'") as caught:
        from_dict(Outer, {"inner": {"rates": 1.0}}, "model")
    assert caught.value.do == "Did you mean 'model.inner.rate'?"
    with pytest.raises(UsageError, match=r"The setting 'model\.size' is missing"):
        from_dict(Demanding, {}, "model")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a=1", "a", 1), ("a = 2.5", "a", 2.5), ("a.b=3e-4", "a.b", 3e-4), ("a=true", "a", True),
        ("a=muon", "a", "muon"),
        ("a=[1, 2]", "a", [1, 2]), ('a="1"', "a", "1"), ("a=", "a", ""), ("a=b=c", "a", "b=c"),
        ("a=C:\\photos", "a", "C:\\photos"), ("a=1\nb=2", "a", "1\nb=2"),
    ],
)  # fmt: skip
def test_settings_are_toml_or_text(text: str, key: str, value: Any) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["", "a", "=1", " = 1"])
def test_settings_without_a_key_or_a_sign(text: str) -> None:
    with pytest.raises(UsageError, match="A setting is written key=value"):
        parse_setting(text)


def test_settings_are_applied_where_they_belong() -> None:
    sections = {"model": Outer(), "learn": Demanding(size=1), "other": Demanding(size=2)}
    made = apply_settings(sections, ["model.inner.rate=0.5", "count=9", "learn.size=4", "model.inner.name=none"])
    assert made == {
        "model": Outer(count=9, inner=Inner(rate=0.5)),
        "learn": Demanding(size=4),
        "other": sections["other"],
    }
    assert sections["model"] == Outer()
    with pytest.raises(UsageError, match="exists in several sections") as caught:
        apply_settings(sections, ["size=4"])
    assert caught.value.wanted == "learn.size or other.size"


def test_settings_of_one_section_are_found_before_the_others_are_known() -> None:
    texts = ["count=9", "model.inner.rate=1", "inner.rate=2", "learn.count=3", "size=1", " model.coutn = 3"]
    own = settings_for("model", Outer(), texts)
    assert own == ["count=9", "model.inner.rate=1", "inner.rate=2", " model.coutn = 3"]
    assert apply_settings({"model": Outer()}, own[:3])["model"].inner.rate == 2
    with pytest.raises(UsageError, match="A setting is written key=value"):
        settings_for("model", Outer(), ["count"])


@pytest.mark.parametrize(
    ("text", "offer"),
    [
        ("model.coutn=3", "model.count"), ("modle.count=3", "model.count"), ("rate=3", "model.inner.rate"),
        ("model.inner.rat=1", "model.inner.rate"), ("model.count.x=1", "model.count"), ("model=3", None),
    ],
)  # fmt: skip
def test_unknown_settings_offer_the_nearest(text: str, offer: str | None) -> None:
    with pytest.raises(UnknownName) as caught:
        apply_settings({"model": Outer()}, [text])
    assert caught.value.where == f"--set {text}"
    if offer:
        assert caught.value.do == f"Did you mean '{offer}'?"


def test_ranges_and_shares_name_the_field_as_it_is_set() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Division:
        test: float = 0.1
        watch: float = 0.0

    check_shares("data", Division(), "test", "watch")
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match=r"data\.watch is out of range") as caught:
            check_shares("data", Division(watch=wrong), "test", "watch")
        assert "a share from 0 to below 1" in str(caught.value)
    with pytest.raises(UsageError, match=r"learn\.test is out of range"):
        check_ranges("learn", Division(), {"watch": (True, ""), "test": (False, "something else")})


def test_of_many_settings_those_of_the_nearest_section_are_listed() -> None:
    kind = make_dataclass("Wide", [(f"name{i}", int, 0) for i in range(30)], frozen=True, kw_only=True)
    with pytest.raises(UnknownName) as caught:
        apply_settings({"wide": kind(), "model": Outer()}, ["model.coutn=3"])
    assert caught.value.do == "Did you mean 'model.count'?"
    assert "model.widths" in str(caught.value.wanted)
    assert "wide." not in str(caught.value.wanted)
