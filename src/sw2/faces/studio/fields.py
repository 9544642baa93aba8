"""One widget for each kind of input, and how each kind of output is shown.

    kind           asked with            shown as
    image          a picture to drop     the picture
    text, document a text box            the text
    label          a line                the label, large
    distribution   JSON                  bars, likeliest first
    number         a number              the number
    vector         JSON                  JSON
    boolean        a box to tick         true or false
    record         JSON                  JSON
    conversation   a text box            its messages

A label of which all that it may be is known is chosen from a list. A program of several inputs has a field for each,
with its name.

Pictures come back as data URLs (PNG; large ones JPEG), drawn anew from their pixels: nothing of the file that was sent
is shown.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final

import gradio as gr

from sw2.base.errors import DataError, UsageError
from sw2.base.names import pick, resolve
from sw2.base.store import finite
from sw2.core.kinds import Kind, parse_argument
from sw2.verbs.charts import number
from sw2.verbs.page import titled

__all__ = ["FIELDS", "answer_of", "enlarged", "field", "question_of", "raw_of", "shown"]

_MOST_BARS: Final = 8
_MOST_LETTERS: Final = 4000
_WIDEST: Final = 320

FIELDS: Final[Mapping[str, Callable[..., Any]]] = {
    "image": partial(
        gr.Image,
        label="Picture",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=260,
        buttons=[],
    ),
    "text": partial(gr.Textbox, label="Text", lines=4, placeholder="Write or paste a text"),
    "document": partial(gr.Textbox, label="Text", lines=6, placeholder="Write or paste a text"),
    "label": partial(gr.Textbox, label="Label", lines=1),
    "distribution": partial(gr.Textbox, label="Shares, as JSON", lines=3, placeholder='{"yes": 0.7, "no": 0.3}'),
    "number": partial(gr.Number, label="Number"),
    "vector": partial(gr.Textbox, label="Numbers, as JSON", lines=3, placeholder="[0.5, 1.5]"),
    "boolean": partial(gr.Checkbox, label="True"),
    "record": partial(gr.Textbox, label="Record, as JSON", lines=4, placeholder='{"name": "value"}'),
    "conversation": partial(
        gr.Textbox, label="Message, or a conversation as JSON", lines=4, placeholder="Write a message"
    ),
}
"""Makes the widget for each kind of input."""


def field(name: str, kind: Kind, *, alone: bool) -> Any:
    """The widget for an input: with its name, where it is not alone, its default, and what it may be."""
    more: dict[str, Any] = {} if alone else {"label": titled(name)}
    if kind.about:
        more["label" if kind.name == "image" else "info"] = kind.about
    if kind.options:
        first = kind.options[0] if kind.default is None else kind.default
        return gr.Dropdown(list(kind.options), value=first, **{"label": titled(name), **more})
    if kind.default is not None:
        more["value"] = kind.default
    return pick("kind", kind.name, FIELDS)(**more)


def question_of(inputs: Mapping[str, Kind], values: Sequence[Any]) -> Any:
    """The raw question that a program takes for what stands in the fields of its inputs, in order.

    Raises:
        UsageError, DataError: something is missing, or no such value; it says which, where there are several.
    """
    if len(inputs) == 1:
        return raw_of(next(iter(inputs.values())), values[0])
    raws = {}
    for (name, kind), value in zip(inputs.items(), values, strict=True):
        if kind.default is not None and value in (None, ""):
            continue
        try:
            raws[name] = raw_of(kind, value)
        except (UsageError, DataError) as error:
            error.where = name
            raise
    return raws


def raw_of(kind: Kind, value: Any) -> Any:
    """The raw value that a program takes for what stands in its field.

    Raises:
        UsageError, DataError: nothing stands there, or it is no such value.
    """
    if value is None or value == "":
        raise UsageError("There is nothing to ask yet.", wanted=f"an input of the kind '{kind.name}'", got="nothing")
    if kind.name == "image":
        return Path(value).read_bytes()  # a copy that was uploaded; programs must get no path
    if kind.name == "number":
        return float(value)
    # In a terminal these begin what stands elsewhere; here they are letters.
    if kind.name in ("text", "document"):
        return str(value)
    if kind.name == "boolean":
        return bool(value)
    if kind.name == "conversation" and str(value)[:1] in ("@", "-"):
        return [{"role": "user", "content": str(value)}]
    return parse_argument(kind, str(value))


def answer_of(outputs: Mapping[str, Kind], answer: Mapping[str, Any]) -> str:
    """An answer as HTML, its parts in order."""
    parts = [
        f'<div class="part"><span class="what">{escape(name.replace("_", " "))}</span>{shown(kind, answer[name])}</div>'
        for name, kind in outputs.items()
        if name in answer
    ]
    return f'<div class="answer">{"".join(parts)}</div>'


def shown(kind: Kind, value: Any) -> str:
    """A value of a kind as HTML; what is of no such kind is shown as JSON."""
    try:
        return pick("kind", kind.name, _SHOWN)(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        return _record(value)


def _text(value: Any) -> str:
    text = str(value)
    cut = (
        f'<span class="more"> … {len(text) - _MOST_LETTERS:,} more letters</span>' if len(text) > _MOST_LETTERS else ""
    )
    return f'<p class="text">{escape(text[:_MOST_LETTERS])}{cut}</p>'


def _label(value: Any) -> str:
    return f'<p class="label">{escape(str(value))}</p>'


def _number(value: Any) -> str:
    return f'<p class="label">{escape(number(None if value is None else float(value)))}</p>'


def _distribution(value: Any) -> str:
    ranked = sorted(((str(name), float(share or 0)) for name, share in value.items()), key=lambda pair: -pair[1])
    bars = "".join(
        f'<li><span>{escape(name)}</span><span class="num">{share:.1%}</span>'
        f'<meter min="0" max="1" value="{share:.4f}" aria-label="{escape(name)}">{share:.1%}</meter></li>'
        for name, share in ranked[:_MOST_BARS]
    )
    rest = len(ranked) - _MOST_BARS
    return f'<ul class="bars">{bars}</ul>' + (f'<p class="more">and {rest:,} less likely</p>' if rest > 0 else "")


def _record(value: Any) -> str:
    try:
        text = json.dumps(finite(value), ensure_ascii=False, indent=2, default=str)
    except (TypeError, ValueError):
        text = str(value)
    return f"<pre>{escape(text[:_MOST_LETTERS])}</pre>"


def _conversation(value: Any) -> str:
    messages = value["messages"] if isinstance(value, Mapping) else value
    return "".join(
        f'<p class="turn"><span class="what">{escape(str(each["role"]))}</span>'
        f"{escape(str(each.get('content') or json.dumps(each.get('tool_calls', ''))))}</p>"
        for each in messages
    )


def enlarged(kind: Kind, value: Any) -> str:
    """The same as `shown`, a picture as large as it is, up to the size of a screen."""
    return _image(value, 1600) if kind.name == "image" else shown(kind, value)


def _image(value: Any, widest: int = _WIDEST) -> str:
    read: Callable[[Any, int], Any] = resolve("sw2.parts.prep.pictures:read_picture")
    from_array: Callable[[Any], Any] = resolve("PIL.Image:fromarray")
    try:
        pixels = read(value, 3)
    except DataError as error:
        return f'<p class="fault">{escape(error.message)}</p>'
    picture = from_array(pixels)
    picture.thumbnail((widest, widest))
    file = io.BytesIO()
    # A large photograph as PNG would be megabytes.
    form = "jpeg" if max(picture.size) > _WIDEST else "png"
    picture.save(file, form, quality=92)
    drawn = "picture" if max(picture.size) < _WIDEST else "picture fine"
    return f'<img class="{drawn}" alt="" src="data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}">'


_SHOWN: Final[dict[str, Callable[[Any], str]]] = {
    "image": _image,
    "text": _text,
    "document": _text,
    "label": _label,
    "distribution": _distribution,
    "number": _number,
    "boolean": lambda value: _label(json.dumps(value)),
    "record": _record,
    "vector": _record,
    "conversation": _conversation,
}
