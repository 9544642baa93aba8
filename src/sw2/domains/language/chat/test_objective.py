"""Learning to answer: what is packed, what is learned, what is judged, and how adapters go on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.config import replace
from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.core.gradient import GradientConfig
from sw2.core.objective import Clock, Job, Snapshot
from sw2.core.program import Net, Program
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.named import named
from sw2.domains.language.chat.objective import (
    Conversations,
    LearnConfig,
    _Rows,
    encode,
    learn,
    next_answer_loss,
)
from sw2.domains.language.chat.task import ChatTask, answer_nats, marked
from sw2.domains.language.chat.template import ChatTemplate, Marked
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.formats.writing import FORMATS, convert
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.starting import with_vocabulary
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.data.packing import alike, shared_rows
from sw2.parts.layers import attention
from sw2.parts.layers.lora import LoraConfig
from sw2.parts.layers.packed import is_packed, pack

SHAPE = {"context": 640, "width": 32, "depth": 2, "heads": 2, "kv_heads": 2, "hidden": 48}
DATA = named("arithmetic", ChatOptions(train=60, validation=5, test=20))


@pytest.fixture(scope="module")
def prep() -> TextPrep:
    return ChatTask().prepare(DATA.split("train"), PrepConfig(vocab_size=400))


def _net(prep: TextPrep, **changed: Any) -> Decoder:
    net = Decoder(Decoder.Config(**{**SHAPE, "vocab_size": prep.tokenizer.vocab_size, **changed}))
    net.initialise(generator(3, "weights"))
    return net


def _job(prep: TextPrep, net: Decoder, shape: Decoder.Config) -> Job:
    """Fine-tuning that begins with a network."""
    start = Program.assemble(
        task=ChatTask(), runtime=ChatWriter, nets={"decoder": Net("decoder", net)}, prep=prep, provider={}
    )
    return Job(
        task=ChatTask(),
        data=DATA,
        prep=prep,
        model_name="decoder",
        model_class=Decoder,
        model_config=replace(shape, vocab_size=0),
        seed=0,
        device=torch.device("cpu"),
        parents={"start": start},
        choices={"precision": "fp32", "micro_batch": 0, "compile": "off"},
    )


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60))
def test_packing_keeps_every_conversation_once(sizes: list[int]) -> None:
    rows = shared_rows(np.minimum(sizes, 64), 64)
    assert sorted(number for row in rows for number in row) == list(range(len(sizes)))
    room = [sum(min(sizes[number], 64) for number in row) for row in rows]
    assert max(room) <= 64
    # No two rows that are half empty: best-fit would have put them together.
    assert sum(2 * each <= 64 for each in room) <= 1


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=30), st.integers(2, 5))
def test_texts_that_begin_alike_are_put_together(texts: list[list[int]], most: int) -> None:
    beginnings = [np.array(text) for text in texts]
    sizes = np.array([len(text) + number % 3 for number, text in enumerate(texts)])
    groups = alike(beginnings, sizes, 20, most, least=2)
    assert sorted(number for group in groups for number in group.members) == list(range(len(texts)))
    for group in groups:
        several = len(group.members) > 1
        known = {tuple(texts[number][: group.common]) for number in group.members}
        assert len(known) == 1
        assert len(known.pop()) == group.common >= 2 * several
        assert len(group.members) <= most
        assert group.size <= 20
        assert group.size == sizes[list(group.members)].sum() - (len(group.members) - 1) * group.common
    twins = [number for number, text in enumerate(texts) if len(text) > 1 and texts.count(text) > 1]
    assert not twins or any(len(group.members) > 1 for group in groups)


@pytest.mark.parametrize("way", ["by a mask", "by pieces"])
@pytest.mark.parametrize("shape", [{}, {"recall": 2}, {"positions": "learned"}, {"positions": "alibi"}])
def test_packed_rows_learn_what_conversations_learn_alone(
    prep: TextPrep, shape: dict[str, Any], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss and its gradients, whoever shares a row or a beginning; and logits where something is learned say
    what all would.
    """
    if way == "by pieces":
        monkeypatch.setattr(attention, "LONGEST_WRITTEN_OUT", 8)
        monkeypatch.setattr(attention, "_PIECE", 8)
    net = _net(prep, **shape)
    examples = [
        *DATA.split("train")[:5],
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
    ]
    talks = encode(ChatTemplate.of(prep), examples)
    source = _Rows(talks, 640, 2, 0, one_shape=False, share=not net.config.recall)
    assert source.branching == (not net.config.recall)
    batch = source.of_rows(range(len(source.rows)))
    loss = next_answer_loss({"decoder": net}, batch)
    loss.total.backward()
    packed_gradient = net.embedding.weight.grad.clone()
    net.zero_grad()
    total = 0.0
    for number in range(len(talks)):
        tokens, targets = (torch.from_numpy(each)[None] for each in talks.one(number, 640))
        nats = net({"tokens": tokens, "targets": targets})["nats"].sum()
        nats.backward()
        total += float(nats.detach())
    assert len(source.rows) < len(talks)
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)
    assert (net.embedding.weight.grad - packed_gradient).abs().max() < 2e-4 * packed_gradient.abs().max()
    assert loss.count == talks.written.sum()


