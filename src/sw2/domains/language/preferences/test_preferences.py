"""Preferences: pairs as tokens, both losses against formulas worked out by hand, a judge that learns what is better."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sw2
from sw2.base.errors import DataError, UsageError
from sw2.core.capabilities import Chat, Rate
from sw2.domains.language.chat.template import ChatTemplate
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.preferences.objective import answer_log_probabilities, dpo_loss, reward_loss
from sw2.domains.language.preferences.pairs import Answer, Pair, Pairs, as_batch, encode, last_answer
from sw2.domains.language.preferences.scorer import Scorer
from sw2.domains.language.preferences.task import _bag_of_words
from sw2.domains.language.prep import TextPrep

SHAPE = Decoder.Config(vocab_size=300, context=64, width=32, depth=2, heads=2, kv_heads=2, hidden=48)


def pair(question: str, better: str, worse: str, **more: str) -> dict:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": better}]
    return {"messages": said, "rejected": {"role": "assistant", "content": worse}, "tools": [], **more}


def polite(number: int) -> dict:
    better, worse = (f"Certainly, here is {number % 7} for you.", f"Get lost, take {number % 7} and go.")
    flaw = "rude" if number % 2 else "curt"
    return pair(f"Give me number {number}, please.", better, worse, flaw=flaw)


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for chat that was taught next to nothing."""
    folder = tmp_path_factory.mktemp("talker")
    lines = [json.dumps({"messages": polite(number)["messages"]}) for number in range(60)]
    (folder / "talks.jsonl").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_HOME", str(folder / "home"))
        patch.setenv("SW2_NATIVE", "off")
        sw2.train("chat", folder / "talks.jsonl", preset="tiny", steps=3, out=folder / "run")
    return folder / "run"


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(polite(number)) for number in range(80)))
    return path


def template_of(path: Path) -> ChatTemplate:
    prep = sw2.load(path).prep
    assert isinstance(prep, TextPrep)
    return ChatTemplate.of(prep)


# --------------------------------------------------------------------------------------------------------------- tokens


LINEAR = ("qkv", "out", "gate_up", "down")


def test_only_the_last_answer_counts(talker: Path) -> None:
    template = template_of(talker)
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    answer = last_answer(template, {"messages": [*talk, {"role": "assistant", "content": "four"}]})
    prompt = template.tokens(talk)
    assert answer.tokens[: answer.begins].tolist() == prompt
    assert answer.tokens[-1] == template.end_of_answer
    assert len(answer.tokens) > answer.begins + 1


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40))
def test_what_does_not_fit_loses_its_prompt(before: int, length: int, context: int) -> None:
    answer = Answer(np.arange(before + length), before)
    found = answer.within(context)
    if length >= context and before + length > context:
        assert found is None
    else:
        assert found is not None
        assert len(found.tokens) == min(before + length, context)
        assert found.tokens[found.begins :].tolist() == answer.tokens[before:].tolist()


def test_pairs_that_are_cut_keep_their_prompt_in_common(talker: Path) -> None:
    template, example = template_of(talker), polite(1)
    (whole,), _ = encode(template, [example], 256)
    prompt = whole.chosen.begins
    assert prompt == whole.rejected.begins
    longer = max(len(whole.chosen.tokens), len(whole.rejected.tokens))
    (cut,), left_out = encode(template, [example], longer - 3)
    assert left_out == []
    assert cut.chosen.begins == cut.rejected.begins == prompt - 3
    assert cut.chosen.tokens.tolist() == whole.chosen.tokens[3:].tolist()
    assert cut.rejected.tokens.tolist() == whole.rejected.tokens[3:].tolist()


