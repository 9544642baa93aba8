"""From two files to a program that translates, by every way to learn; and what is refused, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sw2.base.config import from_dict
from sw2.base.errors import DataError, LearningError, ProgramError, Sw2Error, UnknownName, UsageError
from sw2.catalog import catalog
from sw2.core.objective import Clock, Enough, Job, Objective
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.words.alignment.adversary import AdversaryConfig, learn_by_adversary
from sw2.domains.words.alignment.data import turned_words
from sw2.domains.words.alignment.model import BilingualMap
from sw2.domains.words.alignment.objective import (
    ProcrustesConfig,
    SelfLearningConfig,
    learn_by_itself,
    learn_from_pairs,
)
from sw2.domains.words.alignment.task import AlignmentPrep, PrepConfig, WordAlignment, WordTranslator, known
from sw2.parts.formats.vectors import VectorTable, write
from sw2.verbs.evaluate import evaluate
from sw2.verbs.train import Order, train

LANGUAGES, DICTIONARY = turned_words()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two languages of 600 words, their dictionary, and a third language that has nothing in common with the first."""
    random = np.random.default_rng(5)
    stranger = (random.normal(size=(600, 24)) * np.arange(1, 25) ** -0.5).astype(np.float32)
    alike = {DICTIONARY[word][0]: word for word in LANGUAGES.source.words[:60]}
    tables = {
        "source": LANGUAGES.source,
        "target": LANGUAGES.target,
        "stranger": VectorTable([f"z{number}" for number in range(600)], stranger),
        "short": VectorTable(LANGUAGES.target.words[:60], LANGUAGES.target.matrix[:60]),
        "narrow": VectorTable(LANGUAGES.target.words, LANGUAGES.target.matrix[:, :20].copy()),
        "mixed": VectorTable([alike.get(word, word) for word in LANGUAGES.target.words], LANGUAGES.target.matrix),
    }
    for name, table in tables.items():
        write(table, tmp_path / f"{name}.vec", "word2vec")
    lines = [f"{word}\t{each}\n" for word, translations in DICTIONARY.items() for each in translations]
    (tmp_path / "pairs.tsv").write_text("".join(lines))
    (tmp_path / "wrong.tsv").write_text("Hund\tcane\nKatze\tgatto\n")
    return {path.stem: path for path in tmp_path.iterdir()}


def aligned(
    files: dict[str, Path], *settings: str, target: str = "target", objective: str | None = None, steps: int | None = 20
) -> Program:
    order = Order(
        task="word-alignment",
        data=str(files["source"]),
        objective=objective,
        preset="tiny",
        budget=Budget(steps=steps) if steps else Budget(minutes=0.01),
        settings=[f"data.target={files[target]}", *settings],
        device="cpu",
    )
    return train(catalog(), order, files["source"].parent / "run", Context())


def right(program: Program) -> float:
    """The share of all words whose first answer is right."""
    answers = program.map(list(LANGUAGES.source.words))
    firsts = [next(iter(answer["translations"])) for answer in answers]
    return float(
        np.mean([first in DICTIONARY[word] for word, first in zip(DICTIONARY, _in_order(firsts), strict=True)])
    )


def _in_order(firsts: list[str]) -> list[str]:
    rows = {word: row for row, word in enumerate(LANGUAGES.source.words)}
    return [firsts[rows[word]] for word in DICTIONARY]


# --------------------------------------------------------------------------------------------------------- the program


def test_without_a_dictionary(files: dict[str, Path]) -> None:
    program = aligned(files)
    assert right(program) > 0.95
    answer = program("q3")["translations"]
    assert len(answer) == 5
    assert list(answer.values()) == sorted(answer.values(), reverse=True)
    assert program(" Q3 ")["translations"] == answer, "as it is written, or else in small letters"
    with pytest.raises(UnknownName, match="no word with a vector called 'q9999'"):
        program("q9999")
    assert not program.card.scores, "without a dictionary there is nothing to judge by"
    assert program.card.facts["validation csls"] > 0
    scores = evaluate(catalog(), program, str(files["pairs"]), Context())
    values = {(score.of, score.name): score for score in scores}
    assert values["program", "P@1"].value > 0.95
    assert values["program", "P@1"].examples == pytest.approx(300, abs=40)
    assert values["chance", "P@1"].value == pytest.approx(1 / 600)
    assert values["chance", "P@5"].value == pytest.approx(5 / 600)
    taught = next(of for of, _ in values if of.startswith("Procrustes taught"))
    assert values[taught, "P@1"].value > 0.95
    assert values["program", "share of the words that both know"].value == 1


def test_from_a_dictionary(files: dict[str, Path]) -> None:
    program = aligned(files, f"data.dictionary={files['pairs']}", "learn.refinements=2", steps=None)
    assert program.card.facts["steps"] == 3
    assert right(program) > 0.95
    assert program.card.scores[0]["name"] == "P@1"
    assert program.card.scores[0]["value"] > 0.95
    map_DD = program.nets["map"].module.get_parameter("source_map")
    assert torch.allclose(map_DD @ map_DD.T, torch.eye(24), atol=1e-5)
    assert torch.equal(program.nets["map"].module.get_parameter("target_map"), torch.eye(24))


