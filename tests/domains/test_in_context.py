"""The curve is what a writer's own probabilities say, and its baselines see what the writer sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from sw2.base.errors import ProgramError, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Generate
from sw2.core.program import Net, Program, Runtime
from sw2.core.task import Context, Score
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.in_context import TASKS, InContext, InContextOptions, prompt
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.domains.language.task import TextGeneration, TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding.text import TextEngine, TokenScore
from sw2.verbs.evaluate import evaluate
from sw2.verbs.train import Order, plan

FEW = InContextOptions(questions=10, most=4)


class Oracle(Generate):
    """A writer of one token a character that knows some answers: p = 1/2 for each right character, 1/256 otherwise."""

    def __init__(self, knows: Callable[[str, str], bool], context: int = 10_000) -> None:
        self.knows, self._context = knows, context

    @property
    def context(self) -> int:
        return self._context

    def text_engine(self, slots: int) -> TextEngine:
        raise NotImplementedError

    def encode_prompt(self, prompt: str) -> list[int]:
        return [ord(each) for each in prompt]

    def score(
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]], *, top: int = 0
    ) -> list[list[TokenScore]]:
        assert top == 1
        found = []
        for before, after in pairs:
            assert isinstance(before, str)
            assert isinstance(after, str)
            right = self.knows(before, after)
            logprob = math.log(1 / 2 if right else 1 / 256)
            likeliest = TokenScore(0, b"")
            tokens = [TokenScore(ord(each), each.encode(), logprob) for each in after]
            found.append(
                [TokenScore(each.token, each.bytes, logprob, (each if right else likeliest,)) for each in tokens]
            )
        return found


@dataclass
class Asked:
    """What the judge needs of a program."""

    writer: Generate

    def capability(self, wanted: type[Any]) -> Generate:
        assert wanted is Generate
        return self.writer


def _judged(writer: Generate, options: InContextOptions = FEW, seed: int = 0) -> dict[tuple[str, str], Score]:
    judge, context = InContext(), Context(seed=seed)
    data = judge.read(options, context)
    scores = judge.judge(Asked(writer), data.split("test"), context)  # type: ignore[arg-type]
    assert len({(score.of, score.name) for score in scores}) == len(scores)
    return {(score.of, score.name): score for score in scores}


def test_prompts_read_as_they_should() -> None:
    example = {"instruction": "Add.", "question": "2 + 2", "answer": "4", "shown": [("1 + 1", "2"), ("3 + 1", "4")]}
    assert prompt(example, 0) == "Add.\n2 + 2 =>"
    assert prompt(example, 2) == "Add.\n1 + 1 => 2\n3 + 1 => 4\n2 + 2 =>"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_items_are_sound(task: Any) -> None:
    questions = [question for question, _ in task.items]
    assert len(set(questions)) == len(questions) > 25 + 16
    assert all(
        text.strip() == text != "" and "\n" not in text and "=>" not in text for item in task.items for text in item
    )


def test_some_answers_worked_by_hand() -> None:
    answers = {name: dict(task.items) for name, task in TASKS.items()}
    assert answers["reversed words"]["stone"] == "enots"
    assert answers["turned words"]["nesto"] == "stone"
    assert answers["sums of digits"]["7 + 8"] == "15"
    assert answers["what comes next"]["june"] == "july"
    assert answers["python parameters"]["shutil.copyfileobj"] == "(fsrc, fdst, length)"
    assert all(
        "".join(each for each in question if each.isalpha()) == answer
        for question, answer in answers["words with symbols"].items()
    )


def test_no_question_sees_its_answer_and_fewer_examples_are_the_first_of_more() -> None:
    data = InContext().read(InContextOptions(questions=25, most=16), Context())
    for example in data.split("test"):
        assert len({question for question, _ in example["shown"]}) == 16
        assert example["question"] not in dict(example["shown"])
        assert prompt(example, 8).removesuffix(f"{example['question']} =>") in prompt(example, 16)


def test_the_same_seed_asks_the_same() -> None:
    first, same, other = (InContext().read(FEW, Context(seed=seed)) for seed in (0, 0, 1))
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_scores_are_what_the_writer_says() -> None:
    """It knows an answer when at least two examples are shown."""
    scores = _judged(Oracle(lambda before, after: before.count("\n") >= 3))
    accuracies = [scores["program", f"accuracy, {n} example{'s' * (n != 1)}"].value for n in (0, 1, 2, 4)]
    assert accuracies == [0, 0, 1, 1]
    assert scores["program", "accuracy gained by 4 examples"].interval == (1, 1)
    bits = [scores["program", f"bits per answer byte, {n} examples"] for n in (0, 4)]
    assert [score.value for score in bits] == pytest.approx([8, 1])
    assert next(iter(scores)) == ("program", "accuracy, 4 examples"), "the score that decides"
    by_task = scores["program", "opposites: accuracy, 4 examples"]
    assert (by_task.value, by_task.examples, by_task.details["curve"]) == (1.0, 10, {0: 0.0, 1: 0.0, 2: 1.0, 4: 1.0})


def test_chance_is_the_mean_over_tasks() -> None:
    scores = _judged(Oracle(lambda before, after: False))
    chance = sum(task.chance for task in TASKS.values()) / len(TASKS)
    assert scores["chance", "accuracy"].value == pytest.approx(chance)
    assert TASKS["sums of digits"].chance == 1 / 19


def test_baselines_answer_from_what_is_shown() -> None:
    scores = _judged(Oracle(lambda before, after: False), InContextOptions(questions=25, most=16))
    for of in ("most frequent answer shown", "answer of the question most alike"):
        assert 0 < scores[of, "accuracy, 16 examples"].value < 0.2


def test_a_small_context_has_a_shorter_curve_and_says_so() -> None:
    said: list[str] = []
    judge, context = InContext(), Context(say=said.append)
    data = judge.read(FEW, context).split("test")
    longest = max(len(prompt(each, 2)) + len(each["answer"]) + 2 for each in data)
    scores = judge.judge(Asked(Oracle(lambda before, after: True, longest)), data, context)  # type: ignore[arg-type]
    assert scores[0].name == "accuracy, 2 examples"
    assert any(line.startswith("4 examples and more do not fit") for line in said)
    with pytest.raises(UsageError, match="longer than this program can read"):
        judge.judge(Asked(Oracle(lambda before, after: True, 20)), data, context)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"questions": 0}, {"questions": 1000}, {"most": 3}, {"most": 64}])
def test_options_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="out of range"):
        InContextOptions(**wrong)


def _writer() -> Program:
    tokenizer = Tokenizer.train(["a => b\nc => d\n" * 20], 300)
    config = Decoder.Config(
        vocab_size=tokenizer.vocab_size, context=512, width=16, depth=1, heads=2, kv_heads=2, hidden=32
    )
    return Program.assemble(
        task=TextGeneration(),
        runtime=TextWriter,
        nets={"decoder": Net("decoder", Decoder(config))},
        prep=TextPrep(tokenizer, PrepConfig(vocab_size=300)),
        provider=catalog().provider("text-generation"),
    )


def test_eval_finds_the_judge_by_name() -> None:
    settings = ["data.questions=2", "data.most=1"]
    scores = evaluate(catalog(), _writer(), "in-context", Context(), settings=settings)
    assert {score.of for score in scores} >= {"program", "chance", "most frequent answer shown"}
    assert scores[0].name == "accuracy, 1 example"
    with pytest.raises(UsageError, match=r"Did you mean 'data.questions'"):
        evaluate(catalog(), _writer(), "in-context", Context(), settings=["question=2"])


def test_a_program_that_cannot_write_is_refused() -> None:
    program = _writer()
    mute = type("Mute", (Runtime,), {"__init__": lambda self: None, "answer": lambda self, inputs: []})
    object.__setattr__(program, "runtime", mute())
    with pytest.raises(ProgramError, match="cannot 'Generate'"):
        evaluate(catalog(), program, "in-context", Context(), settings=["data.questions=2", "data.most=1"])


def test_nothing_is_trained_on_it() -> None:
    with pytest.raises(UsageError, match="is for judging programs") as caught:
        plan(catalog(), Order(task="text-generation", data="in-context"), Context())
    assert caught.value.do == "sw2 eval PROGRAM in-context"
