"""`make demo`, with minutes of seconds: tasks and chains of the catalogue, quiet, and within 80 columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sw2.catalog import catalog
from sw2.faces.cli import demo
from sw2.verbs.train import Order


def test_the_demo_goes_by_what_the_catalogue_says() -> None:
    found = catalog()
    lessons = demo._lessons(found)
    assert {each.name for each in lessons} == {
        name for names in (found.tasks, found.chains) for name, entry in names.items() if entry.demo_minutes
    }
    assert sum(each.minutes for each in lessons) <= 13, "the demo is promised to take a quarter of an hour"


@pytest.mark.slow
def test_the_demo_of_a_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = catalog()
    found.tasks = {name: replace(entry, demo_minutes=0.0) for name, entry in found.tasks.items()}
    found.chains = {name: replace(entry, demo_minutes=0.2) for name, entry in found.chains.items()}
    monkeypatch.setattr(demo, "catalog", lambda: found)
    monkeypatch.setattr(demo, "Order", lambda **asked: Order(preset="tiny", **asked))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert demo.main() == 0
    shown = capsys.readouterr().out
    assert "control of" in shown
    assert "gain" in shown
    assert "Two conversations, as they are" in shown
    assert "runs/demo-assistant/report.html" in shown
    # A command is for copying and stays on one line.
    assert max(len(line) for line in shown.splitlines() if "use it" not in line) <= 80
