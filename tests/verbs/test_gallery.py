"""The gallery of claims: pages and drawings of stored results, and which results are of another experiment."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sw2.catalog import catalog
from sw2.core.claims import Plot, Result
from sw2.core.domain import ClaimEntry
from sw2.verbs import gallery
from sw2.verbs.claims import Tried

RESULT = Result(
    verdict="holds",
    why="1 stays below 2.",
    head=("what", "value"),
    rows=[["a|b", 0.25], ["two", None]],
    plots=[
        Plot(title="Numbers", axis="place", lines={"ours": [(0, 1.0), (9, 2.0)], "a < b": [(0, float("inf"))]}),
        Plot(title="Powers", axis="place", lines={"ours": [(1, 1e-3), (2, 10.0), (3, 0.0)]}, log=True, caption="Up."),
    ],
    notes=["Natural numbers."],
)


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClaimEntry:
    """A claim whose experiment is a package of two modules and takes a third from elsewhere."""
    folder = tmp_path / "tried_here"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "experiment.py").write_text(
        '"""What it is."""\nfrom tried_here.bench import seen\nfrom tried_here import more\nimport json\n\n\n'
        'def run(context, full):\n    """Run."""\n    return seen + 1  # one more\n'
    )
    (folder / "bench.py").write_text("seen = 1\n")
    (folder / "more.py").write_text("much = 2\n")
    (folder / "other.py").write_text("unused = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tried_here", raising=False)
    return ClaimEntry(
        target="tried_here.experiment:run",
        question="Is 1 < 2?",
        expected="It is.",
        rule="Holds when it is.",
        source="Peano 1889",
        minutes=1.0,
        full_minutes=2.0,
    )


def stored(entry: ClaimEntry, *, full: bool = False) -> dict[str, Any]:
    code = gallery.digest(entry.target)
    tried = Tried(name="order", entry=entry, full=full, seed=3, result=RESULT, seconds=61.0, threads=1, code=code)
    written: dict[str, Any] = json.loads(json.dumps(tried.to_json()))
    return written


def test_a_result_is_fresh_until_the_code_says_something_else(entry: ClaimEntry, tmp_path: Path) -> None:
    result, folder = stored(entry), tmp_path / "tried_here"
    assert gallery.why_stale("order", entry, result) is None
    experiment = (folder / "experiment.py").read_text()
    (folder / "experiment.py").write_text(experiment.replace("What it is", "Else").replace("  # one more", "\n\n"))
    (folder / "other.py").write_text("unused = 4\n")
    assert gallery.why_stale("order", entry, result) is None
    for name, text in (("experiment", experiment.replace("+ 1", "+ 2")), ("bench", "seen = 2\n"), ("more", "much = 3")):
        before = (folder / f"{name}.py").read_text()
        (folder / f"{name}.py").write_text(text)
        said = gallery.why_stale("order", entry, result)
        assert said is not None
        assert "code changed since it ran" in said
        assert "sw2 claims run order --out DIR" in said
        (folder / f"{name}.py").write_text(before)
    assert gallery.why_stale("order", entry, result) is None


def test_another_rule_makes_a_result_stale(entry: ClaimEntry) -> None:
    result = stored(entry, full=True)
    said = gallery.why_stale("order", dataclasses.replace(entry, rule="Holds at noon."), result)
    assert said is not None
    assert "rule changed" in said
    assert "run order --full" in said


def test_every_claim_has_code_that_can_be_found_without_torch() -> None:
    digests = {name: gallery.digest(entry.target) for name, entry in catalog().claims.items()}
    assert len(set(digests.values())) == len(digests)
    assert gallery.digest("sw2.no_such_package.module:run") == gallery.digest("sw2.no_such_package.other:run")


def test_a_page_says_what_stands_in_the_result(entry: ClaimEntry) -> None:
    text = gallery.page("order", stored(entry))
    for said in (
        "# Is 1 < 2?", "**Holds** (indicative, seed 3): 1 stays below 2.", "![Numbers](order-1.svg)",
        "| a\\|b | 0.25 |", "| two | – |", "Natural numbers.",
        "sw2 claims run order --seed 3", "Peano 1889", "One seed alone",
    ):  # fmt: skip
        assert said in text
    full = gallery.page("order", stored(entry, full=True))
    assert "**Holds** (full, 5 seeds)" in full
    assert "One seed alone" not in full


def test_the_index_names_claims_with_and_without_a_result(entry: ClaimEntry) -> None:
    text = gallery.index({"order": entry, "later": entry}, {"order": stored(entry)})
    assert "[order](order.md)" in text
    assert "**holds**" in text
    assert "| later | Is 1 < 2? | not kept yet | `sw2 claims run later` |" in text


def test_a_drawing_is_xml_inside_its_frame(entry: ClaimEntry) -> None:
    for plot in stored(entry)["plots"]:
        root = ElementTree.fromstring(gallery.drawing(plot))
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        circles = [node for node in root.iter() if node.tag.endswith("circle")]
        assert len(circles) == 2  # values that are not finite, and zero on a logarithmic scale, are left out
        assert all(0 < float(c.attrib["cx"]) < width and 0 < float(c.attrib["cy"]) < height for c in circles)
        low, high = sorted(circles, key=lambda c: float(c.attrib["cx"]))
        assert float(low.attrib["cy"]) > float(high.attrib["cy"])  # both rise
    assert gallery.drawing({**stored(entry)["plots"][0], "lines": {"none": [[0, None]]}}) == ""
