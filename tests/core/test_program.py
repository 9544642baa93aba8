"""Programs at rest: the same answers after a round trip, every damage named, old formats moved forward."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sw2.base.errors import ProgramError
from sw2.base.store import sha256_of_file
from sw2.core.card import Card
from sw2.core.program import Net, Program

INPUTS = [[0.1, 0.2, 0.3, 0.4], [1.0, -1.0, 0.5, 0.0]]


@pytest.fixture
def program(toy: Any) -> Program:
    return toy.assemble({"main": toy.net()})


@pytest.fixture
def saved(program: Program, tmp_path: Path) -> Path:
    return program.save(tmp_path / "program")


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((path / "program.json").read_text())
    change(document)
    (path / "program.json").write_text(json.dumps(document))


def _rewrite_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Other weights with checksums that fit, as who edits a program by hand would have them."""
    file = path / "weights.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    fits = {"sha256": sha256_of_file(file), "bytes": file.stat().st_size}
    _edit(path, lambda document: document["files"].update({"weights.safetensors": fits}))


def test_a_round_trip_keeps_id_and_answers(program: Program, saved: Path, catalogue: Any, tmp_path: Path) -> None:
    loaded = Program.load(saved, catalogue)
    assert loaded.id == program.id
    assert loaded.map(INPUTS) == program.map(INPUTS)
    assert loaded(INPUTS[0]) == program(INPUTS[0])
    again = loaded.save(tmp_path / "copy")
    for name in ("weights.safetensors", "program.json", "notes.txt", "README.md"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()
    assert Program.load(tmp_path, catalogue).id == program.id  # a run's folder serves too


def test_a_setting_that_is_added_later_makes_no_other_program(
    program: Program, saved: Path, catalogue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older sw2 wrote a config without it; its default means what was before."""
    known = catalogue.model_class

    def wider(name: str) -> Any:
        kind = known(name)
        config = dataclasses.make_dataclass(
            "Config", [("added", int, 3)], bases=(kind.Config,), frozen=True, kw_only=True
        )
        return type(kind.__name__, (kind,), {"Config": config})

    monkeypatch.setattr(catalogue, "model_class", wider)
    loaded = Program.load(saved, catalogue)
    assert loaded.id == program.id
    assert Program.load(loaded.save(tmp_path / "again"), catalogue).id == program.id


def test_what_decides_answers_decides_the_id(program: Program, toy: Any, kinds_of_toys: Any) -> None:
    ids = {program.id}
    ids.add(toy.assemble({"main": replace(toy, seed=1).net()}).id)
    ids.add(toy.assemble({"other": toy.net()}).id)
    ids.add(replace(program, prep=kinds_of_toys["Shift"](program.prep.mean, "another")).id)
    ids.add(replace(program, prep=kinds_of_toys["Shift"](program.prep.mean + 1)).id)
    ids.add(replace(program, uses={"base": program}).id)
    assert len(ids) == 6
    assert replace(program, card=Card(facts={"steps": 3})).id == program.id


def test_thawed_copies_learn_apart(program: Program) -> None:
    before = program.id
    net = program.thaw()["main"]
    assert all(parameter.requires_grad for parameter in net.parameters())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert program.id == before
    assert not any(parameter.requires_grad for parameter in program.nets["main"].module.parameters())


def test_tied_weights_are_saved(toy: Any, kinds_of_toys: Any, catalogue: Any, tmp_path: Path) -> None:
    tied = kinds_of_toys["TiedPair"](kinds_of_toys["TiedPair"].Config())
    program = replace(toy.assemble({"main": tied}), nets={"main": Net("tied", tied)})
    loaded = Program.load(program.save(tmp_path / "tied"), catalogue)
    assert loaded.map(INPUTS) == program.map(INPUTS)
    assert loaded.id == program.id


def test_used_programs_are_checked(program: Program, toy: Any, catalogue: Any, tmp_path: Path) -> None:
    base = replace(program, path=program.save(tmp_path / "base"))
    user = replace(program, uses={"base": base}).save(tmp_path / "user")
    assert Program.load(user, catalogue).uses["base"].id == base.id
    toy.assemble({"main": replace(toy, seed=1).net()}).save(tmp_path / "base")
    with pytest.raises(ProgramError, match="damaged") as caught:
        Program.load(user, catalogue)
    assert "used as 'base'" in str(caught.value)


def test_a_used_program_moves_with_the_one_that_uses_it(
    program: Program, catalogue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    base = replace(program, path=program.save("base"))
    replace(program, uses={"base": base}).save("user")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    assert Program.load(tmp_path / "there" / "user", catalogue).uses["base"].id == base.id
    with pytest.raises(ProgramError, match="must be saved itself"):
        replace(program, uses={"base": replace(program, path=None)}).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_program_that_uses_itself_is_refused(program: Program, catalogue: Any, tmp_path: Path) -> None:
    base = replace(program, path=program.save(tmp_path / "base"))
    user = replace(program, uses={"base": base}).save(tmp_path / "user")
    for path in (".", "../other"):
        _edit(user, lambda document, path=path: document["uses"]["base"].update(path=path))
        shutil.copytree(user, tmp_path / "other", dirs_exist_ok=True)
        _edit(tmp_path / "other", lambda document: document["uses"]["base"].update(path="../user"))
        assert "a program that uses itself" in _refused(user, catalogue)


def test_a_measurement_that_is_no_number_does_not_lose_the_program(
    program: Program, catalogue: Any, tmp_path: Path
) -> None:
    card = Card(facts={"validation loss": math.nan}, scores=[{"of": "program", "name": "x", "value": math.inf,
                                                            "examples": 1}])  # fmt: skip
    loaded = Program.load(replace(program, card=card).save(tmp_path / "program"), catalogue)
    assert loaded.card.facts == {"validation loss": None}


def test_other_files_are_not_overwritten(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ProgramError, match="There is something else at this path"):
        program.save(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


# ------------------------------------------------------------------------------------------------------------ damage


def _refused(path: Path, catalogue: Any) -> str:
    with pytest.raises(ProgramError) as caught:
        Program.load(path, catalogue)
    return str(caught.value)


def test_truncated_and_flipped_weights(saved: Path, catalogue: Any) -> None:
    file = saved / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert f"wanted: {len(whole)} bytes" in _refused(saved, catalogue)
    for place in (0, 9, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        text = _refused(saved, catalogue)
        assert "This program is damaged." in text
        assert "SHA-256" in text
    file.unlink()
    assert "no such file" in _refused(saved, catalogue)


def test_weights_that_are_no_safetensors_file(saved: Path, catalogue: Any) -> None:
    file = saved / "weights.safetensors"
    file.write_bytes(b"not one")
    fits = {"sha256": sha256_of_file(file), "bytes": file.stat().st_size}
    _edit(saved, lambda document: document["files"].update({"weights.safetensors": fits}))
    assert "a safetensors file" in _refused(saved, catalogue)


def test_every_mismatch_is_listed_at_once(saved: Path, catalogue: Any) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["nets/main/last.bias"]
        tensors["nets/main/more.bias"] = torch.zeros(3)
        tensors["nets/main/first.weight"] = torch.zeros(8, 5)

    _rewrite_weights(saved, change)
    text = _refused(saved, catalogue)
    assert "first.weight is (8, 5), not (8, 4); last.bias is missing; more.bias is not part of the network" in text


def test_changed_values_do_not_fit_the_id(saved: Path, catalogue: Any) -> None:
    """What no checksum of a file covers: the preprocessing's values stand in program.json itself."""
    _edit(saved, lambda document: document["prep"].update(name="another"))
    assert "what makes the id" in _refused(saved, catalogue)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: document.clear(), "no number under 'format'"),
        (lambda document: document.pop("task"), "no task"),
        (lambda document: document.update(nets=[]), "nets is no dict"),
        (lambda document: document["nets"]["main"].pop("model"), "no nets.main.model"),
        (
            lambda document: document["files"]["weights.safetensors"].update(bytes="many"),
            "files.weights.safetensors.bytes",
        ),
        (lambda document: document["files"].pop("weights.safetensors"), "no files.weights.safetensors"),
        (lambda document: document["files"].update({"../x": {"sha256": "", "bytes": 0}}), "the file ../x"),
        (lambda document: document["card"].pop("facts"), "no card.facts"),
        (lambda document: document["domain"].pop("distribution"), "no domain.distribution"),
        (lambda document: document["nets"]["main"]["config"].update(width="wide"), "width"),
        (lambda document: document["nets"]["main"]["config"].update(wide=3), "nets.main.config.wide"),
        (lambda document: document["prep"].pop("name"), "the preprocessing of toy-regressor"),
        (lambda document: document["card"].update(strange={}), "what toy-regressor is made from"),
        (lambda document: document.update(nets={}), "what toy-regressor is made from"),
        (lambda document: document.update(id=7), "no text under 'id'"),
    ],
)
def test_damaged_documents(saved: Path, catalogue: Any, change: Any, says: str) -> None:
    _edit(saved, change)
    text = _refused(saved, catalogue)
    assert text.startswith("This program is damaged.")
    assert says in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'])
