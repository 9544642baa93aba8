"""The log of labels: what follows from its lines in any order, kills at any moment, other hands in the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DiskFull, ResourceError
from sw2.verbs.opinions import Act, Opinions, Said, told_by

SOURCE = Path(__file__).resolve().parents[2] / "src"

deeds = st.lists(
    st.tuples(
        st.sampled_from(["label", "skip", "undo", "decide"]),
        st.sampled_from(["anna", "otto"]),
        st.sampled_from("abc"),
        st.sampled_from(["cat", "dog"]),
    ),
    max_size=25,
)


def played(deeds: list[tuple[str, str, str, str]]) -> tuple[list[Act], dict[Any, Any]]:
    """The lines of some deeds, and by a plain replay what each labeller then says of each example."""
    acts: list[Act] = []
    stacks: dict[str, list[tuple[int, str, str | None]]] = {}
    says: dict[Any, Any] = {}
    for n, (act, who, content, label) in enumerate(deeds, start=1):
        stack = stacks.setdefault(who, [])
        if act == "undo":
            if stack:
                undoes, content, before = stack.pop()
                acts.append(Act(n=n, act="undo", who=who, content=content, undoes=undoes))
                if before is None:
                    says.pop((content, who))
                else:
                    says[content, who] = before
        elif act == "decide":
            acts.append(Act(n=n, act="decide", who=who, content=content, label=label))
            says["decided", content] = (label, who)
        else:
            label = label if act == "label" else ""
            acts.append(Act(n=n, act=act, who=who, content=content, label=label))
            stack.append((n, content, says.get((content, who))))
            says[content, who] = label
    return acts, says


def flat(said: Said) -> dict[Any, Any]:
    by_pair = {(content, who): label for content, each in said.of.items() for who, label in each.items()}
    return {**by_pair, **{("decided", content): each for content, each in said.decided.items()}}


@given(deeds, st.randoms(use_true_random=False))
def test_lines_say_the_same_in_any_order_and_twice(deeds: list[Any], random: Any) -> None:
    acts, says = played(deeds)
    mixed = [*acts, *random.choices(acts, k=5)] if acts else []
    random.shuffle(mixed)
    said = told_by(mixed)
    assert flat(said) == says
    assert said == told_by(acts)
    assert {who: list(each) for who, each in said.by.items()} == {
        who: list(dict.fromkeys(act.content for act in stack)) for who, stack in said.stack.items()
    }


@given(deeds, st.data())
def test_a_log_that_was_cut_anywhere_holds_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[Any], data: Any
) -> None:
    acts, _ = played(deeds)
    content = "".join(act.line() + "\n" for act in acts).encode()
    kept = data.draw(st.integers(0, len(content)))
    folder = tmp_path_factory.mktemp("cut")
    (folder / "log.jsonl").write_bytes(content[:kept])
    # A last line of which only the end is gone says what it said.
    whole = (content[:kept] + (b"\n" if content[kept : kept + 1] == b"\n" else b"")).count(b"\n")
    notes: list[str] = []
    log = Opinions(folder, notes.append)
    assert log.said == told_by(acts[:whole])
    made = log.add("label", who="zoe", content="z", label="cat")
    log.close()
    again = Opinions(folder, notes.append)
    assert again.said == told_by([*acts[:whole], made])
    again.close()
    assert len(notes) == 2 * (len(acts) > whole and kept > len("".join(a.line() + "\n" for a in acts[:whole]).encode()))


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def log(tmp_path: Path, notes: list[str]) -> Iterator[Opinions]:
    made = Opinions(tmp_path, notes.append)
    yield made
    made.close()


def test_what_something_else_wrote_is_taken_over_and_what_it_removed_comes_back(
    log: Opinions, notes: list[str]
) -> None:
    log.add("label", who="anna", content="a", label="cat")
    log.add("label", who="anna", content="b", label="dog")
    first, second = log.path.read_text().splitlines()
    other = json.loads(second) | {"n": 7, "who": "otto", "label": "cat"}
    # An editor saves under another name and renames, so that the file is another one.
    aside = log.path.with_name("edited")
    aside.write_text(f"{second}\n{json.dumps(other)}\nnonsense")
    aside.replace(log.path)
    made = log.add("skip", who="zoe", content="a")
    assert made.n == 8
    assert notes == ["log.jsonl was changed by something else: 1 lines taken over, 1 put back"]
    assert log.said.of == {"a": {"anna": "cat", "zoe": ""}, "b": {"anna": "dog", "otto": "cat"}}
    lines = log.path.read_text().splitlines()
    assert lines[0] == second
    assert lines[2:] == ["nonsense", first, made.line()]
    log.path.unlink()
    log.refresh()
    assert len(log.path.read_text().splitlines()) == 4


def test_lines_that_are_of_another_form_are_told_and_left(tmp_path: Path) -> None:
    good = Act(n=3, act="label", who="anna", content="a", label="cat").line()
    bad = [
        "[]", "3", '{"n": 1}', '{"n": 0, "act": "skip", "who": "a", "content": "b"}', '{"n": 1, "act": "skip"}',
        '{"n": true, "act": "skip", "who": "a", "content": "b"}', '{"n": 1, "act": ["skip"]}',
        '{"n": 1, "act": "label", "who": "a", "content": "b", "label": "\\ud800"}', "[" * 100_000,
        '{"n": 1, "act": "label", "who": "a", "content": "b", "label": 7}', '{"n": 1, "act": "labels", "labels": 3}',
        '{"n": 1, "act": "kill", "who": "a", "content": "b"}', '{"n": 1, "act": "skip", "more": 2}',
    ]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join([*bad, good]))
    notes: list[str] = []
    log = Opinions(tmp_path, notes.append)
    assert log.said.of == {"a": {"anna": "cat"}}
    assert notes[0].startswith(f"{len(bad)} lines of ")
    assert log.add("skip", who="anna", content="b").n == 4
    log.close()
    assert (tmp_path / "log.jsonl").read_text().splitlines()[: len(bad) + 1] == [*bad, good]


def test_a_full_disk_acknowledges_nothing(log: Opinions, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log.add("label", who="anna", content="a", label="cat")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = log.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            log.add("label", who="anna", content="a", label="dog")
    assert log.path.read_bytes() == before
    log.refresh()
    assert log.said.of == {"a": {"anna": "cat"}}
    assert log.add("skip", who="anna", content="a").n == 2
    assert notes == []


def test_one_process_at_a_time(log: Opinions) -> None:
    with pytest.raises(ResourceError, match="labelled by another process"):
        Opinions(log.path.parent, print)


def test_threads_write_whole_lines(log: Opinions) -> None:
    lock = threading.Lock()

    def work(who: str) -> None:
        for number in range(20):
            with lock:
                log.add("label", who=who, content=str(number), label="cat")

    threads = [threading.Thread(target=work, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [json.loads(line)["n"] for line in log.path.read_text().splitlines()]
    assert numbers == list(range(1, 81))


_WRITER = """
import sys
from pathlib import Path
from sw2.verbs.opinions import Opinions
log = Opinions(Path(sys.argv[1]), print)
for number in range(100_000):
    log.add("label", who="anna", content=f"c{number}", label="cat", name="x" * 300)
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(50)][-1]
        process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, process.stdout.read().split("\n")[:-1])])
    log = Opinions(tmp_path, print)  # whose lock ended with the process
    assert set(log.said.of) >= {f"c{number}" for number in range(acknowledged + 1)}
    assert set(log.said.of) <= {f"c{number}" for number in range(acknowledged + 2)}
    log.close()