@pytest.mark.parametrize("share", [True, False])
def test_a_batch_of_pairs(talker: Path, share: bool) -> None:
    pairs, left_out = encode(template_of(talker), [*map(polite, range(1, 4)), {"messages": []}], 256)
    assert (len(pairs), left_out) == (3, [])
    batch = as_batch([pairs[:2], pairs[2:]], 512, share=share)
    assert batch["tokens"].shape == (2, 512)
    assert batch["known"].tolist() == [[True, True], [True, False]]
    assert ("branches" in batch) == share
    for row, some in enumerate((pairs[:2], pairs[2:])):
        for number, each in enumerate(some):
            for side, answer in enumerate((each.chosen, each.rejected)):
                tokens = batch["tokens"][row]
                assert int(tokens[batch["last"][row, number, side]]) == answer.tokens[-1]
                mine = (batch["answers"][row] == 2 * number + side) & (batch["targets"][row] >= 0)
                targets = batch["targets"][row][mine]
                assert targets.tolist() == answer.tokens[answer.begins :].tolist()
                # But for the first token of what follows a branch, the predicted one stands next.
                places = batch["places"][row][mine]
                assert (tokens[places + 1] == targets).sum() >= len(targets) - 1
                assert places[-1] + 1 == batch["last"][row, number, side]


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=20))
def test_rows_hold_every_pair_once(sizes: list[tuple[int, int, int]]) -> None:
    draw = np.random.default_rng(0)
    pairs = []
    for common, better, worse in sizes:
        prompt = draw.integers(300, size=common)
        sides = (Answer(np.concatenate([prompt, draw.integers(300, size=n)]), common) for n in (better, worse))
        pairs.append(Pair(*sides))
    source = Pairs(pairs, 1, 0, share=True, one_shape=True)
    assert sorted(map(id, (pair for row in source.rows for pair in row))) == sorted(map(id, pairs))
    batches = [source.of_rows([number]) for number in range(len(source.rows))]
    assert len({tuple(tuple(t.shape) for t in batch.values()) for batch in batches}) == 1
    assert sum(int(batch["known"].sum()) for batch in batches) == len(pairs)
    answers = sum(better + worse for _, better, worse in sizes)
    assert sum(int((batch["targets"] >= 0).sum()) for batch in batches) == answers


# --------------------------------------------------------------------------------------------------------------- losses


def two_pairs() -> list[Pair]:
    """Answers of 6 and 4, and of 6 and 6 tokens, after prompts of 6."""
    draw = np.random.default_rng(0)
    prompts = [draw.integers(300, size=6) for _ in range(2)]
    sizes = ((6, 4), (6, 6))
    return [
        Pair(*(Answer(np.concatenate([prompt, draw.integers(300, size=size)]), 6) for size in both))
        for prompt, both in zip(prompts, sizes, strict=True)
    ]


def batch_of_two(share: bool = True) -> dict[str, torch.Tensor]:
    return dict(as_batch([two_pairs()], 64, share=share))


def learner(seed: int) -> Decoder:
    net = Decoder(SHAPE)
    net.initialise(torch.Generator().manual_seed(seed))
    return net


@pytest.mark.parametrize("share", [True, False])
def test_the_probability_of_an_answer(share: bool) -> None:
    net = learner(1)
    found = answer_log_probabilities(net, batch_of_two(share)).detach()
    for row, pair in enumerate(two_pairs()):
        for side, answer in enumerate((pair.chosen, pair.rejected)):
            tokens = torch.from_numpy(answer.tokens)
            logits = net({"tokens": tokens[None]})["logits"][0].detach().log_softmax(-1)
            wanted = sum(float(logits[place - 1, tokens[place]]) for place in range(answer.begins, len(tokens)))
            assert float(found[row, side]) == pytest.approx(wanted, rel=1e-4)


