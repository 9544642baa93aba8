"""Reinforcement learning: advantages and losses against formulas worked out by hand, rewards that fail, guards, and
policies that learn what is rewarded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sw2
from sw2.base.errors import DataError, Interrupted, LearningError, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Chat
from sw2.core.objective import Enough
from sw2.core.run import read_events
from sw2.core.task import Context
from sw2.domains.language.chat.writer import Reply
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.preferences.scorer import Scorer
from sw2.domains.language.reinforcement.guards import Guards, GuardsConfig, repetition
from sw2.domains.language.reinforcement.objective import (
    critic_loss,
    generalised_advantages,
    group_advantages,
    policy_loss,
)
from sw2.domains.language.reinforcement.rewards import RewardFunction, Rewards, RewardsConfig
from sw2.domains.language.reinforcement.rollouts import Rollouts, as_batch, log_probabilities, telling
from sw2.verbs.train import resume

SHAPE = Decoder.Config(vocab_size=60, context=64, width=16, depth=1, heads=2, kv_heads=2, hidden=24)
COLOURS = ("red", "green", "blue")
QUICK = {
    "learn.gradient.precision": "fp32",
    "learn.gradient.optim.learning_rate": 0.002,
    "learn.rollouts.max_tokens": 8,
    "learn.guards.kl": 0,
    "learn.guards.length": 0,
    "learn.guards.repetition": 0,
    "trainer.evaluations": 1,
    "trainer.health": "off",
}


def learner(seed: int) -> Decoder:
    net = Decoder(SHAPE)
    net.initialise(torch.Generator().manual_seed(seed))
    return net


# ---------------------------------------------------------------------------------------------------------- advantages


@given(st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=5), st.booleans())
def test_advantages_of_a_group_sum_to_zero(rewards: list[list[float]], deviation: bool) -> None:
    found = group_advantages(torch.tensor(rewards), deviation=deviation)
    assert found.sum(1).abs().max() < 1e-3
    if deviation:
        assert (found.square().mean(1) <= 1 + 1e-4).all()


@pytest.mark.parametrize("worth", [2 / 3, 0.1, 0.7, -1e-3, 5.0])
@pytest.mark.parametrize("size", [4, 5, 7, 8, 12])
def test_equals_have_no_advantage_at_all(worth: float, size: int) -> None:
    """The mean of eight times 2/3 is not 2/3 in float32, and the deviation would make much of it."""
    rewards = torch.full((2, size), worth)
    rewards[1, 0] = math.nan
    assert not group_advantages(rewards, deviation=True).any()


def test_an_answer_without_reward_counts_in_no_group() -> None:
    found = group_advantages(torch.tensor([[1.0, math.nan, 3.0], [math.nan] * 3]), deviation=False)
    assert found.tolist() == [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    scaled = group_advantages(torch.tensor([[1.0, math.nan, 3.0]]), deviation=True)
    assert scaled.tolist()[0] == pytest.approx([-1.0, 0.0, 1.0], abs=1e-3)


def test_generalised_advantages_are_their_sum() -> None:
    """A_t = Σ (γλ)^l δ_{t+l}, equation 16 of the paper, written out; a shorter row beside a longer one."""
    draws = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 5, generator=draws), torch.randn(2, 5, generator=draws)
    known = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    discount, smoothing = 0.9, 0.8
    found = generalised_advantages(rewards, values, known, discount, smoothing)
    for row, length in enumerate((5, 3)):
        v = [*values[row, :length].tolist(), 0.0]
        delta = [float(rewards[row, t]) + discount * v[t + 1] - v[t] for t in range(length)]
        for t in range(5):
            wanted = sum((discount * smoothing) ** (at - t) * delta[at] for at in range(t, length))
            assert float(found[row, t]) == pytest.approx(wanted, abs=1e-5)
    # λ = 1 and γ = 1: all that is still to come, less what was expected.
    whole = generalised_advantages(rewards, values, known, 1.0, 1.0)
    assert float(whole[0, 1]) == pytest.approx(float(rewards[0, 1:].sum() - values[0, 1]), abs=1e-5)


# --------------------------------------------------------------------------------------------------------------- losses


def batch_of_two() -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    tokens = torch.randint(60, (2, 1, 12), generator=draws)
    places = torch.arange(5, 11).repeat(2, 1, 1)
    targets = tokens[..., 6:].clone()
    targets[1, :, 4:] = -1
    batch = {"tokens": tokens, "places": places, "targets": targets}
    with torch.no_grad():
        old, start = log_probabilities(learner(2), batch), log_probabilities(learner(3), batch)
    advantages = torch.tensor([0.7, -1.3])[:, None, None].expand(2, 1, 6).contiguous()
    # Far enough apart for some ratios to be clipped, on either side.
    counted = (targets >= 0).flatten(1).sum(1)
    return {**batch, "old": old, "start": start, "advantages": advantages, "counted": counted}


def test_the_policy_loss_is_its_formula_in_value_and_gradient() -> None:
    net, batch, clip, kl = learner(1), batch_of_two(), 0.05, 0.3
    loss = policy_loss({"decoder": net}, batch, clip, kl)
    (loss.total / loss.count).backward()
    weight = net.blocks[0].mlp.down.weight
    found = weight.grad.clone()
    logits = net({"tokens": batch["tokens"][:, 0]})["logits"].log_softmax(-1)
    total, surrogate, clipped = 0.0, torch.zeros(()), 0
    for row in range(2):
        for at in range(6):
            target = int(batch["targets"][row, 0, at])
            if target < 0:
                continue
            now = logits[row, batch["places"][row, 0, at], target]
            old, start = float(batch["old"][row, 0, at]), float(batch["start"][row, 0, at])
            advantage = float(batch["advantages"][row, 0, at])
            ratio = math.exp(float(now.detach()) - old)
            bounded = min(max(ratio, 1 - clip), 1 + clip)
            further = start - float(now.detach())
            total += -min(ratio * advantage, bounded * advantage) + kl * (math.exp(further) - further - 1)
            clipped += abs(ratio - 1) > clip
            # Equation 20 of the GRPO paper, with the clipped side's gradient 0.
            outside = (advantage > 0 and ratio > 1 + clip) or (advantage < 0 and ratio < 1 - clip)
            coefficient = (0.0 if outside else ratio * advantage) + kl * (math.exp(further) - 1)
            surrogate = surrogate - coefficient * now
    assert loss.count == 10
    assert 0 < clipped < 10
    assert float(loss.metrics["clipped"]) == pytest.approx(clipped / 10)
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)
    wanted = torch.autograd.grad(surrogate / 10, weight)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("silent", [(0,), (1,), (0, 1), ()])
def test_leaving_out_who_says_nothing_changes_nothing(silent: tuple[int, ...]) -> None:
    batch = batch_of_two()
    for row in silent:
        batch["advantages"][row] = 0.0
    found = []
    for each in (batch, telling({name: tensor.clone() for name, tensor in batch.items()})):
        net = learner(1)
        loss = policy_loss({"decoder": net}, each, 0.2, 0.0)
        (loss.total / loss.count).backward()
        found.append([torch.tensor(float(loss.count)), loss.total.detach(), *(p.grad for p in net.parameters())])
        assert len(each["tokens"]) == (2 if each is batch else max(1, 2 - len(silent)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_critic_loss_is_its_formula() -> None:
    critic, batch = Scorer.begin(learner(1)), batch_of_two()
    with torch.no_grad():
        critic.head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    batch["returns"] = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(1))
    loss = critic_loss({"critic": critic}, batch)
    scores = critic({"tokens": batch["tokens"][:, 0]})["scores"].detach()
    wanted = sum(
        0.5 * (float(scores[row, 5 + at]) - float(batch["returns"][row, 0, at])) ** 2
        for row, length in ((0, 6), (1, 4))
        for at in range(length)
    )
    assert loss.count == 10
    assert float(loss.total.detach()) == pytest.approx(wanted, rel=1e-4)


def test_what_was_written_is_learned_as_far_as_the_context_goes() -> None:
    replies = [
        Reply([], [1, 2, 3, 4, 5], [False, False, True, False, True], "end"),
        Reply([], list(range(1, 60)), [False] * 2 + [True] * 57, "length"),
    ]
    batch = as_batch(replies, 2, 32, share=False)
    assert batch["tokens"].shape == (1, 2, 64)
    assert batch["targets"][0, 0, :3].tolist() == [3, 5, -1]
    assert batch["places"][0, 0, :2].tolist() == [1, 3]
    assert batch["targets"].shape == (1, 2, 31)
    assert batch["targets"][0, 1].tolist() == list(range(3, 34))
    for answer, reply in enumerate(replies):
        known = batch["targets"][0, answer] >= 0
        places, targets = batch["places"][0, answer][known], batch["targets"][0, answer][known]
        assert [reply.tokens[place + 1] for place in places] == targets.tolist()


# -------------------------------------------------------------------------------------------------------------- rewards


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module of reward functions."""
    (tmp_path / "own_rewards.py").write_text(
        """
import time

def length(messages, example):
    print("a function may print")
    return len(messages[-1]["content"]) / 10

def faulty(messages, example):
    said = messages[-1]["content"]
    if said == "hang":
        time.sleep(60)
    if said == "exit":
        raise SystemExit
    return {"raise": lambda: 1 / 0, "nan": lambda: float("nan"), "text": lambda: "much"}.get(said, lambda: 1)()
"""
    )
    monkeypatch.syspath_prepend(tmp_path)


