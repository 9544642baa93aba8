"""Readers of labelled pictures: what they accept, what they skip, what they refuse, and how they divide."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError, ResourceError, UnknownName, UsageError
from sw2.base.store import sha256_of_bytes
from sw2.core.data import Data
from sw2.domains.vision import data as module
from sw2.domains.vision.data import digits, fashion_mnist, hold_out, read, read_folder, read_table, write_digits
from sw2.domains.vision.stamps import KINDS, STAMPS

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_HOME", str(tmp_path / "home"))


def refuse(question: str) -> bool:
    raise AssertionError(f"nothing should be asked: {question}")


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)).save(path, "PNG")
    return path


def photos(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        draw(root / name, seed)
    return root


def labels(data: Data, split: str = "train") -> list[str]:
    return [example["label"] for example in data.split(split)]


def test_folders_are_labels(tmp_path: Path) -> None:
    root = photos(tmp_path / "pets", "dog/1.png", "cat/b.png", "cat/deep/a.png", "cat/.hidden.png", "cat/Thumbs.db")
    (root / "README.txt").write_text("beside the labels")
    data = read(root, confirm=refuse)
    assert labels(data) == ["cat", "cat", "dog"]
    assert data.facts["labels"] == ("cat", "dog")
    assert (data.name, data.source, data.licence, data.rejected) == ("pets", str(root), "unknown", ())
    first = data.split("train")[0]
    assert first["sha256"] == sha256_of_bytes(first["image"].read_bytes())


def test_folders_may_be_splits(tmp_path: Path) -> None:
    root = photos(tmp_path, "train/a/1", "train/b/2", "valid/a/3", "Test/b/4")
    data = read_folder(root)
    assert {name: labels(data, name) for name in data.splits} == {
        "train": ["a", "b"],
        "validation": ["a"],
        "test": ["b"],
    }


def test_a_label_may_be_called_train(tmp_path: Path) -> None:
    assert labels(read_folder(photos(tmp_path, "train/1.png", "bus/2.png"))) == ["bus", "train"]


def test_accents_are_one_label_however_the_file_system_spells_them(tmp_path: Path) -> None:
    data = read_folder(photos(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png", "bar/3.png"))
    assert data.facts["labels"] == ("bar", "caf\u00e9")


def test_the_fingerprint_is_about_content_and_not_about_places(tmp_path: Path) -> None:
    first = photos(tmp_path / "one", "a/1.png", "b/2.png")
    shutil.copytree(first, tmp_path / "two")
    assert read_folder(first).fingerprint == read_folder(tmp_path / "two").fingerprint
    draw(tmp_path / "two/b/2.png", 99)
    assert read_folder(first).fingerprint != read_folder(tmp_path / "two").fingerprint


@pytest.mark.parametrize("names", [(), ("1.png", "2.png")])
def test_a_folder_without_labels_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="no labelled pictures") as caught:
        read_folder(photos(tmp_path, *names))
    assert f"0 folders and {len(names)} files" in str(caught.value)


def test_one_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tell apart") as caught:
        read_folder(photos(tmp_path, "cat/1.png", "cat/2.png"))
    assert caught.value.got == "1: cat"


def test_a_label_only_in_the_test_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'test' has labels") as caught:
        read_folder(photos(tmp_path, "train/a/1", "train/b/2", "test/c/3"))
    assert caught.value.got == "c"


def test_one_bad_picture_is_forgiven_and_named(tmp_path: Path) -> None:
    root = photos(tmp_path, "a/1.png", "b/2.png")
    (root / "b/broken.png").write_bytes(b"\x89PNG no more")
    data = read_folder(root)
    assert len(data.split("train")) == 2
    assert data.rejected[0].where == str(root / "b/broken.png")
    assert "cannot be read" in data.rejected[0].why
    with pytest.raises(DataError, match="1 of 3"):
        read_folder(root, max_bad=0)


def test_many_bad_pictures_are_an_error(tmp_path: Path) -> None:
    root = photos(tmp_path, "a/1.png", "b/2.png")
    for number in range(2):
        (root / f"b/{number}.txt").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 4") as caught:
        read_folder(root)
    assert "0.txt" in str(caught.value)
    assert len(read_folder(root, max_bad=0.5).rejected) == 2


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_tables_of_text(tmp_path: Path, ending: str, separator: str) -> None:
    photos(tmp_path, "x/1.png", "2.png", "3.png")
    lines = [("label", "image", "split"), ("ca,t", "x/1.png", ""), ("dog", str(tmp_path / "2.png"), "")]
    lines += [("dog", "3.png", "dev")]
    quoted = [separator.join(f'"{cell}"' for cell in line) for line in lines]
    path = tmp_path / f"list.{ending}"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*quoted, "", ""]).replace('""', "train").encode())
    data = read(path, confirm=refuse)
    assert labels(data) == ["ca,t", "dog"]
    assert labels(data, "validation") == ["dog"]


def test_rows_that_cannot_be_used_say_where_and_why(tmp_path: Path) -> None:
    photos(tmp_path, "1.png", "2.png")
    path = tmp_path / "list.csv"
    rows = {
        "1.png": "1 cells under 3 headings",
        "gone.png,a,train": "cannot be opened",
        ",a,train": "no picture",
        "1.png,,train": "label is empty",
        "1.png,a,holdout": "'holdout' is none of",
        "\0.png,a,train": "cannot be opened",
    }
    path.write_text("\n".join(["image,label,split", "1.png,a,train", "2.png,b,train", *rows]), encoding="utf-8")
    data = read_table(path, max_bad=1)
    assert labels(data) == ["a", "b"]
    for number, (rejected, why) in enumerate(zip(data.rejected, rows.values(), strict=True), start=4):
        assert rejected.where == f"{path}:{number}"
        assert why in rejected.why


def test_json_lines(tmp_path: Path) -> None:
    photos(tmp_path, "1.png", "2.png")
    rows = [
        {"file": "1.png", "class": 7},
        {"file": "2.png", "class": 8, "split": "train"},
        [1],
        {"file": 3, "class": 7},
    ]
    rows += [{"file": "1.png", "class": None}, {"file": "1.png", "class": True}, {"class": 7}]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{", ""]), encoding="utf-8")
    data = read_table(path, image="file", label="class", max_bad=1)
    assert labels(data) == ["7", "8"]
    whys = [row.why for row in data.rejected]
    wanted = ["not list", "not int", "there is no label", "not True", "no picture", "no JSON"]
    assert len(whys) == 6
    assert all(part in why for part, why in zip(wanted, whys, strict=True))


def test_parquet_with_paths_and_with_the_pictures_inside(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = [draw(tmp_path / f"{number}.png", number) for number in range(2)]
    parquet.write_table(arrow.table({"image": ["0.png", "1.png"], "label": ["a", "b"]}), tmp_path / "paths.parquet")
    paths = read_table(tmp_path / "paths.parquet")

    inside = [{"bytes": file.read_bytes(), "path": None} for file in files]
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
    table = arrow.table({"image": inside, "label": [0, 1]}).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    parquet.write_table(table, tmp_path / "bytes.parquet")
    stored = read_table(tmp_path / "bytes.parquet")
    assert labels(stored) == labels(paths) == ["a", "b"]
    assert stored.fingerprint == paths.fingerprint
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="Parquet"):
        read_table(tmp_path / "bad.parquet")


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
def test_a_missing_column_lists_the_columns(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({"picture": ["x"], "label": ["y"]}), path)
    else:
        path.write_text('{"picture": "x", "label": "y"}' if name.endswith("jsonl") else "picture,label\nx,y\n")
    with pytest.raises(DataError, match="no column 'image'") as caught:
        read_table(path)
    assert caught.value.got == "picture, label"


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(UsageError, match="kind of table"):
        read_table(tmp_path / "a.xlsx")
    for content, why in ((b"", "no column"), (b"image,label\n", "no rows"), (b"image,label\n\xff,a\n", "UTF-8")):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(DataError, match=why):
            read_table(tmp_path / "a.csv")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="digit"):
        read("digit", confirm=refuse)


def test_the_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    data = read("digits", confirm=refuse)
    assert len(data.split("train")) == 1797
    assert data.facts["labels"] == tuple("0123456789")
    assert data.fingerprint == "ef9432c53d27893b5b626220107a6e3135f0852b57252006c73e8af8bd079b24"
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    pictures = np.stack([example["image"] for example in data.split("train")])
    assert pictures.dtype == np.uint8
    assert np.array_equal(np.rint(pictures / 255 * 16), bunch.images)
    assert labels(data) == [str(target) for target in bunch.target]
    write_digits(tmp_path / "digits.npz")
    shipped, made = (np.load(folder / "digits.npz") for folder in (Path(module.__file__).parent, tmp_path))
    assert set(shipped) == set(made)
    assert all(np.array_equal(shipped[name], made[name]) for name in made)


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(header + values.tobytes())


@pytest.fixture
def small_fashion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Four files in the format of Fashion-MNIST with ten and five pictures, as if they were the published ones."""
    generator = np.random.default_rng(0)
    files = {}
    for stem, number in (("train", 10), ("t10k", 5)):
        files[f"{stem}-images-idx3-ubyte.gz"] = idx(generator.integers(0, 256, (number, 28, 28), np.uint8))
        files[f"{stem}-labels-idx1-ubyte.gz"] = idx(np.arange(number, dtype=np.uint8))
    hashes = {f"nowhere/fashion-mnist/{name}": sha256_of_bytes(files[name]) for name in files}
    monkeypatch.setattr(module, "_FASHION", replace(module._FASHION, files=hashes))
    return files


