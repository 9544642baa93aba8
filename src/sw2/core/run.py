"""A run: the folder of one training, from which it can always go on.

    RUN/config.toml        the resolved settings: `sw2 train --config RUN/config.toml` repeats the run
    RUN/prep.safetensors   the fitted preprocessing, so that a resumed run need not fit again
    RUN/journal.jsonl      decisions that a repeat must copy, one JSON object a line, synced before they are acted on
    RUN/events.jsonl       curves, health and notes, one JSON object a line
    RUN/events.out.…       the same for TensorBoard, where it was asked for
    RUN/checkpoints/       step-NNNNNNNN.safetensors, the last two; and best.safetensors
    RUN/program/           the finished program
    RUN/report.html        the report

A checkpoint is one safetensors file: tensors by name, and the plain values of the snapshot as JSON in its metadata. It
is written to another name, synced and renamed, so a file with the right name is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sw2.base.config import to_toml
from sw2.base.errors import RunError
from sw2.base.store import Held, full_disk_told, held, remove_partials, replacing, sha256_of_file, write_text
from sw2.core.model import unshared
from sw2.core.objective import Snapshot
from sw2.core.task import Prep, PrepState

if TYPE_CHECKING:
    from sw2.core.tensorboard import EventFiles

__all__ = ["Run", "read_events", "read_snapshot", "write_snapshot"]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write `snapshot` to one file, whole or not at all; tensors that share memory are written each.

    Raises:
        ResourceError: when the disk is full.
    """
    with replacing(path) as partial:
        save_file(unshared(snapshot.tensors), partial, metadata={"values": json.dumps(dict(snapshot.values))})


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in a file that `write_snapshot` wrote.

    Raises:
        RunError: when the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
        return Snapshot(tensors=load_file(path), values=values)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError("This checkpoint is damaged.", where=path, wanted="a checkpoint", got=str(error)) from error


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of the run folder `path` in order; a half-written last line is left out."""
    try:
        lines = (path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _is_free(path: Path) -> bool:
    """Whether a run may begin in this folder: it is empty, or a run was killed here before it had its settings."""
    return all(entry.name in (".lock", "events.jsonl") or entry.match(".*.partial") for entry in path.iterdir())


def _end_last_line(path: Path) -> None:
    """End a half-written last line, so that the next one is not lost with it."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb+") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n":
            file.write(b"\n")


