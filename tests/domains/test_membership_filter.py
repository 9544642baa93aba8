"""From a file to a filter and back: kinds of keys, what is chosen, what goes wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError, ProgramError, Sw2Error, UsageError
from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.task import Context, PrepState
from sw2.domains.indexes.filters.data import FilterOptions, read
from sw2.domains.indexes.filters.keysets import why_not
from sw2.domains.indexes.filters.task import Membership, SetPrep
from sw2.verbs.evaluate import evaluate
from sw2.verbs.train import Order, resume, train

COMPILED = why_not() is None


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels where there is a compiler; compiled once, when the tests are collected."""
    if COMPILED:
        monkeypatch.setenv("SW2_NATIVE", "on")


def names(count: int, ending: str, seed: int) -> list[str]:
    return [f"{number:08x}{ending}" for number in np.random.default_rng(seed).integers(0, 1 << 32, count)]


def lines(path: Path, some: list[str]) -> Path:
    path.write_text("".join(f"{each}\n" for each in some), encoding="utf-8")
    return path


def made(keys: Path, out: Path, *settings: str, model: str | None = None) -> Program:
    order = Order(task="membership-filter", data=str(keys), model=model, settings=settings, preset="tiny")
    return train(catalog(), order, out, Context())


def test_learned_keys_take_fewer_bits_and_none_is_denied(tmp_path: Path) -> None:
    keys = names(3000, ".org", 0)
    path, others = lines(tmp_path / "keys.txt", keys), lines(tmp_path / "others.txt", names(8000, ".com", 1) + keys[:5])
    program = made(path, tmp_path / "run", f"absent={others}", "rate=0.02")
    assert program.nets["filter"].model == "sandwiched-filter"
    scores = {(score["of"], score["name"]): score for score in program.card.scores}
    assert scores["program", "bits a key"]["value"] < 0.3 * scores["bloom-filter", "bits a key"]["value"]
    assert scores["program", "keys denied"]["value"] == 0
    assert scores["program", "false-positive rate"]["interval"][0] < 0.02
    assert program(keys[0]) == {"member": "probably"}
    assert program("nowhere.com") == {"member": "no"}
    loaded = Program.load(program.path or tmp_path, catalog())
    assert loaded.capability(Membership).holds(keys).all()
    assert resume(catalog(), tmp_path / "run", Context()).id == program.id
    judged = evaluate(catalog(), loaded, str(path), Context(), settings=[f"data.absent={others}"])
    assert {score.name: score.value for score in judged if score.of == "program"}["keys denied"] == 0


def test_keys_that_look_like_others_are_left_to_a_bloom_filter(tmp_path: Path) -> None:
    path, others = lines(tmp_path / "keys.txt", names(2000, "", 0)), lines(tmp_path / "others.txt", names(4000, "", 1))
    program = made(path, tmp_path / "run", f"absent={others}")
    assert program.nets["filter"].model == "bloom-filter"
    assert "as a Bloom filter of the same rate" in program.card.made["why model"]


def test_without_others_it_is_a_bloom_filter_of_that_rate(tmp_path: Path) -> None:
    np.save(tmp_path / "keys.npy", np.arange(0, 9000, 3)[::-1])
    program = made(tmp_path / "keys.npy", tmp_path / "run", "rate=0.05")
    assert program.nets["filter"].model == "bloom-filter"
    scores = {score["name"]: score for score in program.card.scores if score["of"] == "program"}
    low, high = scores["false-positive rate"]["interval"]
    assert low - 0.005 < 0.05 < high + 0.005
    assert program("2997") == program(2997) == {"member": "probably"}
    assert program(2.5) == program(1 << 70) == {"member": "no"}
    holds = program.capability(Membership).holds
    assert holds(np.arange(0, 9000, 3)).all()
    assert holds(np.arange(1, 9000, 3)).mean() < 0.1
    with pytest.raises(UsageError, match="cannot be compared"):
        program("three")


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        (np.array([0.0, 2.5, -np.inf]), -0.0),
        (np.array([(1 << 64) - 1], np.uint64), (1 << 64) - 1),
        (np.array(["2024-05-01"], "M8[s]"), "2024-05-01T00:00"),
    ],
)
def test_numbers_and_times_of_every_type(tmp_path: Path, values: Any, asked: Any) -> None:
    np.save(tmp_path / "keys.npy", values)
    assert made(tmp_path / "keys.npy", tmp_path / "run")(asked) == {"member": "probably"}


