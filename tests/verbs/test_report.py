"""The report: it tells everything, claims no more than it knows, and is safe to open."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sw2.core.card import Card
from sw2.core.program import Program
from sw2.verbs.curves import Curves
from sw2.verbs.report import pushed, write_report

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u202e"
VOID = {"meta", "img", "br"}
MakeProgram = Callable[[Card], Program]
MakeRun = Callable[..., Path]


class Page(HTMLParser):
    """A page's tags, attributes and text; complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(run: Path, program: Program) -> Page:
    path = write_report(run, program)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def score(name: str, value: float, of: str = "program", interval: Any = None, better: str = "higher") -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "better": better,
        "examples": 100,
        "interval": interval,
        "of": of,
        "details": {},
    }


def test_a_full_report_tells_everything(make_run: MakeRun, make_program: MakeProgram, full_card: Card) -> None:
    page = read(make_run(), make_program(full_card))
    for wanted in (
        "shift-classification from digits",
        "accuracy 0.978",
        "logistic regression",
        "0.96 to 0.988",
        "The most frequent mistakes",
        "labelled 3",
        "who had three sons.",
        "Pictures per second",
        "Healthy",
        "498.0 MB",
        "104%",
        "3 rejected",
        "And 2 more.",
        "the picture is damaged",
        "kept the state of step 600",
        "optimizer.betas",
        "measured: 64 pictures are quickest on this machine",
        "CC BY 4.0",
    ):
        assert wanted in page.text, wanted
    # One chart for the loss, accuracy, gradient norm, learning rate and pace, and a map for each kind of health.
    labels = [attributes["aria-label"] or "" for attributes in page.all("svg") if attributes.get("role") == "img"]
    assert [label.split(" over ")[0].split(" of ")[0] for label in labels] == [
        "Loss", "Accuracy", "Gradient norm", "Learning rate", "Pictures per second",
        "Gradient", "Activation", "Update", "Dead units",
    ]  # fmt: skip


