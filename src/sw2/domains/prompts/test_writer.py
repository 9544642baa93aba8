"""Asking and judging, on a program that says what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.core.capabilities import Chat
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.domains.prompts.cases import CaseOptions, in_orders
from sw2.domains.prompts.file import Shot
from sw2.domains.prompts.opening import open_prompt
from sw2.domains.prompts.task import PromptTask
from sw2.domains.prompts.writer import PromptTalker, PromptWriter
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.metrics.intervals import wilson
from sw2.testing.toys import talking

EXTRACT = """\
+++
about = "What a review says."
program = "toy"
inputs.review = "text"
output = { mood = ["good", "bad"], item = "text" }
[writing]
max_tokens = 60
[[examples]]
review = "The kettle leaks."
answer = { mood = "bad", item = "kettle" }
[[examples]]
review = "Fine boots."
answer = { mood = "good", item = "boots" }
[[tests]]
review = "A fine lamp!"
expect = { mood = "good", item = "lamp" }
[[tests]]
review = "This chair broke."
expect = { mood = "bad", item = { any = ["chair", "a chair"] } }
[[tests]]
review = "This desk broke."
expect = { mood = "bad", item = "desk" }
+++ user
What does it say?
{{ review }}
"""

Says = Callable[[list[dict[str, Any]], Sampling], str]


class Registry:
    """Knows one program, called toy, and whose task is whose."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def program(self, name: str, context: Context) -> Program:
        del context
        assert name == "toy"
        return self._program

    def provider(self, task: str) -> dict[str, str]:
        return {"name": task, "distribution": "sw2", "version": "0"}


def _opened(tmp_path: Path, text: str, says: Says, context: int = 100_000) -> Program:
    file = tmp_path / "prompt.toml"
    file.write_text(text, encoding="utf-8")
    toy = talking(says, PromptTask(), context)
    return open_prompt(file, Registry(toy), Context())  # type: ignore[arg-type]


def _reads(messages: list[dict[str, Any]], sampling: Sampling) -> str:
    """Gets the mood right, and the item where it is a lamp or a chair."""
    del sampling
    text = messages[-1]["content"]
    item = next((each for each in ("lamp", "chair") if each in text), "thing")
    return json.dumps({"mood": "good" if "fine" in text.lower() else "bad", "item": item})


def test_answers_are_values(tmp_path: Path) -> None:
    program = _opened(tmp_path, EXTRACT, _reads)
    assert program("A fine lamp!") == {"answer": {"mood": "good", "item": "lamp"}}
    assert program.map(["A fine lamp!", {"review": "This chair broke."}])[1]["answer"]["item"] == "chair"
    assert program.task.outputs["answer"].name == "record"
    assert set(program.uses) == {"model"}
    runtime = program.runtime
    assert isinstance(runtime, PromptWriter)
    toy: Any = program.uses["model"].runtime
    assert all(each is not None and each.kind == "json-schema" for each in toy.constraints)


def test_what_is_cut_off_is_no_answer(tmp_path: Path) -> None:
    program = _opened(tmp_path, EXTRACT, lambda messages, sampling: json.dumps({"mood": "bad", "item": "x" * 60}))
    assert program("x")["answer"] is None
    outcome = program.runtime.ask(["x"])[0]  # type: ignore[attr-defined]
    assert (outcome.finished, len(outcome.text), outcome.tokens) == ("length", 60, 60)


def test_a_text_is_an_answer_even_if_it_was_cut_off(tmp_path: Path) -> None:
    text = EXTRACT.partition("[[examples]]")[0].replace('{ mood = ["good", "bad"], item = "text" }', '"text"')
    program = _opened(tmp_path, f"{text}+++ user\n{{{{ review }}}}\n", lambda messages, sampling: " y" * 50)
    assert program("x")["answer"] == ("y " * 30).strip()


