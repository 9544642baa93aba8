"""Texts: gradients beside autograd's, exact resume, learning beside baselines, models of fastText, users' mistakes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import sw2
from sw2.base.errors import DataError, LearningError, ProgramError, Sw2Error, UsageError
from sw2.base.store import home, sha256_of_file
from sw2.core.capabilities import Classify
from sw2.core.data import Data
from sw2.core.objective import Clock, Job
from sw2.core.task import Context
from sw2.domains.texts.bags import BagOfNgrams
from sw2.domains.texts.data import PACKAGES, TextOptions, read
from sw2.domains.texts.objective import LearnConfig, TextByText
from sw2.domains.texts.prep import PrepConfig, TextPrep, fit
from sw2.domains.texts.task import TextClassification, _naive_bayes

GOLDEN = Path(__file__).resolve().parents[4] / "tests" / "golden" / "fasttext"
TEXTS = ["a b c", "b c d", "e f", "f g h a", "i i b", "", "c"]
LABELS = ["x", "x", "y", "y", "z", "x", "w"]


def _job(loss: str, texts: Sequence[str] = TEXTS, labels: Sequence[str] = LABELS) -> Job:
    rows = [{"text": text, "label": label, "name": "row"} for text, label in zip(texts, labels, strict=True)]
    return Job(
        task=TextClassification(),
        data=Data(name="few", splits={"train": rows}, fingerprint="0"),
        prep=fit(texts, labels, PrepConfig(min_n=1, max_n=2)),
        model_name="bag-of-ngrams",
        model_class=BagOfNgrams,
        model_config=BagOfNgrams.Config(dimensions=5, loss=loss),  # type: ignore[arg-type]
        seed=4,
        device=torch.device("cpu"),
    )


def _learner(**settings: Any) -> TextByText:
    return TextByText(LearnConfig(**settings), {})


@pytest.mark.parametrize("loss", ["softmax", "hierarchical softmax"])
def test_a_step_is_the_gradient_that_autograd_finds(loss: str) -> None:
    job = _job(loss, TEXTS[:1] * 2, ["x", "y"])
    job = replace(job, prep=fit(TEXTS, LABELS, PrepConfig()), data=replace(job.data, splits={"train": [
        {"text": "a b c a", "label": "y", "name": "row"}]}))  # fmt: skip
    learner = _learner(texts=1, rate=0.3)
    state = learner.start(job)
    state.lesson.output[:] = np.random.default_rng(0).normal(size=state.lesson.output.shape)
    assert isinstance(job.prep, TextPrep)
    first = torch.tensor(state.lesson.input, requires_grad=True)
    last = torch.tensor(state.lesson.output, requires_grad=True)
    hidden = first[torch.from_numpy(job.prep.rows("a b c a"))].mean(0)
    target = job.prep.number["y"]
    if loss == "softmax":
        value = functional.cross_entropy((last @ hidden)[None], torch.tensor([target]))
    else:
        assert state.lesson.ways is not None
        way = slice(*state.lesson.ways.starts[target : target + 2])
        nodes, turns = torch.from_numpy(state.lesson.ways.nodes[way]), torch.from_numpy(state.lesson.ways.turns[way])
        value = functional.binary_cross_entropy_with_logits(last[nodes] @ hidden, turns, reduction="sum")
    value.backward()
    assert first.grad is not None
    assert last.grad is not None
    metrics = learner.step(state, Clock(0, 10))
    assert metrics["loss"] == pytest.approx(value.item(), rel=1e-5)
    assert np.allclose(state.lesson.input, (first - 0.3 * first.grad).detach().numpy(), atol=1e-6)
    assert np.allclose(state.lesson.output, (last - 0.3 * last.grad).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "hierarchical softmax"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(loss: str) -> None:
    learner, job = _learner(texts=3), _job(loss)
    whole, first, second = (learner.start(job) for _ in range(3))
    for step in range(6):
        learner.step(whole, Clock(step, 6))
    for step in range(2):
        learner.step(first, Clock(step, 6))
    learner.restore(second, learner.snapshot(first))
    for step in range(2, 6):
        learner.step(second, Clock(step, 6))
    assert np.array_equal(whole.lesson.input, second.lesson.input)
    assert np.array_equal(whole.lesson.output, second.lesson.output)
    assert np.abs(whole.lesson.output).max() > 0


@pytest.mark.parametrize("loss", ["softmax", "hierarchical softmax"])
@pytest.mark.parametrize("native_code", ["on", "off"])
def test_a_text_whose_loss_is_not_finite_changes_nothing(
    loss: str, native_code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SW2_NATIVE", native_code)
    learner = _learner(texts=7)
    state = learner.start(_job(loss))
    lesson = state.lesson
    lesson.input[lesson.bags[int(next(learner._chosen(state, 0))[0])][0]] = np.inf
    before = lesson.input.copy(), lesson.output.copy()
    with pytest.raises(LearningError, match="not finite"):
        learner.step(state, Clock(0, 1))
    assert np.array_equal(lesson.input, before[0])
    assert np.array_equal(lesson.output, before[1])


@pytest.mark.parametrize("loss", ["softmax", "hierarchical softmax"])
@given(st.lists(st.sampled_from("uvwxyz"), min_size=7, max_size=7).filter(lambda each: len(set(each)) > 1))
def test_probabilities_sum_up_to_1(loss: str, labels: list[str]) -> None:
    learner = _learner(texts=7)
    state = learner.start(_job(loss, TEXTS, labels))
    learner.step(state, Clock(0, 2))
    classify = learner.finish(state).capability(Classify)  # type: ignore[type-abstract]
    told = classify.classify([*TEXTS, "nothing known"])
    assert np.allclose(told.probabilities.sum(1), 1, atol=1e-5)
    assert told.features.shape == (8, 5)
    assert sorted(classify.labels) == sorted(set(labels))


def test_the_network_and_the_program_agree() -> None:
    learner, job = _learner(texts=7), _job("softmax")
    state = learner.start(job)
    learner.step(state, Clock(0, 2))
    assert isinstance(job.prep, TextPrep)
    rows = [torch.from_numpy(job.prep.rows(text)) for text in TEXTS]
    starts = torch.tensor([0, *np.cumsum([len(each) for each in rows])[:-1]])
    scores = state.net({"rows": torch.cat(rows), "starts": starts})["scores"]
    told = learner.finish(state).capability(Classify).classify(TEXTS)  # type: ignore[type-abstract]
    assert np.allclose(torch.softmax(scores, 1).detach().numpy(), told.probabilities, atol=1e-6)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.booleans(), st.integers(1, 3), st.integers(0, 3))
def test_a_dictionary_comes_back_and_every_row_of_training_is_there(
    texts: list[str], plain: bool, words: int, most: int
) -> None:
    config = PrepConfig(plain=plain, word_ngrams=words, min_n=min(1, most), max_n=most)
    prep = fit(texts, ["x"] * len(texts), config)
    again = TextPrep.restore(prep.state())
    for text in [*texts, "something else"]:
        assert np.array_equal(prep.rows(text), again.rows(text))
    every = np.concatenate([prep.rows(text) for text in texts])
    assert set(every.tolist()) == set(range(prep.row_count))


# --------------------------------------------------------------------------------------------------------- as a user


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Texts whose label is told by two words together, and not by either: naive Bayes cannot tell them apart."""
    draws = np.random.default_rng(2)
    lines = []
    for _ in range(600):
        good, negated = draws.integers(0, 2, 2)
        others = draws.choice(["film", "the", "a", "plot", "actors", "it", "music"], 4)
        told = f"{'not' if negated else 'very'} {'good' if good else 'bad'}"
        lines.append(
            f"__label__{'up' if good != negated else 'down'} {' '.join(others[:2])} {told} {' '.join(others[2:])}"
        )
    (tmp_path / "reviews.txt").write_text("\n".join(lines))
    return tmp_path / "reviews.txt"


