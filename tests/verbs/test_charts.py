"""Charts: points stand where their values are, and words are told beside the picture."""

from __future__ import annotations

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from sw2.verbs.charts import HEIGHT, WIDTH, Line, heat_map, line_chart, number, ticks

finite = st.floats(-3e38, 3e38)  # what a loss can be


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low: float, length: float) -> None:
    marks = ticks(low, low + length)
    room = 1e-6 * max(length, abs(low), 1.0)
    assert 1 <= len(marks) <= 6
    assert all(low - room <= mark <= low + length + room for mark in marks)
    assert marks == sorted(marks)


@given(st.lists(finite, min_size=1, max_size=50), st.booleans())
def test_a_line_stays_inside_its_drawing(values: list[float], log: bool) -> None:
    drawn = line_chart("loss", [Line(name="training", points=list(enumerate(values)))], log=log)
    if log and max(values) <= 1e-100:
        assert drawn == ""
        return
    path = re.search(r'class="line main" d="([^"]+)"', drawn)
    assert path is not None
    for point in re.split("[ML]", path[1])[1:]:
        x, y = map(float, point.split())
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_higher_values_stand_higher_and_gaps_are_left_out() -> None:
    drawn = line_chart(
        "loss", [Line(name="training", points=[(0, 1.0), (1, math.nan), (2, 3.0), (3, math.inf), (4, 2.0)])]
    )
    path = re.search(r'class="line main" d="([^"]+)"', drawn)
    assert path is not None
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", path[1])[1:]]
    assert [x for x, _ in points] == [0, WIDTH / 2, WIDTH]
    assert points[1][1] < points[2][1] < points[0][1]


def test_long_series_are_thinned_but_keep_their_spike() -> None:
    points = [(step, 100.0 if step == 4321 else 1.0) for step in range(10_000)]
    drawn = line_chart("loss", [Line(name="training", points=points)])
    assert "to 1." in drawn  # the label tells the last value
    assert len(drawn) < 40_000
    path = re.search(r'class="line main" d="([^"]+)"', drawn)
    assert path is not None
    heights = [float(point.split()[1]) for point in re.split("[ML]", path[1])[1:]]
    assert min(heights) < HEIGHT * 0.1 < max(heights)


def test_a_chart_tells_its_values_to_those_who_cannot_see_it() -> None:
    drawn = line_chart("Loss & <co>", [Line(name="training", points=[(1, 2.5), (9, 0.5)])])
    assert 'role="img" aria-label="Loss &amp; &lt;co&gt; over steps 1 to 9: training from 2.5 to 0.5."' in drawn
    assert "<title>step 9\ntraining 0.5</title>" in drawn


def test_heat_maps_shade_by_powers_of_ten_and_mark_what_is_not_finite() -> None:
    values = {"a": 1e-6, "b": 1e-3, "c": 1.0, "d": math.inf, "e": 0.0, "f": None}
    drawn = heat_map("Gradient", list(values), [10], lambda row, step: values[row])
    shades = re.findall(r'rect class="([^"]+)"', drawn)
    assert shades == ["shade-0", "shade-4", "shade-7", "bad", "shade-0"]
    assert "<span>f</span>" not in drawn
    assert 'rows:5"' in drawn


def test_small_differences_look_small() -> None:
    drawn = heat_map("Activation", ["a", "b"], [1], lambda row, step: {"a": 1.0, "b": 1.2}[row])
    low, high = (int(shade) for shade in re.findall(r'rect class="shade-(\d)"', drawn))
    assert high - low <= 1


def test_shares_are_shaded_from_nought_to_one() -> None:
    drawn = heat_map("Dead", ["a", "b", "c"], [1], lambda row, step: {"a": 0.0, "b": 0.5, "c": 1.0}[row], scale="share")
    assert re.findall(r'rect class="shade-(\d)"', drawn) == ["0", "4", "7"]


def test_empty_charts_are_nothing() -> None:
    assert line_chart("loss", [Line(name="training", points=[])]) == ""
    assert heat_map("Gradient", ["a"], [1], lambda row, step: None) == ""


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_numbers_are_short_and_right(value: float) -> None:
    text = number(value)
    assert len(text) <= 22
    if math.isfinite(value) and 1e-300 < abs(value) < 1e300:
        assert math.isclose(float(text.replace(",", "")), value, rel_tol=0.06)


def test_a_chart_may_be_over_something_else_than_steps() -> None:
    drawn = line_chart("Gradient", [Line(name="measured", points=[(1, 2.5), (9, 0.5)])], axis="layer")
    assert "over layers 1 to 9" in drawn
    assert "<title>layer 9\nmeasured 0.5</title>" in drawn


def test_what_it_is_over_may_have_fractions() -> None:
    drawn = line_chart("Reward", [Line(name="reward", points=[(0.25, 1.0), (0.75, 3.0)])], axis="nat")
    assert "over nats 0.25 to 0.75" in drawn
    assert "<title>nat 0.75\nreward 3</title>" in drawn
    path = re.search(r'class="line main" d="([^"]+)"', drawn)
    assert path is not None
    assert [float(point.split()[0]) for point in re.split("[ML]", path[1])[1:]] == [0, WIDTH]
    assert '<span style="left:50.00%">0.5</span>' in drawn
