"""JSON from texts: references pass, the splits are apart, and each planted flaw is named."""

import functools
import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.domains.language.skills import records_varied as varied
from sw2.domains.language.skills.basis import SPLITS, TOGETHER, assistant, ends_well
from sw2.domains.language.skills.checking import check_answer, examples
from sw2.domains.language.skills.records import read_stanzas


@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_every_example_is_well_formed_and_passes(seed, split):
    example = examples("records", split, seed, 1)[0]
    assert ends_well(example["messages"]) is None
    verdict = check_answer(example, example["messages"])
    assert (verdict.passed, verdict.score, verdict.flaws) == (True, 1.0, ())
    assert verdict.details["valid"]


def test_sources_and_templates_are_held_out():
    made = {split: examples("records", split, 0, 2700 if split == "train" else 900) for split in SPLITS}
    packages = {
        s: {t for e in made[s] for t in e["check"]["text"].splitlines() if t.startswith("Package: ")} for s in SPLITS
    }
    keys = {split: {key for example in made[split] for key in example["check"]["fields"]} for split in SPLITS}
    texts = {split: {example["check"]["text"] for example in made[split]} for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not packages[one] & packages[other]
        assert not keys[one] & keys[other]
        assert not texts[one] & texts[other]
    assert len(packages["train"]) > 100


def test_examples_of_train_in_a_row_ask_for_different_things_from_one_text():
    train, test = examples("records", "train", 2, 60 * TOGETHER), examples("records", "test", 2, 90)
    alike = 0
    for first in range(0, len(train), TOGETHER):
        block = train[first : first + TOGETHER]
        requests = [each["messages"][1]["content"] for each in block]
        (text,) = {each["check"]["text"] for each in block}
        assert len(set(requests)) == TOGETHER
        before, at, _ = requests[0].partition(text)
        alike += all(request.startswith(before + at) for request in requests)
    assert 0.3 < alike / 60 < 0.7
    assert len({each["check"]["text"] for each in test}) > 75


def test_what_stands_before_a_text_has_no_parts():
    words = varied.wordings()
    heads = [frame.partition("{text}")[0] for frame in (*words["requests"], *words["listed"])]
    heads = [head for head in heads if "{keys}" not in head]
    assert len(heads) >= 0.5 * (len(words["requests"]) + len(words["listed"]))
    assert not [head for head in heads if varied.grown(head, random.Random(0)) != head]


HELD_OUT = tomllib.loads(Path(varied.__file__).with_name("records.toml").read_text("utf-8"))
SOURCES = ("items", "brands", "places", "people", "organisations", "rooms")


@functools.cache
def _pattern(text):
    """An expression that matches whatever `grown(text)` can become."""
    pieces = re.split(r"(<[a-z]+(?:_[a-z]+)*>|<-?\d+-\d+>)", text)
    return "".join(
        re.escape(piece)
        if not at % 2
        else r"-?\d+"
        if any(map(str.isdigit, piece))
        else f"(?:{'|'.join(map(_pattern, varied.wordings()['parts'][piece[1:-1]]))})"
        for at, piece in enumerate(pieces)
    )


def _leaves(value):
    if isinstance(value, str):
        yield value.casefold()
    elif not isinstance(value, bool):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)


def test_no_name_of_the_other_splits_can_be_drawn_for_train():
    found = []
    for source in (*SOURCES, "things"):
        wordings = varied.wordings() if source in SOURCES else varied.wordings()["story"]
        known = re.compile("|".join(map(_pattern, wordings[source])), re.IGNORECASE)
        for split in ("validation", "test"):
            names = HELD_OUT[split][source] if source in SOURCES else HELD_OUT[split]["story"][source]
            found += [name for name in names if known.fullmatch(name)]
    assert not found


def test_no_key_and_no_wording_of_the_other_splits_is_known_to_train():
    words = varied.wordings()
    held = {key.split(" (")[0] for split in ("validation", "test") for key in _leaves(HELD_OUT["keys"][split])}
    held = {re.sub(r"[\W_]", "", key) for key in held}
    both = {(field, key) for field in words["fields"] for key in varied.spellings(field) & held}
    assert not both
    any_word = re.compile(f"(?:{_pattern('<any_word>')}){{1,2}}")
    assert not [key for key in held if any_word.fullmatch(key.casefold())]
    ours = {text for name in ("requests", "listed", "review", "story", "note") for text in _leaves(words[name])}
    both = ours & {text for split in ("validation", "test") for text in _leaves(HELD_OUT[split])}
    assert not both


