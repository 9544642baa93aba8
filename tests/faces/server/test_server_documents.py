"""Chats answered from documents: sources, who may read what, what a request may say, and the index behind it all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sw2.base.errors import SessionError
from sw2.catalog import catalog
from sw2.core.documents import Documents
from sw2.core.program import Program
from sw2.faces.server.keys import NOBODY
from sw2.testing.toys import NoPrep, WordCounter
from sw2.verbs.ask import REFUSAL, AskConfig, ask, look

pytest.importorskip("usearch")

CHAT = "/v1/chat/completions"
ANNA, OTTO = "a" * 32, "o" * 32
FILES = {
    "vaults.md": "# Vaults\n\nThe access code of the Marlow vault is BK-4711.\n\nVisitors wipe their shoes.\n",
    "hr/pay.md": "# Pay\n\nThe yearly salary of Ines Dolfen is 81,500 euros.\n",
    ".sw2-owners.toml": '[owners]\n"hr/*" = ["anna"]\n',
}
CODE = "What is the access code of the Marlow vault?"
PAY = "What is the yearly salary of Ines Dolfen?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    return tmp_path / "docs"


@pytest.fixture
def documents(folder: Path) -> Iterator[Documents]:
    with catalog().documents(folder, folder.parent / "index") as opened:
        yield opened


@pytest.fixture
def by_meaning(folder: Path) -> Iterator[Documents]:
    embedder = Program.assemble(
        task=type("Toy", (), {"name": "words"})(), runtime=WordCounter, nets={}, prep=NoPrep(), provider={}
    )
    with catalog().documents(folder, folder.parent / "index", embedder) as opened:
        yield opened


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def library(serve: Any, make_script: Callable[..., Any]) -> Callable[..., Any]:
    """A server with a script and documents that were read."""

    def start(documents: Documents, **settings: Any) -> Any:
        script = make_script()
        asked = serve({"script": script.program}, documents=documents, **settings)
        asked.script = script
        until(lambda: asked("GET", "/readyz").status_code == 200)
        return asked

    return start


def teach(asked: Any, documents: Documents, question: str, answer: str, **how: Any) -> None:
    """Let the script write this where it is given what the documents say to a question."""
    _, (*before, last) = next(look(documents, question, **how).prompts(how.get("history", ())))
    asked.script.teach(last["content"], answer, before=before)


def say(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "script", "messages": [{"role": "user", "content": question}], **more}


def events(response: httpx2.Response) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n")[:-2]]


def test_an_answer_comes_with_its_sources_whole_and_streamed(library: Any, documents: Documents) -> None:
    asked = library(documents)
    teach(asked, documents, CODE, "The code is BK-4711.")
    wanted = ask(asked.script.program, documents, CODE)
    answer = asked.post(CHAT, **say(CODE)).json()
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == wanted.text == "The code is BK-4711."
    assert choice["message"]["sources"] == [each.to_json() for each in wanted.citations]
    assert choice["message"]["sources"] == [
        {
            "place": "vaults.md:3",
            "path": "vaults.md",
            "unit": "line",
            "position": 3,
            "quote": "The access code of the Marlow vault is BK-4711.",
            "score": pytest.approx(1.0),
        }
    ]
    assert (choice["finish_reason"], answer["usage"]["completion_tokens"] > 3) == ("stop", True)
    chunks = events(asked.post(CHAT, **say(CODE, stream=True, n=2, stream_options={"include_usage": True})))
    assert chunks.pop()["usage"]["completion_tokens"] == 2 * answer["usage"]["completion_tokens"]
    for number in (0, 1):
        mine = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == number]
        assert "".join(each["delta"].get("content") or "" for each in mine) == wanted.text
        assert [each["delta"]["sources"] for each in mine if "sources" in each["delta"]] == [
            choice["message"]["sources"]
        ]
        assert mine[-1]["finish_reason"] == "stop"
    # What goes back as a client has it is a conversation like any other.
    more = [{"role": "user", "content": CODE}, choice["message"], {"role": "user", "content": "And of the Wexler?"}]
    assert asked.post(CHAT, model="script", messages=more).json()["choices"][0]["message"]["content"] == REFUSAL


def test_what_the_documents_do_not_say(library: Any, documents: Documents) -> None:
    asked = library(documents)
    answer = asked.post(CHAT, **say("How do birds find their way south?", n=2)).json()
    assert [each["message"] for each in answer["choices"]] == [
        {"role": "assistant", "content": REFUSAL, "sources": []}
    ] * 2
    assert answer["usage"]["total_tokens"] == 0
    assert asked.script.network.steps == 0, "nothing is written"
    (chunks,) = [events(asked.post(CHAT, **say("How do birds find their way south?", stream=True)))]
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks) == REFUSAL
    # The script writes x and x: that stands nowhere, and the nearest sentence is quoted instead.
    (choice,) = asked.post(CHAT, **say(CODE, max_tokens=4)).json()["choices"]
    assert choice["message"]["content"] == choice["message"]["sources"][0]["quote"]
    assert choice["finish_reason"] == "stop"
    teach(asked, documents, CODE, "The code is BK-4711, and so on.")
    tokens = len(asked.script.network.prep.tokenizer.encode("The code is BK-4711,"))
    (choice,) = asked.post(CHAT, **say(CODE, max_tokens=tokens)).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The code is BK-4711,", "length")
    metrics = asked("GET", "/metrics").text
    for how, count in (("answered", 1), ("quoted", 1), ("refused", 3)):
        assert f'sw2_documents_answers_total{{how="{how}",model="script"}} {count}.0' in metrics


@pytest.mark.parametrize("meaning", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_key_gets_no_passage_that_it_may_not_read(
    library: Any, documents: Documents, by_meaning: Documents, meaning: bool, stream: bool
) -> None:
    used = by_meaning if meaning else documents
    asked = library(used, keys=[ANNA, OTTO], names={ANNA: ["anna"]})
    until(lambda: asked("GET", "/healthz").json()["documents"] == "ready")
    teach(asked, used, PAY, "It is 81,500 euros.", owners=["anna"])

    def answer(key: str, question: str, **more: Any) -> str:
        said = asked(
            "POST", CHAT, json=say(question, stream=stream, **more), headers={"authorization": f"Bearer {key}"}
        )
        assert said.status_code == 200
        return str(said.text)

    allowed = answer(ANNA, PAY)
    assert "It is 81,500 euros." in allowed
    assert "hr/pay.md:3" in allowed
    questions = [PAY, "salary", "yearly salary 81,500 euros hr/pay.md", "What is the Pay of Ines Dolfen in hr?"]
    for question in questions:
        for more in ({}, {"documents": {"passages": 12}}, {"documents": True, "n": 3}, {"user": "anna"}):
            for body in (answer(OTTO, question, **more), answer(OTTO, CODE + " " + question, **more)):
                assert "81,500" not in body.replace(question, "")
                assert "hr/pay" not in body
                assert "Dolfen is" not in body
    assert "vaults.md:3" in answer(OTTO, CODE), "what has no owner is everybody's"
    assert REFUSAL in answer(OTTO, PAY)


def test_without_keys_the_person_at_the_machine_says_who_it_is(
    library: Any, documents: Documents, folder: Path
) -> None:
    assert REFUSAL in library(documents).post(CHAT, **say(PAY)).text
    with catalog().documents(folder, folder.parent / "index") as again:
        assert "hr/pay.md:3" in library(again, names={NOBODY: ["anna"]}).post(CHAT, **say(PAY)).text


def test_a_request_switches_documents_off_or_limits_them(library: Any, documents: Documents, folder: Path) -> None:
    (folder / "other.md").write_text("# Marlow\n\nThe access code of the Marlow vault was changed in May.\n")
    asked = library(documents)
    asked.script.teach(CODE, "I do not know.")
    (choice,) = asked.post(CHAT, **say(CODE, documents=False, temperature=0)).json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "I do not know."}
    for passages in (1, 2):
        teach(asked, documents, CODE, f"The code is BK-4711. {'It was changed.' * passages}",
              config=AskConfig(passages=passages))  # fmt: skip
    one = asked.post(CHAT, **say(CODE, documents={"passages": 1})).json()["usage"]["prompt_tokens"]
    assert one < asked.post(CHAT, **say(CODE)).json()["usage"]["prompt_tokens"]
    tools = [{"type": "function", "function": {"name": "weather"}}]
    before = [{"role": "system", "content": "Be brief."}]
    for more, param in (
        ({"tools": tools}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": tools, "tool_choice": "none", "logprobs": True}, "logprobs"),
        ({"messages": [*before, {"role": "user", "content": CODE}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": CODE}, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
    ):
        refused = asked.post(CHAT, **{**say(CODE), **more})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param
        assert "documents: false" in refused.json()["error"]["message"]
        assert asked.post(CHAT, **{**say(CODE, max_tokens=2, documents=False), **more}).status_code == 200, "but so"
    required = asked.post(CHAT, **say(CODE, tool_choice="required"))
    assert (required.status_code, required.json()["error"]["param"]) == (400, "tool_choice")
    for wrong in ({"passages": 0}, {"passages": 13}, {"pages": 1}, 1, "no", []):
        refused = asked.post(CHAT, **say(CODE, documents=wrong))
        assert refused.status_code == 400
        assert refused.json()["error"]["param"].startswith("documents")
    assert asked.post(CHAT, **say(" ")).status_code == 400


def test_a_server_without_documents(serve: Any, random_program: Program) -> None:
    asked = serve({"random": random_program})
    body = {"model": "random", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    for use in (True, {"passages": 1}):
        refused = asked.post(CHAT, **body, documents=use)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "documents")
    assert asked.post(CHAT, **body, documents=False).status_code == 200
    assert asked("GET", "/healthz").json() == {"status": "ok"}
    assert "documents" not in asked("GET", "/metrics").text


def test_the_index_is_kept_up_to_date_behind_the_requests(library: Any, documents: Documents, folder: Path) -> None:
    asked = library(documents, refresh_seconds=0.05)
    told = [line for line in asked.lines if line["event"] == "documents"]
    assert told[0]["said"][0].startswith("2 files, 2 passages: 2 new")
    question = "What is the access code of the Tarnow ferry?"
    assert REFUSAL in asked.post(CHAT, **say(question)).text
    (folder / "ferry.md").write_text("The access code of the Tarnow ferry is QX-9.\n")
    until(lambda: "QX-9" in asked.post(CHAT, **say(question)).text)
    (folder / ".sw2-owners.toml").write_text('[owners]\n"*" = ["anna"]\n')
    until(lambda: REFUSAL in asked.post(CHAT, **say(question)).text)
    (folder / ".sw2-owners.toml").write_text("[owners\n")
    until(lambda: asked("GET", "/healthz").json() == {"status": "ok", "documents": "failed"})
    assert asked("GET", "/readyz").status_code == 200, "what is known is answered from"
    warned = [line for line in asked.lines if line.get("level") == "warning"]
    assert "cannot be read, so nothing was changed" in warned[0]["said"]
    assert REFUSAL in asked.post(CHAT, **say(question)).text, "and nothing is opened"
    (folder / ".sw2-owners.toml").write_text("[owners]\n")
    until(lambda: "QX-9" in asked.post(CHAT, **say(question)).text)
    until(lambda: asked("GET", "/healthz").json()["documents"] == "ready")
    metrics = asked("GET", "/metrics").text
    assert "sw2_documents_files 3.0" in metrics
    assert 'sw2_documents_refreshes_total{result="failed"}' in metrics


def test_a_damaged_index_is_a_fault_whose_place_is_not_told(
    library: Any, documents: Documents, monkeypatch: Any
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise SessionError("The index is damaged.", where="/a/secret/path", wanted="", got="", do="")

    asked = library(documents)
    monkeypatch.setattr(documents, "search", fails)
    answer = asked.post(CHAT, **say(CODE))
    assert answer.status_code == 500
    assert "The index is damaged." in answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert [line["error"] for line in asked.lines if line["event"] == "fault"] == ["SessionError"]


def test_nothing_is_answered_from_an_index_of_before(
    serve: Any, make_script: Callable[..., Any], documents: Documents, monkeypatch: Any
) -> None:
    """It may hold what others owned since; the folder that is gone is a refresh that fails."""
    documents.refresh()

    def fails() -> None:
        raise SessionError("Another refresh goes on.", where="/a/secret/path", wanted="", got="", do="")

    monkeypatch.setattr(documents, "refresh", fails)
    asked = serve({"script": make_script().program}, documents=documents)
    until(lambda: asked("GET", "/healthz").json()["documents"] == "failed")
    answer = asked.post(CHAT, **say(CODE))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "documents_not_ready")
    assert answer.headers["retry-after"]
    assert "secret" not in answer.text
    assert asked("GET", "/readyz").status_code == 503
    assert asked.post(CHAT, **say("x", documents=False, max_tokens=2)).status_code == 200


def test_a_prompt_that_fits_is_taken(serve: Any, make_script: Callable[..., Any], documents: Documents) -> None:
    """In a context without room for what was said before, and in one without room for anything."""
    documents.refresh()
    talk = [{"role": "user", "content": CODE + " " + "hello" * 200}, {"role": "assistant", "content": "x"}]
    question = {"role": "user", "content": CODE}
    (_, longer), (_, shorter) = look(documents, CODE, history=talk).prompts(talk)
    for less, status in ((longer, 200), (shorter, 400)):
        probe = make_script().program.runtime
        size = len(probe.encode_conversation(less))
        script = make_script(context=size)
        asked = serve({"script": script.program}, documents=documents)
        until(lambda asked=asked: asked("GET", "/readyz").status_code == 200)
        answer = asked.post(CHAT, model="script", messages=[*talk, question], max_tokens=3)
        assert answer.status_code == status, answer.text
        if status == 400:
            assert answer.json()["error"]["code"] == "context_length_exceeded"
