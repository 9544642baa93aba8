"""The example distribution: installed by pip, found by its entry point, learned, used and judged from the command line.

And the template: a copy with the words of CONTRIBUTING.md replaced is a domain of its own that keeps the contract.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sw2.base.errors import ProgramError
from sw2.catalog import catalog
from sw2.core.program import Program

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "examples" / "sw2-lines"
TASK, DATA = "tabular-regression", "diabetes"
# What each word of the table in CONTRIBUTING.md becomes in the copy.
RENAMED = {
    "sw2-lines": "sw2-lakes",
    "sw2_lines": "sw2_lakes",
    "lines": "lakes",
    "tabular-regression": "lake-level",
    "ridge": "shore",
    "least-squares": "plumb-line",
    "predictor": "gauge",
    "diabetes": "rainfall",
}


RECORD = (
    '{"age": 59, "sex": 2, "bmi": 32.1, "bp": 101, "s1": 157, "s2": 93.2, "s3": 38, "s4": 4, "s5": 4.8598, "s6": 87}'
)
COMMANDS: Mapping[str, Sequence[str]] = {
    "list": ["list"],
    "plan": ["plan", TASK, DATA],
    "plan of 100 steps": ["plan", TASK, DATA, "--steps", "100"],
    "train": ["train", TASK, DATA, "--out", "run"],
    "run": ["run", "run", RECORD],
    "run with too little": ["run", "run", '{"age": 59}'],
    "eval": ["eval", "run", DATA],
}
# Several commands by the entry point of `sw2` in one process: importing torch takes longer than all of them.
SEVERAL = """
import contextlib, io, json, sys
from sw2.faces.cli import main
done = []
for words in json.load(sys.stdin):
    sys.argv = ["sw2", *words, "--json"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main()
    done.append(json.loads(printed.getvalue()))
print(json.dumps(done))
"""


@dataclass(frozen=True)
class Place:
    """A folder with sources, what pip installed from them, and runs."""

    folder: Path

    def python(self, *arguments: str, given: str = "", sources: Path = ROOT / "src") -> str:
        path = [sources, self.folder / "site", *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PIP_NO_INDEX": "1"},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sw2(self, commands: Iterable[Sequence[str]]) -> list[Any]:
        """What each command prints as JSON."""
        answers: list[Any] = json.loads(self.python("-c", SEVERAL, given=json.dumps(list(commands))))
        return answers

    def install(self, source: Path) -> None:
        """By pip, with what is installed already and no network."""
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(self.folder / "site")]
        self.python("-m", "pip", "install", *options, str(source))


def _copy(to: Path, words: Mapping[str, str]) -> Path:
    """The template with `words` replaced in files and their names; whole words only."""
    pattern = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, words)) + r")(?![\w-])") if words else None

    def put(text: str) -> str:
        return pattern.sub(lambda found: words[found[0]], text) if pattern else text

    # Python's caches and what builds leave behind are no part of the template.
    for source in [*TEMPLATE.glob("*.*"), *TEMPLATE.glob("sw2_lines/*.*")]:
        if source.is_file():
            target = to / put(str(source.relative_to(TEMPLATE)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(put(source.read_text(encoding="utf-8")), encoding="utf-8")
    return to


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("example"))
    place.install(_copy(place.folder / "sources" / "sw2-lines", {}))
    return place


@pytest.fixture(scope="module")
def said(place: Place) -> Mapping[str, Any]:
    """What each of the `COMMANDS` printed."""
    return dict(zip(COMMANDS, place.sw2(COMMANDS.values()), strict=True))


def test_it_is_listed(said: Mapping[str, Any]) -> None:
    assert TASK in said["list"]["tasks"]
    assert "ridge" in said["list"]["models"]
    assert DATA in said["list"]["data"]


def test_it_is_planned(said: Mapping[str, Any]) -> None:
    assert (said["plan"]["total_steps"], said["plan"]["facts"]["parameters"]) == (1, 11)
    refused = said["plan of 100 steps"]
    assert (refused["got"], refused["do"]) == ("--steps 100", "Leave them out; it takes 1 step.")


def test_it_is_learned_and_its_report_written(place: Place, said: Mapping[str, Any]) -> None:
    scores = said["train"]["card"]["scores"]
    own, baseline = (next(each for each in scores if (each["of"] == "program") == mine) for mine in (True, False))
    # On the held-out rows; scikit-learn's Ridge(alpha=1) has 58.61.
    assert own["value"] == pytest.approx(58.61, abs=0.01)
    assert baseline["value"] > own["interval"][1]
    assert "Beats its baseline" in (place.folder / "run" / "report.html").read_text(encoding="utf-8")


def test_it_is_used(said: Mapping[str, Any]) -> None:
    (answer,) = said["run"]["answers"]
    assert answer["value"] == pytest.approx(204.58, abs=0.01)
    assert said["run with too little"]["message"] == "This record cannot be used."


def test_it_is_judged(said: Mapping[str, Any]) -> None:
    assert said["eval"]["program"] == said["train"]["id"]
    assert [score["value"] for score in said["eval"]["scores"]] == [
        score["value"] for score in said["train"]["card"]["scores"]
    ]


def test_it_goes_on_where_it_was_killed(place: Place, said: Mapping[str, Any]) -> None:
    """Between learning and judging, and before the first checkpoint: the same program, bit for bit."""
    for name, lost in {"judging": ["program"], "learning": ["program", "checkpoints"]}.items():
        shutil.copytree(place.folder / "run", place.folder / name)
        journal = place.folder / name / "journal.jsonl"
        *kept, last = journal.read_text().splitlines(keepends=True)
        assert "finished" in json.loads(last)
        journal.write_text("".join(kept))
        for folder in lost:
            shutil.rmtree(place.folder / name / folder)
    resumed = place.sw2(["train", "--resume", "--out", name] for name in ("judging", "learning"))
    assert [each["id"] for each in resumed] == [said["train"]["id"]] * 2


def test_without_the_distribution_the_program_names_it(place: Place, said: Mapping[str, Any]) -> None:
    with pytest.raises(ProgramError, match="a distribution that is not installed") as told:
        Program.load(place.folder / said["train"]["run"], catalog())
    assert (told.value.wanted, told.value.do) == ("sw2-lines 0.1.0", "pip install sw2-lines")


def test_the_words_of_the_guide_are_all_that_is_registered(place: Place) -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding a domain")[2]
    table = section.partition("| word |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, flags=re.MULTILINE)) == set(RENAMED)
    registered = place.python(
        "-c",
        "from sw2_lines import DOMAIN as d; print(d.name, *d.tasks, *d.models, *d.objectives, *d.runtimes, *d.data)",
    )
    assert set(registered.split()) == set(RENAMED) - {"sw2-lines", "sw2_lines"}


def test_the_template_and_its_copies_keep_the_contract(place: Place) -> None:
    """The template, a copy in a distribution of its own and one in sw2, side by side, each by its own tests."""
    template, copied = place.folder / "sources" / "sw2-lines", place.folder / "sources" / "sw2-lakes"
    _copy(copied, RENAMED)
    left = [word for word in RENAMED if re.search(rf"(?<![\w-]){word}(?![\w-])", _everything(copied))]
    assert not left
    place.install(copied)
    sources = place.folder / "src"
    shutil.copytree(ROOT / "src" / "sw2", sources / "sw2", ignore=shutil.ignore_patterns("__pycache__", "test_*.py"))
    words = {word: f"{name}2" for word, name in RENAMED.items()} | {"sw2_lines": "sw2.domains.lakes2"}
    inside = _copy(place.folder / "sources" / "inside", words)
    built_in = Path(shutil.move(inside / "sw2.domains.lakes2", sources / "sw2" / "domains" / "lakes2"))
    for name in ("README.md", "test_lines.py"):
        shutil.move(inside / name, built_in / name)
    tests = [str(folder / "test_lines.py") for folder in (template, copied, built_in)]
    options = ["-q", "-W", "error", "--import-mode=importlib", "-p", "no:cacheprovider", "--rootdir", str(place.folder)]
    assert "9 passed" in place.python("-m", "pytest", *options, *tests, sources=sources)


def _everything(folder: Path) -> str:
    return "\n".join(f"{path}\n{path.read_text(encoding='utf-8')}" for path in folder.rglob("*.*") if path.is_file())