def test_long_conversations_are_cut_named_and_counted(prep: TextPrep) -> None:
    template = ChatTemplate.of(prep)
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi " * 300}]
    late = [{"role": "user", "content": "hello " * 300}, {"role": "assistant", "content": "hi"}]
    examples = [{"messages": talk, "where": "line 7"}, {"messages": late, "where": "line 8"}, *DATA.split("train")[:2]]
    source = _Rows(encode(template, examples), 400, 1, 0, one_shape=True, share=True)
    notes = source.notes()
    assert "2 conversations are longer than a row of 400 tokens, and cut there: line 7 (" in notes[1]
    assert "1 conversations are cut before any answer, and teach nothing: line 8 (" in notes[2]
    shapes = {tuple(source.of_rows([row])["places"].shape) for row in range(len(source.rows))}
    assert shapes == {(1, max(source.places))}


def test_the_untuned_start_gets_rows_for_new_tokens(prep: TextPrep) -> None:
    tokenizer = Tokenizer.train(["two words"] * 3, 300)
    net = _net(prep, vocab_size=tokenizer.vocab_size, tied=False, matrix_bits=0)
    larger = with_vocabulary(net, tokenizer.vocab_size + 2)
    assert larger.config.vocab_size == tokenizer.vocab_size + 2
    tokens = torch.arange(9)[None]
    old, new = (each({"tokens": tokens})["logits"] for each in (net, larger))
    assert torch.allclose(new[..., :-2], old, atol=1e-6)
    assert torch.allclose(new[..., -1], old.mean(-1), atol=1e-5)
    assert with_vocabulary(larger, 5) is larger


