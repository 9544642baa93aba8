"""Text generation as a whole: it learns, is judged on every token once, and goes on from a program."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sw2.base.errors import DataError, UsageError
from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.language import shrinking
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.domains.language.task import TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.faces.cli import app, run_command, train_command
from sw2.parts.decoding.sampling import USUAL, Sampling
from sw2.parts.layers.packed import pack
from sw2.verbs.train import Order, train


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small documents with much to learn: counting, in words."""
    folder = tmp_path_factory.mktemp("texts")
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for number in range(60):
        counted = " ".join(words[(number + i) % 10] for i in range(60 + number))
        (folder / f"{number}.txt").write_text(f"document {number}: {counted}.\n")
    return folder


def _train(texts: Path, out: Path, settings: Sequence[str] = (), parent: str | None = None, steps: int = 60) -> Program:
    order = Order(
        task="text-generation",
        data=str(texts),
        preset="tiny",
        budget=Budget(steps=steps),
        settings=["trainer.evaluations=2", *settings],
        parent=parent,
    )
    return train(catalog(), order, out, Context())


@pytest.fixture(scope="module")
def trained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return _train(texts, tmp_path_factory.mktemp("run") / "run")


def test_it_learns_and_beats_chance(trained: Program) -> None:
    scores = {score["of"]: score["value"] for score in trained.card.scores if score["name"] == "bits per byte"}
    assert scores["program"] < 1.5
    assert scores["chance"] == 8.0
    assert {"Kneser-Ney 5-gram, same tokens", "xz -9e alone", "xz -9e after the training text"} < set(scores)


def test_it_counts_on(trained: Program) -> None:
    writer = trained.capability(TextWriter)
    pieces = writer.generate("document 7: four five six", Sampling(temperature=0.0), max_tokens=20)
    assert "seven eight" in "".join(piece.text for piece in pieces)


def test_a_stream_says_the_same_as_an_answer_and_stops(trained: Program) -> None:
    writer = trained.capability(TextWriter)
    prompt = "document 3: one two"
    whole = "".join(piece.text for piece in writer.generate(prompt, USUAL, max_tokens=64))
    assert whole == trained(prompt)["text"]
    word = whole.split()[3]
    pieces = list(writer.generate(prompt, USUAL, max_tokens=64, stop=[word]))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(word)]
    assert pieces[-1].finished == "stop"


def test_the_same_seed_writes_the_same(trained: Program) -> None:
    writer = trained.capability(TextWriter)
    texts = [
        "".join(
            piece.text for piece in writer.generate("document", Sampling(temperature=1.0, seed=seed), max_tokens=20)
        )
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 50, 100])
def test_every_token_is_judged_once(length: int) -> None:
    config = Decoder.Config(vocab_size=300, context=32, width=16, depth=1, heads=1, kv_heads=1, hidden=24)
    prep = TextPrep(Tokenizer.train(["some text"], 300), PrepConfig(vocab_size=300))
    writer = TextWriter({"decoder": Decoder(config).eval()}, prep, {})
    tokens = np.arange(length, dtype=np.int32) % 250
    # Fresh weights of small deviation predict nearly evenly, so the sum counts the tokens.
    expected = (length - 1) * math.log(300)
    assert writer.nats([tokens]) == pytest.approx(expected, rel=0.02, abs=1e-6)
    if length > 2:
        with torch.no_grad():
            text = torch.from_numpy(tokens.astype(np.int64))[None]
            if length <= 33:
                direct = writer.net({"tokens": text[:, :-1], "targets": text[:, 1:]})["nats"].sum()
                assert writer.nats([tokens]) == pytest.approx(float(direct), rel=1e-5)


def test_it_goes_on_from_a_program_with_its_tokenizer(trained: Program, texts: Path, tmp_path: Path) -> None:
    again = _train(texts, tmp_path / "run", parent=str(trained.path), steps=20)
    assert again.prep.state().assets == trained.prep.state().assets
    first, second = (program.card.scores[0]["value"] for program in (trained, again))
    assert second < first + 0.05
    with pytest.raises(UsageError, match="belongs to the program to start from"):
        _train(texts, tmp_path / "other", ["prep.vocab_size=300"], str(trained.path))