def said(text: str) -> list[Mapping[str, Any]]:
    return [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]


def test_a_function_may_raise_hang_or_return_nonsense(functions: None) -> None:
    rewards = Rewards(RewardsConfig(check=0.0, function="own_rewards:faulty", seconds=1.0), None)
    texts = ["fine", "raise", "nan", "text", "hang", "exit", "fine"]
    worths = rewards.of([{}] * len(texts), [said(text) for text in texts])
    assert [math.isnan(worth.reward) for worth in worths] == [False, True, True, True, True, True, False]
    problems = [worth.problem for worth in worths]
    assert problems[1] == "own_rewards:faulty: ZeroDivisionError: division by zero"
    assert problems[2] == "own_rewards:faulty returned nan"
    assert "ValueError" in problems[3]
    assert problems[4] == "own_rewards:faulty took longer than 1 seconds, or ended its process"
    with pytest.raises(LearningError, match="Too many answers got no reward") as caught:
        rewards.refuse_failures(worths, 5 / 7)
    assert "none for 71%; the first: own_rewards:faulty: ZeroDivisionError" in str(caught.value)
    rewards.refuse_failures(worths, 0.25)


def test_a_function_that_is_not_there(functions: None) -> None:
    for name, why in (("own_rewards:nothing", "AttributeError"), ("no_such_module:f", "ModuleNotFoundError")):
        with pytest.raises(UsageError, match="cannot be loaded") as caught:
            RewardFunction(name, 1.0)
        assert why in str(caught.value)
    with pytest.raises(UsageError, match=r"learn\.reward\.function is out of range"):
        RewardsConfig(function="own_rewards")
    with pytest.raises(UsageError, match="Nothing says what an answer is worth"):
        RewardsConfig(check=0.0)
    with pytest.raises(UsageError, match="go together"):
        Rewards(RewardsConfig(program=1.0), None)


