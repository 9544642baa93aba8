"""The studio, and the page of `sw2 label serve`, in a real browser, headless and with its network cut.

Every page is opened; a chat is streamed and stopped, asked again and judged; a document is asked and its source opened;
a picture is classified; a prompt is changed, tested, compared and kept; a run is watched while it learns, and held
against another. The programs are toys: one writes from a script as slowly as it is told to, one measures brightness.
Pictures are labelled by keys alone, by two people in two tabs, who differ and decide.

Screenshots at the width of a desk and of a phone, light and dark, are kept in build/screenshots. The browser is the
system's (Debian's package chromium); without one the test is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.run import Run
from sw2.core.task import Context
from sw2.domains.prompts.file import read_prompt
from sw2.faces.server.app import Server, Settings
from sw2.faces.studio.app import studio
from sw2.faces.studio.frame import PAGES
from sw2.faces.studio.label_page import label_studio
from sw2.testing.toys import NoPrep
from sw2.verbs.ask import REFUSAL, look
from sw2.verbs.labelling import Labelling, open_labelling

SHOTS = Path(__file__).resolve().parents[3] / "build" / "screenshots"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CUT = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
EVIL = "<img src=x onerror=\"document.title='owned'\"> <b>a</b> ![x](http://elsewhere.example/x.png) ${1+1} {{value}}"
CODE = "What is the access code of the Marlow vault?"
VAULTS = f"""# Vaults

The access code of the Marlow vault is BK-4711. It is changed in May.

## Visitors

Visitors wipe their shoes. {EVIL}
"""
MOOD = """+++
about = "Says whether a text is good or bad."
program = "talker"
inputs.text = "text"

[writing]
max_tokens = 8

[[tests]]
text = "Fine!"
expect = "good"

[[tests]]
text = "Awful!"
expect = "bad"
+++ user
Good or bad?
{{ text }}
"""

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.timeout(900),
    # Gradio opens an uploaded picture to see what it is, and leaves the closing to the collector.
    # Its own statistics of the queue set an option that pandas gives up.
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "ignore:.*no_silent_downcasting",
    ),
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


@pytest.fixture(scope="module")
def outside() -> Iterator[list[Any]]:
    """Where this process, the server's, tried to connect to beside this machine."""
    tried: list[Any] = []
    connect = socket.socket.connect

    def told(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            tried.append(address)
            raise OSError("the network is cut")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", told)
        yield tried


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory,
    random_program: Program,
    make_script: Callable[..., Any],
    toys: Mapping[str, Program],
    outside: list[Any],
) -> Iterator[Any]:
    """A studio that is served: its address, its folder, and the script that its chat writes from."""
    root = tmp_path_factory.mktemp("studio") / "shelf"
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
    with contextlib.closing(Run.create(root / "earlier", {"run": {"task": "toy"}, "model": {"width": 4}})) as earlier:
        for step in range(1, 31):
            earlier.event("step", step, loss=4 / step)
    script = make_script(slots=4)
    script.teach("hello", "world")
    (root / "mood.toml").write_text(MOOD)
    for text, answers in ((MOOD, ("good", "good")), (MOOD.replace("Good or bad?", "Which is it?"), ("good", "bad"))):
        for asked, answer in zip(("Fine!", "Awful!"), answers, strict=True):
            script.teach(read_prompt(text, "mood").conversation({"text": asked})[-1]["content"], answer)
    registry: Any = Toys({"talker": script.program, "bright": bright})
    folder = root.parent / "handbook"
    folder.mkdir()
    (folder / "vaults.md").write_text(VAULTS)
    documents = catalog().documents(folder, root.parent / "index")
    settings = Settings(slots=4, pages=PAGES, documents=documents)
    server = studio(root, registry, settings, lambda *_: None, root / "feedback.jsonl")
    assert server.library is not None
    while not server.library.read:
        time.sleep(0.05)
    _, (*before, last) = next(look(documents, CODE).prompts())
    script.teach(last["content"], "The code is BK-4711.", before=before)
    with served(server) as address:
        yield SimpleNamespace(address=address, root=root, run=run, script=script)
    documents.close()
    run.close()


