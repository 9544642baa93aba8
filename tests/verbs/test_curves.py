"""Curves: what a run wrote, once each, whatever it went through."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import RunError
from sw2.core.run import Run
from sw2.verbs.curves import read_curves, smooth


def write_events(run: Path, *rows: dict[str, object]) -> None:
    with (run / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def step(number: int, seconds: float, loss: float) -> dict[str, object]:
    return {"kind": "step", "step": number, "seconds": seconds, "loss": loss}


@pytest.fixture
def empty_run(make_run: Callable[..., Path]) -> Path:
    return make_run(0, finished=False)


def test_a_finished_run_is_read_whole(make_run: Callable[..., Path]) -> None:
    curves = read_curves(make_run(600))
    assert (curves.state, curves.step, curves.total_steps, curves.eta) == ("finished", 600, 600, None)
    assert [at for at, _ in curves.training["loss"]] == list(range(1, 601))
    assert set(curves.training) == {"loss", "gradient_norm", "learning_rate"}
    assert [at for at, _ in curves.validation["accuracy"]] == list(range(60, 601, 60))
    assert [probe.step for probe in curves.probes] == list(range(1, 600, 25))
    assert [remark.text for remark in curves.remarks] == ["kept the state of step 600"]
    assert curves.planned == {"minutes": 1.0, "peak_memory": 5e8, "disk": 3e7}


def test_a_run_without_events_is_waiting(empty_run: Path) -> None:
    (empty_run / "events.jsonl").unlink()
    (empty_run / "journal.jsonl").unlink()
    curves = read_curves(empty_run)
    assert (curves.state, curves.step, curves.total_steps, curves.seconds) == ("waiting", 0, None, 0.0)


def test_a_resume_retires_what_lay_after_its_checkpoint(empty_run: Path) -> None:
    write_events(
        empty_run,
        *(step(n, n / 10, 1.0) for n in range(1, 21)),
        {"kind": "evaluate", "step": 20, "seconds": 2.0, "loss": 9.0},
        *(step(n, n / 10, 1.0) for n in range(21, 31)),
        {"kind": "health", "step": 30, "seconds": 3.0, "layers": [{"layer": "a"}], "findings": ["old"]},
        {"kind": "evaluate", "step": 30, "seconds": 3.0, "loss": 9.0},
        {"kind": "resume", "step": 20, "seconds": 0.5},
        {"kind": "evaluate", "step": 20, "seconds": 0.6, "loss": 8.0},
        *(step(n, n / 10 - 1, 2.0) for n in range(21, 25)),
    )
    curves = read_curves(empty_run)
    assert curves.training["loss"] == tuple((n, 1.0 if n <= 20 else 2.0) for n in range(1, 25))
    assert curves.validation["loss"] == ((20, 8.0),)
    assert curves.probes == ()
    assert curves.step == 24
    assert curves.seconds == pytest.approx(3.0 + 1.4)  # both processes
    assert [remark.kind for remark in curves.remarks] == ["resume"]


def test_a_start_over_without_a_checkpoint_retires_everything(empty_run: Path) -> None:
    write_events(empty_run, *(step(n, n / 10, 1.0) for n in range(1, 9)), step(1, 0.1, 5.0), step(2, 0.2, 5.0))
    assert read_curves(empty_run).training["loss"] == ((1, 5.0), (2, 5.0))


def test_pace_counts_units_and_never_spans_two_processes(empty_run: Path) -> None:
    write_events(
        empty_run,
        *(step(n, n * 0.5, 1.0) for n in range(1, 11)),
        {"kind": "resume", "step": 10, "seconds": 0.0},
        *(step(n, (n - 10) * 0.25, 1.0) for n in range(11, 21)),
    )
    curves = read_curves(empty_run)
    assert curves.unit == "pictures"
    assert {round(value) for at, value in curves.throughput if at <= 10} == {128}  # 64 pictures in half a second
    assert {round(value) for at, value in curves.throughput if at > 11} == {256}
    assert 11 not in [at for at, _ in curves.throughput]
    assert curves.eta == pytest.approx((600 - 20) * 0.25)


def test_a_process_that_died_young_is_told_from_the_next(empty_run: Path) -> None:
    write_events(empty_run, step(1, 0.1, 1.0), {"kind": "resume", "step": 1, "seconds": 5.0}, step(2, 5.5, 1.0))
    write_events(empty_run, step(1, 9.0, 1.0), step(2, 9.5, 1.0))
    curves = read_curves(empty_run)
    assert curves.seconds == pytest.approx(0.1 + 5.5 + 9.5)
    assert curves.throughput == ((2, pytest.approx(128.0)),)


def test_steps_faster_than_the_clock_give_no_false_pace(empty_run: Path) -> None:
    write_events(empty_run, step(1, 0.001, 1.0), step(2, 0.001, 1.0), step(3, 0.002, 1.0))
    assert all(math.isfinite(value) for _, value in read_curves(empty_run).throughput)


def test_a_failure_is_the_state_until_the_run_goes_on(empty_run: Path) -> None:
    write_events(empty_run, step(1, 0.1, 1.0), {"kind": "failed", "step": 1, "seconds": 0.2, "text": "loss is nan"})
    assert read_curves(empty_run).state == "failed"
    assert read_curves(empty_run).eta is None
    write_events(empty_run, {"kind": "resume", "step": 0, "seconds": 0.1})
    assert read_curves(empty_run).state == "learning"


def test_findings_are_told_once_with_their_latest_numbers(empty_run: Path) -> None:
    def said(gradient: str, layer: str) -> str:
        return f"Vanishing gradients from '{layer}' down: root mean square {gradient} against 3.0e-03 at 'stage8'."

    for at, texts in (
        (1, [said("1e-07", "stage2")]),
        (2, [said("2.5e-08", "stage2"), said("1e-9", "stage3")]),
        (3, []),
    ):
        write_events(empty_run, {"kind": "health", "step": at, "seconds": at, "layers": [], "findings": texts})
    first, second = read_curves(empty_run).findings()
    assert (first.text, first.first, first.last, first.probes) == (said("2.5e-08", "stage2"), 1, 2, 2)
    assert (second.text, second.probes) == (said("1e-9", "stage3"), 1)


def test_json_has_no_numbers_that_json_lacks(empty_run: Path) -> None:
    write_events(
        empty_run,
        step(1, 0.1, math.nan),
        {
            "kind": "health",
            "step": 1,
            "seconds": 1,
            "layers": [{"layer": "a", "gradient": math.inf}],
            "findings": ["x"],
        },
    )
    read_back = json.loads(json.dumps(read_curves(empty_run).to_json(), allow_nan=False))
    assert read_back["training"]["loss"] == [[1, None]]
    assert read_back["probes"][0]["layers"] == [{"layer": "a", "gradient": None}]
    assert read_back["findings"][0]["text"] == "x"


def test_a_run_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"run": {"seed": 0}})
    run.event("step", 1, loss=1.0)
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    assert read_curves(run.path).training["loss"] == ((1, 1.0),)
    run.close()


@pytest.mark.parametrize(("make", "got"), [("nothing", "nothing"), ("file", "a file"), ("folder", "a folder without")])
def test_a_wrong_folder_is_explained(tmp_path: Path, make: str, got: str) -> None:
    path = tmp_path / "x"
    if make == "file":
        path.write_text("")
    elif make == "folder":
        path.mkdir()
    with pytest.raises(RunError) as caught:
        read_curves(path)
    error = caught.value
    assert error.where == path
    assert str(error.got).startswith(got)
    assert "sw2 train" in str(error.wanted)
    assert error.do is not None


@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_smoothing_stays_within_its_values(values: list[float]) -> None:
    smoothed = smooth(list(enumerate(values)))
    assert [at for at, _ in smoothed] == list(range(len(values)))
    for _, value in smoothed:
        assert min(values) - 1e-3 <= value <= max(values) + 1e-3


def test_smoothing_does_not_lag_behind_a_line() -> None:
    line = [(n, 3.0 * n) for n in range(400)]
    assert [value for _, value in smooth(line)] == pytest.approx([value for _, value in line])
    assert smooth([(0, 1.0), (1, math.nan), (2, 1.0)]) == [(0, 1.0), (2, 1.0)]