def test_rewards_add_up(functions: None) -> None:
    config = RewardsConfig(check=2.0, function="own_rewards:length", function_weight=0.5)
    examples = [{"check": {"contains": ["blue", "sky"]}}] * 2
    both, half = Rewards(config, None).of(examples, [said("blue sky"), said("blue")])
    assert (both.reward, both.passed) == (pytest.approx(2.0 + 0.4), True)
    assert (half.reward, half.passed) == (pytest.approx(1.0 + 0.2), False)
    strict = Rewards(replace(config, rule="passed", function=""), None)
    assert [worth.reward for worth in strict.of(examples, [said("blue sky"), said("blue")])] == [2.0, 0.0]
    # A conversation that ended at a tool's result has an empty answer.
    (none,) = strict.of(examples[:1], [[{"role": "user", "content": "?"}, {"role": "tool", "content": "blue sky"}]])
    assert none.passed is False
    with pytest.raises(DataError, match="cannot be checked"):
        strict.of([{"check": {"vibe": "good"}}], [said("x")])


# --------------------------------------------------------------------------------------------------------------- guards


def test_guards_stop_and_say_what_they_saw() -> None:
    steady = Guards(GuardsConfig())
    for _ in range(20):
        steady.look(1.0, 10.0, 0.1)
    far = Guards(GuardsConfig(kl=5.0))
    for kl in (0.0, 2.0, 4.0, 6.0):
        far.look(kl, 10.0, 0.0)
    with pytest.raises(Enough, match=r"answers are 5.5 nats from those of the start, over the budget of 5 "):
        far.look(10.0, 10.0, 0.0)
    for seen, why in (
        ((0.0, 70.0, 0.0), r"answers grew from 20 to 4\d tokens, more than 2 times as long"),
        ((0.0, 20.0, 0.9), "of an answer repeats what stood in it before, 5% at first"),
    ):
        guards = Guards(GuardsConfig())
        for _ in range(4):
            guards.look(0.0, 20.0, 0.05)
        with pytest.raises(Enough, match=why):
            _look_often(guards, seen)
        off = Guards(GuardsConfig(kl=0, length=0, repetition=0))
        for _ in range(9):
            off.look(99.0, *seen[1:])
    # What was seen is carried over.
    again = Guards(GuardsConfig(kl=5.0))
    again.restore(json.loads(json.dumps(far.state())))
    assert again.state() == far.state()


