"""What people really have: broken pictures, odd tables, wrong names, damaged programs. Each is met as a user meets it.

For each: the text, the exit code, and that nothing was lost: the data is as it was, and `--out` is free for another try
or holds what it held. A full disk is in `system/test_disk.py`.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from sw2.base.store import sha256_of_file
from sw2.faces.cli import VERBS, app

Image = pytest.importorskip("PIL.Image")

for _verb in VERBS:
    importlib.import_module(f"sw2.faces.cli.{_verb}_command")

# Two steps, without what takes seconds and is no matter here: measuring bf16, and fitting baselines.
SHORT = ["--preset", "tiny", "--steps", "2", "--set", "learn.gradient.precision=fp32", "--out", "out"]
PICTURES = ["train", "image-classification", "data", *SHORT]
WORDS = ["train", "text-generation", "data", *SHORT, "--set", "prep.vocab_size=300"]


def sw2(*arguments: Any) -> Result:
    """The command in this process; an exception that is no exit would be a traceback, and is raised here."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def contents(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): sha256_of_file(file) for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in a folder of its own, whose `data` no command may change."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("*.partial"))


def refused(code: int, arguments: list[str], *says: str) -> str:
    """The command ends with `code` and these words, leaves the data as it was, and `--out` free."""
    before = contents(Path())
    result = sw2(*arguments)
    assert result.exit_code == code, result.output
    assert not result.stdout
    for text in says:
        assert text in result.stderr
    assert contents(Path()) == before
    assert not Path("out").exists()
    return result.stderr


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(values).save(path, "PNG")
    return path


def photos(*labels: str, number: int = 12, root: str = "data") -> None:
    for which, label in enumerate(labels):
        for index in range(number):
            picture(Path(root, label, f"{index}.png"), seed=100 * which + index)


# ---------------------------------------------------------------------------------------------------- folders, tables


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(PICTURES, "There is no data set or file called 'data'."), (WORDS, "There is no text or folder called 'data'.")],
    ids=["pictures", "words"],
)
def test_a_missing_folder(arguments: list[str], says: str) -> None:
    refused(2, arguments, says, "wanted:", "got:")


def test_a_folder_with_one_class() -> None:
    photos("cat")
    refused(1, PICTURES, "tell apart", "got:    1: cat")


def test_a_label_that_only_the_test_split_has() -> None:
    photos("cat", "dog", root="data/train")
    photos("cat", "cow", root="data/test")
    refused(1, PICTURES, "'test' has labels", "got:    cow")


def test_a_table_without_the_column() -> None:
    picture(Path("1.png"))
    Path("data.csv").write_text("picture,label\n1.png,cat\n")
    arguments = [each.replace("data", "data.csv") if each == "data" else each for each in PICTURES]
    refused(1, arguments, "no column 'image'", "got:    picture, label", "--set data.image=COLUMN")


# --------------------------------------------------------------------------------------------------------- pictures


