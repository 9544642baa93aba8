"""Owners: rules only ever close, and a file of rules that cannot be read opens nothing."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.domains.documents.owners import FILE, OPEN, Rules, may_read, read_rules


def test_without_owners_everybody_may_read() -> None:
    assert Rules({"hr/*": ["anna"]}).access("guide.md") == OPEN
    assert may_read(OPEN, [])


def test_each_pattern_that_matches_must_name_the_caller() -> None:
    rules = Rules({"hr/*": ["anna", "board"], "*salary*": ["board"]})
    assert may_read(rules.access("hr/rules.md"), ["anna"])
    assert not may_read(rules.access("hr/deep/salary.md"), ["anna"])
    assert may_read(rules.access("hr/deep/salary.md"), ["anna", "board"])
    assert not may_read(rules.access("hr/rules.md"), ["bo"])
    assert not may_read(rules.access("hr/rules.md"), [])


def test_it_does_not_matter_how_an_accent_is_written() -> None:
    for form in ("NFC", "NFD"):
        for other in ("NFC", "NFD"):
            rules = Rules({unicodedata.normalize(form, "Müller/*"): ["anna"]})
            assert rules.access(unicodedata.normalize(other, "Müller/a.txt")) != OPEN


_RULES = st.dictionaries(st.sampled_from(["a*", "*b", "ab", "*", "?b"]), st.lists(st.sampled_from("xyz"), min_size=1))


@given(_RULES, _RULES, st.sampled_from(["ab", "aa", "c", "bb"]), st.sets(st.sampled_from("xyz")))
def test_a_further_rule_never_opens_anything(some: dict, more: dict, path: str, names: set[str]) -> None:
    both = Rules({**more, **some})
    if may_read(both.access(path), names):
        assert may_read(Rules(some).access(path), names)
    assert both.access(path) == Rules(dict(reversed(both.owners.items()))).access(path)


def test_patterns_without_files_are_told() -> None:
    assert Rules({"hr/*": ["anna"], "hhr/*": ["anna"]}).idle(["hr/a.md"]) == ("hhr/*",)


def test_reading(tmp_path: Path) -> None:
    assert read_rules(tmp_path) is None
    (tmp_path / FILE).write_text('[owners]\n"hr/*" = ["anna"]\n')
    assert read_rules(tmp_path) == Rules({"hr/*": ["anna"]})
    (tmp_path / FILE).write_text("[owners]\n")
    assert read_rules(tmp_path) == Rules({})


@pytest.mark.parametrize(
    "text",
    ["", "[owner]\na = ['x']", "[owners]\n'a' = 'x'", "[owners]\n'a' = []", "[owners]\na.b = ['x']", "[owners", "\xff"],
)
def test_a_file_of_rules_that_says_none_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(
        UsageError, match="The owners of the documents cannot be read, so nothing was changed"
    ) as caught:
        read_rules(tmp_path)
    assert caught.value.where == tmp_path / FILE