def test_n_grams_of_words_tell_what_words_cannot(reviews: Path, tmp_path: Path) -> None:
    program = sw2.train(
        "text-classification", str(reviews), preset="tiny", epochs=12, out=tmp_path / "run",
        settings={"prep.word_ngrams": 2, "prep.max_n": 0, "prep.min_n": 0, "learn.texts": 100},
    )  # fmt: skip
    scores = {(score["name"], score["of"]): score["value"] for score in program.card.scores}
    assert scores["accuracy", "program"] > 0.97
    assert scores["accuracy", "naive Bayes over words"] < 0.7
    assert scores["macro F1", "program"] > 0.97
    answer = program("the music is NOT good!")
    assert answer["label"] == "down"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["softmax.bin", "hierarchical.bin", "one-for-each.bin", "pruned.ftz", "quantised.ftz"])
def test_models_of_fasttext_open_as_programs(name: str, tmp_path: Path) -> None:
    program = sw2.load(GOLDEN / name)
    official = json.loads((GOLDEN / "official.json").read_text(encoding="utf-8"))[name]["predictions"]
    program.save(tmp_path / "saved")
    for opened in (program, sw2.load(tmp_path / "saved")):
        for text, told in official:
            answer = opened(text)
            assert f"__label__{answer['label']}" == told[0][1]
            for share, label in told:
                ours = answer["probabilities"][label.removeprefix("__label__")]
                # The official program adds 1e-5 at each turn, and has 512 steps of the sigmoid.
                assert ours == pytest.approx(share, abs=0.01 if name == "one-for-each.bin" else 1e-4)


