"""The page of data: rows of a data set as people see them, and as a network gets them.

What is learned of a text is marked; what only stands before it is not. Rows come from the reader of `sw2 data show`,
and each raw value is shown by the kind that the task takes, or as it is.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import gradio as gr
import numpy as np

from sw2.base.errors import Sw2Error
from sw2.base.store import finite
from sw2.core.data import Example
from sw2.core.kinds import Kind
from sw2.core.task import Shown, Task
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.fields import shown
from sw2.faces.studio.look import fragment
from sw2.faces.studio.writing import told
from sw2.verbs.shelf import within
from sw2.verbs.show import Opened, open_data

__all__ = ["data_page", "rows"]

_PAGE: Final = 8
_LONG: Final = 80


def rows(task: Task, examples: Sequence[Example], masked: Sequence[Sequence[Sequence[Shown]]], first: int) -> str:
    """Examples as HTML.

    Args:
        task: knows the kinds of what stands in them.
        examples: raw ones.
        masked: what a network gets of each; empty where that cannot be shown.
        first: the number of the first.
    """
    kinds = {**task.inputs, **task.outputs}
    drawn = []
    for number, example in enumerate(examples):
        values = "".join(
            f'<div class="{_width(value)}"><span class="what">{escape(str(name))}</span>'
            f"{_value(kinds.get(name), value)}</div>"
            for name, value in example.items()
        )
        seen = "".join(_row(row) for row in masked[number]) if masked else ""
        got = f"<details open><summary>What the network gets</summary>{seen}</details>" if seen else ""
        body = f'<div class="parts">{values}</div>{got}'
        drawn.append(f'<article class="row"><h3>{first + number:,}</h3><div>{body}</div></article>')
    return "".join(drawn)


def _width(value: Any) -> str:
    """The class of a value's place: what is long has a line of its own."""
    short = isinstance(value, (int, float, bytes, Path, np.ndarray)) or (isinstance(value, str) and len(value) < _LONG)
    return "part" if short else "part wide"


def _value(kind: Kind | None, value: Any) -> str:
    if kind is not None:
        return shown(kind, value)
    return shown(
        Kind("text" if isinstance(value, str) else "record"), value if isinstance(value, str) else finite(value)
    )


def _row(pieces: Sequence[Shown]) -> str:
    return (
        "<pre>"
        + "".join(f"<mark>{escape(piece.text)}</mark>" if piece.learned else escape(piece.text) for piece in pieces)
        + "</pre>"
    )


def data_page(desk: Desk) -> None:
    """Lay the page out; called inside a tab."""
    with gr.Row(elem_classes="bar"):
        source = gr.Textbox(
            label="Data", elem_id="source", scale=3, placeholder="A path in this folder, or the name of a data set"
        )
        task = gr.Dropdown(
            [("found out", ""), *((name, name) for name in sorted(desk.catalog.tasks))], value="", label="Task", scale=2
        )
        split = gr.Dropdown(["train", "validation", "test"], value="train", label="Split", scale=1, min_width=110)
        show = gr.Button("Show", variant="primary", elem_id="show-data", scale=1, min_width=110)
    seen = gr.State((0, 0))  # the number of the first row, and when the data was read
    drawn = gr.HTML(elem_id="rows", apply_default_css=False)
    with gr.Row(visible=False, elem_classes="actions") as turn:
        back = gr.Button("Before", elem_id="rows-before")
        forth = gr.Button("Next", elem_id="rows-next")

    @functools.lru_cache(maxsize=4)
    def opened(source: str, task: str, read: int) -> Opened:
        del read  # a data set that is shown anew is read anew
        return open_data(desk.catalog, source, desk.context, task=task or None)

    def look(source: str, task: str, split: str, at: int, read: int) -> tuple[Any, str, Any]:
        try:
            name = source.strip()
            if name not in desk.catalog.data:
                name = str(within(desk.root, name or "."))
            found = opened(name, task, read)
            total = len(found.data.split(split))
            at = max(0, min(at, (total - 1) // _PAGE * _PAGE))
            examples = found.examples(split, at, _PAGE)
            try:
                masked = found.masked(examples, split)
            except Sw2Error:
                masked = []  # pictures: there is no text to mark
        except Sw2Error as error:
            return (0, read), told(error), gr.Row(visible=False)
        splits = ", ".join(f"{len(rows):,} {name}" for name, rows in found.data.splits.items())
        skipped = f" · {len(found.data.rejected):,} rows skipped" if found.data.rejected else ""
        head = (
            f'<header><h2 class="name">{escape(found.data.name)} <span>{escape(found.task.name)}</span></h2>'
            f'<p class="caption">{splits}{skipped} · licence {escape(found.data.licence)} · '
            f"rows {at:,} to {at + len(examples) - 1:,} of {total:,}</p>"
            + ('<p class="caption"><mark>Marked</mark> is what is learned.</p>' if masked else "")
            + "</header>"
        )
        html = f'<div class="sw2">{head}{rows(found.task, examples, masked, at)}</div>'
        return (at, read), fragment(html), gr.Row(visible=total > _PAGE)

    def anew(source: str, task: str, split: str) -> tuple[Any, str, Any]:
        return look(source, task, split, 0, time.time_ns())

    def before(source: str, task: str, split: str, seen: Any) -> tuple[Any, str, Any]:
        return look(source, task, split, seen[0] - _PAGE, seen[1])

    def after(source: str, task: str, split: str, seen: Any) -> tuple[Any, str, Any]:
        return look(source, task, split, seen[0] + _PAGE, seen[1])

    asked, out = [source, task, split], [seen, drawn, turn]
    quiet: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
    gr.on([show.click, source.submit, split.input, task.input], anew, asked, out, **quiet)
    back.click(before, [*asked, seen], out, **quiet)
    forth.click(after, [*asked, seen], out, **quiet)