def test_documents_that_are_no_object(saved: Path, catalogue: Any, content: bytes) -> None:
    (saved / "program.json").write_bytes(content)
    assert "This program is damaged." in _refused(saved, catalogue)


@pytest.mark.parametrize("key", ["task", "runtime", "model"])
def test_a_missing_distribution_is_named(saved: Path, catalogue: Any, key: str) -> None:
    def change(document: dict[str, Any]) -> None:
        place = document["nets"]["main"] if key == "model" else document
        place[key] = "of-a-plug-in"

    _edit(saved, change)
    text = _refused(saved, catalogue)
    assert "needs a distribution that is not installed" in text
    assert "pip install sw2-toys" in text
    assert "sw2-toys 1.2" in text
    assert "of-a-plug-in" in text


# ----------------------------------------------------------------------------------------------------------- formats


def test_a_newer_format_is_refused(saved: Path, catalogue: Any) -> None:
    _edit(saved, lambda document: document.update(format=99))
    text = _refused(saved, catalogue)
    assert "made by a newer sw2" in text
    assert "format 99" in text


def test_format_0_moves_forward(program: Program, saved: Path, catalogue: Any) -> None:
    def back(document: dict[str, Any]) -> None:
        document.update(format=0, id="made another way", **document.pop("nets")["main"])
        del document["uses"], document["binds"]

    _edit(saved, back)
    loaded = Program.load(saved, catalogue)
    assert loaded.map(INPUTS) == program.map(INPUTS)
    assert loaded.id == program.id
    _edit(saved, lambda document: document.pop("model"))
    assert "no nets.main.model" in _refused(saved, catalogue)