@pytest.fixture
def package_client(monkeypatch: pytest.MonkeyPatch, small_fashion: dict[str, bytes]) -> list[list[str]]:
    """A package client that delivers `small_fashion`; the commands that it got."""
    commands: list[list[str]] = []

    def run(command: list[str], cwd: Path, **_: Any) -> None:
        commands.append(command)
        if command[0] == "apt-get":
            (cwd / "dataset-fashion-mnist_all.deb").touch()
        else:
            target = cwd / "unpacked/nowhere/fashion-mnist"
            target.mkdir(parents=True)
            for name, content in small_fashion.items():
                (target / name).write_bytes(content)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return commands


def test_fashion_is_asked_for_once_fetched_checked_and_kept(package_client: list[list[str]], tmp_path: Path) -> None:
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    data = fashion_mnist(agree)
    assert "31 MB" in asked[0]
    assert "MIT" in asked[0]
    assert [command[0] for command in package_client] == ["apt-get", "dpkg-deb"]
    assert labels(data)[:2] == ["T-shirt/top", "Trouser"]
    assert labels(data)[-1] == "Ankle boot"
    assert len(data.split("test")) == 5
    assert data.split("test")[0]["image"].shape == (28, 28)
    assert fashion_mnist(refuse).fingerprint == data.fingerprint

    damaged = tmp_path / "home/data/fashion-mnist/t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match="not what was published") as caught:
        fashion_mnist(refuse)
    assert str(damaged) in str(caught.value)