def test_word_vectors_are_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "vectors.ftz").write_bytes((GOLDEN / "skipgram.bin").read_bytes())
    with pytest.raises(ProgramError, match="no labels"):
        sw2.load(tmp_path / "vectors.ftz")
    (tmp_path / "other.bin").write_bytes(b"something else")
    with pytest.raises(DataError, match="no model of fastText"):
        sw2.load(tmp_path / "other.bin")


def test_naive_bayes_decides_as_in_the_book() -> None:
    """Manning et al. 2008, example 13.1: three times one word of the first label outweigh two of the second."""
    texts = ["Chinese Beijing Chinese", "Chinese Chinese Shanghai", "Chinese Macao", "Tokyo Japan Chinese"]
    train = [{"text": text, "label": label} for text, label in zip(texts, "cccj", strict=True)]
    prep = fit(texts, list("cccj"), PrepConfig())
    test = [{"text": text} for text in ("Chinese Chinese Chinese Tokyo Japan", "Tokyo Japan", "never seen", "")]
    assert [prep.labels[label] for label in _naive_bayes(train, test, prep)] == ["c", "j", "c", "c"]


def test_named_data_are_docstrings_of_five_topics() -> None:
    data = read("python-topics", TextOptions())
    assert {example["label"] for example in data.split("train")} == {
        "concurrency", "files", "network", "numbers", "tests",
    }  # fmt: skip
    assert len(data.split("test")) > 200
    report = TextClassification().check(data)
    assert report.facts["labels"].startswith("5: ")


def _package(name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A small package in the place of the real one, in sw2's home."""
    archive = home() / "texts" / f"x-{name}-1.0.tgz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path, content in files.items():
            (told := tarfile.TarInfo(f"package/{path}")).size = len(content)
            tar.addfile(told, io.BytesIO(content))
    found = replace(PACKAGES[name], package=f"@x/{name}", version="1.0", sha256=sha256_of_file(archive))
    monkeypatch.setitem(PACKAGES, name, found)  # type: ignore[arg-type]


def test_mails_of_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Sw2Error, match=r"not fetched|cannot be fetched"):
        read("spam-assassin", TextOptions())
    mails = {
        "data/spam-1/1.txt": b"buy \xff now", "data/easy-ham-1/2.txt": b"hello", "data/hard-ham-1/1.txt": b"hi",
        "data/file_list.json": b"[]", "README.md": b"a corpus",
    }  # fmt: skip
    _package("spam-assassin", mails, monkeypatch)
    data = read("spam-assassin", TextOptions(test_share=0))
    found = [(each["text"], each["label"], each["name"]) for each in data.split("train")]
    assert found == [
        ("hello", "ham", "easy-ham-1/2.txt"),
        ("hi", "ham", "hard-ham-1/1.txt"),
        ("buy \ufffd now", "spam", "spam-1/1.txt"),
    ]  # fmt: skip
    assert (data.licence, data.source) == ("PDDL-1.0", "npm: @x/spam-assassin@1.0")


def test_no_verse_stands_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    verses = {
        f"dist/quran_{language}.json": json.dumps(
            [{"verses": [{"translation": f"{language} {chapter} {verse}"} for verse in range(4)]} for chapter in (1, 2)]
        ).encode()
        for language in ("en", "sv")
    }
    _package("quran-languages", {**verses, "dist/quran_transliteration.json": b"no verses"}, monkeypatch)
    data = read("quran-languages", TextOptions())
    assert [(each["text"], each["label"]) for each in data.split("test")] == [("en 2 0", "en"), ("sv 2 0", "sv")]
    assert len(data.split("train")) == 14


