"""The labelling page without a browser: what is drawn, what its messages do, and a server that is killed."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from sw2.core.kinds import Kind
from sw2.faces.studio.label_page import bench, differences, progress
from sw2.verbs.labelling import Agreement, Disagreement, Seen

pytestmark = pytest.mark.timeout(600)

EVIL = "<img src=x onerror=alert(1)> ${1+1}"
TEXT = Kind("text")


def seen(**more: Any) -> Seen:
    told: dict[str, Any] = {"content": "ab", "name": EVIL, "raw": EVIL, "own": None, "chances": {}}
    return Seen(**{**told, "done": 3, "left": 7, **more})


def keys(html: str) -> dict[str, str]:
    """The keys of each button, by its label or act."""
    found = {}
    for tag in re.findall(r"<button[^>]*data-keys[^>]*>", html):
        facts = dict(re.findall(r'data-(\w+)="([^"]*)"', tag))
        found[facts.get("label") or facts["act"]] = facts["keys"]
    return found


def test_each_label_has_a_key_and_the_guess_has_enter_too() -> None:
    html = bench(TEXT, ["cat", "dog"], "anna", seen(chances={"eel": 0.5, "dog": 0.4, "cat": 0.1}, own="cat"), 7)
    assert keys(html) == {
        "cat": "1", "dog": "2 Enter", "back": "ArrowLeft", "forth": "ArrowRight", "undo": "u", "skip": "s",
    }  # fmt: skip
    assert 'data-turn="7" data-at="ab"' in html
    assert "40%" in html
    assert html.count('aria-pressed="true"') == 1
    many = keys(bench(TEXT, [f"label {n}" for n in range(40)], "anna", seen(), 1))
    named = [key for name, key in many.items() if name.startswith("label") and key]
    assert len(named) == len(set(named)) == 33
    assert not {"u", "s"} & set(named)
    assert "skipped" in bench(TEXT, ["cat", "dog"], "anna", seen(own=""), 1)


def test_nothing_that_is_shown_is_html_or_a_template() -> None:
    differs = Disagreement(content="ab", name=EVIL, raw=EVIL, said={EVIL: EVIL, "b": "c"}, decided=EVIL, by=EVIL)
    agreement = Agreement(labels={EVIL: 3}, examples=2, same=(0.5, 0.1, 0.9), measure="Cohen's kappa", value=math.nan)
    for html in (
        bench(TEXT, [EVIL, "b"], EVIL, seen(chances={EVIL: 0.9}), 1, [EVIL]),
        bench(TEXT, [EVIL, "b"], EVIL, None, 1, [EVIL]),
        bench(TEXT, [EVIL, "b"], "", None, 1, [EVIL]),
        differences(TEXT, [EVIL, "b"], [differs] * 30, [EVIL]),
        progress({EVIL: 3}, agreement, EVIL, [EVIL]),
    ):
        assert "<img src=x" not in html
        assert "${" not in html
    assert "not defined" in progress({}, agreement, "", [])
    assert "and 10 more" in differences(TEXT, ["a"], [differs] * 30)
    assert "Nobody disagrees" in differences(TEXT, ["a"], [])


# -------------------------------------------------------------------------------------------------------------- serving


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    root.mkdir()
    for number in range(6):
        Image.fromarray(np.full((4, 4, 3), 40 * number, np.uint8)).save(root / f"{number}.png")
    return root


@contextlib.contextmanager
def served(pool: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of the command, and its address."""
    command = [sys.executable, "-m", "sw2.faces.cli", "label", "serve", "pool", "--port", "0", "--json", *options]
    source = Path(__file__).resolve().parents[3] / "src"
    with subprocess.Popen(
        command, cwd=pool.parent, env={**os.environ, "PYTHONPATH": str(source)}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()
            yield process, json.loads(line)["address"]
        finally:
            process.kill()


class Tab:
    """A tab of a browser, as far as its messages go."""

    def __init__(self, address: str, name: str) -> None:
        self._client = httpx2.Client(base_url=address, timeout=300)
        config = self._client.get("/studio/config").json()
        self._ids = {each["props"].get("elem_id"): each["id"] for each in config["components"]}
        self._dependencies = config["dependencies"]
        self._session = name
        self.at = ""

    def press(self, component: str = "desk", **event: Any) -> str:
        """Send what a button would; what is drawn then."""
        target = self._ids[component]
        (number,) = (each["id"] for each in self._dependencies if [target, "click"] in each["targets"])
        body = {"data": [None], "event_data": event, "fn_index": number, "trigger_id": target}
        sent = self._client.post("/studio/gradio_api/queue/join", json={**body, "session_hash": self._session})
        assert sent.status_code == 200, sent.text
        with self._client.stream(
            "GET", "/studio/gradio_api/queue/data", params={"session_hash": self._session}
        ) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    assert message["success"], message
                    html = str(message["output"]["data"][0])
                    self.at = (re.findall(r'data-at="(\w*)"', html) or [""])[0]
                    return html
        raise AssertionError("nothing came back")

    def refused(self, **headers: str) -> int:
        return self._client.post("/studio/gradio_api/queue/join", json={}, headers=headers).status_code


def test_people_label_and_a_kill_loses_nothing(pool: Path) -> None:
    with served(pool, "--labels", "cat,dog", "--overlap", "1") as (process, address):
        anna, otto = Tab(address, "one"), Tab(address, "two")
        assert anna.refused(origin="http://evil.example") == 403
        assert "Your name" in anna.press(act="label", at="x", label="cat")  # a stranger says nothing
        assert "no name to label under" in anna.press(act="enter", name="<b>")
        assert "0 labelled · 6 left" in anna.press(act="enter", name="Anna")
        otto.press(act="enter", name="Otto")
        first = anna.at
        assert otto.at == first
        assert "1 labelled · 5 left" in anna.press(act="label", at=first, label="cat")
        assert "1 labelled" in otto.press(act="label", at=first, label="dog")
        for event in ({"at": "nowhere", "label": "cat"}, {"at": anna.at, "label": "Cat"}):
            assert 'class="fault" role="alert"' in anna.press(act="label", **event)
        assert "There is no label called" in anna.press("differences", at=first, label="Dog")
        assert "decided by Otto: <b>dog</b>" in otto.press("differences", at=first, label="dog")
        while anna.at:
            anna.press(act="label", at=anna.at, label="cat")
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    with served(pool) as (process, address):  # the labels of before
        anna = Tab(address, "three")
        assert "Nothing is left to label for you" in anna.press(act="enter", name="anna")
        assert "5 labelled · 1 left" in anna.press(act="undo")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, "")
    assert "5 labels in" in err
    assert "1 examples have several people's labels, the same in 0.000" in err
    with (pool.parent / "pool-labels.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert sorted(row["label"] for row in table) == ["cat"] * 4 + ["dog"]
    assert [(row["by"], row["decided"]) for row in table if row["label"] == "dog"] == [("Anna, Otto", "Otto")]
