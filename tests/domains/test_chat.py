"""Chat as a whole: it learns to answer, starts from programs of several kinds, and says what cannot be learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sw2.base.errors import DataError, UsageError
from sw2.base.seed import generator
from sw2.catalog import catalog
from sw2.core.domain import Request
from sw2.core.program import Net, Program
from sw2.core.run import Run
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.language.chat import presets
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.named import named
from sw2.domains.language.chat.task import ChatTask
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.preferences.presets import reward
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.task import TextGeneration, TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.verbs.train import Order, plan, train

SHAPE = {"context": 640, "width": 32, "depth": 2, "heads": 2, "kv_heads": 2, "hidden": 48}


@pytest.fixture(scope="module")
def prep() -> TextPrep:
    data = named("arithmetic", ChatOptions(train=60, validation=5, test=20))
    return ChatTask().prepare(data.split("train"), PrepConfig(vocab_size=400))


def _net(prep: TextPrep, **changed: Any) -> Decoder:
    net = Decoder(Decoder.Config(**{**SHAPE, "vocab_size": prep.tokenizer.vocab_size, **changed}))
    net.initialise(generator(3, "weights"))
    return net


def _order(data: Path | str, *settings: str, parent: Path | None = None, steps: int = 4) -> Order:
    return Order(
        task="chat",
        data=str(data),
        preset="tiny",
        budget=Budget(steps=steps),
        settings=["trainer.evaluations=1", "learn.gradient.precision=fp32", *settings],
        parent=None if parent is None else str(parent),
        device="cpu",
    )


@pytest.fixture(scope="module")
def hellos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations that are quickly learned: five words in German."""
    path = tmp_path_factory.mktemp("data") / "hellos.jsonl"
    words = {"red": "rot", "green": "gruen", "blue": "blau", "white": "weiss", "black": "schwarz"}
    rows = [
        {
            "messages": [{"role": "user", "content": f"{n} {word}"}, {"role": "assistant", "content": german}],
            "check": {"equals": german},
            "skill": "even" if n % 2 == 0 else "odd",
        }
        for n in range(16)
        for word, german in words.items()
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_it_learns_to_answer(hellos: Path, tmp_path: Path) -> None:
    settings = ["prep.vocab_size=300", "data.test_share=0.2", "learn.gradient.batch_size=8", "model.depth=1"]
    program = train(catalog(), _order(hellos, *settings, steps=60), tmp_path / "run", Context())
    scores = {(score["of"], score["name"]): score["value"] for score in program.card.scores}
    assert scores["program", "loss per token"] < 0.1 < scores["Kneser-Ney 5-gram of the answers", "loss per token"]
    assert scores["program", "passed"] >= 0.9
    assert {name for of, name in scores if of == "program"} >= {"passed: even", "passed: odd"}
    assert program([{"role": "user", "content": "77 blue"}]) == {"text": "blau"}
    assert program.capability(ChatWriter).template.knows_tools
    for raw, got in (({}, "an empty object"), ({"text": "red"}, "text"), ([], "[]"), ([1], "[1]"), (7, "7")):
        with pytest.raises(UsageError, match="no conversation") as told:
            program(raw)
        assert told.value.got == got


@pytest.mark.parametrize(("large", "held"), [(True, 2), (False, 0)])
def test_a_third_of_a_large_start_stays_as_it_is(
    prep: TextPrep, large: bool, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Program.assemble(
        task=TextGeneration(),
        runtime=TextWriter,
        nets={"decoder": Net("decoder", _net(prep, depth=6))},
        prep=prep,
        provider=catalog().provider("text-generation"),
    )
    monkeypatch.setattr(presets, "parameter_count", lambda config: 60e6 if large else 40e6)
    request = Request(
        data=named("arithmetic", ChatOptions(train=6, validation=2, test=2)), preset="small", parent=start
    )
    for recipe in (presets.recipe, reward):
        made = recipe(request)
        assert made.learn_config.held == held
        assert made.reasons.get("learn.held", "").startswith("2 of 6 blocks" if large else "")
        assert ("learn.held" in made.reasons) == large


def test_it_starts_from_a_program_that_never_chatted(hellos: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["say red and blue"] * 3, 300)
    start = Program.assemble(
        task=TextGeneration(),
        runtime=TextWriter,
        nets={"decoder": Net("decoder", _net_of(tokenizer))},
        prep=TextPrep(tokenizer, PrepConfig(vocab_size=300), Controls()),
        provider=catalog().provider("text-generation"),
    )
    path = start.save(tmp_path / "start")
    settings = ["model.context=64", "data.test_share=0.05", "learn.gradient.batch_size=4"]
    program = train(catalog(), _order(hellos, *settings, parent=path), tmp_path / "run", Context())
    assert program.prep.tokenizer.vocab_size == tokenizer.vocab_size + 2
    scores = {score["of"]: score["value"] for score in program.card.scores if score["name"] == "loss per token"}
    assert scores["the program to start from"] > scores["program"]
    with pytest.raises(UsageError, match="another shape"):
        train(catalog(), _order(hellos, "model.depth=1", parent=path), tmp_path / "other", Context())
    with pytest.raises(UsageError, match="contradicts the tokenizer"):
        train(catalog(), _order(hellos, "model.vocab_size=9"), tmp_path / "other", Context())
    with pytest.raises(UsageError, match="Adapters cannot learn new tokens"):
        train(catalog(), _order(hellos, "learn.lora.rank=2", parent=path), tmp_path / "other", Context())
    with pytest.raises(UsageError, match="Adapters change what was learned before"):
        train(catalog(), _order(hellos, "learn.lora.rank=2"), tmp_path / "other", Context())


def test_adapters_learn_and_are_merged_or_kept(hellos: Path, prep: TextPrep, tmp_path: Path) -> None:
    """Merged and kept apart are the same program; nothing but adapters is in a checkpoint; the start stays."""
    start = Program.assemble(
        task=ChatTask(),
        runtime=ChatWriter,
        nets={"decoder": Net("decoder", _net(prep, context=64))},
        prep=prep,
        provider=catalog().provider("chat"),
    )
    path = start.save(tmp_path / "start")
    settings = ["learn.lora.rank=2", "data.test_share=0.05", "learn.gradient.batch_size=4"]
    merged = train(catalog(), _order(hellos, *settings, parent=path), tmp_path / "merged", Context())
    kept = train(
        catalog(), _order(hellos, *settings, "learn.lora.merge=off", parent=path), tmp_path / "kept", Context()
    )
    assert kept.uses["base"].id == start.id
    assert set(kept.nets) == {"adapters"}
    ours, theirs = (program.capability(ChatWriter).net.state_dict() for program in (merged, kept))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    old = _net(prep).state_dict()
    changed = {name for name, tensor in ours.items() if not tensor.equal(old[name])}
    assert changed == {
        name for name in old if name.endswith(("qkv.weight", "out.weight", "gate_up.weight", "down.weight"))
    }
    _, snapshot = Run(tmp_path / "kept").latest_checkpoint() or (0, None)
    assert snapshot is not None
    assert all(name.endswith((".lora_down", ".lora_up")) for name in snapshot.tensors if name.startswith("net/"))
    assert kept.card.facts["learning parameters"] < kept.card.facts["parameters"] / 5
    again = train(catalog(), _order(hellos, parent=kept.path, steps=1), tmp_path / "more", Context())
    assert set(again.nets) == {"decoder"}
    with pytest.raises(UsageError, match="The rank of the adapters is too large"):
        train(catalog(), _order(hellos, "learn.lora.rank=999", parent=path), tmp_path / "other", Context())


def _net_of(tokenizer: Tokenizer) -> Decoder:
    net = Decoder(Decoder.Config(**{**SHAPE, "vocab_size": tokenizer.vocab_size}))
    net.initialise(generator(5, "weights"))
    return net


def test_a_model_whose_template_knows_no_tools_is_judged_as_it_is(prep: TextPrep) -> None:
    """Its loss on the tokens of our template, its answers without tools."""
    plain = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    theirs = TextPrep(prep.tokenizer, prep.config, Controls(chat_template=plain, ends=("<|im_end|>",)))
    program = Program.assemble(
        task=TextGeneration(),
        runtime=ChatWriter,
        nets={"decoder": Net("decoder", _net(prep))},
        prep=theirs,
        provider={},
    )
    data = named("arithmetic", ChatOptions(train=9, validation=0, test=2))
    scores = ChatTask().judge(program, data.split("test"), Context())
    assert [score.name for score in scores] == ["loss per token", "passed"]
    baselines = ChatTask().baselines(data, theirs, Context(start=program))
    assert baselines[0].value == scores[0].value
    assert {score.of for score in baselines} == {
        "the program to start from",
        "Kneser-Ney 5-gram of the answers",
        "chance",
    }


def test_a_plan_says_how_the_conversations_are_used(hellos: Path) -> None:
    planned = plan(catalog(), _order(hellos), Context())
    assert any("conversations of" in note and "of the room is left empty" in note for note in planned.plan.notes)


def test_conversations_that_fit_nowhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"{n} {'x y ' * 200}"}, {"role": "assistant", "content": "z"}]}
        for n in range(9)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="Nothing can be learned"):
        train(catalog(), _order(path, "model.context=32", "prep.vocab_size=270"), tmp_path / "run", Context())
    with pytest.raises(UsageError, match="longer than the model can read"):
        train(catalog(), _order(path, "learn.row=999"), tmp_path / "run", Context())
