"""`sw2 claims`: what is written, what the page says, what is left behind; with an experiment that takes no time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sw2.base.errors import UsageError
from sw2.core.claims import Plot, Result
from sw2.core.domain import ClaimEntry
from sw2.core.task import Context
from sw2.verbs.claims import try_claim

ENTRY = ClaimEntry(
    target="sw2.core.claims:by_order",
    question="Is 1 < 2?",
    expected="It <is>.",
    rule="Holds when it is.",
    source="Peano 1889",
    minutes=1.0,
    full_minutes=2.0,
)
RESULT = Result(
    verdict="holds",
    why="1 is & stays below 2.",
    head=("what", "value"),
    rows=[["one", 1], ["<two>", math.inf]],
    plots=[Plot(title="Numbers", axis="place", lines={"ours": [(0, 1.0), (1, 2.0)], "theory": [(0, 1.0), (1, 2.0)]})],
    notes=["Natural <numbers>."],
)


class _Registry:
    """A registry of one claim."""

    def __init__(self, run: Callable[[Context, bool], Result]) -> None:
        self.run = run

    def claim_entry(self, name: str) -> ClaimEntry:
        assert name == "order"
        return ENTRY

    def claim(self, name: str) -> Callable[[Context, bool], Result]:
        return self.run


def test_what_is_written(tmp_path: Path) -> None:
    tried = try_claim(_Registry(lambda context, full: RESULT), "order", Context(seed=3), out=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written == json.loads(json.dumps(tried.to_json()))
    assert written["verdict"] == "holds"
    assert (written["form"], written["indicative"], written["seeds"]) == ("quick", True, [3])
    assert written["rows"] == [["one", 1], ["<two>", None]]  # JSON has no infinity
    assert written["rule"] == ENTRY.rule
    text = (tmp_path / "out" / "report.html").read_text()
    for said in (
        "Is 1 &lt; 2?",
        "1 is &amp; stays below 2.",
        "It &lt;is&gt;.",
        "&lt;two&gt;",
        "Natural &lt;numbers&gt;.",
    ):
        assert said in text
    for said in (
        "quick form, indicative: seed 3 alone",
        "places 0 to 1",
        "sw2 claims run order --seed 3",
        "of at most 1",
    ):
        assert said in text
    assert "<script" not in text
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"]


def test_the_full_form_says_its_seeds(tmp_path: Path) -> None:
    tried = try_claim(_Registry(lambda context, full: RESULT), "order", Context(), full=True, out=tmp_path / "out")
    assert tried.to_json()["seeds"] == [0, 1, 2, 3, 4]
    assert "full form, seeds 0 to 4" in (tmp_path / "out" / "report.html").read_text()
    assert "indicative" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("ended", [KeyboardInterrupt, ZeroDivisionError])
def test_what_ends_early_leaves_nothing(tmp_path: Path, ended: type[BaseException]) -> None:
    def run(context: Context, full: bool) -> Result:
        raise ended

    with pytest.raises(ended):
        try_claim(_Registry(run), "order", Context(), out=tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*.json"))
    assert not [each for each in tmp_path.rglob("*") if each.name != "deep"]


def _never(context: Context, full: bool) -> Result:
    pytest.fail("it ran")


def test_a_taken_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        try_claim(_Registry(_never), "order", Context(), out=tmp_path)
    with pytest.raises(OSError, match="kept"):
        try_claim(_Registry(_never), "order", Context(), out=tmp_path / "kept" / "out")
    assert (tmp_path / "kept").read_text() == "mine"
