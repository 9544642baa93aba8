"""Questions about documentation: sources, held-out modules, and right and subtly wrong answers."""

import random
import re
import tomllib
from collections import Counter
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, UsageError
from sw2.domains.language.skills.basis import SPLITS, TOGETHER, assistant, ends_well
from sw2.domains.language.skills.checking import check_answer, examples
from sw2.domains.language.skills.documentation import NOT_THERE, examples_from
from sw2.domains.language.skills.documentation_passages import entries
from sw2.domains.language.skills.documentation_train import Renaming


@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_every_example_is_well_formed_and_passes(seed, split):
    example = examples("documentation", split, seed, 1)[0]
    assert ends_well(example["messages"]) is None
    verdict = check_answer(example, example["messages"])
    assert (verdict.passed, verdict.score, verdict.flaws) == (True, 1.0, ())


def test_modules_wordings_and_sentences_are_held_out():
    modules = {split: {entry.module for held in entries("python")[split] for entry in held} for split in SPLITS}
    keys = {split: {entry.key for held in entries("python")[split] for entry in held} for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not modules[one] & modules[other]
        assert not keys[one] & keys[other]
    assert sum(map(len, keys.values())) > 1500


def test_the_wordings_of_train_are_many_and_held_out():
    def plain(text):
        return re.sub(r"[^a-z{}]+", " ", text.lower()).strip()

    folder = Path(__file__).parent
    train = tomllib.loads((folder / "documentation_train.toml").read_text("utf-8"))
    held = tomllib.loads((folder / "documentation.toml").read_text("utf-8"))
    for kind, texts in train["wordings"].items():
        assert len(set(map(plain, texts))) >= 40
        assert not {plain(each) for each in texts} & {
            plain(each) for split in ("validation", "test") for each in held[split].get(kind, ())
        }
    layouts = {" ".join(each.split()) for split in ("validation", "test") for each in held[split]["layouts"]}
    assert len(train["layouts"]) >= 40
    tagged = (each.replace("{tag}", tag) for each in train["layouts"] for tag in train["tags"])
    assert layouts.isdisjoint(" ".join(each.split()) for each in tagged)


def test_train_has_all_kinds_many_names_and_as_much_not_there_as_the_others():
    train = examples("documentation", "train", 1, 300)[:]
    kinds = Counter(each["check"]["kind"] for each in train)
    assert all(kinds[kind] >= 8 for kind in ("what", "unnamed", "returns", "raises", "default", "arguments", "lacking"))
    assert 0.06 < kinds["lacking"] / len(train) < 0.18
    known = {entry.name for held in entries("python")["train"] for entry in held}
    assert 0.4 < sum(each["check"]["name"] not in known for each in train) / len(train) < 0.6


def test_examples_of_train_in_a_row_ask_different_things_about_one_passage():
    train, test = examples("documentation", "train", 2, 30 * TOGETHER), examples("documentation", "test", 2, 90)
    alike = 0
    for first in range(0, len(train), TOGETHER):
        block = train[first : first + TOGETHER]
        texts = [each["messages"][1]["content"] for each in block]
        (passage,) = {each["check"]["passage"] for each in block}
        assert len({(each["check"]["name"], each["check"]["answer"]) for each in block}) == TOGETHER
        begin = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts)))
        alike += begin > len(passage)
    assert 0.5 < alike / 30 < 0.9
    assert train[7] == examples("documentation", "train", 2, 8)[7]
    assert len({each["check"]["passage"] for each in test}) > 85


@given(st.integers(0, 10**6))
def test_new_names_are_the_same_everywhere(seed):
    prose = "Store path_name. If `depth` is odd, Shelf.keep() does it; DEPTH and the mode count, see 'mode'."
    arguments = (("path_name", None), ("depth", "7"), ("mode", "None"), ("*rest", None))
    renaming = Renaming([("shelve.Shelf.keep", arguments, prose), ("shelve.sort", (), "Sort it.")], random.Random(seed))
    module, shelf, keep = renaming.name("shelve.Shelf.keep").split(".")
    path_name, depth, mode, rest = (name for name, _ in renaming.arguments(arguments, prose))
    assert renaming.text(prose) == (
        f"Store {path_name}. If `{depth}` is odd, {shelf}.{keep}() does it; "
        f"{depth.upper()} and the mode count, see 'mode'."
    )
    assert mode == "mode"
    assert rest.startswith("*")
    assert renaming.name("shelve.sort").startswith(f"{module}.")
    assert not {"shelve", "Shelf", "keep", "path_name", "depth"} & {module, shelf, keep, path_name, depth}
    assert renaming.near(f"{module}.{shelf}.{keep}").rpartition(".")[0] == f"{module}.{shelf}"


