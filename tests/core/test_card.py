"""The card for people: numbers as they are read, nothing empty, nothing raw."""

from __future__ import annotations

from sw2.core.card import item, spoken


def test_each_kind_of_value_is_spoken() -> None:
    said = spoken({
        "train bytes": 11_048_234, "peak_memory": 5e8, "minutes": 0.676, "steps": 1543, "validation loss": 2.7310144,
        "labels": ["cat", "dog"], "rejected": [], "fingerprint": "d453838854d441b78a45", "rows": [{"where": "a.png",
        "why": "empty"}], "compile": "off", "exact": True, "none": None,
    })  # fmt: skip
    assert said == {
        "train bytes": "11.0 MB", "peak memory": "500.0 MB", "time": "41 s", "steps": "1,543",
        "validation loss": "2.731", "labels": "cat, dog", "fingerprint": "d453838854d4", "rows": "a.png empty",
        "compile": "off", "exact": "True", "none": "None",
    }  # fmt: skip


def test_a_long_list_has_a_line_for_each_item() -> None:
    rows = [{"where": f"{number:04}.png", "why": "empty"} for number in range(20)]
    said = spoken({"rows": rows, "labels": ["cat"] * 9, "one": ["x" * 500]})
    assert said["rows"].split("\n") == [f"{number:04}.png empty" for number in range(20)]
    assert "\n" not in said["labels"] + said["one"]
    assert item("rows", "a\n  b", "    ") == "rows:\n    a\n      b"
    assert item("rows", "a", "    ") == "rows: a"
