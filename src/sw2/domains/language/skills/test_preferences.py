"""Pairs: the named flaw is there and only there, splits share nothing, and lengths say nothing."""

import json
import re

import pytest

from sw2.domains.language.skills.basis import SPLITS, ends_well
from sw2.domains.language.skills.preferences import _WHERE, FLAWS, length_only, pairs


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_are_well_formed(split):
    made = pairs(split, 0, 45)
    assert {pair["flaw"] for pair in made} == set(FLAWS)
    for pair in made:
        assert pair["chosen"] != pair["rejected"]
        for side in ("chosen", "rejected"):
            assert ends_well([*pair["prompt"], pair[side]]) in (None, "ends with call")
    assert list(pairs(split, 0, 18)) == list(made)[:18]


def test_length_alone_is_near_chance():
    made = pairs("test", 0, 360)
    assert length_only(made) < 0.57
    for flaw in FLAWS:
        assert length_only([pair for pair in made if pair["flaw"] == flaw]) < 0.75, flaw


def test_prompts_and_wordings_are_held_out():
    made = {split: pairs(split, 0, 180) for split in SPLITS}
    asked = {split: {str(pair["prompt"]) for pair in made[split]} for split in SPLITS}
    harm = {s: {str(pair["prompt"]) for pair in made[s] if pair["flaw"] == "helps with harm"} for s in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not asked[one] & asked[other]
    assert all(len(each) >= 3 for each in harm.values())


def test_spoiled_prices_and_dishes_differ_in_one_place():
    for pair in pairs("train", 1, 90):
        good, bad = (
            pair[side]["content"]
            + "".join(called["function"]["arguments"] for called in pair[side].get("tool_calls", ()))
            for side in ("chosen", "rejected")
        )
        if pair["flaw"] == "wrong price":
            prices = [sorted(re.findall(r"\d+\.\d\d", text)) for text in (good, bad)]
            assert len(prices[0]) == len(prices[1])
            assert prices[0] != prices[1]
        if pair["flaw"] == "missing question":
            asked = [each for each in re.split(r"(?<=[.?!]) ", good) if each.endswith("?")]
            assert any(question not in bad for question in asked) or good.count(" open") > bad.count(" open")


def test_spoiled_answers_fail_where_a_checker_can_say_so():
    for pair in pairs("test", 2, 90):
        if pair["flaw"] == "broken JSON":
            json.loads(pair["chosen"]["content"])
            with pytest.raises(ValueError, match=r".+"):
                json.loads(pair["rejected"]["content"])
        if pair["flaw"] == "rude":
            assert len(set(pair["rejected"]["content"].split()) - set(pair["chosen"]["content"].split())) >= 2


def test_pairs_of_some_skills_alone():
    made = pairs("train", 0, 20, ["arithmetic"])
    assert {pair["skill"] for pair in made} == {"arithmetic"}
    assert {pair["flaw"] for pair in made} == {"wrong result", "rude"}
    for flaw, skills in _WHERE.items():
        assert flaw in FLAWS
        assert {pair["skill"] for pair in pairs("test", 1, 90) if pair["flaw"] == flaw} <= skills
    assert list(_WHERE) == list(FLAWS)
