"""The page of `sw2 label serve`: one example at a time, labelled by keys; disagreements, to decide; what came of it.

    key or click ──→ {act, at: the example that is seen, …} ──→ `Labelling`, which has it on disk ──→ the next example

A key stands on the button that it presses (`data-keys`), so that what can be typed is what can be clicked and read out.
A key counts for the example that is seen, once: until the next one is there, keys do nothing. When no answer comes the
page says so, and the key may be pressed again; saying the same twice changes nothing.

A labeller is a name that was typed; it is no account. Everything that people, files and programs say is escaped.

What it does not do: keep anything of its own. A page that is opened anew asks for the name and goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, Final

import gradio as gr

from sw2.base.errors import Sw2Error
from sw2.core.kinds import Kind
from sw2.faces.server.app import Server, Settings
from sw2.faces.server.log import Lines
from sw2.faces.studio.fields import enlarged, shown
from sw2.faces.studio.frame import frame
from sw2.faces.studio.look import fragment
from sw2.verbs.labelling import Agreement, Disagreement, Labelling, Seen
from sw2.verbs.page import table

__all__ = ["bench", "differences", "label_studio", "progress"]

_LABEL_KEYS: Final = "123456789abcdefghijklmnopqrtvwxyz"  # without s and u, which skip and undo
_MOST_DIFFERENCES: Final = 20
_MOVES: Final = (
    ("back", "ArrowLeft", "←", "Back"),
    ("forth", "ArrowRight", "→", "Next"),
    ("undo", "u", "u", "Undo"),
    ("skip", "s", "s", "Skip"),
)

_KEYS: Final = """
let sent = null;
const desk = () => element.querySelector('[data-turn]');
const send = act => {
  const turn = desk()?.dataset.turn;
  if (!turn || turn === sent) return;
  sent = turn;
  document.activeElement?.blur(); // else Enter would press the same button again, and not take the next guess
  desk().classList.add('waits');
  setTimeout(() => {
    if (desk()?.dataset.turn !== turn) return;
    sent = null;
    desk().classList.add('lost');
  }, 8000);
  trigger('click', {at: desk().dataset.at, ...act});
};
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (button) send({act: button.dataset.act, label: button.dataset.label});
});
element.addEventListener('submit', event => {
  event.preventDefault();
  send({act: 'enter', name: element.querySelector('input').value});
});
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !desk()?.offsetParent) return;
  const on = selector => event.target.closest(selector), arrow = event.key.startsWith('Arrow');
  if (on('input, textarea') || (on('[role=tab]') && arrow) || (event.repeat && !arrow)) return;
  if (on('button') && ['Enter', ' '].includes(event.key)) return; // which press that button
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const button = [...element.querySelectorAll('[data-keys]')].find(each => each.dataset.keys.split(' ').includes(key));
  if (!button) return;
  event.preventDefault();
  button.click();
});
setTimeout(() => element.querySelector('input')?.focus(), 100);
"""
_DECISIONS: Final = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-label]');
  if (button) trigger('click', {at: button.dataset.at, label: button.dataset.label});
});
"""


def bench(kind: Kind, labels: Sequence[str], who: str, seen: Seen | None, turn: int, told: Sequence[str] = ()) -> str:
    """What a labeller has before them, as HTML.

    Args:
        kind: of the example.
        labels: which there are.
        who: labels; "" asks for a name.
        seen: the example; None when there is none left.
        turn: a number that is another one each time the page is drawn.
        told: what went wrong, or is to be known.
    """
    faults = "".join(f'<p class="fault" role="alert">{escape(text)}</p>' for text in told)
    lost = '<p class="fault lost" role="alert">No answer came; what was said last may not be kept. Say it again.</p>'
    at, inside = seen.content if seen else "", _inside(kind, labels, who, seen)
    return fragment(f'<div class="sw2 desk" data-turn="{turn}" data-at="{at}">{inside}{faults}{lost}</div>')


