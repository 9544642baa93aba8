"""The studio without a browser: what is drawn, who may look, what is never read or shown."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from sw2.base.errors import Sw2Error, UsageError
from sw2.catalog import catalog
from sw2.core.kinds import Kind
from sw2.core.program import Program
from sw2.core.run import Run
from sw2.core.task import Context, Score
from sw2.faces.cli import VERBS, app
from sw2.faces.server.app import Server, Settings
from sw2.faces.server.errors import ApiError
from sw2.faces.studio.app import studio
from sw2.faces.studio.chat_page import plain
from sw2.faces.studio.data_page import rows
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.fields import FIELDS, answer_of, field, question_of, raw_of, shown
from sw2.faces.studio.frame import PAGES
from sw2.faces.studio.look import fragment, stylesheet
from sw2.faces.studio.programs_page import cards
from sw2.faces.studio.runs_page import beside, overview
from sw2.faces.studio.sources import listed, sources_of
from sw2.faces.studio.sources import opened as opened_source
from sw2.faces.studio.wall import check_sent
from sw2.verbs.ask import Answered, Citation
from sw2.verbs.feedback import Verdict, pairs
from sw2.verbs.shelf import Shelf, Shelved, talkers
from sw2.verbs.show import open_data

EVIL = "<img src=x onerror=alert(1)>"


# -------------------------------------------------------------------------------------------------------------- fields


def test_every_kind_has_a_widget_and_a_look() -> None:
    values: Mapping[str, Any] = {
        "image": np.zeros((4, 4, 3), np.uint8),
        "text": "a text",
        "document": "a text",
        "label": "cat",
        "distribution": {"cat": 0.2, "dog": 0.8},
        "number": 0.25,
        "vector": [0.5, 1.0],
        "boolean": True,
        "record": {"a": [1, None]},
        "conversation": [{"role": "user", "content": "Hello"}],
    }
    assert set(FIELDS) == set(values)
    for name, value in values.items():
        assert "<" in shown(Kind(name), value)
        assert FIELDS[name]() is not None
    assert shown(Kind("distribution"), values["distribution"]).index("dog") < shown(
        Kind("distribution"), values["distribution"]
    ).index("cat")
    assert shown(Kind("image"), values["image"]).startswith('<img class="picture" alt="" src="data:image/png;base64,')


def test_what_stands_in_a_field_is_never_a_path(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of nobody's business")
    for text in (f"@{secret}", "-"):
        assert raw_of(Kind("text"), text) == text
        assert raw_of(Kind("document"), text) == text
        assert raw_of(Kind("label"), text) == text
        assert raw_of(Kind("conversation"), text) == [{"role": "user", "content": text}]
    assert raw_of(Kind("conversation"), '[{"role": "user", "content": "a"}]') == [{"role": "user", "content": "a"}]
    assert raw_of(Kind("document"), str(secret)) == str(secret)
    assert raw_of(Kind("boolean"), False) is False
    assert raw_of(Kind("number"), 3) == 3.0
    assert raw_of(Kind("record"), '{"a": 1}') == {"a": 1}
    for kind, value in (("record", "{"), ("distribution", "x"), ("text", ""), ("image", None)):
        with pytest.raises(Sw2Error):
            raw_of(Kind(kind), value)


def test_several_inputs_are_one_question() -> None:
    inputs = {
        "text": Kind("document"),
        "tone": Kind("label", options=("formal", "friendly"), default="formal"),
        "most": Kind("number", default=3, about="how many words"),
    }
    widgets = {name: field(name, kind, alone=False) for name, kind in inputs.items()}
    assert [each.label for each in widgets.values()] == ["text", "tone", "most"]
    assert [each.value for each in widgets.values()] == [None, "formal", 3]
    assert question_of(inputs, ["Hi!", "friendly", None]) == {"text": "Hi!", "tone": "friendly"}
    assert question_of({"text": Kind("text")}, ["Hi!"]) == "Hi!"
    for values, where in ((["", "formal", 1], "text"), (["Hi!", "rude", 1], "tone")):
        with pytest.raises(Sw2Error) as caught:
            question_of(inputs, values)
        assert caught.value.where == where


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_nothing_that_is_shown_is_html(kind: str) -> None:
    for value in (EVIL, {EVIL: EVIL}, [{"role": EVIL, "content": EVIL}], None, float("nan"), {"messages": 3}, b"x"):
        html = shown(Kind(kind), value)
        assert "<img src=x" not in html
    assert "<img" not in answer_of({EVIL: Kind("label")}, {EVIL: EVIL})


def test_nothing_that_is_shown_is_a_template() -> None:
    assert fragment("<p>${alert(1)} {{value}} `x`</p>") == (
        "<p>&#36;&#123;alert(1)} &#123;&#123;value}} &#96;x&#96;</p>"
    )


# --------------------------------------------------------------------------------------------------------------- pages


def _score(of: str, value: float) -> Score:
    return Score(name="accuracy", value=value, better="higher", examples=100, of=of)


def test_a_card_says_how_good_beside_what() -> None:
    sound = Shelved(
        name=f"cats{EVIL}",
        path=Path("cats"),
        id="1",
        task="toy",
        metric="accuracy",
        inputs={"image": Kind("image")},
        bytes=1_200_000,
        scores=(_score("program", 0.9), _score("chance", 0.1)),
        data="photos",
    )
    talks = Shelved(
        name="talks", path=Path("t"), id="2", task="chat", inputs={"m": Kind("conversation")},
        capabilities=("Chat", "Generate"),
    )  # fmt: skip
    broken = Shelved(name="broken", path=Path("b"), fault=f"no weights {EVIL}")
    shelf = Shelf(root=Path(), programs={each.name: each for each in (sound, talks, broken)})
    html = cards(shelf)
    assert "<b>accuracy 0.9</b> on 100 held-out examples, against 0.1 of the best baseline, chance" in html
    assert "Beats its baseline" in html
    assert "1.2 MB" in html
    assert "Not judged" in html
    assert "Damaged" in html
    assert "<img" not in html
    assert re.findall(r'data-act="(\w+)"', html) == ["use", "chat"]
    assert talkers(shelf) == ["talks"]
    assert "sw2 train" in cards(Shelf(root=Path()))


def write_run(path: Path, width: int, losses: list[float]) -> Path:
    """A run that learns."""
    run = Run.create(path, {"run": {"task": "toy"}, "model": {"width": width}})
    run.decide({"plan": {"total_steps": 100, "facts": {"unit": "pictures", "pictures_per_step": 8}}})
    for step, loss in enumerate(losses, 1):
        run.event("step", step, loss=loss)
    run.event("note", len(losses), text=EVIL)
    run.close()
    return path


def test_a_run_is_drawn_and_two_are_compared(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", 8, [3.0, 2.0, 1.5, 1.2])
    second = write_run(tmp_path / "second", 16, [3.0, 2.5, 2.0])
    html = overview("first", first, None, 0.0)
    assert 'id="run-state">learning' in html
    assert '<progress max="100" value="4"' in html
    assert "<figure" in html
    assert "<img src=x" not in html
    assert "may have been stopped" not in html
    assert "may have been stopped" in overview("first", first, None, 4e9)
    assert "/studio/report" not in html
    (first / "report.html").write_text("<p>all of it</p>")
    assert '/studio/report?run=a%26b"' in overview("a&b", first, None, 0.0)
    both = beside("first", first, "second", second)
    assert "model.width" in both
    assert "run.task" not in both
    assert both.count("<figure") == 1
    assert "Their settings are the same" in beside("first", first, "again", first)
    with pytest.raises(Sw2Error):
        overview("nothing", tmp_path / "nothing", None, 0.0)


def test_rows_are_shown_with_what_is_learned(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    rows_ = [
        {"messages": [{"role": "user", "content": f"{EVIL} {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
        for n in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, rows_)))
    opened = open_data(catalog(), str(path), Context())
    examples = opened.examples("train", 2, 3)
    html = rows(opened.task, examples, opened.masked(examples), 2)
    assert html.count('class="row"') == 3
    assert re.findall(r"<mark>(answer \d+)", html) == [e["messages"][-1]["content"] for e in examples]
    assert "<h3>2</h3>" in html
    assert "<img" not in html
    assert opened.examples("train", 10_000, 3) == []


@dataclass(frozen=True)
class Piece:
    """A passage of a document."""

    id: int
    text: str
    first: int = 1
    last: int = 2
    path: str = "notes/a.md"
    unit: str = "line"
    headings: tuple[str, ...] = (EVIL, "Sheds")
    score: float = 1.0
    cosine: float | None = None


def test_a_source_opens_its_passage_with_the_quoted_words_marked() -> None:
    passage = Piece(7, f"The shed's\nlock has {EVIL} the code 4711. It is old.")
    quote = f"The shed's lock has {EVIL} the code 4711."
    citation = Citation("notes/a.md:1", "notes/a.md", "line", 1, quote, 1.0)
    elsewhere = Citation("notes/b.md:9", "notes/b.md", "line", 9, "Nothing.", 1.0)
    answered = Answered(text="4711", refused=False, citations=[citation, elsewhere], given=[passage])
    (source,) = sources_of(answered)
    buttons = listed([source], 3)
    assert 'data-answer="3" data-source="0"' in buttons
    assert listed([], 3) == ""
    html = opened_source(source, [Piece(6, "Before."), passage, Piece(8, EVIL, 3, 4)])
    assert "<mark>The shed&#x27;s\nlock has &lt;img" in html
    assert "code 4711.</mark> It is old." in html
    assert "lines 1 to 4" in html
    assert "<img" not in html + buttons
    assert "has changed since" not in html
    assert "has changed since" in opened_source(source, [])


# ---------------------------------------------------------------------------------------------------------- the server


@pytest.fixture
def shelf(tmp_path: Path, random_program: Program) -> Path:
    root = tmp_path / "shelf"
    random_program.save(root / "talker")
    write_run(root / "learning", 8, [3.0, 2.0])
    (root / "learning" / "report.html").write_text("<p>all of it</p>")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "report.html").write_text("of nobody's business")
    return root


@pytest.fixture
def opened(shelf: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(**settings: Any) -> Server:
        server = studio(shelf, catalog(), Settings(pages=PAGES, **settings), lambda *_: None, shelf / "feedback.jsonl")
        made.append(server)
        return server

    yield start
    for each in made:
        each.close()


def ask(server: Server, method: str, path: str, **options: Any) -> httpx2.Response:
    async def once() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=server)
        base = options.pop("base", "http://127.0.0.1:7860")
        async with httpx2.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **options)

    return asyncio.run(once())


def test_the_page_names_no_other_host(opened: Callable[..., Server]) -> None:
    server = opened()
    assert ask(server, "GET", "/").headers["location"] == "/studio/"
    page = ask(server, "GET", "/studio/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    # What the page loads by itself: scripts, styles, fonts. (Words about addresses stand in its description.)
    for tag in re.findall(r"<(?:link|script|img)[^>]*>", page.text):
        assert not re.search(r'(?:href|src)="(?:https?:)?//', tag), tag
    assert "http" not in stylesheet().replace("http://www.w3.org/2000/svg", "")
    theme = ask(server, "GET", "/studio/theme.css").text
    assert "font-face" not in theme
    assert "@import" not in theme
    assert all(inside.lstrip("\"'").startswith("data:") for inside in re.findall(r"url\(([^)]*)", theme))
    assert ask(server, "GET", "/studio/style.css").headers["content-type"].startswith("text/css")


def test_pages_from_elsewhere_are_refused(opened: Callable[..., Server]) -> None:
    server = opened()
    assert ask(server, "GET", "/studio/", base="http://evil.example:7860").status_code == 403
    for origin, status in (("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:7860", 200)):
        answer = ask(server, "GET", "/studio/", headers={"origin": origin})
        assert answer.status_code == status, origin


def test_nothing_outside_the_folder_is_read(opened: Callable[..., Server], tmp_path: Path) -> None:
    server = opened()
    report = ask(server, "GET", "/studio/report", params={"run": "learning"})
    assert report.text == "<p>all of it</p>"
    assert report.headers["content-security-policy"].endswith("sandbox")
    for name in ("../secret", "secret", str(tmp_path / "secret"), "", "learning/../../secret"):
        answer = ask(server, "GET", "/studio/report", params={"run": name})
        assert answer.status_code in (400, 404), name
        assert "nobody's business" not in answer.text
    for path in (tmp_path / "secret" / "report.html", "/etc/passwd"):
        answer = ask(server, "GET", f"/studio/gradio_api/file={path}")
        assert answer.status_code in (403, 404)


@pytest.mark.parametrize(
    "value",
    [
        {"path": "SECRET", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://elsewhere.example/x.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "UPLOADS/../SECRET", "meta": {"_type": "gradio.FileData"}},
        {"path": ["a"]},
        {"type": "component", "component": "image", "value": {"path": "SECRET"}, "constructor_args": {}, "props": {}},
        {"type": "component", "component": "textbox", "value": "a", "constructor_args": {}, "props": {}},
    ],
)
def test_a_message_names_no_file_and_no_address(opened: Callable[..., Server], shelf: Path, value: Any) -> None:
    secret = shelf.parent / "secret" / "report.html"
    server = opened()
    uploads = server.routes.state.uploads.name
    text = json.dumps(value).replace("SECRET", str(secret)).replace("UPLOADS", uploads)
    for data in (
        [json.loads(text)],
        ["hello", [{"role": "user", "content": [{"type": "file", "file": json.loads(text)}]}]],
    ):
        for path in ("run/predict", "queue/join", "api/predict", "call/predict"):
            body = {"data": data, "fn_index": 0, "session_hash": "s"}
            answer = ask(server, "POST", f"/studio/gradio_api/{path}", json=body)
            assert answer.status_code == 400, (path, answer.text)
            assert answer.json()["error"]["code"] in ("foreign_file", "foreign_message")
    assert not [path for path in Path(uploads).rglob("*") if path.is_file()]


def test_what_was_uploaded_can_be_named(tmp_path: Path) -> None:
    check_sent({"data": [{"path": str(tmp_path / "a" / "cat.png")}, "/etc/passwd", None, 3]}, tmp_path)
    (tmp_path / "out").symlink_to("/etc")
    with pytest.raises(ApiError, match="uploaded to this page"):
        check_sent([{"path": str(tmp_path / "out" / "passwd")}], tmp_path)


def test_a_key_opens_the_page(opened: Callable[..., Server]) -> None:
    key = "k" * 32
    server = opened(keys=[key])
    html = {"accept": "text/html"}
    assert ask(server, "GET", "/studio/").status_code == 401
    assert ask(server, "GET", "/studio/style.css").status_code == 401
    led = ask(server, "GET", "/studio/", headers=html)
    assert (led.status_code, led.headers["location"]) == (303, "/login")
    form = ask(server, "GET", "/login")
    assert 'type="password"' in form.text or "type='password'" in form.text
    wrong = ask(server, "POST", "/login", data={"key": "x" * 32})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    right = ask(server, "POST", "/login", data={"key": key})
    cookie = right.headers["set-cookie"]
    assert right.status_code == 303
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert key not in cookie
    named = {"cookie": cookie.partition(";")[0]}
    assert ask(server, "GET", "/studio/", headers=named).status_code == 200
    assert ask(server, "GET", "/v1/models", headers=named).status_code == 401  # a browser's cookie is the page's alone
    assert ask(server, "GET", "/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
    elsewhere = ask(server, "POST", "/login", data={"key": key}, headers={"origin": "http://evil.example"})
    assert elsewhere.status_code == 403


def test_what_is_opened_is_served_and_judged(shelf: Path) -> None:
    server = Server({}, Settings())
    desk = Desk(shelf, catalog(), server, shelf / "feedback.jsonl")
    found = desk.shelf().program("talker")

    async def twice() -> bool:
        first, second = await asyncio.gather(desk.opened(found), desk.opened(found))
        return first is second

    with contextlib.closing(server):
        assert asyncio.run(twice())
        (model,) = ask(server, "GET", "/v1/models").json()["data"]
        assert model["id"] == "talker"
        talk = plain([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "worse"}], None)
        desk.judge(talk, found.id, Verdict(thumb="down"))
        desk.judge(talk, found.id, Verdict(edit="better"))
    (pair,) = pairs(shelf / "feedback.jsonl").pairs
    assert pair["messages"][-1]["content"] == "better"
    assert pair["rejected"]["content"] == "worse"
    (shelf / "other.jsonl").write_text("a letter\n")
    with pytest.raises(UsageError, match="no log of conversations"):
        Desk(shelf, catalog(), server, shelf / "other.jsonl")


def test_what_is_refused_before_anything_is_served(shelf: Path, tmp_path: Path) -> None:
    for verb in VERBS:
        importlib.import_module(f"sw2.faces.cli.{verb}_command")

    def refused(*arguments: Any, says: str) -> None:
        result = CliRunner().invoke(app, ["studio", *map(str, arguments)])
        assert result.exit_code in (1, 2), result.output
        assert says in result.stderr
        assert "Traceback" not in result.stderr

    refused(shelf, "--host", "0.0.0.0", says="would answer everybody")
    refused(shelf, "--key", "short", says="can be guessed")
    refused(tmp_path / "nothing", "--port", 0, says="no such folder")
    refused(shelf, "--as", "anna", says="Without documents")
    refused(shelf, "--docs", tmp_path / "nothing", "--embedder", "none", says="no folder of documents")
    refused(shelf, "--docs", shelf, "--as", "anna", "--key", "k" * 32, says="known by their key")
    (tmp_path / "letter").write_text("a letter\n")
    refused(shelf, "--port", 0, "--feedback", tmp_path / "letter", says="no log of conversations")
