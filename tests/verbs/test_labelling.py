"""Labelling without its page: queues of several people, undo, decisions, agreement, and a table that people edit."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, ResourceError, Sw2Error, UsageError
from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.domains.vision.data import read_table
from sw2.verbs import labelling as module
from sw2.verbs.label_table import LabelTable
from sw2.verbs.labelling import Labelling, check_labels, open_labelling

Image = pytest.importorskip("PIL.Image")

COUNT = 12
NAMES = [f"{number}.png" for number in range(COUNT - 2)] + ["bö x,\n'1'.png", "sub/=1.png"]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 20 * number, np.uint8)).save(root / name)
    (root / "copy.png").write_bytes((root / NAMES[0]).read_bytes())
    return root


Start = Callable[..., Labelling]


@pytest.fixture
def start(pool: Path) -> Iterator[Start]:
    """Opens the labelling of the pool, without guesses; closes it in the end."""
    opened: list[Labelling] = []

    def begin(*labels: str, said: list[str] | None = None, **more: Any) -> Labelling:
        for each in opened:
            each.close()
        heard: list[str] = [] if said is None else said
        opened[:] = [open_labelling(catalog(), str(pool), Context(say=heard.append), labels=labels, **more)]
        return opened[0]

    yield begin
    for each in opened:
        each.close()


def everything(labelling: Labelling, who: str, label: str) -> list[str]:
    """Label all that is offered; the names, in order."""
    names = []
    while (seen := labelling.look(who)) is not None:
        labelling.label(who, seen.content, label)
        names.append(seen.name)
    return names


def rows(labelling: Labelling) -> dict[str, tuple[str, str, str]]:
    labelling.write()
    with labelling.table_path.open(newline="") as file:
        return {row["image"]: (row["label"], row["by"], row["decided"]) for row in csv.DictReader(file)}


def test_one_person_labels_all_and_the_table_is_read(start: Start, pool: Path) -> None:
    labelling = start("cat", "dog")
    who = labelling.enter("  Anna\u00a0Lund ")
    assert who == "Anna Lund"
    assert labelling.enter("ANNA  lund") == "ANNA lund"  # who has done nothing yet is nobody
    first = labelling.look(who)
    assert first is not None
    assert (first.own, first.done, first.left, dict(first.chances)) == (None, 0, COUNT, {})
    assert sorted([first.name, *everything(labelling, who, "cat")][1:]) == sorted(NAMES)
    assert labelling.enter("ANNA lund") == "Anna Lund"
    last = labelling.before(who, "")
    assert last is not None
    labelling.label(who, last.content, "dog")
    assert len(rows(labelling)) == COUNT
    data = read_table(labelling.table_path)
    assert sorted(each["label"] for each in data.split("train")) == ["cat"] * (COUNT - 1) + ["dog"]
    assert not data.rejected
    assert labelling.counts() == {"cat": COUNT - 1, "dog": 1}
    assert {each["metadata"]["by"] for each in data.split("train")} == {"Anna Lund"}
    again = start()  # the labels of before
    assert again.labels == ("cat", "dog")
    assert again.look(who) is None
    seen = again.look(who, last.content)
    assert (seen.own, seen.done) == ("dog", COUNT)  # type: ignore[union-attr]


def test_back_forth_skip_and_undo(start: Start) -> None:
    labelling = start("cat", "dog")
    order = [labelling.look("anna")]
    for _ in range(3):
        order.append(labelling.after("anna", order[-1].content))  # type: ignore[union-attr]
    one, two, three, four = (seen.content for seen in order if seen)
    assert len({one, two, three, four}) == 4
    labelling.label("anna", two, "cat")
    labelling.skip("anna", three)
    labelling.label("anna", two, "dog")  # said again: it keeps its place in the trail
    assert labelling.before("anna", four).content == three  # type: ignore[union-attr]
    assert labelling.before("anna", three).content == two  # type: ignore[union-attr]
    assert labelling.before("anna", two).content == two  # type: ignore[union-attr]
    assert labelling.after("anna", two).content == three  # type: ignore[union-attr]
    assert labelling.after("anna", three).content == four  # type: ignore[union-attr]
    assert labelling.look("anna", three).own == ""  # type: ignore[union-attr]
    undone = [labelling.undo("anna") for _ in range(4)]
    assert undone == [two, three, two, None]
    assert labelling.look("anna", two).own is None  # type: ignore[union-attr]
    labelling = start()
    assert labelling.undo("anna") is None
    assert labelling.look("anna").done == 0  # type: ignore[union-attr]


def test_what_is_undone_is_what_was_said_before(start: Start) -> None:
    labelling = start("cat", "dog")
    seen = labelling.look("anna")
    assert seen is not None
    labelling.label("anna", seen.content, "cat")
    labelling.label("anna", seen.content, "cat")  # the same twice is said once
    labelling.label("anna", seen.content, "dog")
    labelling = start()  # what was said before a restart can be taken back too
    assert labelling.undo("anna") == seen.content
    assert labelling.look("anna", seen.content).own == "cat"  # type: ignore[union-attr]
    labelling.undo("anna")
    assert labelling.undo("anna") is None


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_people_share_the_overlap_and_nothing_else(start: Start, overlap: float) -> None:
    labelling = start("cat", "dog", overlap=overlap)
    seen: dict[str, list[str]] = {"anna": [], "otto": [], "zoe": []}
    while True:
        before = {who: labelling.look(who) for who in seen}
        if not any(before.values()):
            break
        for who, each in before.items():
            if each is not None:
                seen[who].append(each.name)
                labelling.label(who, each.content, "cat" if who != "zoe" else "dog")
    several = {name for name in NAMES if sum(name in names for names in seen.values()) > 1}
    assert set().union(*seen.values()) == set(NAMES)
    assert all(len(names) == len(set(names)) for names in seen.values())
    assert several == set.intersection(*map(set, seen.values()))
    assert len(several) == {0.0: 0, 1.0: COUNT}.get(overlap, len(several))
    assert {each.name for each in labelling.disagreements()} == several
    assert labelling.agreement().examples == len(several)


def test_two_at_once_on_one_example_and_a_decision(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    labelling = start("cat", "dog", "eel", overlap=0)
    seen = labelling.look("anna")
    assert seen is not None
    assert labelling.look("otto").content != seen.content  # type: ignore[union-attr]  # anna has it before her
    with monkeypatch.context() as patch:
        patch.setattr(module, "_AWAY_SECONDS", 0.0)
        assert labelling.look("zoe").content == seen.content  # type: ignore[union-attr]  # anna went home
    labelling.label("anna", seen.content, "cat")
    labelling.label("otto", seen.content, "dog")  # went there all the same: both are kept
    (found,) = labelling.disagreements()
    assert (found.said, found.decided, found.by) == ({"anna": "cat", "otto": "dog"}, "", "")
    assert rows(labelling) == {}
    labelling.decide("zoe", seen.content, "eel")
    assert list(rows(labelling).values()) == [("eel", "anna, otto", "zoe")]
    assert labelling.disagreements()[0].by == "zoe"
    labelling = start()
    assert list(rows(labelling).values()) == [("eel", "anna, otto", "zoe")]


def test_agreement_by_how_many_there_are(start: Start) -> None:
    labelling = start("cat", "dog", overlap=1)
    assert labelling.agreement().examples == 0
    for number in range(COUNT):
        seen = labelling.look("anna")
        assert seen is not None
        labelling.label("anna", seen.content, "cat" if number % 2 else "dog")
        labelling.label("otto", seen.content, "cat" if number % 2 or number == 0 else "dog")
    two = labelling.agreement()
    assert (two.measure, two.examples, two.labels) == ("Cohen's kappa", COUNT, {"anna": COUNT, "otto": COUNT})
    # Observed 11/12; by chance 1/2 * 7/12 + 1/2 * 5/12.
    assert two.value == pytest.approx((11 / 12 - 0.5) / 0.5)
    assert two.same[0] == pytest.approx(11 / 12)
    seen = labelling.look("zoe")
    assert seen is not None
    labelling.label("zoe", seen.content, "cat")
    three = labelling.agreement()
    assert three.measure == "Krippendorff's alpha"
    assert 0 < three.value < 1


def test_many_threads_say_everything_once(start: Start, pool: Path) -> None:
    labelling = start("cat", "dog", overlap=1)
    people = [f"p{number}" for number in range(4)]
    threads = [threading.Thread(target=everything, args=(labelling, who, "cat")) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert labelling.agreement().labels == dict.fromkeys(people, COUNT)
    assert len((pool / ".sw2/labels/log.jsonl").read_text().splitlines()) == 1 + COUNT * len(people)
    assert len(rows(labelling)) == COUNT


def test_an_edited_table_is_taken_over_and_the_rest_kept_aside(start: Start) -> None:
    labelling = start("cat", "dog")
    everything(labelling, "anna", "cat")
    before = rows(labelling)
    path = labelling.table_path
    text = path.read_text()
    path.write_text("\ufeff" + text.replace("pool/3.png,cat", "pool/3.png, dog ").replace("anna,\n", "anna,\r\n"))
    seen = labelling.before("anna", "")
    assert seen is not None
    labelling.label("anna", seen.content, "dog")
    after = rows(labelling)
    assert after["pool/3.png"] == ("dog", "anna", path.name)
    assert sum(after[place] != before[place] for place in before) == 2
    assert labelling.notes == [f"{path.name} was edited: 1 labels were taken over as decided"]
    assert not list(path.parent.glob("*edited*"))

    path.write_text(path.read_text().replace("pool/4.png,cat", "pool/4.png,dgo").replace("pool/5.png,cat,anna,\n", ""))
    edited = path.read_text()
    assert rows(labelling) == after
    aside = path.with_name("pool-labels.edited-1.csv")
    assert aside.read_text() == edited
    assert "1 rows are gone; pool/4.png has an unknown label: dgo" in labelling.notes[-1]

    path.write_bytes(b"\xff\xfe no table")
    assert rows(labelling) == after
    assert path.with_name("pool-labels.edited-2.csv").read_bytes() == b"\xff\xfe no table"
    path.unlink()
    assert rows(labelling) == after

    labelling.close()  # and what was edited while nobody served
    path.write_text(path.read_text().replace("pool/6.png,cat", "pool/6.png,dog"))
    assert rows(start())["pool/6.png"][0] == "dog"


def test_a_log_that_was_edited_while_serving_loses_nothing(start: Start, pool: Path) -> None:
    said: list[str] = []
    labelling = start("cat", "dog", said=said)
    everything(labelling, "anna", "cat")
    log = pool / ".sw2/labels/log.jsonl"
    kept = log.read_text().splitlines()
    log.write_text("\n".join(kept[:3]))
    seen = labelling.before("anna", "")
    assert seen is not None
    labelling.label("anna", seen.content, "dog")
    assert set(kept) < set(log.read_text().splitlines())
    assert labelling.counts() == {"cat": COUNT - 1, "dog": 1}
    assert "put back" in labelling.notes[-1]
    assert any("put back" in text for text in said)


def test_unreadable_pictures_are_told_and_the_others_labelled(start: Start, pool: Path) -> None:
    (pool / "broken.png").write_bytes(b"no picture")
    said: list[str] = []
    labelling = start("cat", "dog", said=said)
    assert any("left out" in text and "broken.png" in text for text in said)
    assert any("1 copies of others were left out" in text for text in said)
    assert len(everything(labelling, "anna", "cat")) == COUNT


def test_a_table_is_labelled_too_and_its_labels_are_not_looked_at(start: Start, pool: Path, tmp_path: Path) -> None:
    table = tmp_path / "batch.csv"
    table.write_text("image,label,guess\npool/1.png,,cat\npool/2.png,x,dog\n")
    labelling = open_labelling(catalog(), str(table), Context(), labels=["cat", "dog"])
    try:
        assert everything(labelling, "anna", "cat") == ["pool/1.png", "pool/2.png"]
        assert (tmp_path / ".sw2/batch.csv/labels/log.jsonl").is_file()
        assert rows(labelling).keys() == {"pool/1.png", "pool/2.png"}
        assert labelling.table_path == tmp_path / "batch-labels.csv"
    finally:
        labelling.close()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([], "at least two labels"),
        (["cat"], "at least two labels"),
        (["cat", " "], "This is no label"),
        (["cat", "a\tb"], "This is no label"),
        (["cat", "x" * 201], "This is no label"),
        (["cat", "Cat"], "'cat' and 'Cat'"),
        (["Stra\u00dfe", "STRASSE"], "differ in their case"),
        (["e\u0301", "\u00e9"], "nothing that can be seen"),
    ],
)
def test_labels_that_nobody_could_tell_apart_are_refused(labels: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_labels(labels)
    assert says in str(caught.value)


def test_labels_are_kept_composed() -> None:
    assert check_labels([" e\u0301 ", "b"]) == ("\u00e9", "b")


@given(st.text(max_size=80))
def test_a_name_is_taken_as_it_can_be_shown_or_refused(text: str) -> None:
    labelling: Any = Labelling.__new__(Labelling)
    labelling._lock, labelling._open = threading.RLock(), {}
    labelling._opinions = type("Log", (), {"said": type("Said", (), {"by": {}})})
    try:
        name = labelling.enter(text)
    except UsageError:
        return
    assert name.isprintable()
    assert name == name.strip()
    assert name[0].isalnum()
    assert labelling.enter(name) == name


def test_what_is_refused(start: Start, pool: Path, tmp_path: Path) -> None:
    labelling = start("cat", "dog")
    seen = labelling.look("anna")
    assert seen is not None
    labelling.label("anna", seen.content, "cat")
    for bad in (
        lambda: labelling.label("anna", seen.content, "Cat"),
        lambda: labelling.label("anna", "nowhere", "cat"),
        lambda: labelling.decide("anna", seen.content, "cow"),
        lambda: labelling.enter("=cmd()"),
    ):
        with pytest.raises(UsageError):
            bad()
    with pytest.raises(ResourceError, match="labelled by another process"):
        open_labelling(catalog(), str(pool), Context(), labels=["cat", "dog"])
    with pytest.raises(UsageError, match="would be none any more"):
        start("dog", "eel")
    assert start("dog", "eel", "cat").labels == ("dog", "eel", "cat")
    (tmp_path / "empty").mkdir()
    faults: list[tuple[type[Sw2Error], str, dict[str, Any]]] = [
        (DataError, str(tmp_path / "empty"), {}),
        (UsageError, "digits", {}),  # whose pictures are no files
        (UsageError, str(pool), {"overlap": 2}),
        (UsageError, str(pool), {"out": tmp_path / "x.xlsx"}),
        (UsageError, str(pool), {"task": "text-generation"}),
    ]
    for kind, source, more in faults:
        with pytest.raises(kind):
            open_labelling(catalog(), source, Context(), labels=["cat", "dog"], **more)
    (tmp_path / "mine.csv").write_text("of somebody")
    with pytest.raises(UsageError, match="labelling did not make it"):
        LabelTable(tmp_path / "mine.csv", tmp_path / "copy", "image")
    assert (tmp_path / "mine.csv").read_text() == "of somebody"