def test_dpo_is_its_formula_in_value_and_gradient() -> None:
    policy, start, batch, beta = learner(1), learner(2), batch_of_two(), 0.3
    loss = dpo_loss({"decoder": policy, "start": start}, batch, beta)
    (loss.total / loss.count).backward()
    now, before = answer_log_probabilities(policy, batch), answer_log_probabilities(start, batch).detach()
    margin = beta * ((now[:, 0] - before[:, 0]) - (now[:, 1] - before[:, 1]))
    assert float(loss.total.detach()) / 2 == pytest.approx(float(-margin.detach().sigmoid().log().mean()), rel=1e-5)
    # Equation 7's gradient: -β σ(-margin) (∇ ln π(chosen) - ∇ ln π(rejected)).
    found = policy.blocks[0].mlp.down.weight.grad
    weight = beta * (-margin).sigmoid().detach()
    wanted = torch.autograd.grad(-(weight * (now[:, 0] - now[:, 1])).mean(), policy.blocks[0].mlp.down.weight)[0]
    assert found is not None
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in start.parameters())


def test_dpo_begins_at_ln_2_and_counts_the_likelihood() -> None:
    net, batch = learner(1), batch_of_two()
    same = {"decoder": net, "start": learner(1)}
    plain = dpo_loss(same, batch, 0.1)
    assert float(plain.total.detach()) / plain.count == pytest.approx(math.log(2), abs=1e-6)
    more = dpo_loss(same, batch, 0.1, likelihood=0.5)
    chosen = answer_log_probabilities(net, batch)[:, 0] / 6
    assert float((more.total - plain.total).detach()) == pytest.approx(-0.5 * float(chosen.detach().sum()), rel=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_bradley_terry_is_its_formula(share: bool) -> None:
    net = Scorer.begin(learner(3))
    with torch.no_grad():
        net.head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    loss = reward_loss({"scorer": net}, batch_of_two(share))
    scores = [
        [float(net({"tokens": torch.from_numpy(side.tokens)[None]})["scores"][0, -1].detach()) for side in sides]
        for sides in ((pair.chosen, pair.rejected) for pair in two_pairs())
    ]
    wanted = sum(math.log1p(math.exp(-(better - worse))) for better, worse in scores)
    assert float(loss.total.detach()) == pytest.approx(wanted, rel=1e-4)
    right = sum(better > worse for better, worse in scores) / 2
    assert float(loss.metrics["accuracy"]) == right
    assert loss.count == 2


# ------------------------------------------------------------------------------------------------------------- learning


def test_a_judge_learns_what_is_better(talker: Path, pairs_file: Path, tmp_path: Path) -> None:
    program = sw2.train(
        "reward-modeling", pairs_file, start=talker, preset="tiny", steps=30, out=tmp_path / "judge",
        settings={"learn.gradient.precision": "fp32"},
    )  # fmt: skip
    scores = {(score["of"], score["name"]): score["value"] for score in program.card.scores}
    assert scores["program", "pair accuracy"] == 1.0
    assert scores["chance", "pair accuracy"] == 0.5
    assert {"pair accuracy: rude", "pair accuracy: curt"} <= {name for of, name in scores if of == "program"}
    judge = program.capability(Rate)
    good, bad = polite(100), polite(100)
    bad["messages"] = [*bad["messages"][:-1], bad["rejected"]]
    better, worse = judge.rate([good, bad])
    assert better > worse
    assert program({"messages": good["messages"]})["score"] == pytest.approx(float(better), rel=1e-5)
    assert sw2.load(tmp_path / "judge").id == program.id
    with pytest.raises(UsageError, match="rated by its last answer"):
        judge.rate([{"messages": good["messages"][:-1]}])


def test_a_judge_learns_above_held_blocks(talker: Path, pairs_file: Path, tmp_path: Path) -> None:
    before = sw2.load(talker).tensors()
    settings = {"learn.gradient.precision": "fp32", "learn.held": 1}
    judge = sw2.train(
        "reward-modeling", pairs_file, start=talker, preset="tiny", steps=30, settings=settings, out=tmp_path / "judge"
    )
    assert judge.card.scores[0]["value"] > 0.9
    after = {name.removeprefix("nets/scorer/decoder."): tensor for name, tensor in judge.tensors().items()}
    same = {name for name, t in before.items() if t.equal(after[name.removeprefix("nets/decoder/")])}
    names = {name.removeprefix("nets/decoder/") for name in before}
    # The shares of recall mix logits, which a scorer has not.
    held = {name for name in names if name.startswith(("blocks.0.", "embedding", "positions", "recall", "share"))}
    assert {name.removeprefix("nets/decoder/") for name in same} == held


def test_dpo_makes_a_program_for_chat(talker: Path, pairs_file: Path, tmp_path: Path) -> None:
    settings = {"learn.gradient.precision": "fp32", "trainer.evaluations": 1}
    program = sw2.train(
        "chat", pairs_file, objective="dpo", start=talker, preset="tiny", steps=25, out=tmp_path / "run",
        settings=settings,
    )  # fmt: skip
    assert program.task.name == "chat"
    assert isinstance(program.runtime, Chat)
    assert program.card.facts["validation accuracy"] > 0.9
    # The start is the job's, and no checkpoint holds it.
    size = max(file.stat().st_size for file in (tmp_path / "run" / "checkpoints").glob("step-*"))
    weights = (tmp_path / "run" / "program" / "weights.safetensors").stat().st_size
    assert size < 3.5 * weights


def test_adapters_judge_and_prefer(talker: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Both are learned with adapters, which are merged; the rest stays what it was."""
    settings = {"learn.gradient.precision": "fp32", "learn.lora.rank": 4}
    before = sw2.load(talker).tensors()
    judge = sw2.train(
        "reward-modeling", pairs_file, start=talker, preset="tiny", steps=30, settings=settings, out=tmp_path / "judge"
    )
    assert judge.card.scores[0]["value"] > 0.9
    policy = sw2.train(
        "chat", pairs_file, objective="dpo", start=talker, preset="tiny", steps=10, settings=settings,
        out=tmp_path / "policy",
    )  # fmt: skip
    for prefix, program in (("nets/scorer/decoder.", judge), ("nets/decoder/", policy)):
        after = {name.removeprefix(prefix): tensor for name, tensor in program.tensors().items()}
        old = {name.removeprefix("nets/decoder/"): tensor for name, tensor in before.items()}
        same = {name for name, tensor in old.items() if tensor.equal(after[name])}
        assert same == {name for name in old if not (name.startswith("blocks.") and name.split(".")[-2] in LINEAR)}
    assert sw2.load(tmp_path / "judge").id == judge.id
    with pytest.raises(UsageError, match="added to its weights"):
        sw2.train(
            "reward-modeling", pairs_file, start=talker, preset="tiny", steps=1, out=tmp_path / "apart",
            settings={**settings, "learn.lora.merge": "off"},
        )  # fmt: skip


def test_users_mistakes(talker: Path, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can already answer") as caught:
        sw2.train("chat", pairs_file, objective="dpo", preset="tiny", steps=1, out=tmp_path / "a")
    assert "--from PROGRAM" in str(caught.value)
    plain = tmp_path / "plain.jsonl"
    plain.write_text("\n".join(json.dumps({"messages": polite(number)["messages"]}) for number in range(40)))
    with pytest.raises(DataError, match="no pairs of answers"):
        sw2.train("reward-modeling", plain, start=talker, preset="tiny", steps=1, out=tmp_path / "b")
    with pytest.raises(DataError, match="nothing to prefer"):
        sw2.train("chat", plain, objective="dpo", start=talker, preset="tiny", steps=1, out=tmp_path / "c")
    equal = tmp_path / "equal.jsonl"
    rows = [polite(number) if number % 10 else pair(f"question {number}", "same", "same") for number in range(80)]
    equal.write_text("\n".join(map(json.dumps, rows)))
    program = sw2.train("reward-modeling", equal, start=talker, preset="tiny", steps=1, out=tmp_path / "d")
    assert program.card.data["rejected rows"] == 8
    assert "both answers are the same" in str(program.card.data["rejected"])


def test_words_alone_tell_the_rude_from_the_polite() -> None:
    train, test = [polite(number) for number in range(40)], [polite(number) for number in range(40, 60)]
    assert (_bag_of_words(train, test) > 0).all()