def test_broken_pictures_among_good_ones_are_named_and_the_rest_is_learned() -> None:
    photos("cat", "dog", number=160)  # of which one in a hundred may be broken
    whole = Path("data/cat/0.png").read_bytes()
    Path("data/cat/cut.png").write_bytes(whole[: len(whole) // 2])
    Path("data/cat/empty.png").write_bytes(b"")
    Path("data/dog/letter.png").write_text("Dear all, this is no picture.")
    Path("data/dog/wrong-ending.gif").write_bytes(whole)  # a PNG all the same, so it is learned from
    before = contents(Path("data"))
    result = sw2(*PICTURES)
    assert result.exit_code == 0, result.output
    for name in ("cut.png", "empty.png", "letter.png"):
        assert name in result.stderr
    assert "wrong-ending" not in result.stderr
    card = json.loads(Path("out/program/program.json").read_text())["card"]
    assert card["data"]["rejected rows"] == 3
    assert sorted(Path(row["where"]).name for row in card["data"]["rejected"]) == ["cut.png", "empty.png", "letter.png"]
    assert contents(Path("data")) == before


def test_mostly_broken_pictures_are_refused() -> None:
    photos("cat", "dog", number=4)
    for index in range(8):
        Path(f"data/cat/empty{index}.png").write_bytes(b"")
    refused(1, PICTURES, "Too many rows cannot be used: 8 of 16.", "empty0.png", "at most 1%", "Repair or remove")


UNUSUAL: dict[str, Callable[[np.ndarray, Path], None]] = {
    "16-bit.png": lambda values, path: Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(path),
    "palette.png": lambda values, path: Image.fromarray(values).quantize(16).save(path),
    "transparent.png": lambda values, path: Image.fromarray(values).quantize(16).save(path, transparency=0),
    "cmyk.jpg": lambda values, path: Image.fromarray(values).convert("CMYK").save(path),
    "animated.gif": lambda values, path: Image.fromarray(values).save(
        path, save_all=True, append_images=[Image.fromarray(255 - values)]
    ),
    "one-bit.png": lambda values, path: Image.fromarray(values).convert("1").save(path),
}


def test_pictures_of_unusual_kinds_are_learned_from_and_answered() -> None:
    for which, label in enumerate(("cat", "dog")):
        for index in range(8):
            for name, save in UNUSUAL.items():
                path = Path("data", label, f"{index}-{name}")
                path.parent.mkdir(parents=True, exist_ok=True)
                save(np.random.default_rng(100 * which + index).integers(0, 256, (12, 12, 3), np.uint8), path)
    result = sw2(*PICTURES)
    assert result.exit_code == 0, result.output
    card = json.loads(Path("out/program/program.json").read_text())["card"]
    assert card["data"]["rejected rows"] == 0
    asked = [f"data/cat/0-{name}" for name in UNUSUAL]
    result = sw2("run", "out", *asked, "--json")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)["answers"]
    assert len(answers) == len(UNUSUAL)
    assert {answer["label"] for answer in answers} <= {"cat", "dog"}


# -------------------------------------------------------------------------------------------------------------- text


def test_text_that_is_not_utf_8() -> None:
    Path("data").write_bytes("Größe\n".encode("latin-1") * 1000)
    refused(1, WORDS, "UTF-8")


def test_a_file_that_is_not_utf_8_among_others_is_named_and_the_rest_is_learned() -> None:
    Path("data").mkdir()
    for index in range(40):
        Path(f"data/{index}.txt").write_text(f"number {index} " * 100)
    Path("data/latin.txt").write_bytes("Größe".encode("latin-1"))
    before = contents(Path("data"))
    result = sw2(*WORDS, "--set", "model.context=32")
    assert result.exit_code == 0, result.output
    assert "latin.txt: not UTF-8 at byte 2" in result.stderr
    assert contents(Path("data")) == before


def test_a_text_that_is_smaller_than_one_context() -> None:
    Path("data").write_text("a few words only\n" * 3)
    refused(1, WORDS, "too little text", "model.context")


# ---------------------------------------------------------------------------------------------------- wrong names, out


@pytest.mark.parametrize(
    ("change", "offer"),
    [
        ({"image-classification": "image-clasification"}, "Did you mean 'image-classification'?"),
        ({"--preset": "--preset", "tiny": "tinny"}, "Did you mean 'tiny'?"),
        ({"learn.gradient.precision=fp32": "learn.gradient.precison=fp32"}, "Did you mean 'learn.gradient.precision'?"),
    ],
    ids=["task", "preset", "setting"],
)
def test_a_misspelt_name(change: dict[str, str], offer: str) -> None:
    photos("cat", "dog", number=3)
    refused(2, [change.get(each, each) for each in PICTURES], offer)


def test_a_misspelt_model() -> None:
    photos("cat", "dog", number=3)
    refused(2, [*PICTURES, "--model", "resnt"], "Did you mean 'resnet'?")


# ---------------------------------------------------------------------------------------------------------- programs


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_HOME", str(folder / "home"))
        patch.chdir(folder)
        order = ["train", "image-classification", "digits", *SHORT, "--set", "data.test_share=0"]
        result = sw2(*order)
    assert result.exit_code == 0, result.output
    return folder / "out"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _make_newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("weights.safetensors", _cut, ["This program is damaged.", "weights.safetensors", "bytes"]),
        ("weights.safetensors", _flip, ["This program is damaged.", "weights.safetensors", "SHA-256"]),
        ("weights.safetensors", Path.unlink, ["This program is damaged.", "weights.safetensors", "no such file"]),
        ("program.json", _cut, ["This program is damaged.", "program.json"]),
        ("program.json", Path.unlink, ["There is no program here."]),
        ("program.json", _make_newer, ["made by a newer sw2", "format 99", "do:"]),
    ],
    ids=["cut", "flipped", "gone", "cut document", "no document", "newer"],
)
@pytest.mark.parametrize("verb", ["run", "info", "eval", "export", "train"])
def test_a_damaged_or_newer_program(
    learned: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], says: list[str], verb: str
) -> None:
    shutil.copytree(learned / "program", "program")
    damage(Path("program", name))
    asked = picture(Path("a.png"))
    arguments: dict[str, list[str]] = {
        "run": ["run", "program", str(asked)],
        "info": ["info", "program"],
        "eval": ["eval", "program", "digits"],
        "export": ["export", "program", "--out", "out"],
        "train": ["train", "image-classification", "digits", *SHORT, "--from", "program"],
    }
    refused(1, arguments[verb], *says)


def test_an_out_that_holds_a_run_stays_as_it_is(learned: Path) -> None:
    photos("cat", "dog", number=3)
    before = contents(learned)
    result = sw2(*[str(learned) if each == "out" else each for each in PICTURES])
    assert result.exit_code == 1
    assert "already holds a run; nothing was changed" in result.stderr
    assert "--resume" in result.stderr
    assert contents(learned) == before


def test_a_bare_key_decides_how_the_data_is_read() -> None:
    """Without it this file cannot be read at all: which of the two fields holds the keys is not clear."""
    np.save("data.npy", np.array([(1, 5), (2, 7)], [("other", "<i8"), ("time", "<i8")]))
    order = ["train", "learned-index", "data.npy", "--model", "binary-search"]
    refused(2, [*order, "--out", "out"], "--set data.key")
    assert sw2(*order, "--set", "key=time", "--out", "out").exit_code == 0
    assert sw2("run", "out", "7").stdout == "7: 1, 1\n"