def test_it_opens_with_no_network_and_no_script(make_run: MakeRun, make_program: MakeProgram, full_card: Card) -> None:
    run = make_run()
    page = read(run, make_program(full_card))
    text = (run / "report.html").read_text(encoding="utf-8")
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?://|//cdn", text)
    assert all((attributes["src"] or "").startswith("data:image/png;base64,") for attributes in page.all("img"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'")
    assert "script-src" not in (policy or "")
    assert len(text) < 400_000


def test_links_lead_to_sections_that_exist(make_run: MakeRun, make_program: MakeProgram, full_card: Card) -> None:
    page = read(make_run(), make_program(full_card))
    links = [(attributes["href"] or "").removeprefix("#") for attributes in page.all("a")]
    assert links == [attributes["id"] for attributes in page.all("section")]
    assert len(set(links)) == len(links) >= 10


def test_hostile_text_stays_text(make_run: MakeRun, make_program: MakeProgram, full_card: Card) -> None:
    run = make_run(findings=[f"Vanishing gradients from '{HOSTILE}' down"])
    with (run / "events.jsonl").open("a", encoding="utf-8") as file:
        layer = {"layer": HOSTILE, "gradient": 1.0, "activation": float("inf"), "update": 1e-3}
        for row in (
            {"kind": "note", "text": HOSTILE},
            {"kind": "step", HOSTILE: 2.0},
            {"kind": "step", HOSTILE: 1.0, "loss": float("nan")},
            {"kind": "health", "layers": [layer], "findings": [HOSTILE]},
        ):
            file.write(json.dumps({"step": 600, "seconds": 99.0, **row}) + "\n")
    run_settings = {HOSTILE: {HOSTILE: HOSTILE, "deep": {HOSTILE: [HOSTILE]}}}
    own = dict(full_card.scores[0])
    image = full_card.scores[0]["details"]["pictures"][0]["image"]
    own["details"] = {
        "labels": [HOSTILE, "b"],
        "confusion": [[3, 2], [1, 4]],
        "samples": [{"prompt": HOSTILE, "text": HOSTILE + HOSTILE}],
        "pictures": [
            {"image": image, "label": HOSTILE, "answer": HOSTILE, "probability": 0.5},
            {"image": 'x" onerror="alert(3)', "label": "a", "answer": "b", "probability": 0.5},
            {"image": "data:image/svg+xml;base64,PHN2Zz4=", "label": "a", "answer": "b", "probability": 0.5},
            {"image": "javascript:alert(4)", "label": "a", "answer": "b", "probability": 0.5},
        ],
    }
    card = replace(
        full_card,
        scores=[own, {**full_card.scores[1], "name": HOSTILE}, {**full_card.scores[2], "of": HOSTILE}],
        data={"name": HOSTILE, HOSTILE: HOSTILE, "rejected rows": 1, "rejected": [{"where": HOSTILE, "why": HOSTILE}]},
        made={HOSTILE: HOSTILE, "why": {HOSTILE: HOSTILE}},
        facts={HOSTILE: HOSTILE},
        planned={"minutes": 1.0, HOSTILE: HOSTILE},
        measured={HOSTILE: HOSTILE},
        settings=run_settings,
    )
    program = replace(make_program(card), provider={"distribution": HOSTILE, "version": HOSTILE})
    page = read(run, program)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert [(attributes["src"] or "")[:22] for attributes in page.all("img")] == ["data:image/png;base64,"]
    assert page.text.count("<script>alert(1)</script>") > 15  # told, and told as text


def test_text_that_no_file_can_hold_does_not_lose_the_report(
    make_run: MakeRun, make_program: MakeProgram, full_card: Card
) -> None:
    page = read(make_run(), make_program(replace(full_card, data={"name": "half \ud800 pair"})))
    assert "half ? pair" in page.text


@pytest.mark.parametrize(
    ("own", "baseline", "said"),
    [
        (
            score("accuracy", 0.9, interval=[0.85, 0.95]),
            score("accuracy", 0.7, "chance", [0.6, 0.8]),
            "Beats its baseline",
        ),
        (score("accuracy", 0.9, interval=[0.75, 0.95]), score("accuracy", 0.7, "chance", [0.6, 0.8]), "may be chance"),
        (score("accuracy", 0.7), score("accuracy", 0.7, "chance"), "Does not beat its baseline"),
        (score("accuracy", 2.0, better="lower"), score("accuracy", 1.0, "chance", better="lower"), "Does not beat"),
        (
            score("accuracy", 1.0, better="lower"),
            score("accuracy", 2.0, "chance", better="lower"),
            "Beats its baseline",
        ),
        (score("accuracy", 0.9), score("other", 0.7, "chance"), "No baseline"),
    ],
)
def test_the_verdict_claims_no_more_than_the_scores(
    own: dict[str, Any], baseline: dict[str, Any], said: str, make_run: MakeRun, make_program: MakeProgram
) -> None:
    page = read(make_run(), make_program(Card(scores=[own, baseline])))
    assert said in page.text
    assert ("Beats" in page.text) == said.startswith("Beats")


def test_the_best_of_several_baselines_is_the_one_to_beat(make_run: MakeRun, make_program: MakeProgram) -> None:
    rivals = [score("accuracy", value, of) for value, of in ((0.2, "chance"), (0.8, "nearest"), (0.5, "linear"))]
    page = read(make_run(), make_program(Card(scores=[score("accuracy", 0.7), *rivals])))
    assert "against 0.8 of the best baseline, nearest" in page.text


def test_rewards_stand_against_the_distance_at_which_they_were_got() -> None:
    # The distance goes up and down again, so that the order of steps is not that of distances.
    far = [(step, float(min(step, 40 - step))) for step in range(40)]
    curves = Curves(
        path=Path(),
        state="finished",
        training={"kl": far, "reward": far, "passed": [(step, 20 - value) for step, value in far]},
    )
    reward, passed = (Page(chart).all("svg")[0]["aria-label"] for chart in pushed(curves))
    assert reward == "Reward against distance over nats 1.5 to 18.5: reward from 1.5 to 18.5."
    assert passed == "Share right by the rule against distance over nats 1.5 to 18.5: passed from 18.5 to 1.5."
    assert pushed(Curves(path=Path(), state="learning", training={"loss": far})) == []
    assert pushed(Curves(path=Path(), state="learning", training={"kl": far[:9], "reward": far[:9]})) == []


def test_a_run_with_nothing_to_tell_has_a_report(make_run: MakeRun, make_program: MakeProgram) -> None:
    page = read(make_run(0), make_program(Card()))
    assert "Not judged" in page.text
    assert "No step was recorded." in page.text
    assert "Training health" not in page.text


def test_findings_are_told_with_when_they_were_seen(make_run: MakeRun, make_program: MakeProgram) -> None:
    page = read(make_run(findings=["Exploding gradients from 'stage1' down: 3e5."]), make_program(Card()))
    assert "Exploding gradients from 'stage1' down: 3e5." in page.text
    assert "Seen by 24 of 24 probes, from step 1 to 576, still so at the last one." in page.text
    assert "Healthy" not in page.text


@pytest.mark.parametrize(("classes", "cells", "maps"), [(5, 25, 0), (60, 0, 1), (300, 0, 0)])
def test_confusions_of_many_labels_are_still_told(
    classes: int, cells: int, maps: int, make_run: MakeRun, make_program: MakeProgram
) -> None:
    confusion = [[7 if i == j else 0 for j in range(classes)] for i in range(classes)]
    confusion[1][3], confusion[2][0], confusion[4] = 2, 5, [0] * classes
    labels = [f"label {i}" for i in range(classes)]
    own = {**score("accuracy", 0.9), "details": {"labels": labels, "confusion": confusion}}
    page = read(make_run(), make_program(Card(scores=[own])))
    shades = [attributes for attributes in page.all("td") if attributes.get("class") in ("hit", "miss")]
    assert len(shades) == cells
    assert sum(attributes.get("class") == "map" for attributes in page.all("svg")) == maps
    mistakes = page.text[page.text.index("The most frequent mistakes") :]
    assert mistakes.index("label 2label 0512") < mistakes.index("label 1label 329")


def test_the_program_stands_in_the_report_with_its_size(make_run: MakeRun, make_program: MakeProgram) -> None:
    program = make_program(Card())
    page = read(make_run(), program)
    assert program.id[:12] in page.text
    assert "96 B" in page.text  # 24 parameters of four bytes
    assert "24 parameters" in page.text
