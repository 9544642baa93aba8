"""`sw2 label`, the history of `sw2 data`, and slices of `sw2 eval`, as a user meets them: output, files, mistakes."""

from __future__ import annotations

import csv
import importlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.domains.vision.data import digits
from sw2.faces.cli import VERBS, app
from sw2.verbs.choose import next_labels
from sw2.verbs.labelling import open_labelling

Image = pytest.importorskip("PIL.Image")

for _verb in VERBS:
    importlib.import_module(f"sw2.faces.cli.{_verb}_command")

QUICK = ["--set", "learn.gradient.precision=fp32"]


def sw2(*arguments: Any) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("label") / "photos"
    for number, example in enumerate(digits().split("train")[:60]):
        path = root / ("even" if int(example["label"]) % 2 == 0 else "odd") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example["image"]).save(path)
    return root


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    """A program learned from a table of the pictures, in which each has a pen; committed before."""
    table = photos.parent / "table.csv"
    rows = [
        f"{path.relative_to(photos.parent)},{path.parent.name},{'blue' if number % 3 else 'red'}"
        for number, path in enumerate(sorted(photos.rglob("*.png")))
    ]
    table.write_text("\n".join(["image,label,pen", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_HOME", str(photos.parent / "home"))
        assert sw2("data", "commit", table, "-m", "every digit").exit_code == 0
        out = photos.parent / "run"
        done = sw2(
            "train", "image-classification", table, "--preset", "tiny", "--steps", 3, "--out", out, *QUICK,
            "--set", "data.test_share=0.5", "--set", "data.validation_share=0",
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    return out


def test_suspects(photos: Path, tmp_path: Path) -> None:
    asked = ["label", "suspects", photos, "--folds", 2, "--steps", 4, *QUICK]
    shown = sw2(*asked, "--count", 3, "--out", tmp_path / "s.csv")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["example", "label", "p(label)", "looks", "like"]
    assert len(lines) == 4
    assert "of 60 labels are estimated to be wrong" in shown.stderr
    table = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert len(table) == 60
    assert lines[1].startswith(table[0]["name"])
    assert set(table[0]) == {"name", "split", "label", "looks_like", "probability", "own"}
    again = json.loads(sw2(*asked, "--json").stdout)
    assert [each["name"] for each in again["suspects"]] == [row["name"] for row in table[:20]]
    assert (again["task"], again["data"]["examples"], again["out"]) == ("image-classification", 60, None)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--minutes", 1, "--steps", 2], "exactly one of minutes, steps and epochs"),
        (["--task", "text-generation"], "do not have one label each"),
        (["--task", "image-clasification"], "Did you mean 'image-classification'?"),
        (["--out", "table.xlsx"], "a name that ends in .csv or .jsonl"),
        (["--set", "learn.gradient.batch_sise=3"], "Did you mean 'learn.gradient.batch_size'?"),
        (["--folds", 1], "--folds"),
        (["--minutes", -1], "above 0"),
    ],
)
def test_wrong_use_of_suspects(photos: Path, more: list[Any], says: str) -> None:
    refused = sw2("label", "suspects", photos, *more)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr


def test_next_writes_a_table_to_fill_in(run: Path, photos: Path, tmp_path: Path) -> None:
    chosen = sw2("label", "next", run, photos, "--count", 6, "--out", tmp_path / "batch.csv")
    assert chosen.exit_code == 0, chosen.output
    assert len(chosen.stdout.splitlines()) == 7
    assert "6 of 60 different examples" in chosen.stderr
    rows = list(csv.DictReader((tmp_path / "batch.csv").read_text().splitlines()))
    assert [*rows[0]] == ["image", "label", "guess", "probability"]
    filled = [{**row, "label": Path(row["image"]).parent.name} for row in rows]
    with (tmp_path / "filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(filled)
    read = json.loads(sw2("data", "commit", tmp_path / "filled.csv", "-m", "labelled", "--json").stdout)
    assert read["commit"]["examples"] == 6
    same = json.loads(sw2("label", "next", run, photos, "--count", 6, "--json").stdout)
    assert [Path(each["place"]).absolute() for each in same["next"]] == [Path(row["image"]) for row in rows]


def test_next_tells_what_it_cannot_choose_from(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "There are no pictures here." in sw2("label", "next", run, tmp_path / "empty").stderr
    assert "data set or file" in sw2("label", "next", run, tmp_path / "nowhere").stderr
    assert json.loads(sw2("label", "next", tmp_path, tmp_path, "--json").stdout)["error"] == "ProgramError"


def test_what_is_refused_before_anything_is_served(run: Path, photos: Path, tmp_path: Path) -> None:
    def refused(*arguments: Any, says: str, code: int = 2) -> None:
        result = sw2("label", "serve", *arguments)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert says in result.stderr

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    refused(pictures, "--labels", "a,b", "--port", 0, says="There are no pictures here.", code=1)
    (pictures / "1.png").write_bytes(next(photos.rglob("*.png")).read_bytes())
    here = [pictures, "--port", 0]
    refused(tmp_path / "nowhere", "--labels", "a,b", "--port", 0, says="data set or file")
    refused(*here, says="--labels cat,dog")
    refused(*here, "--labels", "Cat,cat", says="'Cat' and 'cat'")
    refused(*here, "--labels", "cat,,dog", says="This is no label")
    refused(*here, "--labels", "a,b", "--overlap", 1.5, says="--overlap")
    refused(*here, "--labels", "a,b", "--out", tmp_path / "x.xlsx", says="ends in .csv")
    refused(*here, "--labels", "a,b", "--host", "0.0.0.0", says="would answer everybody")
    refused(*here, "--program", tmp_path, says="no program here", code=1)
    refused(*here, "--program", run, "--task", "text-generation", says="Leave --task out")
    (tmp_path / "pictures-labels.csv").write_text("of somebody")
    refused(*here, "--labels", "a,b", says="labelling did not make it")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(pictures, "--labels", "a,b", "--port", port, says="Choose another with --port", code=1)
    assert not (pictures / ".sw2").exists()


def test_guesses_come_first_and_in_the_order_of_next(run: Path, photos: Path) -> None:
    program = catalog().program(str(run), Context())
    chosen = next_labels(program, str(photos), 50, Context()).chosen[:3]
    labelling = open_labelling(catalog(), str(photos), Context(), program=program)
    try:
        assert labelling.labels == ("even", "odd")
        for each, label in zip(chosen, ("even", "odd", "even"), strict=True):
            seen = labelling.look("anna")
            assert seen is not None
            assert photos / seen.name == Path(each.place)
            assert next(iter(seen.chances.items())) == (each.guess, pytest.approx(each.probability))
            labelling.label("anna", seen.content, label)
    finally:
        labelling.close()
    committed = sw2("data", "commit", photos.parent / "photos-labels.csv", "-m", "labelled")
    assert committed.exit_code == 0, committed.output


def test_a_history_is_made_and_read(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for number, example in enumerate(digits().split("train")[:4]):
        path = root / ("even" if number % 2 == 0 else "odd") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example["image"]).save(path)
    assert sw2("data", "log", root).stderr.startswith("no commit yet:")
    first = sw2("data", "commit", root, "--message", "four digits\nof one writer")
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines()[1] == "4 added"
    again = sw2("data", "commit", root, "-m", "nothing")
    assert (again.exit_code, "nothing has changed since commit" in again.stdout) == (0, True)
    (root / "odd/1.png").rename(root / "even/1.png")
    (root / "even/0.png").unlink()
    shown = sw2("data", "diff", root)
    assert shown.stdout.splitlines() == [
        "relabelled  odd/1.png -> even/1.png  odd -> even",
        "removed     even/0.png  even",
        "1 relabelled, 1 removed",
    ]
    told = json.loads(sw2("data", "diff", root, "--json").stdout)
    assert told["counts"]["relabelled"] == 1
    assert told["changes"][1]["now"] is None
    assert sw2("data", "commit", root, "-m", "one was even").exit_code == 0
    log = sw2("data", "log", root).stdout
    assert log.index("one was even") < log.index("    four digits\n    of one writer")
    commits = json.loads(sw2("data", "log", root, "--json").stdout)["commits"]
    assert [each["examples"] for each in commits] == [3, 4]
    between = sw2("data", "diff", root, commits[1]["id"][:6], "HEAD")
    assert between.stdout == shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["commit", "digits", "-m", "x"], 2, "A history stands beside data"),
        (["commit", "."], 2, "--message"),
        (["commit", ".", "-m", " "], 2, "A commit has a message."),
        (["commit", ".", "-m", "x"], 1, "no labelled pictures"),
        (["diff", "."], 2, "there is no commit yet"),
        (["log", "nowhere"], 2, "A history stands beside data"),
    ],
)
def test_wrong_use_of_a_history(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = sw2("data", *arguments)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert says in refused.stderr
    assert not list(tmp_path.iterdir())


def test_the_card_names_the_commit(run: Path, photos: Path) -> None:
    commits = json.loads(sw2("data", "log", photos.parent / "table.csv", "--json").stdout)["commits"]
    card = json.loads((run / "program/program.json").read_text())["card"]
    assert card["data"]["commit"] == commits[0]["id"]
    assert f"commit: {commits[0]['id'][:12]}\n" in (run / "program/README.md").read_text()


def test_slices_of_an_evaluation(run: Path, photos: Path) -> None:
    asked = ["eval", run, photos.parent / "table.csv", "--set", "data.test_share=0.5"]
    found = json.loads(sw2(*asked, "--slices", "metadata", "--json").stdout)
    parts = {(part["column"], part["slice"]): part for part in found["slices"]}
    assert set(parts) == {("label", "even"), ("label", "odd"), ("pen", "red"), ("pen", "blue")}
    total = sum(part["examples"] for key, part in parts.items() if key[0] == "pen")
    assert total == found["scores"][0]["examples"]
    shown = sw2(*asked, "--slices", "pen")
    assert shown.exit_code == 0
    assert "pen = red" in shown.stdout
    refused = sw2(*asked, "--slices", "pne")
    assert (refused.exit_code, "Did you mean 'pen'?" in refused.stderr) == (2, True)
    assert "slices" not in json.loads(sw2(*asked, "--json").stdout)


def test_a_build_fails_under_a_bound(run: Path, photos: Path) -> None:
    asked = ["eval", run, photos.parent / "table.csv", "--set", "data.test_share=0.5", "--slices", "label"]
    assert sw2(*asked, "--fail-under", "0").exit_code == 0
    failed = sw2(*asked, "--fail-under", "1.01")
    assert failed.exit_code == 1
    assert "sw2: accuracy is " in failed.stderr
    assert "sw2: accuracy where label = " in failed.stderr
    assert "worse than 1.01" in failed.stderr
