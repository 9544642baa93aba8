"""The page of programs: a card each, and a form for the one that was chosen.

A card says what a program is, how big, and how good beside its best baseline, in the words of its training report. The
form has a widget for each input of the program, by its kind; what comes back is shown by the kinds that it gives. A
program that writes streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from html import escape
from typing import Any, Final

import gradio as gr

from sw2.base.errors import Sw2Error
from sw2.core.capabilities import Generate
from sw2.core.card import size
from sw2.core.kinds import Kind
from sw2.faces.server.errors import ApiError
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.fields import answer_of, field, question_of, shown
from sw2.faces.studio.look import fragment
from sw2.faces.studio.writing import asker, told, write
from sw2.verbs.report import verdict_of
from sw2.verbs.shelf import Shelf, Shelved

__all__ = ["cards", "programs_page"]

_CLICKS: Final = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-program]');
  if (button) trigger('click', {program: button.dataset.program, act: button.dataset.act});
});
"""


def cards(shelf: Shelf) -> str:
    """All programs of a shelf as HTML."""
    if not shelf.programs:
        return (
            '<div class="sw2"><div class="empty"><h3>No program lies in this folder yet</h3>'
            "<p>Make one, for instance from the digits that come with sw2, and look again:</p>"
            "<pre>sw2 train image-classification digits --minutes 1 --out digits</pre></div></div>"
        )
    cut = '<p class="caption">There are more folders here than are looked into.</p>' if shelf.cut else ""
    return f'<div class="sw2 shelf">{"".join(map(_card, shelf.programs.values()))}</div>{cut}'


def _card(found: Shelved) -> str:
    name = escape(found.name, quote=True)
    if found.fault:
        return (
            f'<article class="card"><h3>{name}</h3><p><span class="tag bad">Damaged</span></p>'
            f'<p class="caption">{escape(found.fault)}</p></article>'
        )
    learned = f" from {escape(found.data)}" if found.data else ""
    judged = verdict_of(found.metric, found.scores) if found.scores else '<span class="tag">Not judged</span>'
    facts = [size(found.bytes), *([found.made] if found.made else []), *found.capabilities]
    act = "chat" if "Chat" in found.capabilities and "conversation" in _kinds(found) else "use"
    return (
        f'<article class="card"><h3>{name}</h3><p class="what">{escape(found.task)}{learned}</p>'
        f'<p class="judged">{judged}</p><p class="facts">{" · ".join(escape(fact) for fact in facts)}</p>'
        f'<button type="button" data-program="{name}" data-act="{act}">{act.capitalize()}'
        f'<span class="unseen"> {name}</span></button></article>'
    )


def _kinds(found: Shelved) -> list[str]:
    return [kind.name for kind in found.inputs.values()]


def programs_page(desk: Desk) -> tuple[Any, Any]:
    """Lay the page out; called inside a tab.

    Returns:
        The cards, for other pages to listen to, and the function that draws them anew.
    """
    chosen = gr.State("")
    with gr.Column(visible=False, elem_id="form", elem_classes="panel") as panel:

        @gr.render(inputs=chosen, triggers=[chosen.change], show_progress="hidden")
        def form(name: str) -> None:
            if name:
                _form(desk, name)

    shelf = gr.HTML(elem_id="cards", js_on_load=_CLICKS, apply_default_css=False)

    def draw() -> str:
        return fragment(cards(desk.shelf()))

    def choose(event: gr.EventData) -> tuple[Any, Any]:
        if event.act != "use":
            return gr.skip(), gr.skip()
        return str(event.program), gr.Column(visible=True)

    shelf.click(choose, None, [chosen, panel], show_progress="hidden", api_visibility="private").then(
        None, None, None, js="() => { document.getElementById('form')?.scrollIntoView({block: 'start'}); }"
    )
    return shelf, draw


def _form(desk: Desk, name: str) -> None:
    """The form of a program: a field for each of its inputs, and what it answers."""
    try:
        found = desk.shelf().program(name)
    except Sw2Error as error:
        gr.HTML(told(error), apply_default_css=False)
        return
    gr.HTML(
        fragment(f'<div class="sw2"><h3>{escape(found.name)}</h3><p class="caption">{escape(found.task)}</p></div>'),
        apply_default_css=False,
    )
    widgets = [field(name, kind, alone=len(found.inputs) == 1) for name, kind in found.inputs.items()]
    writes = "Generate" in found.capabilities and _kinds(found) == ["text"]
    length = gr.Slider(16, 1024, value=128, step=16, label="Most tokens to write", visible=writes)
    with gr.Row(elem_classes="actions"):
        ask = gr.Button("Write" if writes else "Ask", variant="primary", elem_id="ask")
        stop = gr.Button("Stop", visible=False, elem_id="ask-stop")
    answer = gr.HTML(elem_id="answer", apply_default_css=False)

    async def answered(request: gr.Request, most: float, *values: Any) -> AsyncIterator[tuple[str, Any]]:
        try:
            raw = question_of(found.inputs, values)
            yield _waiting("Opening the program …"), gr.Button(visible=True)
            served = await desk.opened(found)
            if not writes:
                release = served.worker.reserve(1)
                try:
                    (said,) = await served.worker.call(lambda: served.program.map([raw]))
                finally:
                    release()
                seen = shown(Kind("image"), raw) if _kinds(found) == ["image"] else ""
                drawn = await asyncio.to_thread(answer_of, served.program.task.outputs, said)
                yield fragment(f'<div class="sw2 both">{seen}{drawn}</div>'), gr.Button(visible=False)
                return
            prompt = await asyncio.to_thread(served.capability(Generate).encode_prompt, raw)  # type: ignore[type-abstract]
            async for piece in write(served, prompt, int(most), asker(request).who):
                yield _written(raw, piece.text), gr.Button(visible=piece.finished is None)
        except (Sw2Error, ApiError) as error:
            yield told(error), gr.Button(visible=False)

    going = ask.click(answered, [length, *widgets], [answer, stop], show_progress="hidden", api_visibility="private")
    stop.click(lambda: gr.Button(visible=False), None, stop, cancels=[going], queue=False, api_visibility="private")


def _waiting(text: str) -> str:
    return f'<div class="sw2"><p class="caption" role="status">{escape(text)}</p></div>'


def _written(prompt: str, text: str) -> str:
    return fragment(f'<div class="sw2"><pre><span class="prompt">{escape(prompt)}</span>{escape(text)}</pre></div>')
