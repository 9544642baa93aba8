"""What lies in a folder: programs and runs by name, damaged ones told, nothing outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sw2.base.errors import DataError, ProgramError, UnknownName, UsageError
from sw2.catalog import catalog
from sw2.core.card import Card
from sw2.core.program import Program
from sw2.verbs.shelf import Shelf, shelve, within

SCORES = [
    {"name": "accuracy", "value": 0.9, "better": "higher", "examples": 100, "of": "program"},
    {"name": "accuracy", "value": 0.1, "better": "higher", "examples": 100, "of": "chance"},
    {"name": "loss", "value": None, "better": "lower", "examples": 100, "of": "program"},
]


@pytest.fixture
def look(make_program: Callable[[Card], Program]) -> Callable[[Path], Shelf]:
    """Shelve a folder whose programs are all of one toy task."""
    made = make_program(Card())
    registry: Any = SimpleNamespace(
        task=lambda name: made.task,
        runtime_class=lambda name: type(made.runtime),
        is_written=catalog().is_written,
    )
    return lambda root: shelve(root, registry)


@pytest.fixture
def root(tmp_path: Path, make_program: Callable[[Card], Program]) -> Path:
    root = tmp_path / "shelf"
    program = make_program(Card(scores=SCORES, data={"name": "toys"}, made={"date": "2030-01-01"}))
    program.save(root / "alone")
    program.save(root / "cats" / "program")
    program.save(root / "chain" / "stages" / "1-reading" / "program")
    program.save(root / ".hidden")
    for run in ("cats", "chain", "chain/stages/1-reading", "begun"):
        (root / run).mkdir(parents=True, exist_ok=True)
        (root / run / "config.toml").write_text("")
    return root


def test_programs_and_runs_by_name(root: Path, look: Callable[[Path], Shelf]) -> None:
    shelf = look(root)
    assert list(shelf.programs) == ["alone", "cats", "chain/stages/1-reading"]
    assert list(shelf.runs) == ["begun", "cats", "chain", "chain/stages/1-reading"]
    cats = shelf.program("cats")
    assert cats.path == root / "cats" / "program"
    assert (cats.task, cats.metric, cats.data, cats.made) == ("shift-classification", "accuracy", "toys", "2030-01-01")
    assert [(score.of, score.value) for score in cats.scores] == [("program", 0.9), ("chance", 0.1)]
    assert cats.bytes == sum(f.stat().st_size for f in cats.path.iterdir() if f.suffix == ".safetensors")
    assert not shelf.cut


def test_written_programs_are_told_by_how_they_begin(root: Path, look: Callable[[Path], Shelf]) -> None:
    for name in ("a.toml", "texts/b.toml", ".hidden.toml", "alone/prompt.toml", "c.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("+++\nprogram = ")
    (root / "other.toml").write_text("[project]\n")
    (root / "link.toml").symlink_to(root / "a.toml")
    shelf = look(root)
    assert list(shelf.written) == ["a.toml", "texts/b.toml"]
    assert shelf.written_file("texts/b.toml") == root / "texts" / "b.toml"
    for name in ("../a.toml", "other.toml", ""):
        with pytest.raises(UnknownName):
            shelf.written_file(name)


def test_a_run_may_be_the_folder_itself(root: Path, look: Callable[[Path], Shelf]) -> None:
    shelf = look(root / "cats")
    assert list(shelf.programs) == list(shelf.runs) == ["cats"]
    assert list(look(root / "alone").programs) == ["alone"]


def test_a_damaged_program_is_told_and_not_used(root: Path, look: Callable[[Path], Shelf]) -> None:
    (root / "alone" / "program.json").write_text("{")
    file = root / "cats" / "program" / "program.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "card": {}}))
    shelf = look(root)
    for name in ("alone", "cats"):
        assert "damaged" in shelf.programs[name].fault
        with pytest.raises(ProgramError, match="cannot be used"):
            shelf.program(name)
    assert shelf.program("chain/stages/1-reading").fault == ""


def test_names_are_looked_up_and_never_joined(root: Path, look: Callable[[Path], Shelf]) -> None:
    shelf = look(root)
    for name in ("../shelf/alone", "/etc", "cats/program", ".hidden", ""):
        with pytest.raises(UnknownName):
            shelf.program(name)
        with pytest.raises(UnknownName):
            shelf.run(name)
    with pytest.raises(DataError, match="no such folder"):
        look(root / "nothing")


def test_links_are_not_followed(root: Path, tmp_path: Path, look: Callable[[Path], Shelf]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "alone").rename(tmp_path / "elsewhere" / "alone")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    assert list(look(root).programs) == ["cats", "chain/stages/1-reading"]


@pytest.mark.parametrize("text", ["..", "../x", "/etc/passwd", "a/../../x", "link/secret", "a\0b"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("")
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="leads out"):
        within(tmp_path / "root", text)
    assert within(tmp_path / "root", "a/b") == (tmp_path / "root" / "a" / "b").resolve()