def test_adapters_learn_what_text_goes_on(trained: Program, texts: Path, tmp_path: Path) -> None:
    settings = ["learn.lora.rank=4", "trainer.keep=best"]
    again = _train(texts, tmp_path / "run", settings, parent=str(trained.path), steps=4)
    old, new = (program.nets["decoder"].module.state_dict() for program in (trained, again))
    assert {name for name in new if not new[name].equal(old[name])} == {
        name for name in old if name.startswith("blocks.") and not name.endswith("norm.weight")
    }
    assert again.card.facts["learning parameters"] == 4 * sum(
        sum(tensor.shape) for name, tensor in old.items() if name.startswith("blocks.") and tensor.ndim == 2
    )


def test_too_little_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("a few words only\n" * 3)
    with pytest.raises(DataError, match="too little text") as caught:
        _train(tmp_path / "short.txt", tmp_path / "run")
    assert "model.context" in str(caught.value)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------- on the command line


def sw2_run(program: Program, *arguments: Any) -> Any:
    """What `sw2 run --json` prints."""
    assert run_command
    result = CliRunner().invoke(app, ["run", str(program.path), *map(str, arguments), "--json"])
    return json.loads(result.stdout)


def test_the_command_writes_several_texts_as_one_batch(trained: Program) -> None:
    prompts = ["document 7: four five six", "document 3: one two", "document 5: eight nine"]
    answers = sw2_run(trained, *prompts, "--max-tokens", 20, "--logprobs", 2)["answers"]
    writer = trained.capability(TextWriter)
    for prompt, answer in zip(prompts, answers, strict=True):
        pieces = list(writer.generate(prompt, USUAL, 20))
        assert answer["text"] == "".join(piece.text for piece in pieces)
        assert answer["finished"] == "length"
        assert [each["token"] for each in answer["tokens"]] == [each.token for piece in pieces for each in piece.tokens]
        assert b"".join(bytes(each["bytes"]) for each in answer["tokens"]).decode() == answer["text"]
        assert all(each["logprob"] <= each["top"][0]["logprob"] <= 0 for each in answer["tokens"])
        assert all(len(each["top"]) == 2 for each in answer["tokens"])
    shown = CliRunner().invoke(app, ["run", str(trained.path), *prompts, "--max-tokens", "20"])
    assert shown.stdout == "".join(
        f"{prompt}{answer['text']}\n\n" for prompt, answer in zip(prompts, answers, strict=True)
    )


def test_every_option_of_the_command_reaches_the_choice(trained: Program) -> None:
    prompt = "document 7: four five six"
    plain = sw2_run(trained, prompt, "--max-tokens", 30, "--temperature", 3)["answers"][0]
    assert "logprob" not in plain["tokens"][0]
    first = plain["tokens"][0]["token"]
    for option, value in (
        ("--top-k", 2),
        ("--top-p", 0.2),
        ("--min-p", 0.5),
        ("--repetition-penalty", 4),
        ("--presence-penalty", 9),
        ("--frequency-penalty", 9),
        ("--logit-bias", f"{first}=-100"),
        ("--seed", 5),
    ):
        changed = sw2_run(trained, prompt, "--max-tokens", 30, "--temperature", 3, option, value)["answers"][0]
        assert changed["text"] != plain["text"], option
        if option == "--logit-bias":
            assert first not in [each["token"] for each in changed["tokens"]]
    stop = plain["text"][3:5]
    cut = sw2_run(trained, prompt, "--temperature", 3, "--stop", "never there", "--stop", stop)["answers"][0]
    assert (cut["text"], cut["finished"]) == (plain["text"][: plain["text"].index(stop)], "stop")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--top-p", "2"], "Cannot sample with this top_p."),
        (["--logit-bias", "a=b"], "A bias is written TOKEN=BIAS."),
        (["--logit-bias", "100000=1"], "There is no such token."),
        (["--stop", ""], "A stop string is empty."),
    ],
)
def test_wrong_options_of_the_command_are_explained(trained: Program, options: list[str], says: str) -> None:
    assert sw2_run(trained, "document", *options)["message"] == says
    refused = CliRunner().invoke(app, ["run", str(trained.path), "document", "--logprobs", "2"])
    assert refused.exit_code == 2
    assert "with --json only" in refused.stderr


