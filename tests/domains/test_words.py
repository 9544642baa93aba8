"""From a text to vectors and back: files of every kind, what can be asked, going on, and what goes wrong."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sw2.base.errors import DataError, ProgramError, Sw2Error, UnknownName, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Embed, Words
from sw2.core.domain import Request
from sw2.core.objective import Clock, Job, Objective
from sw2.core.program import Net, Program
from sw2.core.task import Context
from sw2.core.trainer import Budget, Silent
from sw2.domains.words import corpus as reading
from sw2.domains.words import native
from sw2.domains.words.corpus import Corpus, CorpusOptions, read_corpus
from sw2.domains.words.glove.objective import GloVeConfig, LeastSquares
from sw2.domains.words.judges import _FILES, Analogies, SimLex, WordSim
from sw2.domains.words.models import SubwordVectors, WordVectors
from sw2.domains.words.objective import LearnConfig, NegativeSampling
from sw2.domains.words.task import WordFinder
from sw2.domains.words.vocabulary import WordPrep, encoded
from sw2.parts.formats import fasttext, vectors
from sw2.verbs.export import export
from sw2.verbs.shrink import shrink
from sw2.verbs.train import Order, train


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels where there is a compiler; compiled once, when the tests are collected."""
    if COMPILED:
        monkeypatch.setenv("SW2_NATIVE", "on")


COMPILED = native.why_not() is None
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "fasttext"
ANIMALS, TOOLS = ("cat", "dog", "horse", "mouse", "sheep"), ("hammer", "saw", "drill", "file", "plane")