def _inside(kind: Kind, labels: Sequence[str], who: str, seen: Seen | None) -> str:
    if not who:
        return (
            '<form class="enter"><label for="labeller">Your name</label><div>'
            '<input id="labeller" name="name" maxlength="64" autocomplete="off" required>'
            "<button>Begin</button></div>"
            '<p class="caption">It stands beside each label that you give; everybody has their own.</p></form>'
        )
    if seen is None:
        return (
            f'<p class="status"><b>{escape(who)}</b></p><div class="empty"><h3>Nothing is left to label for you</h3>'
            "<p>All examples have labels, or are with somebody else. You can go back to yours.</p></div>"
            f"{_moves(['back', 'undo'])}"
        )
    likeliest = next((label for label in seen.chances if label in labels), None)
    keys = dict(zip(labels, _LABEL_KEYS, strict=False))
    choices = "".join(
        _choice(label, keys.get(label, ""), label == likeliest, label == seen.own, seen.chances.get(label))
        for label in labels
    )
    said = '<span class="tag">skipped</span>' if seen.own == "" else ""
    return (
        f'<p class="status"><b>{escape(who)}</b> · {seen.done:,} labelled · {seen.left:,} left '
        f'<span class="place">{escape(seen.name)}</span> {said}</p>'
        f'<div class="stage">{enlarged(kind, seen.raw)}</div>'
        f'<div class="choices" role="group" aria-label="Labels">{choices}</div>{_moves([act for act, *_ in _MOVES])}'
    )


def _choice(label: str, key: str, guessed: bool, own: bool, chance: float | None) -> str:
    keys = " ".join(filter(None, [key, "Enter" if guessed else ""]))
    marks = "".join(f"<kbd>{escape(each)}</kbd>" for each in keys.split())
    share = "" if chance is None else f'<span class="num">{chance:.0%}</span>'
    return (
        f'<button type="button" data-act="label" data-label="{escape(label)}" data-keys="{keys}" '
        f'aria-pressed="{"true" if own else "false"}"{" class=guess" if guessed else ""}>'
        f"{marks}<span>{escape(label)}</span>{share}</button>"
    )


def _moves(acts: Sequence[str]) -> str:
    buttons = "".join(
        f'<button type="button" data-act="{act}" data-keys="{key}"><kbd>{mark}</kbd>{word}</button>'
        for act, key, mark, word in _MOVES
        if act in acts
    )
    return f'<div class="moves" role="group" aria-label="Moves">{buttons}</div>'


def differences(kind: Kind, labels: Sequence[str], found: Sequence[Disagreement], told: Sequence[str] = ()) -> str:
    """Examples that people labelled differently, as HTML, with a button for each label that may be decided."""
    faults = "".join(f'<p class="fault" role="alert">{escape(text)}</p>' for text in told)
    if not found:
        return fragment(f'<div class="sw2">{faults}<div class="empty"><h3>Nobody disagrees so far</h3></div></div>')
    open_ones = sum(not each.decided for each in found)
    rest = len(found) - _MOST_DIFFERENCES
    more = f'<p class="caption">and {rest:,} more, once these are decided</p>' if rest > 0 else ""
    return fragment(
        f'<div class="sw2"><p class="caption">{open_ones:,} of {len(found):,} are to be decided; an example that '
        f"is not has no label yet.</p>{faults}"
        + "".join(_difference(kind, labels, each) for each in found[:_MOST_DIFFERENCES])
        + f"{more}</div>"
    )


def _difference(kind: Kind, labels: Sequence[str], each: Disagreement) -> str:
    who = "".join(f"<dt>{escape(name)}</dt><dd>{escape(label)}</dd>" for name, label in each.said.items())
    buttons = "".join(
        f'<button type="button" data-at="{each.content}" data-label="{escape(label)}" '
        f'aria-pressed="{"true" if label == each.decided else "false"}">{escape(label)}</button>'
        for label in labels
    )
    decided = f'<p class="caption">decided by {escape(each.by)}: <b>{escape(each.decided)}</b></p>' if each.by else ""
    return (
        f'<article class="card difference"><div>{shown(kind, each.raw)}</div><div><h3>{escape(each.name)}</h3>'
        f'<dl class="facts">{who}</dl>{decided}<div class="choices">{buttons}</div></div></article>'
    )