@contextlib.contextmanager
def served(server: Server) -> Iterator[str]:
    """The address of a server that runs inside."""
    listening = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(
        uvicorn.Config(server, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve(sockets=[listening])), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving.should_exit = True
    thread.join(60)
    server.close()
    listening.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=[*FLAGS, "--disable-sync", f"--host-resolver-rules={CUT}"]
        )
        expect.set_options(timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture
def page(desk: Any, browser: Browser, outside: list[Any]) -> Iterator[Page]:
    """The studio in the browser; in the end nothing went wrong in it, and nothing was asked of another machine."""
    with opened(browser, desk.address, "sw2 studio · shelf") as page:
        expect(page.locator(".card")).to_have_count(2)
        yield page
    assert outside == []


@contextlib.contextmanager
def opened(browser: Browser, address: str, title: str) -> Iterator[Page]:
    """A page in the browser; in the end nothing went wrong in it, and it has asked nobody but its server."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    asked: list[Any] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address + "/")
    yield page
    named = page.title()
    page.close()
    assert named == title
    assert faults == []
    here = address.removeprefix("http://")
    others = [each for each in asked if each.url.startswith("http") and each.url.split("/")[2] != here]
    assert {request.failure for request in others} <= {"csp"}


def shoot(page: Page, name: str) -> None:
    """Keep the page as it looks on a desk and on a phone, light and dark; nothing may be wider than the phone."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.screenshot(path=SHOTS / f"{name}-{scheme}.png")
        page.set_viewport_size({"width": 390, "height": 844})
        page.screenshot(path=SHOTS / f"{name}-{scheme}-phone.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def still(network: Any) -> int:
    """How many steps a script has made once it makes no more."""
    deadline = time.monotonic() + 60
    while True:
        before: int = network.steps
        time.sleep(1)
        if network.steps == before:
            return before
        assert time.monotonic() < deadline, "it still writes"


def test_a_picture_is_classified(desk: Any, page: Page) -> None:
    shoot(page, "programs")
    page.locator("button[data-program=bright]").focus()
    page.keyboard.press("Enter")  # the keyboard alone opens the form
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


def test_a_chat_is_streamed_stopped_and_asked_again(desk: Any, page: Page) -> None:
    network = desk.script.network
    network.seconds = 0.4
    page.locator("button[data-program=talker]").click()
    said, bot = page.locator("#said textarea"), page.locator("#talk .message.bot")
    page.locator("#grounded input").uncheck()
    said.fill(EVIL)
    said.press("Enter")
    expect(bot).to_contain_text("xxx")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert still(network) < 500
    assert EVIL in page.locator("#talk .message.user").inner_text()
    assert page.locator("#talk .message.user img, #talk .message.user b").count() == 0

    # A question while another is answered: the older answer ends where it is.
    page.locator("#chat-new").click()
    expect(page.locator("#talk .message")).to_have_count(0)
    said.fill("for ever")
    said.press("Enter")
    expect(bot).to_contain_text("xx")
    said.fill("and this?")
    said.press("Enter")
    expect(page.locator("#talk .message.user")).to_have_count(2)
    expect(bot).to_have_count(2)
    expect(bot.last).to_contain_text("xx")
    first = bot.first.inner_text()
    expect(bot.last).to_contain_text("xxxxx")
    assert bot.first.inner_text() == first
    page.get_by_role("button", name="Stop").click()
    still(network)
    expect(page.locator("#talk .message")).to_have_count(4)
    network.seconds = 0.0

    # An answer, a thumb, the same again, the question in other words.
    page.locator("#chat-new").click()
    expect(page.locator("#talk .message")).to_have_count(0)
    said.fill("hello")
    said.press("Enter")
    expect(bot).to_have_text("world")
    page.get_by_role("button", name="Dislike").click()
    expect(page.locator("#chat-note")).to_contain_text("feedback.jsonl")
    (line,) = map(json.loads, (desk.root / "feedback.jsonl").read_text().splitlines())
    assert [each["content"] for each in line["messages"]] == ["hello", "world"]
    assert (line["thumb"], line["program"]) == ("down", Program.load(desk.root / "talker", catalog()).id)
    steps = network.steps
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#chat-note")).to_have_text("")
    expect(bot).to_have_text("world")
    assert still(network) > steps
    shoot(page, "chat")
    page.get_by_role("button", name="Edit").first.click()
    page.locator("#talk textarea").first.fill("for ever")
    page.get_by_role("button", name="Submit").first.click()
    expect(bot).to_contain_text("xxx")
    page.locator("#chat-new").click()

    # As Markdown the address in a text is an address, and is still not asked.
    page.locator("#chat-settings button").first.click()
    page.locator("#chat-markdown input").check()
    with page.expect_event("requestfailed", lambda request: "elsewhere.example" in request.url) as failed:
        said.fill(EVIL)
        said.press("Enter")
    assert failed.value.failure == "csp"
    page.locator("#chat-new").click()


def test_a_document_is_asked_and_its_source_opened(desk: Any, page: Page) -> None:
    desk.script.network.seconds = 0.0
    page.locator("button[data-program=talker]").click()
    said, bot = page.locator("#said textarea"), page.locator("#talk .message.bot")
    said.fill(CODE)
    said.press("Enter")
    expect(bot).to_have_text("The code is BK-4711.")
    source = page.locator("#sources button")
    expect(source).to_have_count(1)
    expect(source.first).to_contain_text("vaults.md:3")
    source.first.focus()
    page.keyboard.press("Enter")
    passage = page.locator("#passage")
    expect(passage.locator("mark")).to_contain_text("BK-4711")
    expect(passage).to_contain_text("Visitors wipe their shoes.")
    assert EVIL in passage.inner_text()
    assert passage.locator("img, b").count() == 0
    expect(passage.locator("#passage-place")).to_be_focused()
    shoot(page, "documents")
    page.locator("#passage-close").click()
    expect(passage).to_be_hidden()
    said.fill("Who is the king of Atlantis?")
    said.press("Enter")
    expect(bot.last).to_have_text(REFUSAL)
    expect(source).to_have_count(0)
    bot.first.click()  # an older answer's sources come back
    expect(source).to_have_count(1)


def test_a_prompt_is_changed_tested_compared_and_kept(desk: Any, page: Page) -> None:
    desk.script.network.seconds = 0.0
    tab(page, "Prompts")
    text, result = page.locator("#prompt-text textarea"), page.locator("#prompt-result")
    expect(text).to_have_value(MOOD)
    expect(result).to_contain_text("Says whether a text is good or bad.")
    page.locator("#prompt-test").click()
    expect(result).to_contain_text("1 of 2 tests passed")
    expect(result.locator(".tests .tag.bad")).to_have_count(1)
    shoot(page, "prompts")

    # What is wrong is told with its line; what is right is held against the file, and kept under another name.
    text.fill(MOOD.replace("{{ text }}", "{{ text"))
    page.locator("#prompt-check").click()
    expect(result.locator(".fault")).to_contain_text("mood.toml, line")
    page.locator("#prompt-save").click()
    assert (desk.root / "mood.toml").read_text() == MOOD
    text.fill(MOOD.replace("Good or bad?", "Which is it?"))
    page.locator("#prompt-comparing button").first.click()
    page.locator("#prompt-other input").click()
    page.get_by_role("option", name="mood.toml").click()
    page.locator("#prompt-compare").click()
    expect(result).to_contain_text("1 better, 0 worse")
    shoot(page, "prompts-compared")
    page.locator("#prompt-try").click()
    page.locator("#prompt-form textarea").fill("Awful!")
    page.locator("#prompt-ask").click()
    expect(page.locator("#prompt-answer")).to_contain_text("bad")
    page.locator("#prompt-place textarea, #prompt-place input").fill("../mood.toml")
    page.locator("#prompt-save").click()
    expect(result.locator(".fault")).to_contain_text("leads out of the folder")
    page.locator("#prompt-place textarea, #prompt-place input").fill("other.toml")
    page.locator("#prompt-save").click()
    expect(result).to_contain_text("Saved.")
    assert "Which is it?" in (desk.root / "other.toml").read_text()


def test_a_run_is_watched_and_compared(desk: Any, page: Page) -> None:
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
    page.locator("#other-run input").click()
    page.get_by_role("option", name="earlier").click()
    expect(page.locator("#run-view")).to_contain_text("Settings that differ")
    expect(page.locator("#run-view")).to_contain_text("model.width")
    shoot(page, "runs-compared")


def test_rows_are_looked_at(desk: Any, page: Page) -> None:
    tab(page, "Data")
    source = page.locator("#source textarea, #source input")
    source.fill("talks.jsonl")
    page.locator("#show-data").click()
    expect(page.locator("#rows mark").nth(1)).to_contain_text("yes")
    shoot(page, "data")
    source.fill("../../etc/passwd")
    page.locator("#show-data").click()
    expect(page.locator("#rows .fault")).to_contain_text("leads out of the folder")


# ------------------------------------------------------------------------------------------------------- label serve


@pytest.fixture
def labelling(tmp_path: Path) -> Iterator[Labelling]:
    """Five pictures, one of them of the size of a photograph, with what a program might say of them."""
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(4):
        Image.new("RGB", (28, 28), (60 * number, 90, 200 - 40 * number)).save(root / f"{number}.png")
    Image.linear_gradient("L").resize((1200, 800)).save(root / "<b>large & wide.jpg")
    made = open_labelling(catalog(), str(root), Context(), labels=["cat", "dog", EVIL], overlap=1)
    made._chances = {content: {"dog": 0.7, "cat": 0.2, EVIL: 0.1} for content in made._order}
    yield made
    made.close()


def test_pictures_are_labelled_by_keys(labelling: Labelling, browser: Browser, outside: list[Any]) -> None:
    with ThreadPoolExecutor(1) as thread:  # the browser's driver has an event loop in this one
        server = thread.submit(label_studio, labelling, "pictures", Settings(pages=PAGES), lambda *_: None).result()
    title = "sw2 label · pictures"
    with served(server) as address:
        with opened(browser, address, title) as page:
            desk, status = page.locator("#desk"), page.locator("#desk .status")
            page.locator("#labeller").fill(EVIL)
            page.keyboard.press("Enter")
            expect(desk.locator(".fault").first).to_contain_text("This is no name to label under.")
            page.locator("#labeller").fill("Anna 123us")  # letters in a name are no keys
            page.keyboard.press("Enter")
            expect(status).to_contain_text("Anna 123us · 0 labelled · 5 left")
            expect(status).to_contain_text("0.png")
            expect(desk.locator(".guess")).to_contain_text("dog")
            shoot(page, "label-small")
            page.keyboard.press("1")
            expect(status).to_contain_text("1 labelled · 4 left")
            page.keyboard.press("Enter")
            expect(status).to_contain_text("2 labelled · 3 left")
            page.keyboard.press("s")
            expect(status).to_contain_text("2 labelled · 2 left")
            page.keyboard.press("u")
            expect(status).to_contain_text("2.png")
            expect(status).to_contain_text("2 labelled · 3 left")
            page.keyboard.press("ArrowLeft")
            expect(status).to_contain_text("1.png")
            expect(desk.locator("[aria-pressed=true]")).to_contain_text("dog")
            page.keyboard.press("Control+1")  # is the browser's
            page.keyboard.press("x")
            desk.get_by_role("button", name="cat").click()
            expect(status).to_contain_text("2.png")
            for number, key in enumerate(["Enter", "3"]):  # Enter takes the guess, although "cat" was clicked last
                page.keyboard.press(key)
                expect(status).to_contain_text(f"{3 + number} labelled")
            expect(status).to_contain_text("<b>large & wide.jpg")
            expect(desk.locator("img.fine")).to_be_visible()
            shoot(page, "label-large")
            assert desk.locator("b:text('large'), .choices img").count() == 0
            page.keyboard.press("2")
            expect(desk.locator(".empty")).to_contain_text("Nothing is left to label for you")
            shoot(page, "label-done")
        with opened(browser, address, title) as page:
            status = page.locator("#desk .status")
            page.locator("#labeller").fill("Otto")
            page.keyboard.press("Enter")
            for number in range(3):
                expect(status).to_contain_text(f"{number} labelled")
                page.keyboard.press("2")
            expect(status).to_contain_text("3 labelled")
            tab(page, "Disagreements")
            differences = page.locator("#differences .difference")
            expect(differences).to_have_count(2)
            shoot(page, "label-disagreements")
            differences.first.get_by_role("button", name="cat").click()
            expect(page.locator("#differences")).to_contain_text("decided by Otto")
            tab(page, "Progress")
            expect(page.locator("#progress-page")).to_contain_text("Cohen's kappa")
            shoot(page, "label-progress")
            tab(page, "Label")
            page.keyboard.press("1")  # with the tab still in focus
            expect(status).to_contain_text("4 labelled")
    assert outside == []
    assert labelling.counts() == {"cat": 1, "dog": 2, EVIL: 0}
