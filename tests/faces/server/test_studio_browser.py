"""The studio in a real browser, headless and with its network cut.

Every page is opened, a chat is streamed and stopped, asked again and judged, a picture is classified, a run is watched
while it learns. The programs are toys: one writes from a script as slowly as it is told to, one measures brightness.

Screenshots at the width of a desk and of a phone, light and dark, are kept in build/screenshots. The browser is the
system's (Debian's package chromium); without one the test is skipped.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.run import Run
from sw2.faces.server.app import Settings
from sw2.faces.studio.app import PAGES, studio
from sw2.testing.toys import NoPrep

SHOTS = Path(__file__).resolve().parents[3] / "build" / "screenshots"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CUT = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
EVIL = "<img src=x onerror=\"document.title='owned'\"> <b>a</b> ![x](http://elsewhere.example/x.png) ${1+1} {{value}}"

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.timeout(900),
    # Gradio opens an uploaded picture to see what it is, and leaves the closing to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Toys:
    """The catalogue, in which the programs of two folders are toys."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self._programs = programs
        self._toy = programs["bright"]

    def __getattr__(self, name: str) -> Any:
        return getattr(catalog(), name)

    def task(self, name: str) -> Any:
        return self._toy.task if name == "brightness" else catalog().task(name)

    def runtime_class(self, name: str) -> Any:
        return type(self._toy.runtime) if name == "brightness" else catalog().runtime_class(name)

    def program(self, name: str, context: Any) -> Program:
        del context
        return self._programs[Path(name).name]


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where this process, the server's, tried to connect to beside this machine."""
    tried: list[Any] = []
    connect = socket.socket.connect

    def told(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            tried.append(address)
            raise OSError("the network is cut")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", told)
    return tried


@pytest.fixture
def desk(
    tmp_path: Path, random_program: Program, make_script: Callable[..., Any], toys: Mapping[str, Program]
) -> Iterator[Any]:
    """A studio that is served: its address, its folder, and the script that its chat writes from."""
    root = tmp_path / "shelf"
    random_program.save(root / "talker")
    task: Any = SimpleNamespace(**vars(type(toys["brightness"].task)), metric="accuracy")
    bright = Program.assemble(
        task=task,
        runtime=type(toys["brightness"].runtime),
        nets={},
        prep=NoPrep(),
        provider={"name": "toys", "distribution": "sw2", "version": "0"},
    )
    bright.save(root / "bright")
    (root / "talks.jsonl").write_text(
        "\n".join(
            json.dumps(
                {"messages": [{"role": "user", "content": f"{EVIL} {n}"}, {"role": "assistant", "content": "yes"}]}
            )
            for n in range(20)
        )
    )
    run = Run.create(root / "learning", {"run": {"task": "toy"}, "model": {"width": 8}})
    run.decide({"plan": {"total_steps": 40, "facts": {"unit": "pictures", "pictures_per_step": 8}}})
    script = make_script(slots=4, seconds=0.4)
    script.teach("hello", "world")
    registry: Any = Toys({"talker": script.program, "bright": bright})
    server = studio(root, registry, Settings(slots=4, pages=PAGES), lambda *_: None, root / "feedback.jsonl")
    listening = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(
        uvicorn.Config(server, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve(sockets=[listening])), daemon=True)
    thread.start()
    yield SimpleNamespace(
        address=f"http://127.0.0.1:{listening.getsockname()[1]}", root=root, run=run, script=script, thread=thread
    )
    serving.should_exit = True
    thread.join(60)
    server.close()
    run.close()
    listening.close()


@pytest.fixture
def page(desk: Any) -> Iterator[Page]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=[*FLAGS, "--disable-sync", f"--host-resolver-rules={CUT}"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        expect.set_options(timeout=120_000)
        yield page
        browser.close()


def shoot(page: Page, name: str) -> None:
    """Keep the page as it looks on a desk and on a phone; nothing may be wider than the phone."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=SHOTS / f"{name}-phone.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_every_page_with_the_network_cut(desk: Any, page: Page, outside: list[Any]) -> None:
    asked: list[Any] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request))
    page.on("pageerror", lambda error: faults.append(str(error)))

    # Programs: by the keyboard alone up to the form, then a picture.
    page.goto(desk.address + "/")
    expect(page.locator(".card")).to_have_count(2)
    shoot(page, "programs")
    page.locator("button[data-program=bright]").focus()
    page.keyboard.press("Enter")
    file = io.BytesIO()
    Image.new("L", (8, 8), 250).save(file, "png")
    page.locator("#form input[type=file]").set_input_files(
        {"name": "white.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    expect(page.locator("#form img").first).to_be_visible()
    page.locator("#ask").click()
    expect(page.locator("#answer .label")).to_have_text("bright")
    expect(page.locator("#answer .bars li").first).to_contain_text("98.0%")
    shoot(page, "picture")

    # Chat: a stream that is stopped, which frees its slot; an answer; a thumb; the same again.
    page.locator("button[data-program=talker]").click()
    said = page.locator("#said textarea")
    said.fill(EVIL)
    said.press("Enter")
    expect(page.locator("#talk .message.bot")).to_contain_text("xxx")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    deadline = time.monotonic() + 60
    while True:
        before = desk.script.network.steps
        time.sleep(1)
        if desk.script.network.steps == before:
            break
        assert time.monotonic() < deadline, "it still writes"
    assert before < 500
    assert EVIL in page.locator("#talk .message.user").inner_text()
    assert page.locator("#talk .message.user img, #talk .message.user b").count() == 0
    desk.script.network.seconds = 0.0
    page.locator("#chat-new").click()
    expect(page.locator("#talk .message")).to_have_count(0)
    said.fill("hello")
    said.press("Enter")
    expect(page.locator("#talk .message.bot")).to_have_text("world")
    page.get_by_role("button", name="Dislike").click()
    expect(page.locator("#chat-note")).to_contain_text("feedback.jsonl")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("#talk .message.bot")).to_have_text("world")
    shoot(page, "chat")
    (line,) = map(json.loads, (desk.root / "feedback.jsonl").read_text().splitlines())
    assert [each["content"] for each in line["messages"]] == ["hello", "world"]
    assert line["thumb"] == "down"

    # As Markdown the address in a text is an address, and is still not asked.
    page.locator("#chat-settings button").first.click()
    page.locator("#chat-markdown input").check()
    with page.expect_event("requestfailed", lambda request: "elsewhere.example" in request.url) as failed:
        said.fill(EVIL)
        said.press("Enter")
    assert failed.value.failure == "csp"

    # Runs: one that learns while it is looked at.
    for step in range(1, 11):
        desk.run.event("step", step, loss=3 / step)
    tab(page, "Runs")
    step_tile = page.locator("#run-view .tiles dd").first
    expect(step_tile).to_contain_text("10")
    expect(page.locator("#run-state")).to_have_text("learning")
    for step in range(11, 41):
        desk.run.event("step", step, loss=3 / step)
    expect(step_tile).to_contain_text("40")
    expect(page.locator("#run-view figure").first).to_be_visible()
    shoot(page, "runs")
    desk.run.decide({"finished": True})
    expect(page.locator("#run-state")).to_have_text("finished")

    # Data: what is learned of a text, in the dark; a path that leads out.
    page.emulate_media(color_scheme="dark")
    tab(page, "Data")
    source = page.locator("#source textarea, #source input")
    source.fill("talks.jsonl")
    page.locator("#show-data").click()
    expect(page.locator("#rows mark").nth(1)).to_contain_text("yes")
    shoot(page, "data-dark")
    source.fill("../../etc/passwd")
    page.locator("#show-data").click()
    expect(page.locator("#rows .fault")).to_contain_text("leads out of the folder")

    assert page.title() == "sw2 studio · shelf"
    assert faults == []
    here = desk.address.removeprefix("http://")
    hosts = {request.url.split("/")[2] for request in asked if request.url.startswith("http") and not request.failure}
    assert hosts == {here}
    assert {request.failure for request in asked if here not in request.url and request.url.startswith("http")} == {
        "csp"
    }
    assert outside == []