def test_answers_are_judged_token_by_token(prep: TextPrep) -> None:
    net = _net(prep).eval()
    rows = list(marked(prep, DATA.split("test")[:4]))
    found = answer_nats(net, rows)
    assert found[:, 1].tolist() == [sum(row.written) for row in rows]
    long = Marked([*rows[0].tokens] * 3, [*rows[0].written] * 3, rows[0].begins)
    assert answer_nats(net, [long])[0, 1] == sum(long.written[1:641])
    with torch.no_grad():
        logits = net({"tokens": torch.tensor(rows[1].tokens)[None]})["logits"][0].log_softmax(-1)
    wanted = -sum(
        float(logits[place - 1, token])
        for place, (token, mine) in enumerate(zip(rows[1].tokens, rows[1].written, strict=True))
        if mine
    )
    assert found[1, 0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", ["huggingface", "gguf"])
def test_our_template_travels_in_exports(prep: TextPrep, name: str, tmp_path: Path) -> None:
    net = _net(prep).eval().requires_grad_(False)
    convert(net, prep, name, tmp_path)
    back = FORMATS[name].read(tmp_path).prep
    example = DATA.split("test")[0]
    ours, theirs = (ChatTemplate.of(each) for each in (prep, back))
    assert ours.marked(example["messages"], example["tools"]) == theirs.marked(example["messages"], example["tools"])
    assert ours.end_of_answer == theirs.end_of_answer
    assert back.controls.ends == prep.controls.ends
    assert TextPrep.restore(prep.state()).controls == prep.controls


def test_adapters_over_packed_weights_resume_exactly(prep: TextPrep) -> None:
    """QLoRA: the base stays in 4 bits, gradients pass through it, and a snapshot has all that changes."""
    plain = _net(prep, hidden=64)
    packed = Decoder(replace(plain.config, matrix_bits=4))
    state = dict(plain.state_dict())
    for name, module in packed.named_modules():
        if is_packed(module):
            found = pack(state.pop(f"{name}.weight"), 4)
            state |= {f"{name}.codes": found.codes, f"{name}.scales": found.scales, f"{name}.minima": found.minima}
    packed.load_state_dict(state)
    config = LearnConfig(gradient=GradientConfig(batch_size=2, precision="fp32"), lora=LoraConfig(rank=4))
    job = _job(prep, packed, plain.config)
    objective = learn(config, {})
    state_of_all = objective.start(job)
    for step in range(3):
        objective.step(state_of_all, Clock(step, 6))
    kept = objective.snapshot(state_of_all)
    kept = Snapshot(tensors={n: t.clone() for n, t in kept.tensors.items()}, values=kept.values)
    objective.step(state_of_all, Clock(3, 6))
    again = objective.start(job)
    objective.restore(again, kept)
    objective.step(again, Clock(3, 6))
    ours, theirs = (each.nets["decoder"].state_dict() for each in (state_of_all, again))
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert any(name.endswith("codes") for name in ours)
    assert not any("codes" in name or "embedding" in name for name in kept.tensors)
    learned = objective.finish(again).capability(ChatWriter).net
    assert not learned.packed
    before = packed.unpacked().state_dict()
    assert {name for name, tensor in learned.state_dict().items() if not tensor.equal(before[name])} == {
        name for name in before if name.startswith("blocks.") and before[name].ndim == 2
    }


@pytest.mark.parametrize("shape", [{}, {"tied": False, "positions": "learned", "embedding_norm": True}])
def test_held_blocks_stay_and_the_others_learn_as_before(prep: TextPrep, shape: dict[str, Any]) -> None:
    net = _net(prep, depth=3, **shape)
    source = _Rows(encode(ChatTemplate.of(prep), DATA.split("train")), 640, 2, 0, one_shape=False, share=True)
    gradients = []
    for held in (0, 2):
        net.held = held
        net.zero_grad()
        next_answer_loss({"decoder": net}, source.of_rows([0, 1])).total.backward()
        gradients.append({name: each.grad for name, each in net.named_parameters() if each.grad is not None})
    whole, upper = gradients
    assert whole.keys() - upper.keys() == {name for name, _ in net.named_parameters() if net.is_held(name)}
    assert {name.split(".")[0] for name in whole.keys() - upper.keys()} >= {"blocks"}
    for name in upper.keys() - {"embedding.weight"}:  # which gets that of the head alone
        assert torch.equal(whole[name], upper[name]), name

    net.held = 0
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    objective = learn(LearnConfig(gradient=GradientConfig(batch_size=2, precision="fp32"), held=2), {})
    state = objective.start(_job(prep, net, net.config))
    objective.step(state, Clock(0, 2))
    learned = state.nets["decoder"].state_dict()
    held = _net(prep, depth=3, **shape)
    held.held = 2
    same = {name for name, tensor in learned.items() if tensor.equal(before[name])}
    assert same == {name for name, _ in held.named_parameters() if held.is_held(name)}
    assert not same & {name.removeprefix("decoder.") for name in objective.snapshot(state).tensors}


def test_what_cannot_be_held_is_refused(prep: TextPrep) -> None:
    net = _net(prep)
    job = _job(prep, net, net.config)
    with pytest.raises(UsageError, match="No block would learn"):
        learn(LearnConfig(held=2), {}).start(job)
    with pytest.raises(UsageError, match="know nothing yet"):
        learn(LearnConfig(held=1), {}).start(dataclasses.replace(job, parents={}))


def test_a_template_without_tools_is_replaced_only_where_tools_are_used(prep: TextPrep) -> None:
    plain = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    theirs = TextPrep(prep.tokenizer, prep.config, Controls(chat_template=plain, ends=("<|im_end|>",)))
    without = [{**DATA.split("train")[0], "tools": [], "messages": DATA.split("train")[0]["messages"][:1]}]
    assert ChatTask().adopt(theirs, without) is theirs
    ours = ChatTask().adopt(theirs, DATA.split("train"))
    assert isinstance(ours, TextPrep)
    assert ChatTemplate.of(ours).knows_tools
    assert ours.tokenizer.control == prep.tokenizer.control
    shown = ChatTask().show(DATA.split("train")[0], ours)
    assert [piece.learned for piece in shown[0]] == [False, True, False, True, False]
    assert isinstance(encode(ChatTemplate.of(ours), []), Conversations)
    assert np.array_equal(encode(ChatTemplate.of(ours), []).borders, [0])