def progress(counts: Mapping[str, int], found: Agreement, place: str, notes: Sequence[str]) -> str:
    """How many examples have each label, who labelled how many, and how far they agree, as HTML."""
    per_label = table(["label", "examples"], [(escape(label), f"{number:,}") for label, number in counts.items()])
    per_person = table(["name", "labelled"], [(escape(who), f"{number:,}") for who, number in found.labels.items()])
    value = "not defined" if math.isnan(found.value) else f"{found.value:.3f}"
    agree = (
        f"<p>{found.examples:,} examples have labels of two people or more; the same in {found.same[0]:.3f} of them "
        f"({found.same[1]:.3f} to {found.same[2]:.3f}). {found.measure}, which leaves out what chance would give: "
        f"<b>{value}</b>.</p>"
        if found.examples
        else "<p>No example has the labels of two people yet.</p>"
    )
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return fragment(
        f'<div class="sw2"><h3>Labels</h3>{per_label}<p class="caption">An example counts once all who labelled it '
        f"agree, or somebody has decided. The table is {escape(place)}.</p>"
        f"<h3>People</h3>{per_person if found.labels else ''}{agree}"
        + (f'<h3>What happened</h3><ul class="plain">{told}</ul>' if told else "")
        + "</div>"
    )


def label_studio(labelling: Labelling, name: str, settings: Settings, lines: Lines) -> Server:
    """The server of a labelling page.

    Args:
        labelling: what is labelled; open as long as the server.
        name: of the data, for the page's title.
        settings: of the server, with `PAGES`.
        lines: the log.
    """
    server = Server({}, settings, lines)
    frame(server, partial(_blocks, labelling, name), settings.limits.body_bytes)
    return server


def _blocks(labelling: Labelling, name: str) -> Any:
    kind = next(iter(labelling.task.inputs.values()))
    turns = itertools.count(1)
    draw = partial(bench, kind, labelling.labels)

    def act(event: gr.EventData, who: str) -> tuple[str, str]:
        asked = {key: str(getattr(event, key, None) or "") for key in ("act", "at", "label", "name")}
        at = asked["at"]
        try:
            if asked["act"] == "enter":
                who = labelling.enter(asked["name"])
                return draw(who, labelling.look(who), next(turns), labelling.notes[-1:]), who
            if not who:
                return draw("", None, next(turns)), who
            return draw(who, _seen(labelling, who, at, asked), next(turns)), who
        except Sw2Error as error:
            seen = labelling.look(who, at if labelling.has(at) else None) if who else None
            return draw(who, seen, next(turns), [str(error)]), who

    def decide(event: gr.EventData, who: str) -> str:
        if not who:
            return differences(kind, labelling.labels, labelling.disagreements(), ["Say your name under Label first."])
        try:
            labelling.decide(who, str(getattr(event, "at", "")), str(getattr(event, "label", "")))
            told = []
        except Sw2Error as error:
            told = [str(error)]
        return differences(kind, labelling.labels, labelling.disagreements(), told)

    def sum_up() -> str:
        found = labelling.agreement()
        return progress(labelling.counts(), found, str(labelling.table_path), labelling.notes[-5:])

    with gr.Blocks(title=f"sw2 label · {name}", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            f'<div class="sw2 head"><p><b>sw2 label</b> <span>{escape(name)}</span></p></div>', apply_default_css=False
        )
        who = gr.State("")
        with gr.Tabs(elem_id="pages"):
            with gr.Tab("Label", id="label"):
                desk = gr.HTML(draw("", None, 0), elem_id="desk", js_on_load=_KEYS, apply_default_css=False)
            with gr.Tab("Disagreements", id="disagreements") as differences_tab:
                differing = gr.HTML(elem_id="differences", js_on_load=_DECISIONS, apply_default_css=False)
            with gr.Tab("Progress", id="progress") as progress_tab:
                summed = gr.HTML(elem_id="progress-page", apply_default_css=False)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        desk.click(act, who, [desk, who], **quiet)
        differing.click(decide, who, differing, **quiet)
        differences_tab.select(
            lambda: differences(kind, labelling.labels, labelling.disagreements()), None, differing, **quiet
        )
        progress_tab.select(sum_up, None, summed, **quiet)
    page.queue(default_concurrency_limit=16, max_size=256, api_open=False)
    return page


def _seen(labelling: Labelling, who: str, at: str, asked: Mapping[str, str]) -> Seen | None:
    """Do what was asked; the example that comes then."""
    if asked["act"] == "undo":
        return labelling.look(who, labelling.undo(who) or at)
    if asked["act"] == "back":
        return labelling.before(who, at)
    if asked["act"] == "label":
        labelling.label(who, at, asked["label"])
    elif asked["act"] == "skip":
        labelling.skip(who, at)
    return labelling.after(who, at) if at else labelling.look(who)