def test_judging_counts_what_is_expected(tmp_path: Path) -> None:
    program = _opened(tmp_path, EXTRACT, _reads)
    told: list[str] = []
    context = Context(say=told.append)
    data = program.task.tests(CaseOptions(), context)
    scores = {(each.name, each.of): each for each in program.task.judge(program, data.split("test"), context)}
    passed = scores["passed", "program"]
    assert passed.value == pytest.approx(2 / 3)
    assert passed.details["cases"] == [1.0, 1.0, 0.0]
    assert scores["right: mood", "program"].value == 1.0
    assert scores["complete", "program"].value == 1.0
    # Always {"bad", "chair"} passes one of three; nothing that is always the same passes two.
    assert scores["passed", "always the same answer"].value == pytest.approx(1 / 3)
    assert any("line 20" in line and "thing" in line for line in told)


def test_examples_in_other_orders(tmp_path: Path) -> None:
    def last_wins(messages: list[dict[str, Any]], sampling: Sampling) -> str:
        del sampling
        return str(messages[-2]["content"])  # the answer of the last example

    program = _opened(tmp_path, EXTRACT.replace('item = "lamp"', 'item = "boots"'), last_wins)
    data = program.task.tests(CaseOptions(orders=2), Context())
    assert len(data.split("test")) == 6
    scores = {each.name: each.value for each in program.task.judge(program, data.split("test"), Context())[:-1]}
    assert scores["passed, best order"] == pytest.approx(1 / 3)
    assert scores["passed, worst order"] == 0
    # Each case is right in one of the two orders or in none: three cases, and not six, say how sure that is.
    complete = program.task.judge(program, data.split("test"), Context())[1]
    once = program.task.judge(program, program.task.tests(CaseOptions(), Context()).split("test"), Context())[1]
    assert (complete.name, complete.examples, once.examples) == ("complete", 6, 3)
    three = wilson(3, 3)
    assert complete.interval == once.interval == (three.low, three.high)
    with pytest.raises(DataError, match="So many orders") as caught:
        program.task.tests(CaseOptions(orders=3), Context())
    assert "at most 2" in str(caught.value)


def test_orders_are_different_ones() -> None:
    shots = [Shot({"n": n}, "") for n in range(4)]
    orders = in_orders(shots, 24, seed=0)
    assert orders[0] == shots
    assert len({tuple(shot.values["n"] for shot in order) for order in orders}) == 24
    assert in_orders(shots, 3, seed=0) == orders[:3]


def test_tests_from_elsewhere(tmp_path: Path) -> None:
    program = _opened(tmp_path, EXTRACT, _reads)
    lines = tmp_path / "cases.jsonl"
    lines.write_text('{"review": "A fine lamp!", "expect": {"item": "lamp"}}\n' * 19 + "{broken\n", encoding="utf-8")
    data = program.task.read(str(lines), CaseOptions(), Context())
    assert len(data.split("test")) == 19
    assert [row.where for row in data.rejected] == [f"{lines}:20"]
    table = tmp_path / "cases.csv"
    table.write_text("review,expect.mood,expect.item\nThis chair broke.,bad,chair\n", encoding="utf-8")
    assert program.task.read(str(table), CaseOptions(), Context()).split("test")[0]["expect"] == {
        "mood": "bad",
        "item": "chair",
    }
    for name, content, says in (
        ("a.csv", "revew,expect\nx,y\n", "Did you mean 'review'?"),
        ("a.jsonl", '{"review": "x"}\n', "A test says what it expects."),
        ("a.json", "{}", "a list of objects"),
        ("a.txt", "x", "another file"),
        ("long.csv", "review,expect\nx,y,z\n", "no value for each name"),
        ("short.csv", "review,expect\nx\n", "no value for each name"),
        ("twice.csv", "review,review,expect\nx,y,z\n", "Two columns have one name."),
        ("open.csv", 'review,expect\n"x', "The tests are no table."),
        ("null.jsonl", '{"review": "x", "expect": null}\n', "A test says what it expects."),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(DataError) as caught:
            program.task.read(str(tmp_path / name), CaseOptions(), Context())
        assert says in str(caught.value)


def test_a_question_that_fills_the_context(tmp_path: Path) -> None:
    program = _opened(tmp_path, EXTRACT, _reads, context=500)
    with pytest.raises(UsageError, match="fills the context") as caught:
        program("x" * 500)
    assert "prompt.toml, question 1" in str(caught.value)
    cases = [{"values": {"review": "x" * 500}, "expect": {"mood": "bad"}, "where": "here", "order": 0, "case": 0}]
    assert program.task.judge(program, cases, Context())[0].value == 0


TALK = """\
+++
about = "Sells tea."
program = "toy"
inputs.talk = "conversation"
[[tests]]
talk = ["One tea", "That is all"]
expect = { contains = "2 turns", lacks = ["sorry"] }
+++ system
You sell tea.
"""


def _counts(messages: list[dict[str, Any]], sampling: Sampling) -> str:
    del sampling
    return f"{sum(each['role'] == 'user' for each in messages)} turns under {messages[0]['content']}"


def test_a_prompt_that_converses(tmp_path: Path) -> None:
    program = _opened(tmp_path, TALK, _counts)
    assert isinstance(program.runtime, PromptTalker)
    talk = program.capability(Chat)  # type: ignore[type-abstract]
    said = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "Hi"}]
    assert "".join(piece.text for piece in talk.converse(said, Sampling())) == "1 turns under You sell tea."
    assert program(said) == {"answer": "1 turns under You sell tea."}
    assert program.runtime.prompt.talk(["odd"])[1:] == ["odd"], "whoever answers says what is wrong"  # type: ignore
    data = program.task.tests(CaseOptions(), Context())
    assert program.task.judge(program, data.split("test"), Context())[0].value == 1.0