def test_words_of_the_judged_share_are_never_learned_from(files: dict[str, Path]) -> None:
    options = WordAlignment.Options(target=str(files["target"]), dictionary=str(files["pairs"]))
    data = WordAlignment().read(str(files["source"]), options, Context())
    judged = {example["word"] for example in data.split("test")}
    assert judged
    assert judged.isdisjoint(data.split("train").dictionary)  # type: ignore[attr-defined]
    alone = WordAlignment().read(str(files["pairs"]), WordAlignment.Options(), Context())
    assert {example["word"] for example in alone.split("test")} == judged


def test_words_written_alike_begin_a_dictionary_and_are_not_judged(files: dict[str, Path]) -> None:
    program = aligned(files, "learn.identical=true", target="mixed", steps=3)
    assert next(iter(program("q1")["translations"])) == "q1"
    path = files["pairs"].parent / "alike.tsv"
    path.write_text(f"q1 q1\nq100 {DICTIONARY['q100'][0]}\nq3 Q3\nq3 {DICTIONARY['q300'][0]}\n")
    scores = evaluate(catalog(), program, str(path), Context(), settings=["data.judged=0.99"])
    assert (scores[0].value, scores[0].examples) == (1, 1)
    with pytest.raises(DataError, match="Too few words are written alike"):
        train(
            catalog(),
            Order(
                task="word-alignment",
                data=str(files["source"]),
                budget=Budget(steps=3),
                settings=[f"data.target={files['target']}", "learn.identical=true"],
            ),
            files["source"].parent / "other",
            Context(),
        )


def test_it_ends_where_nothing_comes_nearer(files: dict[str, Path]) -> None:
    program = aligned(files, "learn.keep=1.0", "learn.patience=2", steps=400)
    assert program.card.facts["steps"] < 100
    assert right(program) > 0.95


def test_scores_are_those_of_a_loop(files: dict[str, Path]) -> None:
    program = aligned(files, "data.words=400", "learn.reweight=0.0", steps=4)
    entries = {word: [*DICTIONARY[word], "w1"] for word in ("q5", "q6", "q7", "q599")} | {"q8": ["w9999"], "q9": ["q9"]}
    examples = [{"word": word, "translations": each} for word, each in entries.items()]
    scores = {(score.of, score.name): score for score in WordAlignment().judge(program, examples, Context())}
    translator = program.runtime
    assert isinstance(translator, WordTranslator)
    for csls, of in ((True, "program"), (False, "program, by cosine")):
        for count in (1, 5):
            found = translator.translate(["q5", "q6", "q7"], count, csls=csls)
            hits = [bool(set(each) & set(entries[word])) for word, each in zip(entries, found, strict=False)]
            assert scores[of, f"P@{count}"].value == pytest.approx(np.mean(hits))
            assert scores[of, f"P@{count}"].examples == 3
    assert scores["program", "share of the words that both know"].value == 0.5
    with pytest.raises(DataError, match="No word of this dictionary is known"):
        WordAlignment().judge(program, [{"word": "Hund", "translations": ["cane"]}], Context())


# -------------------------------------------------------------------------------------------------------------- failure


@pytest.mark.parametrize("objective", ["self-learning", "adversary"])
def test_two_languages_with_nothing_in_common_are_refused(files: dict[str, Path], objective: str) -> None:
    settings = ["learn.hidden=16", "learn.look_every=2"] if objective == "adversary" else []
    with pytest.raises(LearningError, match="No common structure") as caught:
        aligned(files, *settings, target="stranger", objective=objective, steps=12)
    assert "translated alike by two maps" in str(caught.value)
    assert not (files["source"].parent / "run" / "program").exists()


@pytest.mark.parametrize(
    ("settings", "target", "objective", "error", "told"),
    [
        (("data.words=5",), "target", None, UsageError, "data.words"),
        ((), "short", None, DataError, "too few words"),
        ((), "narrow", None, DataError, "different lengths"),
        ((), "target", "procrustes", UsageError, "no dictionary to learn from"),
        (("model.dimensions=7",), "target", None, UsageError, "follow from the vectors"),
        (("learn.keep=0.0",), "target", None, UsageError, "learn.keep"),
        (("data.dictionary=nothing.tsv",), "target", None, DataError, "no such dictionary"),
        (("data.dictionary={wrong}",), "target", None, DataError, "No pair of this dictionary"),
        (("learn.refinements=3",), "target", None, UnknownName, "no setting"),
    ],
)
def test_what_is_refused(
    settings: tuple[str, ...],
    target: str,
    objective: str | None,
    error: type[Sw2Error],
    told: str,
    files: dict[str, Path],
) -> None:
    given = [each.format(wrong=files["wrong"]) for each in settings]
    with pytest.raises(error) as caught:
        aligned(files, *given, target=target, objective=objective, steps=None)
    assert told in str(caught.value)
    assert not (files["source"].parent / "run").exists()


