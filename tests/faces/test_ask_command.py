"""`sw2 ask` and `sw2 chat --docs`: what they say about the folder, what they print, what they refuse."""

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


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that chats, after a step."""
    folder = tmp_path_factory.mktemp("program")
    talks = folder / "talks.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
        for n in range(20)
    ]
    talks.write_text("\n".join(map(json.dumps, rows)))
    small = ["--set", "model.depth=1", "--set", "model.context=768", "--set", "data.test_share=0"]
    done = sw2("train", "chat", talks, "--preset", "tiny", "--steps", 1, "--out", folder / "run", *small)
    assert done.exit_code == 0, done.stderr
    return folder / "run"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "notes.md").write_text("# Shed\n\nThe lock of the shed has the code 4711.\nIt was painted in 2019.\n")
    return folder


QUESTION = "Which code has the lock of the shed?"


def test_the_folder_is_read_and_the_place_is_named(program: Path, docs: Path, own_home: Path) -> None:
    asked = sw2("ask", program, QUESTION, "--docs", docs, "--embedder", "none")
    assert asked.exit_code == 0, asked.stderr
    assert "1 file, 1 passages: 1 new" in asked.stderr
    assert asked.stdout == "“The lock of the shed has the code 4711.”\n  notes.md:3\n"
    assert list((own_home / "documents").iterdir())
    again = sw2("ask", program, QUESTION, "--docs", docs, "--embedder", "none", "--json")
    assert "nothing changed" in again.stderr
    said = json.loads(again.stdout)
    assert said["citations"] == [
        {
            "place": "notes.md:3",
            "path": "notes.md",
            "unit": "line",
            "position": 3,
            "quote": "The lock of the shed has the code 4711.",
            "score": pytest.approx(1.0),
        }
    ]
    assert (said["refused"], said["quoted"]) == (False, True)
    assert [each["place"] for each in said["passages"]] == ["notes.md:1"]
    nothing = sw2("ask", program, "Who won the Olympic games of Tarnow?", "--docs", docs, "--embedder", "none")
    assert nothing.stdout == "The documents do not say.\n"


def test_without_consent_words_have_to_do_and_that_is_said(
    program: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sw2.base.packages.PackagedFile._installed", lambda _: None)
    asked = sw2("ask", program, QUESTION, "--docs", docs, "--index", tmp_path / "index", "--offline")
    assert asked.exit_code == 0
    assert "documents are searched by words alone. all-MiniLM-L6-v2 was not fetched." in asked.stderr
    assert (tmp_path / "index" / "index.sqlite").exists()
    named = sw2("ask", program, QUESTION, "--docs", docs, "--embedder", "all-minilm-l6-v2", "--offline")
    assert named.exit_code == 2


def test_a_conversation_about_documents(program: Path, docs: Path) -> None:
    said = f"{QUESTION}\nWho won the Olympic games of Tarnow?\n/reset\n"
    talked = sw2("chat", program, "--docs", docs, "--embedder", "none", "--json", text=said)
    assert talked.exit_code == 0, talked.stderr
    found = json.loads(talked.stdout)
    assert [each["refused"] for each in found["answers"]] == [False, True]
    shown = sw2("chat", program, "--docs", docs, "--embedder", "none", text=f"{QUESTION}\n")
    assert "  notes.md:3\n" in shown.stdout


def test_what_does_not_go_together_is_refused(program: Path, docs: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (["chat", program, "--docs", docs, "--system", "x"], "a prompt and a form of their own"),
        (["chat", program, "--docs", docs, "--tool", "calculator"], "a prompt and a form of their own"),
        (["chat", program, "--as", "anna"], "would have no effect"),
        (["ask", program, " ", "--docs", docs, "--embedder", "none"], "There is no question"),
        (["ask", program, QUESTION, "--docs", docs, "--embedder", program], "cannot 'Embed'"),
        (["ask", program, QUESTION, "--docs", tmp_path / "nowhere", "--embedder", "none"], "no folder of documents"),
    ):
        refused = sw2(*arguments, text="hello\n")
        assert refused.exit_code in (1, 2)
        assert says in refused.stderr