def _folders(path: Path) -> Path:
    for label, split, content in (
        ("spam", "train", b"buy \xff now"),
        ("ham", "train", b"hello"),
        ("ham", "test", b"hi"),
    ):
        (path / "mail" / split / label).mkdir(parents=True, exist_ok=True)
        (path / "mail" / split / label / "1.txt").write_bytes(content)
    return path / "mail"


def _pictures(path: Path) -> Path:
    for label in ("a", "b"):
        (path / "pictures" / label).mkdir(parents=True)
        (path / "pictures" / label / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    return path / "pictures"


def _file(name: str, content: str) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        (path / name).write_text(content, encoding="utf-8")
        return path / name

    return made


@pytest.mark.parametrize(
    ("make", "options", "texts"),
    [
        (_folders, {}, {("buy \ufffd now", "spam"), ("hello", "ham"), ("hi", "ham")}),
        (_file("a.csv", "text,label\nhello,1\n\"a, b\",2\n"), {}, {("hello", "1"), ("a, b", "2")}),
        (_file("a.tsv", "body\tkind\na\t1\nb\t2\n"), {"text": "body", "label": "kind"}, {("a", "1"), ("b", "2")}),
        (_file("a.jsonl", '{"text": "a\\nb", "label": 1}\n{"text": "c", "label": 2}'), {}, {("a\nb", "1"), ("c", "2")}),
        (_file("a.txt", "__label__x one two\n\n__label__y three\n"), {}, {("one two", "x"), ("three", "y")}),
    ],
)  # fmt: skip
def test_files_that_people_have(
    make: Callable[[Path], Path], options: dict[str, Any], texts: set[tuple[str, str]], tmp_path: Path
) -> None:
    data = read(str(make(tmp_path)), TextOptions(test_share=0, **options))
    assert {(each["text"], each["label"]) for split in data.splits.values() for each in split} == texts


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_file("a.csv", "text,kind\na,b\n"), "lacks a column"),
        (_file("a.csv", "text,label\na,1\nb,1\n"), "nothing to tell apart"),
        (_file("a.csv", ""), "nothing to tell apart"),
        (_file("a.csv", "text,label\n,1\n,2\n"), "Too many rows"),
        (_file("a.txt", "no labels\nat all\n"), "Too many rows"),
        (_file("a.txt", "__label__a __label__b two\n__label__a __label__c x\n"), "Too many rows"),
        (_file("a.jsonl", "{broken"), "cannot be read"),
        (_file("a.jsonl", "[1]\n[2]\n"), "lacks a column"),
        (_file("a.pdf", "x"), "Files of this kind"),
        (_pictures, "Too many rows"),
        (lambda path: path / "nothing.csv", "There is no"),
    ],
)
def test_mistakes_are_told(make: Callable[[Path], Path], told: str, tmp_path: Path) -> None:
    with pytest.raises(Sw2Error) as caught:
        read(str(make(tmp_path)), TextOptions())
    assert told in str(caught.value)


@pytest.mark.parametrize("setting", [{"rows": 5}, {"labels": 3}, {"loss": "negative sampling"}])
def test_settings_without_effect_are_refused(setting: dict[str, Any]) -> None:
    job = _job("softmax")
    with pytest.raises(UsageError):
        _learner().choose(replace(job, model_config=replace(job.model_config, **setting)))


def test_several_threads_need_the_kernels() -> None:
    with pytest.raises(UsageError, match="need the kernels"):
        _learner(threads=2).choose(_job("softmax"))


def test_settings_out_of_range_and_questions_that_are_no_text(reviews: Path) -> None:
    for settings in ({"word_ngrams": 0}, {"min_n": 3, "max_n": 2}, {"buckets": 0}, {"min_count": 0}):
        with pytest.raises(UsageError):
            PrepConfig(**settings)
    with pytest.raises(UsageError):
        LearnConfig(rate=0)
    with pytest.raises(DataError, match="nothing is left"):
        fit(["a", "b"], ["x", "y"], PrepConfig(word_ngrams=1, min_count=9))
    with pytest.raises(DataError, match="no text"):
        sw2.load(GOLDEN / "softmax.bin")(7)
    program = sw2.load(GOLDEN / "softmax.bin")
    held_out = read(str(reviews), TextOptions()).split("test")
    with pytest.raises(DataError, match="does not know"):
        program.task.judge(program, held_out, Context())
