"""How numbers become verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from sw2.core.claims import SEEDS, Plot, by_interval, by_order, paired, seeds_of
from sw2.parts.metrics import Interval, paired_bootstrap, student


def test_a_verdict_needs_the_whole_interval() -> None:
    assert by_interval(Interval(0.2, 0.1, 0.3)) == "holds"
    assert by_interval(Interval(-0.2, -0.3, -0.1)) == "does not hold"
    assert by_interval(Interval(0.2, 0.0, 0.4)) == "undecided"
    assert by_interval(Interval(0.2, 0.1, 0.3), above=0.15) == "undecided"


def test_an_order_needs_every_seed() -> None:
    assert by_order([0.1]) == "holds"
    assert by_order([0.1, 0.0]) == "undecided"
    assert by_order([-0.1, float("nan")]) == "does not hold"


def test_one_seed_is_compared_over_examples_and_several_over_seeds() -> None:
    draw = np.random.default_rng(0)
    old, new = draw.random((3, 50)), draw.random((3, 50)) + 1
    assert paired(old, new, 4) == student((new - old).mean(axis=1))
    assert paired(old[:1], new[:1], 4) == paired_bootstrap(old[0], new[0], seed=4)
    assert paired(old[0], new[0], 4) == paired(old[:1], new[:1], 4)


def test_the_seeds_of_a_form() -> None:
    assert seeds_of(7, False) == [7]
    assert seeds_of(7, True) == [7, 8, 9, 10, 11]
    assert len(seeds_of(0, True)) == SEEDS


def test_a_chart_has_few_lines() -> None:
    with pytest.raises(AssertionError):
        Plot(title="x", axis="step", lines={str(i): [(0, 1.0)] for i in range(5)})