def test_a_named_set_is_learned(tmp_path: Path) -> None:
    program = made(Path("called-numbers"), tmp_path / "run")
    assert program.nets["filter"].model == "sandwiched-filter"


@settings(deadline=None, max_examples=50)
@given(keys=st.lists(st.text(st.sampled_from("aä\r "), max_size=3), min_size=1), last=st.booleans())
def test_lines_are_those_of_the_file(keys: list[str], last: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lines") / "keys.txt"
    text = "\n".join(keys) + ("\n" if last else "")
    path.write_bytes(text.encode())
    if not text:
        with pytest.raises(DataError, match="no keys"):
            read(str(path), FilterOptions(), 0)
        return
    wanted = text.replace("\r\n", "\n").split("\n")
    found = read(str(path), FilterOptions(), 0).split("train")
    assert [each["key"] for each in found] == (wanted[:-1] if text.endswith("\n") else wanted)


def test_what_is_blank_or_odd_is_a_key_too(tmp_path: Path) -> None:
    keys = ["", " ", "a ", "ä", "\u200b", "x" * 5000]
    program = made(lines(tmp_path / "keys.txt", keys), tmp_path / "run")
    assert program.capability(Membership).holds(keys).all()
    assert program("a")["member"] == "no"


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"", (), "There are no keys"),
        (b"\xff\xfe", (), "not text"),
        (b"a\n", ("key=x",), "no columns"),
        (b"a\n", ("rate=0",), "out of range"),
        (b"a\n", ("rate=0.9",), "out of range"),
        (b"a\n", ("absent=gone.txt",), "no such file"),
        (b"a\n", ("absent=KEYS",), "too few others"),
        (b"a\n", ("absent=NUMBERS",), "another type"),
        (b"a\n", ("model.power=9",), "cannot be set"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, settings: tuple[str, ...], message: str) -> None:
    (tmp_path / "keys.txt").write_bytes(content)
    np.save(tmp_path / "numbers.npy", np.arange(9))
    named = {"KEYS": str(tmp_path / "keys.txt"), "NUMBERS": str(tmp_path / "numbers.npy")}
    replaced = [f"{name}={named.get(value, value)}" for name, _, value in (each.partition("=") for each in settings)]
    with pytest.raises(Sw2Error, match=message):
        made(tmp_path / "keys.txt", tmp_path / "run", *replaced)


def test_nan_and_missing_others_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "keys.npy", np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="no use for NaN"):
        made(tmp_path / "keys.npy", tmp_path / "run")
    with pytest.raises(DataError, match="needs others"):
        made(lines(tmp_path / "keys.txt", ["a"]), tmp_path / "other", model="sandwiched-filter")
    with pytest.raises(DataError, match=r"Files of this kind"):
        made(lines(tmp_path / "keys.log", ["a"]), tmp_path / "third")


@pytest.mark.parametrize(
    "spoilt",
    [{"dtype": "int8"}, {"unit": "weeks"}, {"different": 0}, {"different": "9"}, {"rate": 2.0}, {"rate": None}],
)
def test_a_damaged_set_is_told(spoilt: dict[str, Any]) -> None:
    good = {"dtype": "int64", "unit": "s", "different": 9, "rate": 0.1}
    assert dict(SetPrep.restore(PrepState(config=good)).state().config) == good
    with pytest.raises(ProgramError, match="is not told"):
        SetPrep.restore(dataclasses.replace(PrepState(), config=good | spoilt))


def test_keys_of_another_type_are_not_judged(tmp_path: Path) -> None:
    program = made(lines(tmp_path / "keys.txt", ["a", "b"]), tmp_path / "run")
    np.save(tmp_path / "keys.npy", np.arange(9))
    with pytest.raises(DataError, match="another type than those of the filter"):
        evaluate(catalog(), program, str(tmp_path / "keys.npy"), Context())