def test_a_program_that_cannot_chat(tmp_path: Path) -> None:
    inner = _opened(tmp_path, EXTRACT, _reads)  # a prompt that answers does not chat
    file = tmp_path / "outer.toml"
    file.write_text(EXTRACT, encoding="utf-8")
    with pytest.raises(ProgramError, match="cannot chat") as caught:
        open_prompt(file, Registry(inner), Context())  # type: ignore[arg-type]
    assert "outer.toml" in str(caught.value)
    assert "a program for prompt with: Ask" in str(caught.value)


def test_a_second_chance(tmp_path: Path) -> None:
    def says(messages: list[dict[str, Any]], sampling: Sampling) -> str:
        if "Check your answer" in messages[-1]["content"]:
            return "The item is a sofa."
        if "The item is a sofa." in messages[-1]["content"]:
            return json.dumps({"mood": "bad", "item": "sofa"})
        return json.dumps({"mood": "good" if sampling.seed % 2 else "bad", "item": "desk"})

    program = _opened(tmp_path, EXTRACT, says)
    runtime = program.runtime
    assert isinstance(runtime, PromptWriter)
    voted = runtime.ask(["x"], votes=7)[0]
    seeds = [json.loads(step)["mood"] for step in voted.steps]
    assert voted.answer == {"mood": max(("good", "bad"), key=seeds.count), "item": "desk"}
    reviewed = runtime.ask(["x"], reviews=1)[0]
    assert reviewed.answer == {"mood": "bad", "item": "sofa"}
    toy: Any = program.uses["model"].runtime
    assert [each is None for each in toy.constraints[-3:]] == [False, True, False], "a critique is free"


def test_one_of_a_few_is_voted_on_as_it_is_spelled(tmp_path: Path) -> None:
    text = EXTRACT.partition("[[examples]]")[0].replace(
        '{ mood = ["good", "bad"], item = "text" }', '["over 10", "under 10"]'
    )
    answers = iter(["over 10", "under 10", "under 10"] * 2)
    program = _opened(tmp_path, f"{text}+++ user\n{{{{ review }}}}\n", lambda messages, sampling: next(answers))
    voted = program.runtime.ask(["x"], votes=3)[0]  # type: ignore[attr-defined]
    assert voted.answer == "under 10"
    assert voted.agreed == pytest.approx(2 / 3)
    cut = program.runtime.ask(["x"], votes=3, max_tokens=7)[0]  # type: ignore[attr-defined]
    assert (cut.answer, cut.finished) == ("over 10", "end"), "what was cut off has no vote"


def test_free_texts_have_no_vote(tmp_path: Path) -> None:
    text = EXTRACT.partition("[[examples]]")[0].replace('{ mood = ["good", "bad"], item = "text" }', '"text"')
    program = _opened(tmp_path, f"{text}+++ user\n{{{{ review }}}}\n", lambda messages, sampling: "y")
    with pytest.raises(UsageError, match="cannot be compared"):
        program.runtime.ask(["x"], votes=2)  # type: ignore[attr-defined]
