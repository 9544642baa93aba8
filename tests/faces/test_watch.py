"""The live view: complete, inside its window, over when the run is."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sw2.base.errors import RunError
from sw2.core.run import Run
from sw2.faces.cli.watch import braille, draw, watch
from sw2.verbs.curves import read_curves


def terminal(width: int = 100, height: int = 40, *, live: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=live, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def add_steps(run: Path, first: int, last: int, layers: int = 6, findings: tuple[str, ...] = ()) -> None:
    rows: list[dict[str, object]] = []
    for step in range(first, last + 1):
        now = {"step": step, "seconds": step * 0.1}
        rows.append({"kind": "step", **now, "loss": 2 * math.exp(-step / 50), "peak_memory": 250_000_000})
        if step % 20 == 0:
            rows.append({"kind": "evaluate", **now, "loss": 2.1 * math.exp(-step / 50), "accuracy": 0.875})
            stages = [{"layer": f"stage{n}", "gradient": 1e-3, "activation": 1.0, "dead": 0.25} for n in range(layers)]
            rows.append({"kind": "health", **now, "layers": stages, "findings": list(findings)})
    with (run / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def finish(run: Path) -> None:
    with (run / "journal.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"finished": "ab" * 32}) + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has been planned and has no events yet."""
    made = Run.create(tmp_path / "run", {"run": {"seed": 0}})
    facts = {"unit": "tokens", "tokens_per_step": 1000}
    made.decide({"plan": {"total_steps": 200, "minutes": 1.0, "peak_memory": 3e8, "disk": 1e6, "facts": facts}})
    made.close()
    return made.path


def test_a_run_on_its_way_shows_everything(run: Path) -> None:
    add_steps(run, 1, 100)
    console = terminal(width=120)
    watch(run, True, console)
    text = shown(console)
    for wanted in (
        "learning", "step 100 of 200", "10 s left", "10.0 k tokens/s", "memory       250.0 MB taken, 300.0 MB planned",
        "accuracy 0.875", "health at step 100", "stage5", "25%", "healthy:", "●",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert sum("\u2801" <= letter <= "\u28ff" for letter in text) > 40  # the curve
    assert max(map(len, text.splitlines())) <= 120


def test_a_finished_run_is_shown_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_steps(run, 1, 200)
    finish(run)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    console = terminal(live=True)
    watch(run, False, console)
    assert "finished" in shown(console)
    assert "left" not in shown(console)


def test_a_run_without_events_says_that_it_waits(run: Path) -> None:
    (run / "events.jsonl").unlink()
    console = terminal()
    watch(run, True, console)
    assert "waiting" in shown(console)
    assert "No step yet" in shown(console)


def test_a_wrong_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        watch(tmp_path / "none", True, terminal())
    assert all(word in str(caught.value) for word in ("where:", "wanted:", "got:", "do:"))


def test_where_the_output_is_no_terminal_it_is_shown_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_steps(run, 1, 40)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    console = terminal()
    watch(run, False, console)
    assert shown(console).count("step 40 of 200") == 1


def test_it_follows_a_run_to_its_end(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happens = iter([lambda: add_steps(run, 1, 60), lambda: None, lambda: add_steps(run, 61, 200), lambda: finish(run)])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(happens)())
    console = terminal(live=True)
    watch(run, False, console)
    text = shown(console)
    places = [text.index(wanted) for wanted in ("waiting", "step 60 of 200", "step 200 of 200", "finished")]
    assert places == sorted(places)
    assert next(happens, None) is None


def test_it_follows_a_search_from_trial_to_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run.create(tmp_path / "found", {"search": {"task": "sums"}})
    whole.close()

    def begin(name: str, total: int) -> Path:
        made = Run.create(whole.path / name, {"run": {"seed": 0}})
        made.decide({"plan": {"total_steps": total}})
        made.close()
        return made.path

    def first() -> None:
        add_steps(begin("trials/001", 30), 1, 30)
        with (whole.path / "trials/001/events.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "failed", "step": 30, "seconds": 4.1, "text": "Not a number."}) + "\n")

    def last() -> None:
        add_steps(begin("best", 90), 1, 90)
        finish(whole.path / "best")

    happens = iter([first, lambda: add_steps(begin("trials/002", 60), 1, 60), last, lambda: finish(whole.path)])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(happens)())
    console = terminal(live=True)
    watch(whole.path, False, console)
    text = shown(console)
    places = [text.index(wanted) for wanted in ("waiting", "Not a number.", "step 60 of 60", "step 90 of 90")]
    assert places == sorted(places)
    assert next(happens, None) is None


def test_control_c_ends_it_quietly(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    console = terminal(live=True)
    watch(run, False, console)
    assert shown(console).endswith("\x1b[?25h")  # the cursor is back


def test_a_failed_run_says_why_and_ends(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_steps(run, 1, 40, findings=("Exploding gradients from 'stage0' down.",))
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "failed", "step": 40, "seconds": 4.1, "text": "The loss is not finite."}) + "\n")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    console = terminal(live=True)
    watch(run, False, console)
    assert "failed at step 40: The loss is not finite." in shown(console)
    assert "Exploding gradients from 'stage0' down." in shown(console)
    assert "healthy" not in shown(console)