def _look_often(guards: Guards, seen: tuple[float, float, float]) -> None:
    for _ in range(4):
        guards.look(*seen)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_repetition_is_a_share(tokens: list[int]) -> None:
    assert 0 <= repetition(tokens) < 1
    assert repetition(list(range(len(tokens)))) == 0


# ------------------------------------------------------------------------------------------------------------- learning


def colour(number: int, **more: Any) -> dict[str, Any]:
    said = [
        {"role": "user", "content": f"Colour {number}?"},
        {"role": "assistant", "content": COLOURS[number % 3]},
    ]
    return {"messages": said, "check": {"equals": "blue"}, **more}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions that were answered with one of three colours, and a rule that likes one of them."""
    path = tmp_path_factory.mktemp("data") / "colours.jsonl"
    path.write_text("\n".join(json.dumps(colour(number)) for number in range(60)))
    return path


@pytest.fixture(scope="module")
def talker(colours: Path) -> Path:
    """A program for chat that says any of the colours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_HOME", str(colours.parent / "home"))
        patch.setenv("SW2_NATIVE", "off")
        settings = {
            "learn.gradient.precision": "fp32",
            "model.depth": 1,
            "model.width": 64,
            "model.context": 64,
            "prep.vocab_size": 280,
            "learn.gradient.optim.learning_rate": 0.01,
        }
        sw2.train("chat", colours, preset="tiny", steps=40, settings=settings, out=colours.parent / "talker")
    return colours.parent / "talker"


def metrics(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run) if event["kind"] == "step"]


def mean(steps: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([step[name] for step in steps]))


