"""Strategies as what they are: functions from what was measured to the next turn."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import MissingExtra
from sw2.core.space import Space, parse_space
from sw2.verbs.search_report import effects, ranked
from sw2.verbs.strategies import STRATEGIES, Outcome, SharedWeights, best_of


@dataclass(frozen=True, kw_only=True)
class Point:
    """A place."""

    x: float = 0.5
    n: int = 1
    good: bool = False


OURS = [name for name in STRATEGIES if name not in ("tpe", "shared")]


def plane() -> Space:
    return parse_space({"p.x": "0..1", "p.n": "1..9", "p.good": "false,true"}, {"p": Point()})


def height(values: Mapping[str, Any], share: float) -> float:
    return share * (1 - (values["p.x"] - 0.3) ** 2 + values["p.n"] / 100 + values["p.good"])


def played(
    strategy: str, trials: int, seed: int, of: Callable[[Mapping[str, Any], float], float] = height
) -> list[Outcome]:
    plan, done = STRATEGIES[strategy](plane(), trials, seed), list[Outcome]()
    while (turn := plan.next(done)) is not None:
        score = of(turn.values, turn.share)
        done.append(Outcome(turn=turn, scores=[("height", score, "higher")] if score >= 0 else [], minutes=1.0))
        assert len(done) < 100
    return done


@pytest.mark.parametrize("strategy", OURS)
@given(st.integers(2, 30), st.integers(0, 9))
def test_a_search_has_its_trials_its_length_and_no_state(strategy: str, trials: int, seed: int) -> None:
    done = played(strategy, trials, seed)
    by_trial: dict[int, float] = {}
    for each in done:
        assert each.turn.share > by_trial.get(each.turn.trial, 0.0)
        by_trial[each.turn.trial] = each.turn.share
    assert len(by_trial) == trials
    assert sum(by_trial.values()) == pytest.approx(STRATEGIES[strategy].lengths(trials))
    assert min(each.turn.share for each in done) == STRATEGIES[strategy].shortest(trials)
    assert max(by_trial.values()) == 1
    # Any of its beginnings goes on in the same way.
    for cut in range(0, len(done), 5):
        assert STRATEGIES[strategy](plane(), trials, seed).next(done[:cut]) == done[cut].turn


@given(st.integers(9, 30), st.integers(0, 9))
def test_evolution_changes_one_setting_of_one_of_the_latest(trials: int, seed: int) -> None:
    done = played("evolution", trials, seed)
    population = trials // 3
    for place in range(population, len(done)):
        child, latest = done[place].turn.values, done[place - population : place]
        assert any(sum(child[key] != each.turn.values[key] for key in child) == 1 for each in latest)


def test_halving_keeps_the_best_of_each_rung() -> None:
    done = played("halving", 27, 0)
    assert Counter(round(each.turn.share, 2) for each in done) == {0.11: 27, 0.33: 9, 1.0: 3}
    first = sorted(done[:27], key=lambda each: each.rank, reverse=True)
    assert {each.turn.trial for each in done[27:36]} == {each.turn.trial for each in first[:9]}
    assert best_of(done) == max(done, key=lambda each: each.rank)


def test_what_failed_does_not_go_on() -> None:
    done = played("halving", 9, 0, lambda values, share: -1.0 if values["p.good"] else height(values, share))
    failed = {each.turn.trial for each in done if not each.scores}
    assert failed
    assert not failed & {each.turn.trial for each in done if each.turn.share > 0.2}
    assert {each.turn.trial for each in ranked(done)[-len(failed) :]} == failed
    nothing = played("halving", 9, 0, lambda values, share: -1.0)
    assert len(nothing) == 9
    assert best_of(nothing) is None
    assert effects(nothing) == []


def test_what_mattered_by_hand() -> None:
    found = {each.key: each for each in effects(played("halving", 27, 1))}
    assert next(iter(found)) == "p.good"
    assert [name for name, _, _ in found["p.good"].groups] in (["no", "yes"], ["yes", "no"])
    assert 0.1 < found["p.good"].spread < 0.13  # a ninth, and some chance
    assert [trials for _, trials, _ in found["p.x"].groups] == [9, 9, 9]
    assert sum(trials for _, trials, _ in found["p.n"].groups) == 27


def test_the_candidates_of_shared_weights_are_tried_in_their_order() -> None:
    found = [{"p.x": x, "p.n": 1, "p.good": True} for x in (0.2, 0.3, 0.4, 0.5)]
    plan, done = SharedWeights(plane(), 3, 0, found), list[Outcome]()
    while (turn := plan.next(done)) is not None:
        done.append(Outcome(turn=turn, scores=[("height", height(turn.values, 1.0), "higher")], minutes=1.0))
    assert [each.turn.values for each in done] == found[:3]
    assert SharedWeights.lengths(3) == 7
    assert SharedWeights(plane(), 9, 0, found).next([*done, *done]) is None, "there are fewer than trials"


def test_without_optuna_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra) as caught:
        STRATEGIES["tpe"](plane(), 9, 0)
    assert caught.value.do == "pip install 'sw2[search]'"


def test_scores_of_lower_is_better_and_ties() -> None:
    plan = STRATEGIES["random"](plane(), 3, 0)
    turns = [plan._drawn(trial, []) for trial in (1, 2, 3)]
    rows = [[("loss", 2.0, "lower")], [("loss", 1.0, "lower"), ("hits", 3.0, "higher")], [("loss", 1.0, "lower"),
            ("hits", 4.0, "higher")]]  # fmt: skip
    done = [
        Outcome(turn=turn, scores=scores, minutes=0.0)
        for turn, scores in zip(turns, rows, strict=True)
        if turn is not None
    ]
    assert best_of(done) is done[2]
    assert [each.turn.trial for each in ranked(done)] == [3, 2, 1]
