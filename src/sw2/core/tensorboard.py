"""The events of a run as TensorBoard's event files, for who looks at runs with that: `tensorboard --logdir runs`.

    training/NAME           each number of a recorded step
    validation/NAME         each number of an evaluation
    health/MEASURE/LAYER    each number of a health probe
    findings, notes         text: what a probe found; what the driver noted, where it was resumed, why it failed

`events.jsonl` stays the record; these files stand beside it and say the same. They are written by torch's own
`SummaryWriter`, and each event is on its way to the disk before the next one comes, as in `events.jsonl`.

A run that goes on repeats the steps after its last checkpoint. The new file then says from which step on what stands in
the older ones is void (TensorBoard's `SessionLog.START`), and an evaluation at that very step is not written twice.

Importing TensorBoard takes seconds, so nothing here is imported before `trainer.tensorboard=on` asks for it.

Not here: pictures, histograms and graphs, which `events.jsonl` does not have either; the viewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

__all__ = ["EventFiles"]


class EventFiles:
    """An open event file.

    Args:
        folder: where to write it.
        after: the step from which the run goes on, 0 for a new one.
        known: the events that are in `events.jsonl`.
    """

    def __init__(self, folder: Path, after: int, known: Iterable[Mapping[str, Any]]) -> None:
        self._judged = {row.get("step") for row in known if row.get("kind") == "evaluate"} if after else set()
        self._after = after
        self._writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one event, given as `Run.event` writes it into `events.jsonl`."""
        kind, step = row["kind"], row["step"]
        if kind == "evaluate" and step == self._after and step in self._judged:
            return  # the same weights were judged before the run was stopped
        if kind in ("step", "evaluate"):
            self._numbers("training" if kind == "step" else "validation", row, step)
        elif kind == "health":
            for layer in row["layers"]:
                for name, value in layer.items():
                    if _is_number(value):
                        self._writer.add_scalar(f"health/{name}/{layer['layer']}", value, step)
            for finding in row["findings"]:
                self._writer.add_text("findings", finding, step)
        else:
            self._writer.add_text("notes", row.get("text", f"Went on from step {step}."), step)
        self._writer.flush()

    def _numbers(self, group: str, row: Mapping[str, Any], step: int) -> None:
        for name, value in row.items():
            if name not in ("kind", "step", "seconds") and _is_number(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