def sentences(count: int) -> str:
    """Lines in which animals do what animals do, and tools what tools do."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(count):
        names, verbs, place = (
            (ANIMALS, ("eats", "sleeps", "runs"), "meadow")
            if random.random() < 0.5
            else (TOOLS, ("lies", "cuts", "rusts"), "workshop")
        )
        lines.append(f"A {random.choice(names)} {random.choice(verbs)}: {random.choice(names)}, {place}.")
    return "\n".join(lines)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(sentences(1500))
    return path


def learned(path: Path, out: Path, *settings: str, model: str = "skip-gram", epochs: float = 6) -> Program:
    budget = Budget(minutes=1) if model == "ppmi-svd" else Budget(epochs=epochs)
    order = Order(
        task="word-vectors", data=str(path), model=model, preset="tiny", budget=budget, settings=settings, device="cpu"
    )
    return train(catalog(), order, out, Context())


# --------------------------------------------------------------------------------------------------------- the program


@pytest.mark.parametrize(
    ("model", "softmax"),
    [
        *((model, ()) for model in ("skip-gram", "cbow", "fasttext", "ppmi-svd")),
        *((model, ("learn.negatives=0",)) for model in ("skip-gram", "cbow", "fasttext")),
    ],
)
def test_words_of_a_kind_are_near_each_other(text: Path, tmp_path: Path, model: str, softmax: tuple[str, ...]) -> None:
    settings = ["model.dimensions=8", "data.test_share=0.3", *softmax]
    if model != "ppmi-svd":
        settings += ["learn.subsample=0", "learn.threads=1", "learn.learning_rate=0.1"]
    if model == "fasttext":
        settings += ["model.buckets=500"]
    program = learned(text, tmp_path / "run", *settings, model=model, epochs=20)
    found = program.capability(Words).vectors([*ANIMALS, *TOOLS])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    cosines = found @ found.T
    inside = (cosines[:5, :5].sum() + cosines[5:, 5:].sum() - 10) / 40
    assert inside > cosines[:5, 5:].mean() + 0.2
    answer = program("cat, hammer, dog, sheep")["words"]
    assert next(iter(answer)) == "hammer"
    scores = {(score["of"], score["name"]): score["value"] for score in program.card.scores}
    if model in (
        "skip-gram",
        "fasttext",
    ):  # the others bring near what stands in each other's place, less what is beside
        assert scores["program", "neighbours told apart"] > 0.55
    assert scores["chance, one-hot", "neighbours told apart"] == 0.5
    assert scores["program", "coverage"] == 1


def test_glove_brings_near_what_has_the_same_neighbours(tmp_path: Path) -> None:
    """Each word stands beside each, those of its own kind more often; pairs that never occur tell GloVe nothing."""
    random, path = np.random.default_rng(0), tmp_path / "a.txt"
    kinds = (ANIMALS, TOOLS)
    path.write_text(
        "\n".join(
            " ".join(random.choice(kinds[kind ^ (random.random() < 0.15)]) for _ in range(6))
            for kind in random.integers(0, 2, 1500).tolist()
        )
    )
    program = learned(path, tmp_path / "run", "model.dimensions=8", "learn.threads=1", model="glove", epochs=50)
    found = program.capability(Words).vectors([*ANIMALS, *TOOLS])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    cosines = found @ found.T
    inside = (cosines[:5, :5].sum() + cosines[5:, 5:].sum() - 10) / 40
    assert inside > cosines[:5, 5:].mean() + 0.5
    assert next(iter(program("cat, hammer, dog, sheep")["words"])) == "hammer"
    assert program.card.facts["pairs"] == 55  # all of ten words, each with itself too


def test_a_text_too_small_for_glove_or_for_judging_is_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the cat eats fish\nthe dog eats bread\n")
    said: list[str] = []

    class Heard(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    for dimensions in (8, 2):
        order = Order(
            task="word-vectors", data=str(path), model="glove", preset="tiny", budget=Budget(epochs=1), device="cpu",
            settings=[f"model.dimensions={dimensions}"],
        )  # fmt: skip
        train(catalog(), order, tmp_path / str(dimensions), Context(), Heard())
    assert sum("nothing is judged" in text for text in said) == 2
    few = [text for text in said if "cannot decide" in text]
    assert len(few) == 2
    assert "54 numbers" in few[0]


def named(words: dict[str, list[float]], case: str = "lower") -> Program:
    """A program of these vectors."""
    prep = WordPrep(list(words), np.arange(len(words), 0, -1), case=case)  # type: ignore[arg-type]
    matrix = torch.tensor(list(words.values()))
    model = WordVectors(WordVectors.Config(dimensions=matrix.shape[1], words=len(words)))
    model.weight.data = matrix
    task = catalog().task("word-vectors")
    nets = {"vectors": Net("skip-gram", model)}
    return Program.assemble(task=task, runtime=WordFinder, nets=nets, prep=prep, provider={})


ROYAL = {"man": [1.0, 0, 0], "woman": [1, 1, 0], "king": [1, 0, 1], "queen": [1, 1, 1], "new-york": [-1, 0, 0.1]}


def test_what_can_be_asked() -> None:
    program = named(ROYAL)
    assert next(iter(program("man : king :: woman")["words"])) == "queen"
    assert program("man:king::woman") == program("Man : King :: WOMAN")
    assert next(iter(program("king")["words"])) == "queen"
    assert "king" not in program("king")["words"]
    assert next(iter(program("man, woman, king, New-York")["words"])) == "new-york"
    assert next(iter(program("the woman of the king")["words"])) == "queen"  # words without vectors say nothing
    for question in ("kin", "man : kin :: woman", "man, king, quen", "nobody knows"):
        with pytest.raises(UnknownName, match="has no vector"):
            program(question)
    with pytest.raises(UnknownName) as caught:
        program("quen")
    assert caught.value.do == "Did you mean 'queen'?"
    for question in ("", "  ", "!"):
        with pytest.raises(UsageError, match="no word to look for"):
            program(question)


def test_the_capabilities() -> None:
    program = named(ROYAL, case="kept")
    finder, embedder = program.capability(Words), program.capability(Embed)
    words, matrix, counts = finder.table()
    assert list(words) == list(ROYAL)
    assert matrix.tolist() == torch.tensor(list(ROYAL.values())).tolist()
    assert counts is not None
    assert counts.tolist() == [5, 4, 3, 2, 1]
    assert finder.vectors(["queen", "Queen"]).tolist() == [[1, 1, 1], [0, 0, 0]]
    texts = embedder.embed(["man", "man woman", "nobody", ""])
    assert np.linalg.norm(texts, axis=1).tolist() == pytest.approx([1, 1, 0, 0])
    assert embedder.embed([]).shape == (0, 3)


def test_a_word_never_seen_has_the_vector_of_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("walking walked talking talked\njumping jumped\n" * 40)
    program = learned(path, tmp_path / "run", "model.buckets=1000", "data.test_share=0.1", model="fasttext", epochs=3)
    finder = program.capability(Words)
    assert finder.vectors(["walks"]).any()
    assert len(program("unwalking")["words"]) == 6
    assert program.card.scores == [] or program.card.scores[0]["name"] == "neighbours told apart"
    model = program.nets["vectors"].module
    assert isinstance(model, SubwordVectors)
    assert model.weight.shape == (6 + 1000, 32)
    loaded = Program.load(tmp_path / "run", catalog())
    assert np.array_equal(loaded.capability(Words).vectors(["walks"]), finder.vectors(["walks"]))


# ------------------------------------------------------------------------------------------------------- going on


def job_of(path: Path, model: str) -> Job:
    """What an objective is told of a text."""
    found = catalog()
    task = found.task("word-vectors")
    data = task.read(str(path), CorpusOptions(), Context())
    recipe = found.recipe("word-vectors")(Request(data=data, preset="tiny", model=model))
    return Job(
        task=task,
        data=data,
        prep=task.prepare(data.split("train"), recipe.prep_config),
        model_name=model,
        model_class=found.model_class(model),
        model_config=dataclasses.replace(recipe.model_config, **({"buckets": 50} if model == "fasttext" else {})),
        seed=3,
        device=torch.device("cpu"),
        choices={"threads": 1, "words_per_step": 70, "pairs_per_step": 20},
    )


def objective_of(model: str, softmax: str) -> Objective[Any]:
    """One thread, and the kind of softmax."""
    if model == "glove":
        return LeastSquares(GloVeConfig(threads=1), {})
    return NegativeSampling(LearnConfig(threads=1, negatives=0 if softmax == "tree" else 5), {})


@pytest.mark.parametrize(
    ("model", "softmax"),
    [("skip-gram", "drawn"), ("cbow", "drawn"), ("fasttext", "drawn"), ("skip-gram", "tree"), ("glove", "")],
)
def test_going_on_gives_the_same_bits(tmp_path: Path, model: str, softmax: str) -> None:
    """Steps that cross the end of the corpus, stopped in the middle and gone on with in a new state."""
    path = tmp_path / "text.txt"
    path.write_text(sentences(60))
    job, objective = job_of(path, model), objective_of(model, softmax)
    whole = objective.start(job)
    assert 3 < (objective.steps_per_epoch(whole) or 0) < 10
    for number in range(12):
        objective.step(whole, Clock(number, 12))
    first, second = objective.start(job), objective.start(job)
    for number in range(7):
        objective.step(first, Clock(number, 12))
    objective.restore(second, objective.snapshot(first))
    for number in range(7, 12):
        objective.step(second, Clock(number, 12))
    assert objective.finish(second).id == objective.finish(whole).id
    for number in range(7, 12):  # the trial steps of the driver lie far away, and are undone
        objective.step(first, Clock(10**9 + number, 10**9 + 100))
    assert objective.finish(first).id != objective.finish(whole).id


# ---------------------------------------------------------------------------------------------------------- the corpus


def test_every_kind_of_file_gives_the_same_words(tmp_path: Path) -> None:
    lines = [f"Line {number}: the well-known cat doesn't mind." for number in range(30)]
    plain, packed, rows, folder = (tmp_path / name for name in ("a.txt", "b.txt.gz", "c.jsonl.gz", "folder"))
    plain.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    rows.write_bytes(gzip.compress("\n".join(json.dumps({"text": line}) for line in lines).encode()))
    (folder / "inner").mkdir(parents=True)
    (folder / "1.txt").write_text("\n".join(lines[:10]))
    (folder / "inner" / "2.jsonl").write_text("\n".join(json.dumps({"text": "\n".join(lines[10:])}) for _ in "1"))
    (folder / ".hidden").write_text("hidden")
    found = []
    for path in (plain, packed, rows, folder):
        corpus = read_corpus(str(path), CorpusOptions(), 0).split("train")
        assert isinstance(corpus, Corpus)
        assert len(list(corpus)) == len(corpus)
        assert corpus[-1]["text"] == list(corpus)[-1]["text"]
        found.append((corpus.counts, list(corpus.words())))
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][1][0][:6] == ["line", "0", "the", "well-known", "cat", "doesn't"]


def test_words_between_spaces_and_large_letters_are_kept_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The cat's-eye, isn't it?\n" * 3)
    corpus = read_corpus(str(path), CorpusOptions(rule="spaces", case="kept", test_share=0), 0).split("train")
    assert isinstance(corpus, Corpus)
    assert list(corpus.counts) == ["The", "cat's-eye,", "isn't", "it?"]


def test_long_lines_are_cut_between_words_and_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BLOCK", 64)
    for text in ("wörter und zahlen " * 40, "überlänge" * 60 + " ende"):
        path = tmp_path / "a.txt"
        path.write_text(text, encoding="utf-8")
        data = read_corpus(str(path), CorpusOptions(test_share=0), 0)
        corpus = data.split("train")
        assert isinstance(corpus, Corpus)
        assert not data.rejected
        assert "".join(word for line in corpus.words() for word in line) == "".join(text.split())
        assert ("zahlen" in corpus.counts) == ("zahlen" in text)
        assert len(corpus) > 5


def test_what_is_held_out_is_not_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"alpha beta gamma number{n} delta" for n in range(2000)))
    data = read_corpus(str(path), CorpusOptions(test_share=0.1), 0)
    corpus, pairs = data.split("train"), data.split("test")
    assert isinstance(corpus, Corpus)
    assert 100 < 2000 - len(corpus) < 300
    assert data.facts["lines held out"] == 2000 - len(corpus)
    assert {word for row in pairs for word in row.values()} <= {"alpha", "beta", "gamma", "delta"}
    assert all(row["word"] != row["neighbour"] and row["word"] != row["other"] for row in pairs)


def test_what_is_held_out_fits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"alpha beta gamma number{n} delta" for n in range(2000)))
    monkeypatch.setattr(reading, "_MOST_CHARACTERS", 400)
    data = read_corpus(str(path), CorpusOptions(test_share=0.1), 0)
    assert 12 <= data.facts["lines held out"] <= 14  # some 30 characters each
    train = data.split("train")
    assert isinstance(train, Corpus)
    assert sum(1 for _ in train.words()) == len(train) == 2000 - data.facts["lines held out"]


def test_phrases_are_one_word(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    lines = [f"word{n % 31} New York word{n % 37} new word{n % 41} york" for n in range(40)]
    lines += [f"Here word{n % 47} stands word{n % 43} again" for n in range(300)]
    path.write_text("\n".join(lines))
    program = learned(path, tmp_path / "run", "data.phrases=5", "data.test_share=0.1", epochs=1)
    words, _, _ = program.capability(Words).table()
    assert "new_york" in words
    assert {"new", "york"} <= set(words)  # where they stand alone
    assert program("New York")["words"] == program("new_york")["words"]
    assert "new_york" not in program("here : New York :: stands")["words"]
    loaded = Program.load(tmp_path / "run", catalog())
    assert loaded("stands New York") == program("stands new_york")


def test_a_corpus_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("b a a\nc\na b rare\n")
    data = read_corpus(str(path), CorpusOptions(test_share=0), 0)
    corpus = data.split("train")
    assert isinstance(corpus, Corpus)
    prep = WordPrep(["a", "b", "c"], np.array([3, 2, 1]))
    found = encoded(corpus, prep, data.fingerprint)
    assert found.tokens.tolist() == [1, 0, 0, -1, 2, -1, 0, 1, -1]
    assert found.words == 6
    path.unlink()
    assert encoded(corpus, prep, data.fingerprint).words == 6  # from the cache


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gone, "no such text"),
        (b"", "no words"),
        (b"\n \n...\n", "no words"),
        (b"one", "too few different words"),
        (b"same same same\n" * 50, "too few different words"),
        (b"one\ntwo\none\ntwo\n", "no neighbours"),
        (b"good line\n" + b"\xff\xfe bad\n" * 5, "Too many lines"),
        (b"\x00\x01\x02" * 50, "Too many lines"),
    ],
)
def test_bad_texts_are_told(tmp_path: Path, content: bytes | Callable[[Path], None], told: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        content(path)
    with pytest.raises(DataError, match=told):
        learned(path, tmp_path / "run", "data.test_share=0")
    assert not (tmp_path / "run").exists()


def test_a_few_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a good line of text\n" * 40 + b"latin \xe4 one\n" + b"zero \x00 byte\n")
    data = read_corpus(str(path), CorpusOptions(test_share=0), 0)
    assert [row.where for row in data.rejected] == ["a.txt, line 41", "a.txt, line 42"]
    rows = tmp_path / "b.jsonl"
    good = [json.dumps({"text": "some words"})] * 60
    rows.write_text("\n".join([*good, "{", json.dumps({"other": 1}), json.dumps({"text": "\ud800"}), "[1]"]))
    assert [row.where for row in read_corpus(str(rows), CorpusOptions(), 0).rejected] == [
        f"b.jsonl, line {number}" for number in (61, 62, 63, 64)
    ]
    cut = tmp_path / "c.txt.gz"
    cut.write_bytes(gzip.compress(b"whole words here\n" * 20_000)[:-40])
    with pytest.raises(DataError, match="cannot be read to its end"):
        read_corpus(str(cut), CorpusOptions(), 0)


@pytest.mark.parametrize(
    ("settings", "model", "told"),
    [
        (("model.words=7",), "skip-gram", "found in the corpus"),
        (("model.dimensions=2000",), "skip-gram", "out of range"),
        (("learn.window=21",), "skip-gram", "out of range"),
        (("learn.negatives=-1",), "cbow", "out of range"),
        (("learn.window=21",), "glove", "out of range"),
        (("learn.memory_mb=1",), "glove", "out of range"),
        (("learn.negatives=5",), "glove", "learn.negatives"),
        (("model.shortest=4", "model.longest=3"), "fasttext", "out of range"),
        (("prep.min_count=100000",), "skip-gram", "too few different words"),
        (("model.dimensions=900",), "ppmi-svd", "fewer dimensions than words"),
    ],
)
def test_wrong_settings_are_told(text: Path, tmp_path: Path, settings: tuple[str, ...], model: str, told: str) -> None:
    with pytest.raises(Sw2Error, match=told):
        learned(text, tmp_path / "run", *settings, model=model)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document["prep"].update(rule="letters"),
        lambda document: document["prep"].pop("case"),
        lambda document: document["nets"]["vectors"]["config"].update(words=3),
        lambda document: document["nets"]["vectors"]["config"].update(dimensions=-1),
    ],
)
def test_a_spoiled_program_is_told(tmp_path: Path, spoil: Callable[[dict[str, Any]], Any]) -> None:
    provider = {"name": "words", "distribution": "sw2", "version": "0"}
    path = dataclasses.replace(named(ROYAL), provider=provider).save(tmp_path / "program")
    document = json.loads((path / "program.json").read_text())
    spoil(document)
    (path / "program.json").write_text(json.dumps(document))
    with pytest.raises(ProgramError):
        Program.load(path, catalog())


# ---------------------------------------------------------------------------------------------- sets that people judged


@pytest.fixture
def sets(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in the place of those of the package."""
    texts = {
        "wordsim353.tsv": "# said\nking\tqueen\t9\nman\twoman\t8\nman\tNew-York\t1\nking\tnobody\t5\n",
        "simlex999.txt": "king\tqueen\t1\nman\twoman\t2\nman\tnew-york\t3\n",
        "questions-words.txt": ": royal\nman king woman queen\nwoman queen man king\n: else\nman king nobody there\n",
    }
    for name, content in texts.items():
        (own_home / "words").mkdir(exist_ok=True)
        (own_home / "words" / name).write_text(content)
    monkeypatch.setattr("sw2.domains.words.judges.sha256_of_file", lambda path: _FILES[path.name])


