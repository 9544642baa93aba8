"""Reading conversations: both forms, what is refused and how it is counted, and how they are divided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sw2.base.errors import DataError, UsageError
from sw2.domains.language.chat.conversations import (
    ChatOptions,
    conversation,
    fault,
    kinds_of_faults,
    overlap,
    read,
)
from sw2.domains.language.chat.judging import check_answer, prompt_of
from sw2.domains.language.chat.named import conversations, named

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
CALL = {"type": "function", "function": {"name": "calculator", "arguments": '{"expression": "2+2"}'}}


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def _talk(number: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"question {number}"}, HELLO[1]], **more}


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    openai = {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "4"},
            {"role": "assistant", "content": "4"},
        ],
        "tools": [{"name": "calculator"}],
    }
    sharegpt = {
        "system": "be kind",
        "conversations": [
            {"from": "human", "value": "2+2?"},
            {"from": "function_call", "value": '{"name": "calculator", "arguments": {"expression": "2+2"}}'},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "4"},
        ],
        "tools": '[{"name": "calculator"}]',
    }
    one, other = conversation(openai, "a"), conversation(sharegpt, "b")
    assert not fault(one["messages"], one["tools"])
    assert not fault(other["messages"], other["tools"])
    for ours, theirs in zip(one["messages"], other["messages"], strict=True):
        assert (ours["role"], ours["content"]) == (theirs["role"], theirs["content"])
    assert one["tools"] == other["tools"]
    listed = _write(tmp_path / "talks.json", json.dumps([openai, sharegpt]))
    assert len(read(str(listed), ChatOptions(test_share=0, validation_share=0)).split("train")) == 2


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        ([], "no turn of the assistant"),
        (HELLO[:1], "no turn of the assistant"),
        ([*HELLO[:1], *HELLO], "turns that do not alternate: turn 2, user after user"),
        ([*HELLO, HELLO[1]], "turns that do not alternate: turn 3, assistant after assistant"),
        (HELLO[1:], "turns that do not alternate: turn 1, assistant after nothing"),
        ([*HELLO, {"role": "system", "content": "x"}], "turns that do not alternate: turn 3, system after assistant"),
        ([{"role": "user", "content": " \n"}, HELLO[1]], "an empty turn: turn 1, user"),
        ([{"role": "bot", "content": "x"}], "a role that nobody knows: turn 1, 'bot'"),
        (["hello"], "a role that nobody knows: turn 1"),
        ([{"role": "user"}], "a turn that is not understood: turn 1"),
        ([HELLO[0], {"role": "assistant", "tool_calls": [{"function": 1}]}], "a turn that is not understood: turn 2"),
        (
            [HELLO[0], {"role": "assistant", "tool_calls": [CALL]}, HELLO[0]],
            "turns that do not alternate: turn 3, user",
        ),
    ],
)
def test_a_fault_is_named(messages: list[Any], kind: str) -> None:
    assert fault(messages).startswith(kind)


def test_bad_rows_are_counted_and_too_many_refused(tmp_path: Path) -> None:
    bad = [
        "{",
        {"text": "x"},
        {"messages": HELLO[:1]},
        {"messages": [HELLO[0], *HELLO]},
        {"conversations": [{"value": 1}]},
        {"messages": HELLO, "tools": [{"function": {}}]},
    ]
    path = _write(tmp_path / "talks.jsonl", *bad, *(_talk(number) for number in range(40)), _talk(0))
    data = read(str(path), ChatOptions())
    assert len(data.rejected) == 6
    assert sum(map(len, data.splits.values())) == 40
    assert data.facts["equal conversations dropped"] == 1
    lines = kinds_of_faults(data.rejected)
    assert "skipped 1 for turns that do not alternate: line 4" in lines
    assert "skipped 1 for not JSON: line 1" in lines
    with pytest.raises(DataError, match="Too many rows cannot be used: 6 of 10"):
        read(str(_write(tmp_path / "few.jsonl", *bad, *map(_talk, range(4)))), ChatOptions())
    with pytest.raises(DataError, match="no conversation here"):
        read(str(_write(tmp_path / "none.jsonl", *bad)), ChatOptions())
    with pytest.raises(DataError, match="no such conversations"):
        read(str(tmp_path / "missing.jsonl"), ChatOptions())
    (tmp_path / "latin.jsonl").write_bytes("né".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read(str(tmp_path / "latin.jsonl"), ChatOptions())


def test_files_and_groups_decide_the_division(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    _write(folder / "train.jsonl", *map(_talk, range(5)))
    _write(folder / "test.jsonl", _talk(3), _talk(7))
    data = read(str(folder), ChatOptions())
    # What stands in both is held out.
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 4, "test": 2}
    path = _write(tmp_path / "talks.jsonl", *(_talk(number, menu=number // 4) for number in range(80)))
    grouped = read(str(path), ChatOptions(group="menu", test_share=0.2, validation_share=0.1))
    menus = {split: {example["menu"] for example in examples} for split, examples in grouped.splits.items()}
    assert not menus["train"] & menus["test"]
    assert not menus["train"] & menus["validation"]
    assert len(grouped.split("test")) == 16
    assert (
        grouped.fingerprint
        == read(str(path), ChatOptions(group="menu", test_share=0.2, validation_share=0.1)).fingerprint
    )
    assert grouped.fingerprint != read(str(path), ChatOptions(split_seed=1)).fingerprint


def test_overlap_by_hand() -> None:
    def talk(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    assert overlap([talk("a b c d e")], [talk("a b c d"), talk("b c d x")]) == 0.5
    assert overlap([talk("a b")], [talk("a b")]) == 0.0


def test_named_conversations_are_sound_and_their_references_pass() -> None:
    data = named("assistant", ChatOptions(train=12, validation=4, test=12, shares="arithmetic=1,records=1,orderbot=1"))
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 12,
        "validation": 4,
        "test": 12,
    }
    assert not data.rejected
    for example in data.split("test"):
        assert check_answer(example, example["messages"]).passed
        assert not check_answer(example, prompt_of(example)["messages"]).passed
        assert prompt_of(example)["messages"][-1]["role"] == "user"
    with pytest.raises(UsageError, match="SKILL=NUMBER"):
        named("assistant", ChatOptions(shares="records"))
    with pytest.raises(UsageError, match=r"data\.train is out of range"):
        ChatOptions(train=0)


@pytest.mark.parametrize(
    ("rule", "said", "score"),
    [
        ({"equals": "It is 4."}, " It  is 4.", 1.0),
        ({"equals": "4"}, "It is 4.", 0.0),
        ({"contains": "4"}, "It is 4.", 1.0),
        ({"contains": ["4", "Apples"]}, "4 apples", 1.0),
        ({"contains": ["4", "pears"]}, "4 apples", 0.5),
    ],
)
def test_rules(rule: dict[str, Any], said: str, score: float) -> None:
    verdict = check_answer({"check": rule}, [{"role": "assistant", "content": said}])
    assert (verdict.passed, verdict.score) == (score == 1.0, score)
    assert bool(verdict.flaws) == (score < 1.0)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be checked by this rule"):
        check_answer({"check": {"taste": "good"}}, HELLO)


def test_a_path_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run keeps it, whose paths are absolute."""
    monkeypatch.chdir(tmp_path)
    assert conversations("arithmetic", ChatOptions(train=5, validation=0, test=0)).name == "arithmetic"
    Path("arithmetic").write_text(json.dumps({"messages": HELLO}) + "\n")
    assert conversations("arithmetic", ChatOptions()).split("train")[0]["messages"][0]["content"] == "hello"
