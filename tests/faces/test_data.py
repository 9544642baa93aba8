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
    nobody = json.loads(sw2("data", "show", tmp_path / "nothing", "--json").stdout)
    assert nobody["message"] == "No task reads this data."
    refused = json.loads(sw2("data", "show", "digits", "--json").stdout)
    assert refused["message"] == "What is learned from these examples cannot be shown as text."
    assert json.loads(sw2("data", "show", talks, "--task", "chut", "--json").stdout)["error"] == "UnknownName"


def test_a_tool_that_is_not_there_is_refused(talks: Path, tmp_path: Path) -> None:
    small = ["--set", "model.depth=1", "--set", "model.context=768", "--set", "data.test_share=0"]
    run = tmp_path / "run"
    assert sw2("train", "chat", talks, "--preset", "tiny", "--steps", 2, "--out", run, *small).exit_code == 0
    wrong = sw2("chat", run, "--tool", "abacus", text="hello\n")
    assert wrong.exit_code == 2
    assert "There is no tool called 'abacus'." in wrong.stderr
    talked = sw2("chat", run, "--tool", "calculator", "--max-tokens", 3, "--json", text="hello\n")
    messages = json.loads(talked.stdout)["messages"]
    assert [message["role"] for message in messages][:2] == ["user", "assistant"]
    told = sw2("run", run, "hello")
    assert told.exit_code == 0
    assert told.stdout.startswith("hello: ")