def test_what_further_records_name_exists():
    words = varied.wordings()
    for name, kind in words["kinds"].items():
        for line in kind["lines"]:
            field = line.split("|")[1]
            assert "maybe" in words["fields"][field] or not line.startswith("?"), (name, line)
        for text in [*kind["texts"], *(f"{{{line.split('|')[1]}}}" for line in kind["lines"])]:
            assert set(re.findall(r"{(\w+)}", text)) <= set(words["fields"]), (name, text)
    for word in set(re.findall(r"<([a-z_]+)>", json.dumps(words))):
        assert words["parts"][word]


TEXT = "Package: foo\nInstalled-Size: 12\nThe tram operator in Leeds opened a new bridge on Monday. 40 visitors came."
FIELDS = {
    "package": "foo",
    "size": 12,
    "new": True,
    "needs": ["libc6", "zlib1g"],
    "summary": "The tram operator in Leeds opened a new bridge on Monday.",
}
KINDS = {"package": "text", "size": "number", "new": "bool", "needs": "list", "summary": "summary"}


def _judged(answer):
    example = {"check": {"skill": "records", "fields": FIELDS, "kinds": KINDS, "text": TEXT, "event": "opened"}}
    return check_answer(example, [{"role": "user", "content": TEXT}, assistant(answer)])


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({}, None),
        ({"needs": ["zlib1g", "libc6"]}, None),
        ({"package": "Foo"}, None),
        ({"summary": "The tram operator opened a new bridge in Leeds on Monday"}, None),
        ({"size": 12.0}, None),
        ({"size": "12"}, "wrong type: size"),
        ({"size": 13}, "wrong value: size"),
        ({"size": True}, "wrong type: size"),
        ({"new": "true"}, "wrong type: new"),
        ({"new": False}, "wrong value: new"),
        ({"needs": ["libc6"]}, "wrong value: needs"),
        ({"needs": ["libc6", "zlib1g", "zlib1g"]}, "wrong value: needs"),
        ({"needs": "libc6, zlib1g"}, "wrong type: needs"),
        ({"package": "foo2"}, "wrong value: package"),
        ({"package": None}, "wrong type: package"),
        ({"summary": "A bridge."}, "wrong value: summary"),
        ({"summary": TEXT}, "wrong value: summary"),
        ({"summary": "The tram operator in Paris opened a new bridge on Monday."}, "wrong value: summary"),
        ({"summary": "The tram operator in Leeds has not opened a new bridge on Monday."}, "wrong value: summary"),
        ({"summary": "The tram operator in Leeds closed a bridge on Monday."}, "wrong value: summary"),
        ({"more": 1}, "key that was not asked for: more"),
    ],
)
def test_values(change, flaw):
    verdict = _judged(json.dumps({**FIELDS, **change}))
    assert verdict.flaws == (() if flaw is None else (flaw,))
    assert verdict.passed == (flaw is None)
    assert (verdict.score == 1) == (flaw is None)


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        ("```json\n" + json.dumps(FIELDS) + "\n```", None),
        (json.dumps(FIELDS, indent=2), None),
        ("Here you are: " + json.dumps(FIELDS), "not JSON"),
        (json.dumps(FIELDS)[:-1], "not JSON"),
        (str(FIELDS), "not JSON"),
        ('{"size": NaN}', "not JSON"),
        ('{"size": 12, "size": 12}', "not JSON: a key stands there twice"),
        ("[1]", "no JSON object"),
        ("[" * 5000, "not JSON"),
        ("", "no answer"),
    ],
)
def test_form(answer, flaw):
    verdict = _judged(answer)
    assert verdict.passed == (flaw is None)
    assert flaw is None or verdict.flaws[0].startswith(flaw)


def test_a_missing_key_costs_its_share():
    verdict = _judged(json.dumps({key: value for key, value in FIELDS.items() if key != "size"}))
    assert verdict.flaws == ("missing key: size",)
    assert verdict.score == pytest.approx(0.8)


def test_stanzas_of_a_file(tmp_path):
    (tmp_path / "status").write_text(
        "Package: a\nVersion: 1\nDescription: x\n more: y\n\nPackage: b\nDepends: c: d\n\nNo: p\n"
    )
    read = read_stanzas(tmp_path / "status")
    assert read == [{"Package": "a", "Version": "1", "Description": "x"}, {"Package": "b", "Depends": "c: d"}]
