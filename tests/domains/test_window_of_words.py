"""A window of words as a whole: it learns, is judged, writes, goes on, and refuses what does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import sw2
from sw2.base.config import replace
from sw2.base.errors import ProgramError, UsageError
from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.language.corpus import CorpusOptions
from sw2.domains.language.ngram import NGram
from sw2.domains.language.task import TextGeneration
from sw2.domains.language.window.mixture import fitted, mixed, perplexity
from sw2.domains.language.window.network import WordWindow
from sw2.domains.language.window.words import WordConfig, WordPrep
from sw2.domains.language.window.writer import WordWriter
from sw2.parts.decoding.sampling import Sampling
from sw2.verbs.train import Order, resume, train


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that count on, in words, from anywhere."""
    folder = tmp_path_factory.mktemp("texts")
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for number in range(60):
        (folder / f"{number}.txt").write_text(
            " ".join(words[(number + i) % 10] for i in range(60 + number)) + f", no {number}."
        )
    return folder


@pytest.fixture(scope="module")
def trained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    order = Order(
        task="text-generation", data=str(texts), model="bengio", preset="tiny", budget=Budget(steps=80),
        settings=["trainer.evaluations=2", "model.direct=on", "model.dropout=0.1"],
    )  # fmt: skip
    return train(catalog(), order, tmp_path_factory.mktemp("run") / "run", Context())


def test_it_learns_to_count_and_stands_beside_its_baselines(trained: Program) -> None:
    scores = {(score["of"], score["name"]): score["value"] for score in trained.card.scores}
    assert scores["program", "perplexity per token"] < 2
    assert scores["Kneser-Ney 5-gram, same tokens", "perplexity per token"] < 2
    assert scores["program", "bits per byte"] < scores["chance", "bits per byte"]
    told = next(score for score in trained.card.scores if score["of"] == "program")["details"]
    assert told["of these to tell words apart that one token stands for"] > 0


def test_it_writes_scores_and_is_opened_again(trained: Program, texts: Path) -> None:
    assert trained.path is not None
    program = sw2.load(trained.path)
    assert program.id == trained.id
    writer = program.capability(WordWriter)
    pieces = writer.generate("four five six", Sampling(temperature=0.0), max_tokens=4)
    assert "".join(piece.text for piece in pieces) == " seven eight nine zero"
    ((right, wrong),) = zip(*writer.score([("four five six", "seven"), ("four five six", "two")]), strict=True)
    assert right.logprob > wrong.logprob  # type: ignore[operator]
    assert set(program("one two")) == {"text"}
    scores = sw2.evaluate(program, str(texts))
    assert {score.name for score in scores} >= {"bits per byte", "perplexity per token"}


def test_a_run_that_ended_before_its_program_goes_on(trained: Program, tmp_path: Path) -> None:
    """Its preprocessing is not the task's usual one, and comes back all the same."""
    assert trained.path is not None
    run = tmp_path / "run"
    shutil.copytree(trained.path.parent, run)
    shutil.rmtree(run / "program")
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(line for line in lines if '"finished"' not in line))
    assert resume(catalog(), run, Context()).id == trained.id


@pytest.mark.parametrize("context", [5, 16, 256])
def test_every_word_is_judged_once_whatever_the_rows(trained: Program, context: int) -> None:
    writer = trained.capability(WordWriter)
    document = np.array([0, *writer.prep.tokenizer.encode("four five six seven " * 9)], np.int32)
    net = WordWindow(replace(writer.net.config, context=context))
    net.load_state_dict(writer.net.state_dict())
    other = WordWriter({"window": net.eval()}, writer.prep, {})
    # Half of 16 is more than the window, so that every word after the first row is seen as in the whole text.
    tolerance = {"rel": 1e-5} if context > 5 else {"rel": 0.5}
    assert other.nats([document]) == pytest.approx(writer.nats([document]), **tolerance)
    assert sum(map(len, other.nats_of_tokens([document, document[:1]]))) == 36


def test_what_does_not_fit_is_refused(trained: Program, texts: Path, tmp_path: Path) -> None:
    for more, told in (
        ({"parent": str(trained.path)}, "starts from nothing"),
        ({"depth": 3}, "not told by a depth"),
        ({"settings": ["model.vocab_size=7"]}, "contradicts the vocabulary"),
        ({"settings": ["learn.lora.rank=4"]}, "learn.lora"),
    ):
        order = Order(
            task="text-generation", data=str(texts), model="bengio", preset="tiny", budget=Budget(steps=2), **more
        )  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=told):
            train(catalog(), order, tmp_path / told.replace(" ", "-"), Context())
    with pytest.raises(UsageError, match="cannot start from this program"):
        train(catalog(), Order(task="text-generation", data=str(texts), parent=str(trained.path)), tmp_path, Context())
    other = WordPrep.of(["one more word"], WordConfig(min_count=1))
    with pytest.raises(ProgramError, match="differ in size"):
        WordWriter({"window": trained.nets["window"].module}, other, {})


def test_the_network_and_the_counts_speak_of_the_same_words(texts: Path, trained: Program) -> None:
    writer = trained.capability(WordWriter)
    data = TextGeneration().read(str(texts), CorpusOptions(), Context())
    documents = list(writer.prep.documents(data.split("test")))
    words = writer.prep.tokenizer
    counted = NGram(
        [document[1:] for document in writer.prep.documents(data.split("train"))],
        vocab_size=words.vocab_size, end_of_text=words.end_of_text, order=3,
    )  # fmt: skip
    network = np.exp(-np.concatenate(writer.nats_of_tokens(documents)))
    chances = np.stack([network, counted.chances([document[1:] for document in documents])])
    # Both are sure of the same ones, those that count on, and of the first words of a text neither is.
    assert np.corrcoef(np.log(chances))[0, 1] > 0.8
    assert perplexity(mixed(chances, fitted(chances))) <= perplexity(chances[1]) * (1 + 1e-4)
