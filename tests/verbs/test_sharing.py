"""The controller of shared weights: what it draws, what it learns. Whole searches are in test_search.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.core.objective import Clock
from sw2.core.space import Space, parse_space
from sw2.verbs.sharing import Controller, Reinforce


@dataclass(frozen=True, kw_only=True)
class Place:
    """Whole numbers and words; two of them do not go together."""

    n: int = 1
    word: str = "a"
    other: str = "x"

    def __post_init__(self) -> None:
        if self.n == 3 and self.word == "c":
            raise UsageError("Three and c do not go together.")


def space() -> Space:
    return parse_space({"p.n": "1..3", "p.word": "a, b, c", "p.other": "x, y, z, w"}, {"p": Place()})


def every(controller: Controller) -> list[dict[str, Any]]:
    return [dict(zip(controller.values, each, strict=True)) for each in itertools.product(*controller.values.values())]


def taught(seed: int, steps: int, good: Mapping[str, Any], noise: float) -> tuple[Controller, list[float]]:
    """A controller that was rewarded a tenth for each setting that is as in `good`, beside noise; and its entropies."""
    controller, entropies = Controller(space(), seed), []
    reinforce = Reinforce(controller)
    for step in range(steps):
        values, chance, entropy = controller(generator(seed, "draw", step))
        chaos = noise * float(torch.randn((), generator=generator(seed, "noise", step)))
        reward = 0.4 + 0.1 * sum(values[key] == good[key] for key in good) + chaos
        reinforce.hear(Clock(step, steps), reward, chance, entropy)
        entropies.append(float(entropy.detach()))
    return controller, entropies


@pytest.mark.parametrize("seed", range(2))
def test_it_learns_a_planted_reward(seed: int) -> None:
    good = {"p.n": 2, "p.word": "b", "p.other": "w"}
    controller, entropies = taught(seed, 400, good, noise=0.1)
    assert entropies[0] == pytest.approx(math.log(3 * 3 * 4), abs=1e-3), "it begins with all as likely"
    drawn = [controller(generator(seed, "after", number))[0] for number in range(100)]
    assert sum(each == good for each in drawn) > 40, "one in 36 by chance"


def test_without_a_reward_it_stays_open() -> None:
    controller, entropies = taught(0, 100, {}, noise=0.0)
    assert entropies[-1] > 0.95 * entropies[0]
    assert len({str(controller(generator(1, number))[0]) for number in range(300)}) == 36


@pytest.mark.parametrize(("seed", "steps"), [(0, 0), (1, 20), (2, 50)])
def test_what_it_says_of_its_draws_is_how_often_it_draws_them(seed: int, steps: int) -> None:
    controller, _ = taught(seed, steps, {"p.n": 1, "p.other": "y"}, noise=0.0)
    drawn: dict[str, int] = {}
    chances: dict[str, float] = {}
    with torch.no_grad():
        for number in range(400):
            values, chance, _ = controller(generator(9, number))
            drawn[str(values)] = drawn.get(str(values), 0) + 1
            chances[str(values)] = float(chance.exp())
    # Those that were drawn are most of what can be, and each as often as was said: within five deviations.
    assert 0.8 < sum(chances.values()) < 1 + 1e-5
    for name, chance in chances.items():
        assert abs(drawn[name] / 400 - chance) < 5 * math.sqrt(chance / 400) + 1e-2


def test_no_value_is_ever_out_of_reach() -> None:
    """Logits end at 2.5 on either side, so of four values the best has at most 1 / (1 + 3 exp(-5))."""
    controller, _ = taught(0, 300, {"p.n": 2}, noise=0.0)
    chances = [float(controller(generator(3, number))[1].detach().exp()) for number in range(50)]
    assert max(chances) <= (1 + 2 * math.exp(-5)) ** -2 * (1 + 3 * math.exp(-5)) ** -1


def test_combinations_that_do_not_fit_are_drawn_again() -> None:
    controller, found = Controller(space(), 0), space()
    drawn = [controller.fitting(found, generator(0, number))[0] for number in range(200)]
    assert all(found.fits(values) for values in drawn)
    assert {"p.n": 3, "p.word": "c", "p.other": "x"} in every(controller)


def test_the_same_generator_draws_the_same() -> None:
    one, other = Controller(space(), 5), Controller(space(), 5)
    for number in range(5):
        a, b = one(generator(number)), other(generator(number))
        assert a[0] == b[0]
        assert a[1].equal(b[1])
        assert a[2].equal(b[2])