@dataclass
class Run:
    """An open run folder, held by this process alone until `close`."""

    path: Path
    began: float = field(default_factory=time.monotonic)
    _events: TextIO | None = None
    _lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _event_files: EventFiles | None = None

    @classmethod
    def create(cls, path: str | Path, settings: Mapping[str, Any]) -> Run:
        """A new run folder.

        Raises:
            RunError: when `path` holds a run or anything else already.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and _is_free(path)):
            held = "a run" if (path / "config.toml").exists() else "other files"
            raise RunError(
                f"The output folder already holds {held}; nothing was changed.",
                where=path,
                wanted="a new or empty folder",
                got=f"a folder with {held}",
                do="Give another --out, or go on with this run by --resume."
                if held == "a run"
                else "Give another --out.",
            )
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run._take()
        write_text(path / "config.toml", to_toml(settings))
        run.decide({"settings": sha256_of_file(path / "config.toml")})
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run folder at `path`, to go on with.

        Raises:
            RunError: when there is no run, or another process holds it.
        """
        path = Path(path)
        if not (path / "config.toml").exists():
            raise RunError(
                "There is no run to resume here.", where=path, wanted="a folder that `sw2 train --out` made", got="none"
            )
        run = cls(path)
        run._take()
        settings = sha256_of_file(path / "config.toml")
        if run.journal().get("settings", settings) != settings:
            run.close()
            raise RunError(
                "The settings of this run were changed after it began.",
                where=path / "config.toml",
                wanted="the settings that it began with",
                got="others",
                do="Put them back, or begin another run: sw2 train --config CONFIG --out NEW.",
            )
        return run

    def decisions_to_repeat(self) -> dict[str, Any]:
        """What the journal says that a repeat with the same settings must copy; empty when nothing was decided yet."""
        journal = self.journal()
        same = (self.path / "config.toml").exists() and journal.get("settings") == sha256_of_file(
            self.path / "config.toml"
        )
        if not same or "plan" not in journal:
            return {}
        return {name: value for name, value in journal.items() if name not in ("settings", "finished")}

    def _take(self) -> None:
        try:
            self._lock.enter_context(held(self.path / ".lock"))
        except Held as error:
            raise RunError(
                "Another process is training in this folder.",
                where=self.path,
                wanted="to be the only one",
                got=error,
                do="Wait for it, or stop it.",
            ) from None
        # What a killed process left behind: files under temporary names, and a line that it did not finish.
        checkpoints = self.path / "checkpoints"
        for folder in (self.path, checkpoints):
            remove_partials(folder)
        (checkpoints / "trial.safetensors").unlink(missing_ok=True)
        for name in ("journal.jsonl", "events.jsonl"):
            _end_last_line(self.path / name)
        self._events = open(self.path / "events.jsonl", "a", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        """Give the folder free."""
        for file in (self._events, self._event_files):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk; that event was told when it was written
                    file.close()
        self._events = self._event_files = None
        self._lock.close()

    def discard(self) -> None:
        """Remove the files of a run that learned nothing, and its folder if nothing else is in it."""
        self.close()
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        for name in ("config.toml", "prep.safetensors", "journal.jsonl", "events.jsonl", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        for file in self.path.glob("events.out.tfevents.*"):
            file.unlink()
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def journal(self) -> dict[str, Any]:
        """All decisions so far; later lines overrule earlier ones."""
        merged: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "journal.jsonl").read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    merged.update(json.loads(line))
        return merged

    def decide(self, decisions: Mapping[str, Any]) -> None:
        """Write decisions into the journal; on disk before this returns.

        Raises:
            ResourceError: when the disk is full.
        """
        path = self.path / "journal.jsonl"
        with full_disk_told(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(decisions), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def event(self, kind: str, step: int, **values: Any) -> None:
        """Append one event; curves, not decisions, so it is flushed but not synced.

        Raises:
            ResourceError: when the disk is full.
        """
        if self._events is None:
            return  # one of several processes that does not lead
        row = {"kind": kind, "step": step, "seconds": round(time.monotonic() - self.began, 3), **values}
        with full_disk_told(self.path / "events.jsonl"):
            self._events.write(json.dumps(row) + "\n")
            self._events.flush()
            if self._event_files is not None:
                self._event_files.add(row)

    def write_event_files(self, after: int) -> None:
        """From here on, write every event for TensorBoard too; see `core.tensorboard`.

        Args:
            after: the step from which the run goes on, 0 for a new one.
        """
        from sw2.core.tensorboard import EventFiles  # seconds to import

        with full_disk_told(self.path):
            self._event_files = EventFiles(self.path, after, read_events(self.path))

    def save_prep(self, prep: Prep) -> None:
        """Keep the fitted preprocessing for resumes."""
        state = prep.state()
        tensors = {name: torch.from_numpy(array) for name, array in state.arrays.items()}
        tensors |= {
            f"asset/{name}": torch.frombuffer(bytearray(content), dtype=torch.uint8)
            for name, content in state.assets.items()
        }
        write_snapshot(self.path / "prep.safetensors", Snapshot(tensors=tensors, values=state.config))

    def load_prep(self) -> PrepState | None:
        """The preprocessing that was kept, or None."""
        path = self.path / "prep.safetensors"
        if not path.exists():
            return None
        kept = read_snapshot(path)
        return PrepState(
            config=kept.values,
            arrays={name: tensor.numpy() for name, tensor in kept.tensors.items() if not name.startswith("asset/")},
            assets={
                name[6:]: tensor.numpy().tobytes() for name, tensor in kept.tensors.items() if name.startswith("asset/")
            },
        )

    def save_checkpoint(self, step: int, snapshot: Snapshot) -> Path:
        """Write a checkpoint and then remove all older ones but the last.

        Raises:
            ResourceError: when the disk is full; the older checkpoints are then still there.
        """
        path = self.path / "checkpoints" / f"step-{step:08d}.safetensors"
        write_snapshot(path, snapshot)
        for old in self.checkpoints()[:-2]:
            old.unlink(missing_ok=True)
        return path

    def checkpoints(self) -> list[Path]:
        """Paths of the checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"))

    def latest_checkpoint(self) -> tuple[int, Snapshot] | None:
        """The newest whole checkpoint as (step, snapshot); a damaged one is passed over with an event."""
        for path in reversed(self.checkpoints()):
            try:
                snapshot = read_snapshot(path)
            except RunError as error:
                self.event("note", 0, text=f"{path.name} is damaged and was passed over: {error.got}")
                continue
            return int(path.stem.removeprefix("step-")), snapshot
        return None

    @property
    def resume_command(self) -> str:
        """What goes on with this run, for a shell."""
        return f"sw2 train --resume --out {shlex.quote(str(self.path))}"

    @property
    def goes_on(self) -> bool:
        """Whether the folder has what a resume needs: its settings."""
        return (self.path / "config.toml").exists()

    @property
    def best_path(self) -> Path:
        """Where the best state by validation is kept."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def program_path(self) -> Path:
        """Where the finished program goes."""
        return self.path / "program"