def test_nothing_is_imported_to_be_read():
    found = {entry.name for split in SPLITS for held in entries("json")[split] for entry in held}
    assert "json.decoder.JSONDecoder.decode" in found


def test_a_folder_of_markdown(tmp_path):
    for number in range(40):
        (tmp_path / f"page{number}.md").write_text(
            f"# Fetching number {number}\n\nThe fetcher reads the plan {number} before it takes the first step.\n\n"
            f"```\ncode\n```\n\n## Storing number {number}\n\nResults {number} are kept in a table beside the plan.\n"
        )
    for split in SPLITS:
        for example in examples_from(str(tmp_path), split, 0, 20):
            assert check_answer(example, example["messages"]).passed
            assert "code" not in example["messages"][1]["content"]
    assert any(
        "Fetching" in example["messages"][2]["content"] for example in examples_from(str(tmp_path), "train", 0, 20)
    )


def test_sources_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="no such documentation"):
        examples_from("nosuchpackage", "train", 0, 1)
    with pytest.raises(DataError, match="Nothing here is documented"):
        examples_from(str(tmp_path), "train", 0, 1)


PASSAGE = """\
shutil.copytree(src, dst, symlinks=False, ignore=None)
Recursively copy a directory tree and return the destination directory. If exceptions occur, an Error is raised.

shutil.rmtree(path, ignore_errors=False)
Recursively delete a directory tree. Read-only files are not deleted if ignore_errors is false."""


def _judged(kind, key, answer, **facts):
    check = {
        "skill": "documentation",
        "kind": kind,
        "answer": key,
        "name": "shutil.copytree",
        "passage": PASSAGE,
        "others": [["shutil.rmtree", "Recursively delete a directory tree."]],
        **facts,
    }
    example = {"check": check}
    return check_answer(example, [{"role": "user", "content": PASSAGE}, assistant(answer)])


KEY = "Recursively copy a directory tree and return the destination directory."


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        (KEY, None),
        ("It recursively copies a directory tree and returns the destination directory.", None),
        ("`shutil.copytree` copies a directory tree recursively, and returns the destination directory.", None),
        ("Recursively delete a directory tree.", "misses the answer"),
        ("Recursively copy a directory tree and return the source directory.", "contradicts"),
        ("It does not recursively copy a directory tree and return the destination directory.", "contradicts"),
        ("Recursively copy 7 directory trees and return the destination directory.", "not in the passage: 7"),
        ("Recursively copy a tree of registry keys, mail, cats, dogs and a directory.", "misses the answer"),
        ("It returns a directory tree and recursively copies the destination directory.", "turns the answer round"),
        (NOT_THERE, "says that the passage holds no answer"),
        (PASSAGE, "copies or rambles"),
        ("", "no answer"),
    ],
)
def test_sentences(answer, flaw):
    verdict = _judged("what", KEY, answer)
    assert verdict.passed == (flaw is None), verdict
    assert flaw is None or any(each.startswith(flaw) for each in verdict.flaws), verdict


@pytest.mark.parametrize(
    ("kind", "answer", "facts", "right"),
    [
        ("unnamed", "Use `shutil.copytree`.", {}, True),
        ("unnamed", "copytree does that", {}, True),
        ("unnamed", "Use `shutil.rmtree`.", {}, False),
        ("unnamed", "Use `shutil.copytree` or `shutil.rmtree`.", {}, False),
        ("unnamed", "Use `shutil.copytrees`.", {}, False),
        ("default", "The default of `symlinks` is `False`.", {}, True),
        ("default", "False", {}, True),
        ("default", "It is None.", {}, False),
        ("default", "`symlinks` is `None` or `False`.", {}, False),
        ("arguments", "`copytree` takes `src`, `dst`, `symlinks` and `ignore`.", {}, True),
        ("arguments", "src, dst, symlinks, ignore", {}, True),
        ("arguments", "`src`, `dst` and `symlinks`.", {}, False),
        ("arguments", "`src`, `dst`, `symlinks`, `ignore` and `mode`.", {}, False),
        ("lacking", NOT_THERE, {}, True),
        ("lacking", "Sorry, the text doesn't mention that.", {}, True),
        ("lacking", "It moves a file.", {}, False),
    ],
)
def test_names_values_and_what_is_not_there(kind, answer, facts, right):
    more = {"argument": "symlinks", "value": "False", "values": ["False", "None"]}
    more |= {"arguments": ["src", "dst", "symlinks", "ignore"]}
    assert _judged(kind, "Use `shutil.copytree` for it, which has words.", answer, **more).passed == right
