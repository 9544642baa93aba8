"""What people said about answers, as pairs to learn from: which there are, which there are not, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, UsageError
from sw2.core.task import Context
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.preferences.task import RewardModeling
from sw2.verbs.feedback import Log, Verdict, pairs, write_pairs


def talk(question: str, answer: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "tools": [], "program": "p", **more}


def logged(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_an_edit_is_better_and_a_bad_answer_needs_a_good_one(tmp_path: Path) -> None:
    log = logged(
        tmp_path / "log.jsonl",
        talk("a", "one", edit="two"),
        talk("b", "bad", thumb="down", why="rude"),
        talk("b", "good", thumb="up"),
        talk("b", "also good", thumb="up"),
        talk("c", "lonely", thumb="down"),
        talk("d", "fine", thumb="up"),
        talk("e", "nobody cares"),
        talk("f", "same", edit="same"),
        talk("g", "", edit="something"),
        talk("a", "one", edit="two"),
        "{ broken",
        {"messages": [{"role": "user", "content": "no answer"}]},
        talk("h", "x", thumb="sideways"),
    )
    made = pairs(log)
    assert [(p["messages"][-1]["content"], p["rejected"]["content"], p["where"]) for p in made.pairs] == [
        ("two", "one", "log.jsonl, line 1"),
        ("good", "bad", "log.jsonl, line 2"),
    ]
    assert made.counts == {"edits": 1, "thumbs": 1}
    assert made.unusable == {
        "thumb down, and nothing better to the same": 1,
        "thumb up, and nothing worse to the same": 1,
        "both answers are the same": 1,
        "the answer is empty": 1,
        "said before": 1,
    }
    assert made.unread == {"not a conversation": 1, "no answer at the end": 1, "feedback that is not understood": 1}
    assert pairs(log) == made


def test_pairs_are_read_by_the_tasks_that_learn_from_them(tmp_path: Path) -> None:
    log = logged(tmp_path / "log.jsonl", *(talk(f"q {n}", f"a {n}", edit=f"b {n}") for n in range(30)))
    write_pairs(pairs(log), tmp_path / "pairs.jsonl")
    data = RewardModeling().read(str(tmp_path / "pairs.jsonl"), ChatOptions(), Context())
    assert sum(map(len, data.splits.values())) == 30
    assert not data.rejected
    example = data.split("train")[0]
    assert example["messages"][-1]["content"].startswith("b")
    assert example["rejected"]["content"].startswith("a")
    with pytest.raises(UsageError, match="there already; nothing was changed"):
        write_pairs(pairs(log), tmp_path / "pairs.jsonl")


def test_a_log_without_pairs_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="makes no pair") as caught:
        pairs(logged(tmp_path / "log.jsonl", talk("a", "b", thumb="down"), talk("c", "d")))
    assert "1 lines: thumb down, and nothing better to the same" in str(caught.value)
    with pytest.raises(DataError, match="no such log"):
        pairs(tmp_path / "nowhere.jsonl")
    (tmp_path / "latin").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        pairs(tmp_path / "latin")


def test_a_log_is_gone_on_with_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    for number in range(2):
        log = Log(path)
        row = talk("q", f"a {number}")
        log.append(row["messages"], [], "p", Verdict(thumb="down", edit="half \ud800"))
        log.close()
    path.write_bytes(path.read_bytes() + b'{"messages": [')  # cut by a crash
    log = Log(path)
    log.append(talk("q", "a 2")["messages"], [], "p", Verdict(edit="b"))
    log.close()
    assert [pair["rejected"]["content"] for pair in pairs(path).pairs] == ["a 0", "a 1", "a 2"]
    assert pairs(path).unread == {"not a conversation": 1}
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(UsageError, match="no log of conversations; nothing was written"):
        Log(notes)
    assert notes.read_text() == "mine"


rows = st.builds(
    talk,
    st.sampled_from("abc"),
    st.sampled_from(["x", "y", "z", ""]),
    thumb=st.sampled_from(["up", "down"]),
    edit=st.sampled_from(["", "x", "w"]),
)


@given(st.lists(rows, max_size=12))
def test_every_judged_answer_is_counted_once(tmp_path_factory: pytest.TempPathFactory, given_rows: list[Any]) -> None:
    log = logged(tmp_path_factory.mktemp("logs") / "log.jsonl", *given_rows)
    try:
        made = pairs(log)
    except DataError:
        return
    assert len(made.pairs) == sum(made.counts.values())
    judged = sum(made.counts.values()) + sum(made.unusable.values())
    used_up = sum(
        row["thumb"] == "up" and not row["edit"]
        and any(o["thumb"] == "down" and not o["edit"] and o["messages"][:-1] == row["messages"][:-1]
                for o in given_rows)
        for row in given_rows
    )  # fmt: skip
    assert judged + used_up == len(given_rows)
    for pair in made.pairs:
        assert pair["rejected"] != pair["messages"][-1]
        assert pair["rejected"]["content"]