@pytest.mark.usefixtures("sets")
def test_sets_that_people_judged() -> None:
    program = named(ROYAL)

    def judged(judge: Any, most_words: int = 0) -> list[tuple[str, str, float, int]]:
        data = judge.read(judge.Options(most_words=most_words), Context())
        scores = judge.judge(program, data.split("test"), Context())
        return [(score.of, score.name, score.value, score.examples) for score in scores]

    similar = judged(WordSim())
    assert similar[0] == ("program", "correlation with people", pytest.approx(1), 3)
    assert similar[1] == ("program", "coverage", 0.75, 4)
    assert similar[2] == ("chance", "correlation with people", 0, 3)
    assert judged(SimLex())[0][2] == pytest.approx(-1)
    analogies = judged(Analogies())
    assert analogies[:3] == [
        ("program", "accuracy", 1.0, 2),
        ("program", "coverage", pytest.approx(2 / 3), 3),
        ("program", "royal", 1.0, 2),
    ]
    assert analogies[-1] == ("chance", "accuracy", 0.5, 2)
    with pytest.raises(DataError, match="too few of these words"):
        judged(Analogies(), most_words=2)


def test_sets_are_not_fetched_without_a_yes() -> None:
    with pytest.raises(UsageError, match="was not fetched"):
        WordSim().read(WordSim.Options(), Context())


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("model", ["skip-gram", "fasttext"])
def test_programs_are_written_for_other_toolkits_and_opened_again(text: Path, tmp_path: Path, model: str) -> None:
    buckets = ["model.buckets=500"] if model == "fasttext" else []
    program = learned(text, tmp_path / "run", "model.dimensions=8", *buckets, model=model, epochs=1)
    words, matrix, counts = program.capability(Words).table()
    assert counts is not None
    for name, file in [("word2vec", "vectors.vec"), ("word2vec-binary", "vectors.bin"), ("glove", "vectors.txt")]:
        done = export(program, tmp_path / name, name)
        assert (done.files, done.checked, done.largest_difference) == ((file,), len(words), 0)
        table = vectors.read(tmp_path / name / file)
        assert (list(table.words), table.matrix.tolist()) == (list(words), matrix.tolist())

    again = catalog().program(str(tmp_path / "word2vec" / "vectors.vec"), Context())
    assert again.capability(Words).table()[2] is None
    for asked in ("Cat", "cat : dog :: saw", "cat, dog, saw"):
        assert again(asked) == program(asked)
    again.save(tmp_path / "kept")
    assert Program.load(tmp_path / "kept", catalog())("dog") == again("dog")
    binary = tmp_path / "word2vec-binary" / "vectors.bin"
    packed = tmp_path / "vectors.bin.gz"
    packed.write_bytes(gzip.compress(binary.read_bytes()))
    for path in (binary, packed):
        assert catalog().program(str(path), Context())("dog") == program("dog")

    if model == "skip-gram":
        with pytest.raises(Sw2Error, match="fasttext"):
            export(program, tmp_path / "official", "fasttext")
        return
    done = export(program, tmp_path / "official", "fasttext")
    assert done.files == ("model.bin",)
    assert done.largest_difference < 1e-6
    back = fasttext.read(tmp_path / "official" / "model.bin")
    assert back.counts.tolist() == counts.tolist()
    unseen = program.capability(Words).vectors(["catlike"])[0]
    assert back.vector("catlike") == pytest.approx(unseen, abs=1e-6)
    opened = catalog().program(str(tmp_path / "official" / "model.bin"), Context())
    assert opened.capability(Words).vectors(["catlike"])[0] == pytest.approx(unseen, abs=1e-6)
    assert opened("dog") == program("dog")