def test_grpo_learns_what_is_rewarded(talker: Path, colours: Path, tmp_path: Path) -> None:
    program = sw2.train(
        "chat", colours, objective="grpo", start=talker, preset="tiny", steps=20, settings=QUICK, out=tmp_path / "run"
    )
    steps = metrics(tmp_path / "run")
    assert 0.0 < mean(steps[:4], "reward") < 0.6
    assert mean(steps[-5:], "reward") > 0.9
    assert steps[0]["kl"] == pytest.approx(0.0, abs=1e-4)  # it begins where it started from
    assert mean(steps[-5:], "kl") > 0.01
    assert {"length", "failed", "passed", "repetition", "clipped"} <= steps[0].keys()
    assert program.task.name == "chat"
    assert isinstance(program.runtime, Chat)
    assert program.card.facts["validation reward"] > 0.9
    assert sw2.load(tmp_path / "run").id == program.id
    # The start is the job's, and no checkpoint holds it.
    size = max(file.stat().st_size for file in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert size < 3.5 * (tmp_path / "run" / "program" / "weights.safetensors").stat().st_size


def test_ppo_learns_what_is_rewarded(talker: Path, colours: Path, tmp_path: Path) -> None:
    program = sw2.train(
        "chat", colours, objective="ppo", start=talker, preset="tiny", steps=20, settings=QUICK, out=tmp_path / "run"
    )
    steps = metrics(tmp_path / "run")
    assert mean(steps[:2], "reward") < 0.75
    assert mean(steps[-5:], "reward") > 0.9
    assert {"policy.loss", "critic.loss", "reward", "kl"} <= steps[0].keys()
    assert list(program.nets) == ["decoder"]


@pytest.mark.parametrize("objective", ["grpo", pytest.param("ppo", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    objective: str, talker: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(name: str) -> Any:
        return sw2.train(
            "chat", colours, objective=objective, start=talker, preset="tiny", steps=5, settings=settings,
            out=tmp_path / name,
        )  # fmt: skip

    settings = {**QUICK, "trainer.checkpoint_seconds": 1e-6, "trainer.evaluations": 0}
    whole = learn("whole")
    plain = Rollouts.batch

    def killed(self: Rollouts, nets: Any, step: int, rank: int, size: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return plain(self, nets, step, rank, size)

    monkeypatch.setattr(Rollouts, "batch", killed)
    with pytest.raises(Interrupted):
        learn("stopped")
    monkeypatch.undo()
    monkeypatch.setenv("SW2_NATIVE", "off")
    again = resume(catalog(), tmp_path / "stopped", Context())
    ours, theirs = whole.tensors(), again.tensors()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert metrics(tmp_path / "whole")[-1]["reward"] == metrics(tmp_path / "stopped")[-1]["reward"]


@pytest.mark.parametrize("objective", ["grpo", "ppo"])
def test_adapters_learn_what_is_rewarded(objective: str, talker: Path, colours: Path, tmp_path: Path) -> None:
    """The policy answers with its adapters, nothing else of it changes, and they are merged in the end."""
    settings = {**QUICK, "learn.lora.rank": 4, "learn.lora.rate": 1.0}
    program = sw2.train(
        "chat", colours, objective=objective, start=talker, preset="tiny", steps=25, settings=settings,
        out=tmp_path / "run",
    )  # fmt: skip
    steps = metrics(tmp_path / "run")
    assert mean(steps[-5:], "reward") > mean(steps[:4], "reward") + 0.2
    assert steps[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    before, after = sw2.load(talker).tensors(), program.tensors()
    assert before.keys() == after.keys()
    changed = {name for name in after if not after[name].equal(before[name])}
    assert changed
    assert all("blocks.0." in name and name.endswith(".weight") for name in changed)
    assert program.card.facts["learning parameters"] < program.card.facts["parameters"]


def test_a_guard_ends_learning_and_keeps_the_program(talker: Path, colours: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "learn.guards.kl": 0.3, "learn.gradient.optim.learning_rate": 0.0005}
    program = sw2.train(
        "chat", colours, objective="grpo", start=talker, preset="tiny", steps=40, settings=settings,
        out=tmp_path / "run",
    )  # fmt: skip
    notes = [event["text"] for event in read_events(tmp_path / "run") if event["kind"] == "note"]
    assert any("nats from those of the start, over the budget of 0.3" in note for note in notes)
    assert 2 < program.card.facts["steps"] < 40
    assert program.card.facts["validation reward"] >= 0
    assert resume(catalog(), tmp_path / "run", Context()).id == program.id


@pytest.mark.slow
def test_a_reward_program_may_have_another_tokenizer(talker: Path, colours: Path, tmp_path: Path) -> None:
    rows = [
        {**colour(number), "messages": [*colour(number)["messages"][:1], {"role": "assistant", "content": "blue"}],
         "rejected": {"role": "assistant", "content": COLOURS[number % 2]}}
        for number in range(40)
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judge = sw2.train(
        "reward-modeling", tmp_path / "pairs.jsonl", preset="tiny", steps=20, out=tmp_path / "judge",
        settings={"learn.gradient.precision": "fp32", "prep.vocab_size": 320, "model.decoder.depth": 1},
    )  # fmt: skip
    ours = sw2.load(talker).prep
    assert judge.prep.tokenizer.encode("Colour 17?") != ours.tokenizer.encode("Colour 17?")
    sw2.train(
        "chat", colours, objective="grpo", start=talker, uses={"reward": tmp_path / "judge"}, preset="tiny", steps=20,
        settings=QUICK, out=tmp_path / "run",
    )  # fmt: skip
    steps = metrics(tmp_path / "run")
    assert mean(steps[-3:], "reward") > mean(steps[:3], "reward") + 0.5


def test_users_mistakes(talker: Path, colours: Path, functions: None, tmp_path: Path) -> None:
    def learn(objective: str = "grpo", data: Path = colours, start: Path | None = talker, **settings: Any) -> Any:
        return sw2.train(
            "chat", data, objective=objective, start=start, preset="tiny", steps=2, out=tmp_path / "run",
            settings={**QUICK, **{name.replace("__", "."): value for name, value in settings.items()}},
        )  # fmt: skip

    for objective in ("grpo", "ppo"):
        with pytest.raises(UsageError, match="can already answer"):
            learn(objective, start=None)
    with pytest.raises(UsageError, match="not whole groups"):
        learn(learn__gradient__batch_size=6)
    with pytest.raises(UsageError, match="compared with others"):
        learn(learn__rollouts__group=1)
    with pytest.raises(LearningError, match="Too many answers got no reward") as caught:
        learn(learn__reward__function="own_rewards:faulty", learn__reward__seconds=1e-9)
    assert "the trial steps" in str(caught.value)
    plain = tmp_path / "plain.jsonl"
    plain.write_text("\n".join(json.dumps({"messages": colour(number)["messages"]}) for number in range(40)))
    with pytest.raises(DataError, match="nothing to ask") as data:
        learn(data=plain)
    assert 'prompts have no rule ("check"), and are left out' in str(data.value)
    assert not (tmp_path / "run").exists()