def test_it_shrinks_by_the_command_line(
    trained: Program, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("sw2.faces.cli.shrink_command")
    monkeypatch.setattr(shrinking, "_TOKENS", 4096)  # for time's sake
    arguments = ["shrink", str(trained.path), "--bits", "4"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "small")])
    assert result.exit_code == 0, result.output
    header, before, after = result.stdout.splitlines()[:3]
    assert header.split() == ["weights", "bits", "per", "byte", "tokens/s", "loss"]
    assert before.startswith("before ")
    assert after.startswith("4 bits, gptq ")
    small = catalog().program(str(tmp_path / "small"), Context())
    scores = {score["of"]: score["value"] for score in small.card.scores if score["name"] == "bits per byte"}
    assert scores["program"] < 1.03 * scores["before"]
    assert scores["before"] == pytest.approx(trained.card.scores[0]["value"], rel=1e-5)
    assert {"chance", "xz -9e alone"} < set(scores)  # the same examples: its baselines still hold
    assert "eight" in small("document 7: four five six seven")["text"]
    # From fewer bits learning goes on in floating point.
    assert _train(texts, tmp_path / "further", parent=str(tmp_path / "small"), steps=2)("document 3: one")

    monkeypatch.setattr(shrinking, "fit", lambda weight, bits: pack(weight * 0.0, bits))
    result = CliRunner().invoke(app, [*arguments, "--method", "fit", "--out", str(tmp_path / "spoilt")])
    assert result.exit_code == 1
    assert "4 bits, fit" in result.stdout
    assert "loses too much; nothing is saved" in result.stderr
    assert not (tmp_path / "spoilt").exists()


def test_a_mixture_is_planned_trained_and_judged_by_source(tmp_path: Path) -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for name, step in (("up", 1), ("down", -1)):
        (tmp_path / name).mkdir()
        for number in range(40):
            counted = " ".join(words[(number + step * i) % 10] for i in range(40 + number))
            (tmp_path / name / f"{number}.txt").write_text(f"{name} {number}: {counted}.\n")
    path = tmp_path / "mixture.toml"
    path.write_text("[sources.up]\npath = 'up'\nshare = 0.75\n[sources.down]\npath = 'down'\nshare = 0.25\n")
    assert train_command
    short = ["--preset", "tiny", "--steps", "8", "--set", "learn.gradient.precision=fp32"]
    result = CliRunner().invoke(app, ["plan", "text-generation", str(path), *short, "--set", "prep.vocab_size=300"])
    assert result.exit_code == 0, result.output
    assert "epochs    up " in result.stdout
    assert "data: source down " in result.stdout
    assert "share: up 0.75, down 0.25" in result.stdout
    assert "tokens dropped in packing: 0.0" in result.stdout
    order = Order(
        task="text-generation",
        data=str(tmp_path),
        preset="tiny",
        budget=Budget(steps=8),
        settings=["trainer.evaluations=1", "learn.packing=best-fit", "prep.vocab_size=300"],
    )
    program = train(catalog(), order, tmp_path / "run", Context())
    score = program.card.scores[0]
    by_source = score["details"]["by source"]
    assert set(by_source) == {"up", "down"}
    assert min(by_source.values()) <= score["value"] <= max(by_source.values())
    assert program.card.facts["share"] == {"up": 0.75, "down": 0.25}
    assert program.card.facts["short documents cut"] == 0.0
