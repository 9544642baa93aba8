"""`--tool` of `sw2 chat`, `sw2 run` and `sw2 serve`: what is run, what is shown, what is refused."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sw2.catalog import Catalog
from sw2.core.tools import Tool
from sw2.faces.cli import VERBS, app
from sw2.verbs.tools import document_tool, imported

for _verb in VERBS:
    importlib.import_module(f"sw2.faces.cli.{_verb}_command")

MODULE = '''
def weather(city: str) -> str:
    """The weather."""
    if city == "Atlantis":
        raise KeyError(city)
    return "rain in " + city
'''
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "%s"}}</tool_call>'


def sw2(*arguments: object, text: str | None = None) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


@pytest.fixture
def script(make_script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program that writes from a script, and a module of functions in the working folder."""
    made = make_script(context=4000, chat=True)
    monkeypatch.setattr(Catalog, "program", lambda *_: made.program)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions_of_mine.py").write_text(MODULE)
    return made


def teach(script: Any, tools: list[Tool], *answers: str) -> None:
    """Let it write these one after the other, each after what came of the calls in the one before."""
    talker, prep = script.program.runtime, script.network.prep
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    schemas = [tool.schema for tool in tools]
    for answer in answers:
        end = prep.tokenizer.control["<|im_end|>"]
        before = talker.encode_conversation(messages, schemas)
        script.network.scripts.append([*before, *prep.tokenizer.encode(answer), end])
        messages += [talker.message_of(answer), *(talker.results_of(answer, tools) or [])]


def test_calls_are_run_and_shown(script: Any, tmp_path: Path) -> None:
    weather = imported("functions_of_mine:weather")
    teach(script, [weather], CALL % "Atlantis", CALL % "Bonn", "Take a coat.")
    greedy = ["--tool", "functions_of_mine:weather", "--temperature", 0]
    for arguments, text in ((["chat", "x"], "hello\n"), (["run", "x", "hello"], None)):
        done = sw2(*arguments, *greedy, text=text)
        assert done.exit_code == 0, done.stderr
        assert "\n[error: KeyError: 'Atlantis']\n" in done.stdout
        assert done.stdout.rstrip().endswith("\n[rain in Bonn]\nTake a coat.")
    told = json.loads(sw2("run", "x", "hello", "hello", *greedy, "--json").stdout)
    for answer in told["answers"]:
        assert (answer["text"], answer["finished"]) == ("Take a coat.", "end")
        assert [each["role"] for each in answer["messages"]] == ["assistant", "tool"] * 2 + ["assistant"]
    voted = sw2("run", "x", "hello", *greedy, "--votes", 2)
    assert voted.stdout == "Take a coat.\n", voted.stderr
    log = tmp_path / "log.jsonl"
    assert sw2("chat", "x", *greedy, "--log", log, text="hello\n").exit_code == 0
    assert json.loads(log.read_text())["tools"] == [weather.schema]


def test_documents_are_searched_when_the_model_calls_for_it(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "shed.md").write_text("The lock of the shed has the code 4711.\n")
    found = "shed.md:1\n> The lock of the shed has the code 4711."
    search = '<tool_call>{"name": "documents", "arguments": {"question": "code of the lock"}}</tool_call>'
    tool = document_tool(lambda question, count: ())
    teach(script, [Tool(tool.name, tool.description, tool.parameters, lambda _: found)], search, "It is 4711.")
    documents = ["--docs", "docs", "--embedder", "none", "--tool", "documents", "--temperature", 0]
    done = sw2("chat", "x", *documents, text="hello\n")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith(f"[{found}]\nIt is 4711.\n")


def test_what_cannot_be_called(script: Any) -> None:
    for arguments, says in (
        (["chat", "x", "--tool", "calculater"], "Did you mean 'calculator'?"),
        (["chat", "x", "--tool", "documents"], "no documents to search"),
        (["run", "x", "hello", "--tool", "documents"], "no documents to search"),
        (["serve", "x", "--tool", "documents"], "no documents to search"),
        (["chat", "x", "--tool", "functions_of_mine:wether"], "Did you mean 'weather'?"),
        (["run", "x", "hello", "--tool", "calculator", "--tool", "calculator"], "Two tools have one name"),
        (["run", "x", "hello", "--tool", "calculator", "--choice", "a"], "cannot call tools"),
        (["serve", "x", "--tool", "nowhere_of_mine:f"], "cannot be loaded"),
    ):
        refused = sw2(*arguments, text="hello\n")
        assert refused.exit_code == 2, (arguments, refused.output)
        assert says in refused.stderr