def test_a_quiet_run_is_pointed_out(run: Path) -> None:
    add_steps(run, 1, 40)
    console = terminal()
    console.print(draw(read_curves(run), console, live=True, quiet=300.0))
    assert "nothing new for 5 min" in shown(console)


@pytest.mark.parametrize("height", [24, 30, 60])
@pytest.mark.parametrize("layers", [3, 60])
def test_the_live_view_fits_its_window(run: Path, height: int, layers: int) -> None:
    add_steps(run, 1, 150, layers=layers)
    console = terminal(80, height)
    lines = console.render_lines(draw(read_curves(run), console, live=True))
    assert len(lines) <= height
    assert sum("stage" in "".join(part.text for part in line) for line in lines) == min(layers, 8)


def test_text_of_the_run_cannot_move_the_cursor_or_style_itself(run: Path) -> None:
    add_steps(run, 1, 20, findings=("[red]look[/red] \x1b[2J",))
    with (run / "events.jsonl").open("a") as file:
        file.write(
            json.dumps({"kind": "note", "step": 20, "seconds": 2.1, "text": "\x1b]0;owned\x07[bold]a\rb"}) + "\n"
        )
    console = terminal()
    watch(run, True, console)
    text = shown(console)
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert "[red]look[/red]" in text
    assert "[bold]a b" in text


def test_a_terminal_without_unicode_gets_stars(run: Path) -> None:
    add_steps(run, 1, 150)
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=80, color_system=None)
    watch(run, True, console)
    text = raw.getvalue().decode("ascii")
    assert text.count("*") > 40
    assert "o validation" in text
    console.file.detach()  # type: ignore[attr-defined]


def test_a_falling_line_runs_from_the_upper_left_to_the_lower_right() -> None:
    assert braille([(0, 3.0), (1, 0.0)], (0, 1, 0.0, 3.0), 1, 1) == [chr(0x2800 + 1 + 2 + 32 + 128)]
    assert braille([(0, 0.0), (1, 0.0)], (0, 1, 0.0, 3.0), 2, 1) == [chr(0x2800 + 64 + 128) * 2]
    rows = braille([(0, 7.0), (7, 0.0)], (0, 7, 0.0, 7.0), 4, 2)
    assert [cell == "\u2800" for cell in rows[0]] == [False, False, True, True]
    assert [cell == "\u2800" for cell in rows[1]] == [True, True, False, False]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 40), st.integers(1, 12))
def test_every_column_between_the_ends_has_a_dot(values: list[float], width: int, height: int) -> None:
    window = (0, max(1, len(values) - 1), min(values), max(values))
    rows = braille(list(enumerate(values)), window, width, height)
    assert [len(row) for row in rows] == [width] * height
    columns = [any(row[x] != "\u2800" for row in rows) for x in range(width)]
    assert columns[0]
    assert all(columns) or len(values) == 1


def test_the_command_prints_curves_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sw2.faces.cli.watch_command import watch_command

    add_steps(run, 1, 40)
    command: Callable[..., None] = watch_command
    command(run=run, once=False, json_output=True)
    values = json.loads(capsys.readouterr().out)
    assert values["state"] == "learning"
    assert values["training"]["loss"][-1][0] == 40