@pytest.mark.parametrize("name", ["skipgram.bin", "cbow.bin"])
def test_word_vectors_that_fasttext_made_open_with_its_vectors(name: str, tmp_path: Path) -> None:
    official = json.loads((GOLDEN / "official.json").read_text(encoding="utf-8"))[name]["vectors"]
    model = fasttext.read(GOLDEN / name)
    opened = catalog().program(str(GOLDEN / name), Context())
    opened.save(tmp_path / "kept")
    # The end of a line is no word here.
    asked = [word for word in official if word != fasttext.END_OF_LINE]
    for program in (opened, Program.load(tmp_path / "kept", catalog())):
        words, _, counts = program.capability(Words).table()
        assert [*words] == [word for word in model.words if word != fasttext.END_OF_LINE]
        assert counts is not None
        assert counts.tolist() == [
            count for word, count in zip(model.words, model.counts, strict=True) if word != fasttext.END_OF_LINE
        ]
        assert np.allclose(program.capability(Words).vectors(asked), [official[word] for word in asked], atol=1e-6)


def test_words_that_are_no_utf8_are_left_out_of_fasttexts_vectors(tmp_path: Path) -> None:
    model = fasttext.read(GOLDEN / "skipgram.bin")
    names = [*model.words]
    names[5] = "caf\udce9"
    fasttext.write(dataclasses.replace(model, words=names), tmp_path / "latin.bin")
    program = catalog().program(str(tmp_path / "latin.bin"), Context())
    finder = program.capability(Words)
    assert len(finder.table()[0]) == len(names) - 2
    kept = [names[4], names[6], "never seen"]
    assert np.allclose(finder.vectors(kept), [model.vector(word) for word in kept], atol=1e-6)
    assert program.card.facts["words left out"] == 2