def test_fashion_is_not_fetched_against_the_users_will(package_client: list[list[str]]) -> None:
    with pytest.raises(UsageError, match="was not fetched"):
        fashion_mnist(lambda _: False)
    assert not package_client


def test_a_package_client_that_fails_is_quoted(
    package_client: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(100, command, stderr="E: Unable to locate package\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ResourceError, match="could not be fetched") as caught:
        fashion_mnist(lambda _: True)
    assert caught.value.got == "E: Unable to locate package"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ResourceError, match="cannot be fetched"):
        fashion_mnist(refuse)


def made_stamps(home: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps of noise, `count` of each kind and as many of none, where the published ones would be kept."""
    draw = np.random.default_rng(0)
    for folders in (*KINDS.values(), ("clothes",)):
        for number in range(count):
            path = home / "data" / "stamps" / folders[0] / f"thing-{'abcdefghij'[number]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (9, 8, 3), np.uint8)).save(path)
    published = replace(STAMPS, folder="nowhere", sha256=STAMPS.digest(home / "data" / "stamps"))
    monkeypatch.setattr("sw2.domains.vision.data.STAMPS", published)


def test_stamps_of_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_stamps(tmp_path / "home", 3, monkeypatch)
    mirrored = tmp_path / "home" / "data" / "stamps" / "vehicles" / "thing-a_mirror.png"
    Image.new("RGB", (5, 5)).save(mirrored)
    with pytest.raises(DataError, match="not what was published"):
        read("stamp-kinds", confirm=refuse)
    made_stamps(tmp_path / "home", 3, monkeypatch)
    data = read("stamp-kinds", confirm=refuse)
    assert Counter(labels(data)) == {kind: 3 + (kind == "vehicle") for kind in KINDS}
    families = Counter(example["family"] for example in data.split("train"))
    assert families.pop("vehicles/thing-a") == 2
    assert set(families.values()) == {1}
    for seed in range(9):
        divided = hold_out(data, {"train": 0.5, "test": 0.5}, seed)
        sides = [{example["family"] for example in divided.split(split)} for split in ("train", "test")]
        assert not sides[0] & sides[1]


def arrays(contents: list[tuple[int, str]]) -> Data:
    """Data of one-pixel pictures."""
    examples = [{"image": None, "label": label, "sha256": sha256_of_bytes(bytes([value]))} for value, label in contents]
    return Data(name="made", splits={"train": examples}, fingerprint="")


def test_a_division_is_stratified_and_depends_on_content_and_seed_alone() -> None:
    data, fractions = digits(), {"train": 0.8, "validation": 0.1, "test": 0.1}
    divided = hold_out(data, fractions, seed=0)
    totals = Counter(labels(data))
    for split, share in fractions.items():
        for label, number in Counter(labels(divided, split)).items():
            assert abs(number - share * totals[label]) <= 1.5
    backwards = Data(name="", splits={"train": data.split("train")[::-1]}, fingerprint="")
    again, other = hold_out(backwards, fractions, seed=0), hold_out(data, fractions, seed=1)
    digests = [sorted(row["sha256"] for row in made.split("test")) for made in (divided, again, other)]
    assert digests[0] == digests[1] != digests[2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), min_size=2, max_size=40), st.integers(0, 9))
def test_copies_stay_together_and_nothing_is_lost(contents: list[tuple[int, str]], seed: int) -> None:
    data = arrays(contents)
    try:
        divided = hold_out(data, {"train": 0.7, "test": 0.3}, seed)
    except DataError:
        return
    train, test = divided.split("train"), divided.split("test")
    assert not {row["sha256"] for row in train} & {row["sha256"] for row in test}
    assert sorted(map(id, [*train, *test])) == sorted(map(id, data.split("train")))


def test_other_splits_are_kept() -> None:
    data = digits()
    with_test = hold_out(data, {"train": 0.9, "test": 0.1}, seed=0)
    both = hold_out(with_test, {"train": 0.9, "validation": 0.1}, seed=0)
    assert both.split("test") is with_test.split("test")
    assert sum(map(len, both.splits.values())) == 1797


@pytest.mark.parametrize("fractions", [{}, {"train": 1.1, "test": -0.1}, {"train": 0.5}, {"test": 0.5, "train": 0.5}])
def test_shares_that_make_no_whole_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="shares"):
        hold_out(digits(), fractions, seed=0)
    with pytest.raises(UsageError, match="shares"):
        hold_out(hold_out(digits(), {"train": 0.9, "test": 0.1}, 0), {"train": 0.9, "test": 0.1}, 0)