def test_vectors_without_the_other_languages(files: dict[str, Path]) -> None:
    for source, told in ((files["source"], "data.target=FILE"), (files["pairs"], "Nothing can be learned")):
        order = Order(task="word-alignment", data=str(source), budget=Budget(steps=3))
        with pytest.raises(DataError) as caught:
            train(catalog(), order, files["source"].parent / "run", Context())
        assert told in str(caught.value)


def test_a_damaged_program_is_told() -> None:
    prep = AlignmentPrep(["a"], ["b", "c"], torch.zeros(1, 2), torch.zeros(2, 2))
    with pytest.raises(ProgramError, match="do not fit"):
        WordTranslator({"map": BilingualMap(BilingualMap.Config())}, prep, {})
    state = prep.state()
    with pytest.raises(ProgramError, match="do not fit"):
        AlignmentPrep.restore(replace(state, assets={**state.assets, "target.json": b'["b"]'}))


# --------------------------------------------------------------------------------------------------------------- resume


def job_of(dictionary: dict[str, list[str]]) -> Job:
    task = WordAlignment()
    data = task.read("turned-words", WordAlignment.Options(), Context())
    languages = replace(LANGUAGES, dictionary=dictionary)
    return Job(
        task=task,
        data=replace(data, splits={"train": languages}),
        prep=task.prepare(languages, PrepConfig()),
        model_name="bilingual-map",
        model_class=BilingualMap,
        model_config=BilingualMap.Config(),
        seed=3,
        device=torch.device("cpu"),
    )


WAYS: dict[str, Callable[[], Objective[Any]]] = {
    "self-learning": lambda: learn_by_itself(SelfLearningConfig(frequent=300, patience=2), {}),
    "procrustes": lambda: learn_from_pairs(ProcrustesConfig(refinements=7), {}),
    "adversary": lambda: learn_by_adversary(AdversaryConfig(hidden=16, look_every=2, refinements=3), {}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [0, 3, 6])
def test_a_state_at_rest_goes_on_bit_for_bit(way: str, cut: int) -> None:
    objective, job = WAYS[way](), job_of(DICTIONARY)
    whole, first, second = (objective.start(job) for _ in range(3))
    for step in range(8):
        objective.step(whole, Clock(step, 8))
    for step in range(cut):
        objective.step(first, Clock(step, 8))
    objective.restore(second, objective.snapshot(first))
    for step in range(cut, 8):
        objective.step(second, Clock(step, 8))
    one, other = objective.snapshot(whole), objective.snapshot(second)
    assert one.values == other.values
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_trial_steps_of_the_driver_are_no_reason_to_end() -> None:
    objective = learn_by_itself(SelfLearningConfig(frequent=200, patience=1, keep=1.0), {})
    state = objective.start(job_of({}))
    for step in range(12):  # another clock than the state's own
        objective.step(state, Clock(1_000_000 + step, 1_000_100))
    state = objective.start(job_of({}))

    def learn() -> None:
        for step in range(400):
            objective.step(state, Clock(step, 400))

    with pytest.raises(Enough, match="no word has come nearer"):
        learn()


def test_the_adversarys_map_stays_near_orthogonal_and_refinements_make_it_so() -> None:
    config = AdversaryConfig(hidden=32, look_every=3, refinements=1, learning_rate=0.5)
    objective, job = learn_by_adversary(config, {}), job_of({})
    state = objective.start(job)
    begins = [contest.map_DD for contest in state.contests]
    assert not torch.allclose(begins[0], begins[1], atol=0.1), "the two are learned apart"
    losses = [objective.step(state, Clock(step, 40))["loss"] for step in range(39)]
    assert losses[-1] < losses[0], "a discriminator learns"
    for contest, begin in zip(state.contests, begins, strict=True):
        assert torch.allclose(contest.map_DD @ contest.map_DD.T, torch.eye(24), atol=0.1)
        assert not torch.allclose(contest.map_DD, begin, atol=1e-3), "the map moves"
        assert contest.best > -np.inf
    objective.step(state, Clock(39, 40))
    for contest in state.contests:
        assert torch.allclose(contest.map_DD @ contest.map_DD.T, torch.eye(24), atol=1e-5)


def test_known_words_are_found_in_small_letters_too() -> None:
    prep = AlignmentPrep(["dog", "Rome"], ["cane", "Roma", "canino"], torch.zeros(2, 2), torch.zeros(3, 2))
    found = known(prep, {"Dog": ["Cane", "canino", "x"], "Rome": ["Roma"], "cat": ["cane"], "dog": ["Roma"]})
    assert found.rows.tolist() == [0, 1]
    assert found.right == [frozenset({0, 1, 2}), frozenset({1})]
    assert [each.tolist() for each in found.pairs()] == [[0, 0, 0, 1], [0, 1, 2, 1]]
    with pytest.raises(UsageError, match="out of range"):
        from_dict(SelfLearningConfig, {"patience": 0}, "learn")
