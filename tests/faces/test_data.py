"""`sw2 data show`: what is learned, in brackets; which task reads what; and a chat that calls a tool."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sw2.faces.cli import VERBS, app


def sw2(*arguments: object, text: str | None = None) -> Any:
    for verb in VERBS:
        importlib.import_module(f"sw2.faces.cli.{verb}_command")
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    path = tmp_path / "talks.jsonl"
    rows: list[Any] = [
        {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
        for n in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, [*rows, {"messages": []}])))
    return path


def test_what_is_learned_stands_in_brackets(talks: Path) -> None:
    shown = sw2("data", "show", "--mask", talks, "--first", 2)
    assert shown.exit_code == 0, shown.stderr
    first = shown.stdout.split("\n\n")[0]
    assert first.startswith("<|im_start|>user\nquestion ")
    assert first.count("⟦") == 1
    assert first.endswith("<|im_end|>⟧")
    assert "⟦answer " in first
    assert "skipped line 21: no turn of the assistant" in shown.stderr
    plain = sw2("data", "show", talks, "--first", 1)
    assert "⟦" not in plain.stdout
    rows = json.loads(sw2("data", "show", talks, "--first", 1, "--json").stdout)
    assert rows["task"] == "chat"
    assert [piece["learned"] for piece in rows["rows"][0]] == [False, True, False]


def test_the_task_is_found_out(tmp_path: Path, talks: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": f"text {n}"}) for n in range(20)))
    shown = json.loads(sw2("data", "show", texts, "--json").stdout)
    assert shown["task"] == "text-generation"
    assert shown["rows"][0][0] == {"text": "<|endoftext|>", "learned": False}
    # A task that reads a column of numbers would have to be told which, and is none that reads it.
    table = tmp_path / "table.csv"
    table.write_text("first,second\n" + "\n".join(f"{number},{number * 2}" for number in range(200)))
    assert json.loads(sw2("data", "show", table, "--json").stdout)["task"] == "text-generation"
    nobody = json.loads(sw2("data", "show", tmp_path / "nothing", "--json").stdout)
    assert nobody["message"] == "No task reads this data."
    refused = json.loads(sw2("data", "show", "digits", "--json").stdout)
    assert refused["message"] == "What is learned from these examples cannot be shown as text."
    assert json.loads(sw2("data", "show", talks, "--task", "chut", "--json").stdout)["error"] == "UnknownName"


@pytest.fixture
def run(talks: Path, tmp_path: Path) -> Path:
    """A program that chats, after two steps."""
    small = ["--set", "model.depth=1", "--set", "model.context=768", "--set", "data.test_share=0"]
    path = tmp_path / "run"
    assert sw2("train", "chat", talks, "--preset", "tiny", "--steps", 2, "--out", path, *small).exit_code == 0
    return path


def test_a_program_that_chats_is_asked_under_a_constraint(run: Path) -> None:
    asked = sw2("run", run, "hello", "and then?", "--choice", "left", "--choice", "right", "--temperature", 1, "--json")
    assert asked.exit_code == 0, asked.stderr
    answers = json.loads(asked.stdout)["answers"]
    assert [(answer["text"] in ("left", "right"), answer["finished"]) for answer in answers] == [(True, "end")] * 2
    tool = {"type": "function", "function": {"name": "calculator", "parameters": {}}}
    talk = json.dumps({"messages": [{"role": "user", "content": "2+2?"}], "tools": [tool]})
    refused = sw2("run", run, talk, "--regex", "a")
    assert (refused.exit_code, "cannot call tools" in refused.stderr) == (2, True)
    refused = sw2("run", run, "hello", "--regex", "a", "--json", "--logprobs", 1)
    assert (refused.exit_code, "no log-probabilities" in refused.stdout) == (2, True)
    refused = sw2("run", run, "hello", "--temperature", 0)
    assert (refused.exit_code, "together with a constraint or tools only" in refused.stderr) == (2, True)


def test_what_is_said_about_answers_becomes_pairs_to_learn_from(run: Path, tmp_path: Path) -> None:
    log, pairs = tmp_path / "logs" / "talks.jsonl", tmp_path / "pairs.jsonl"
    said = ["/good", "hello", "/bad too short", "/edit a better answer", "and then?", "/good", "/reset"]
    said += ["hello", "/edit", "/edit another answer", "/exit"]
    talked = sw2("chat", run, "--log", log, "--max-tokens", 4, "--json", text="\n".join(said))
    assert talked.exit_code == 0, talked.stderr
    assert "There is no answer yet." in talked.stderr
    assert "What should it have said?" in talked.stderr
    assert json.loads(talked.stdout)["messages"][-1] == {"role": "assistant", "content": "another answer"}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row.get("thumb"), row.get("why"), row.get("edit")) for row in rows] == [
        ("down", "too short", "a better answer"),
        ("up", None, None),
        (None, None, "another answer"),
    ]
    # The conversation went on with the edit, and the log keeps what was said.
    assert rows[1]["messages"][1]["content"] == "a better answer"
    assert rows[0]["messages"][1]["content"] != "a better answer"

    made = sw2("data", "from-feedback", log, "--out", pairs)
    assert made.exit_code == 0, made.stderr
    assert made.stdout.splitlines() == [
        "2 pairs: 2 from edits, 0 from thumbs",
        "not usable: 1, thumb up, and nothing worse to the same",
    ]
    first = pairs.read_bytes()
    again = sw2("data", "from-feedback", log, "--out", pairs)
    assert again.exit_code == 2
    assert "there already; nothing was changed" in again.stderr
    assert pairs.read_bytes() == first
    for task, more in (("chat", ["--objective", "dpo"]), ("reward-modeling", [])):
        shares = ["--set", "data.test_share=0", "--set", "data.validation_share=0"]
        learned = ["train", task, pairs, *more, "--from", run, "--preset", "tiny", "--steps", 1, *shares]
        assert sw2(*learned, "--out", tmp_path / task).exit_code == 0


def test_judging_without_a_log_is_no_message(run: Path, tmp_path: Path) -> None:
    talked = sw2("chat", run, "--max-tokens", 2, "--json", text="hello\n/good\n")
    assert "Nothing is kept: start with --log FILE." in talked.stderr
    assert len(json.loads(talked.stdout)["messages"]) == 2
    (tmp_path / "notes.txt").write_text("mine")
    refused = sw2("chat", run, "--log", tmp_path / "notes.txt", text="hello\n")
    assert refused.exit_code == 2
    assert "no log of conversations; nothing was written" in refused.stderr


def test_a_tool_that_is_not_there_is_refused(run: Path) -> None:
    wrong = sw2("chat", run, "--tool", "abacus", text="hello\n")
    assert wrong.exit_code == 2
    assert "There is no tool called 'abacus'." in wrong.stderr
    talked = sw2("chat", run, "--tool", "calculator", "--max-tokens", 3, "--json", text="hello\n")
    messages = json.loads(talked.stdout)["messages"]
    assert [message["role"] for message in messages][:2] == ["user", "assistant"]
    told = sw2("run", run, "hello")
    assert told.exit_code == 0
    assert told.stdout.startswith("hello: ")