def test_fasttexts_vectors_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    model = fasttext.read(GOLDEN / "skipgram.bin")
    pruned = dataclasses.replace(model, pruned={3: 0}, input=model.input[: len(model.words) + 1])
    fasttext.write(pruned, tmp_path / "pruned.bin")
    with pytest.raises(ProgramError, match="not whole"):
        catalog().program(str(tmp_path / "pruned.bin"), Context())
    alone = dataclasses.replace(
        model, words=["</s>"], counts=model.counts[:1], input=model.input[: 1 + model.arguments.buckets],
        output=model.output[:1],
    )  # fmt: skip
    fasttext.write(alone, tmp_path / "alone.bin")
    with pytest.raises(ProgramError, match="no words"):
        catalog().program(str(tmp_path / "alone.bin"), Context())


def test_a_file_of_vectors_that_is_damaged_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "cut.vec").write_text("2 3\nking 1 2 3\nqueen 1 2\n")
    with pytest.raises(DataError, match="line 3"):
        catalog().program(str(tmp_path / "cut.vec"), Context())


# ---------------------------------------------------------------------------------------------------------- fewer bits


@pytest.mark.parametrize(("model", "bits"), [("skip-gram", 8), ("fasttext", 8), ("fasttext", 4)])
def test_vectors_in_fewer_bits(text: Path, tmp_path: Path, model: str, bits: int) -> None:
    buckets = ["model.buckets=600"] if model == "fasttext" else []
    program = learned(text, tmp_path / "run", "model.dimensions=8", *buckets, model=model, epochs=2)
    shrunk = shrink(program, bits, Context(), most_loss=1)
    shrunk.program.save(tmp_path / "small")
    small = Program.load(tmp_path / "small", catalog())
    asked = [*program.capability(Words).table()[0], "catlike" if model == "fasttext" else "cat"]
    before, after = (each.capability(Words).vectors(asked) for each in (program, small))
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines.min() > (0.9999 if bits == 8 else 0.98)
    assert np.array_equal(after, shrunk.program.capability(Words).vectors(asked))
    assert shrunk.rows[1].bytes < shrunk.rows[0].bytes * (0.7 if bits == 8 else 0.75)
    assert vectors.read(export(small, tmp_path / "out", "word2vec").path / "vectors.vec").matrix.shape[1] == 8
    with pytest.raises(ProgramError, match="as few bits"):
        shrink(small, bits, Context())
    with pytest.raises(UsageError, match="so many bits"):
        shrink(program, 3, Context())


def test_codes_do_not_learn_and_few_words_have_no_centroids(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot learn"):
        learned(text, tmp_path / "codes", "model.bits=8", model="skip-gram", epochs=1)
    program = learned(text, tmp_path / "run", "model.dimensions=8", model="skip-gram", epochs=1)
    with pytest.raises(DataError, match="too few rows"):
        shrink(program, 4, Context())
