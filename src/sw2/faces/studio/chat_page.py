"""The page of conversations: an answer streams, can be stopped, asked for again, edited, and judged.

What a person changes above an answer asks for a new one; a better answer that is put in place of one counts as said and
goes, as thumbs do, into the log of which `sw2 data from-feedback` makes pairs. Only what is judged is kept.

Texts are shown letter for letter. As Markdown they are when somebody asks for it; HTML in them then goes through
Gradio's sanitizer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from html import escape
from typing import Any, Final

import gradio as gr

from sw2.base.errors import ResourceError, Sw2Error
from sw2.core.capabilities import Chat
from sw2.faces.server.errors import ApiError
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.look import fragment
from sw2.faces.studio.writing import told, write
from sw2.parts.decoding.sampling import USUAL
from sw2.verbs.feedback import Verdict
from sw2.verbs.shelf import Shelf

__all__ = ["chat_page", "plain", "talkers"]

_ELEMENTS: Final = """
    a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br
    button canvas caption center cite code col colgroup command content data datalist dd del details dfn dialog dir div
    dl dt element em embed fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header
    hgroup hr html i iframe image img input ins isindex kbd keygen label legend li link listing main map mark marquee
    math menu menuitem meta meter multicol nav nextid nobr noembed noframes noscript object ol optgroup option output p
    param path picture plaintext portal pre progress q rb rp rt rtc ruby s samp script search section select shadow slot
    small source spacer span strike strong style sub summary sup svg table tbody td template textarea tfoot th thead
    time title tr track tt u ul var video wbr xmp
    answer context im_end im_start reasoning system think thinking tool tool_call tool_calls tool_response tools user
"""
"""Elements of HTML, and marks that models write: they are shown as they are spelled. What else looks like an element is
taken out by Gradio's sanitizer."""

_CUT: Final = "The answer was cut off; allow more tokens for longer ones."


def talkers(shelf: Shelf) -> list[str]:
    """Names of the programs that chat."""
    return [
        name
        for name, found in shelf.programs.items()
        if "Chat" in found.capabilities and "Generate" in found.capabilities and not found.fault
    ]


def plain(history: Sequence[Mapping[str, Any]], system: str | None) -> list[dict[str, str]]:
    """What stands in the page as messages for a program: roles and texts alone.

    >>> plain([{"role": "user", "content": [{"type": "text", "text": "Hello"}], "metadata": None}], "Be brief.")
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hello'}]
    """
    said = [{"role": str(each["role"]), "content": _text(each["content"])} for each in history]
    return [{"role": "system", "content": system}, *said] if system and system.strip() else said


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return str(content.get("text", ""))
    return "".join(map(_text, content or ()))


def chat_page(desk: Desk) -> tuple[Any, Any]:
    """Lay the page out; called inside a tab.

    Returns:
        The choice of a program, and the function that offers what there is.
    """
    with gr.Row(elem_classes="bar"):
        program = gr.Dropdown([], label="Program", elem_id="talker", scale=3)
        clear = gr.Button("New conversation", elem_id="chat-new", scale=1, min_width=160)
    talk = gr.Chatbot(
        elem_id="talk",
        show_label=False,
        height="min(62vh, 640px)",
        layout="bubble",
        editable="all",
        buttons=["copy"],
        placeholder="Ask something. Nothing leaves this machine.",
        feedback_options=("Like", "Dislike"),
        sanitize_html=True,
        render_markdown=False,
        allow_tags=_ELEMENTS.split(),
        latex_delimiters=[],
        group_consecutive_messages=False,
    )
    said = gr.Textbox(
        elem_id="said",
        show_label=False,
        placeholder="Write a message; Enter sends it, Shift and Enter begins a line",
        lines=1,
        max_lines=8,
        submit_btn="Send",
        stop_btn=False,
        autofocus=False,
    )
    note = gr.HTML(elem_id="chat-note", apply_default_css=False)
    with gr.Accordion("Settings", open=False, elem_id="chat-settings"):
        system = gr.Textbox(label="System prompt", lines=2, placeholder="What the program is told before you speak")
        with gr.Row():
            temperature = gr.Slider(0, 2, value=USUAL.temperature, step=0.05, label="Temperature", info="0: likeliest")
            top_p = gr.Slider(0.05, 1, value=USUAL.top_p, step=0.05, label="Top-p")
        with gr.Row():
            most = gr.Slider(16, 2048, value=512, step=16, label="Most tokens of an answer")
            seed = gr.Number(value=None, label="Seed", info="Empty: another one each time", precision=0, minimum=0)
        markdown = gr.Checkbox(label="Show texts as Markdown", elem_id="chat-markdown")
    settings = [program, system, temperature, top_p, most, seed]

    def offer(current: str | None) -> Any:
        names = talkers(desk.shelf())
        return gr.Dropdown(choices=names, value=current if current in names else next(iter(names), None))

    async def answer(
        history: list[Any],
        name: str | None,
        system: str | None,
        temperature: float,
        top_p: float,
        most: float,
        seed: Any,
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        if not history or history[-1]["role"] != "user":
            yield gr.skip(), gr.skip(), gr.skip()
            return
        finished, note = None, ""
        try:
            found = desk.shelf().program(name or "")
            yield gr.skip(), _note("Opening the program …"), gr.Textbox(submit_btn=False, stop_btn="Stop")
            served = await desk.opened(found)
            talker = served.capability(Chat)  # type: ignore[type-abstract]
            prompt = await asyncio.to_thread(talker.encode_conversation, plain(history, system), ())
            chosen: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
            chosen["seed"] = None if seed is None else int(seed)
            async for piece in write(served, prompt, int(most), **chosen):
                finished = piece.finished
                yield [*history, {"role": "assistant", "content": piece.text}], "", gr.skip()
            note = _note(_CUT) if finished == "length" else ""
        except (Sw2Error, ApiError) as error:
            note = told(error)
        yield gr.skip(), note, gr.Textbox(submit_btn="Send", stop_btn=False)

    def ask(text: str, history: list[Any]) -> tuple[str, list[Any]]:
        return "", [*history, {"role": "user", "content": text}] if text.strip() else history

    def again(history: list[Any], event: gr.RetryData) -> list[Any]:
        return history[: _index(event) + 1]

    def undo(history: list[Any], event: gr.UndoData) -> tuple[list[Any], str]:
        return history[: _index(event)], _text(history[_index(event)]["content"])

    def judge(history: list[Any], name: str | None, system: str | None, event: gr.LikeData) -> str:
        if event.liked not in ("Like", "Dislike", True, False):
            return ""  # taken back; what was written stays written
        thumb = "up" if event.liked in ("Like", True) else "down"
        return keep(history[: _index(event) + 1], name, system, Verdict(thumb=thumb))

    def edit(history: list[Any], name: str | None, system: str | None, event: gr.EditData) -> tuple[list[Any], str]:
        number, better = _index(event), _text(event.value)
        before = [*history[:number], {**history[number], "content": _text(event.previous_value)}]
        if history[number]["role"] == "user":
            return [*history[:number], {"role": "user", "content": better}], ""
        return history, keep(before, name, system, Verdict(edit=better)) if better.strip() else ""

    def keep(history: Sequence[Any], name: str | None, system: str | None, verdict: Verdict) -> str:
        try:
            found = desk.shelf().program(name or "")
            desk.judge(plain(history, system), found.id, verdict)
        except OSError as error:
            return told(ResourceError("This cannot be kept.", where=desk.feedback, got=error.strerror))
        except Sw2Error as error:
            return told(error)
        return _note(f"Kept in {desk.feedback.name}; sw2 data from-feedback makes pairs to learn from.")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    streams = [
        said.submit(ask, [said, talk], [said, talk], queue=False, **quiet).then(
            answer, [talk, *settings], [talk, note, said], **quiet
        ),
        talk.retry(again, talk, talk, queue=False, **quiet).then(
            answer, [talk, *settings], [talk, note, said], **quiet
        ),
        talk.edit(edit, [talk, program, system], [talk, note], queue=False, **quiet).then(
            answer, [talk, *settings], [talk, note, said], **quiet
        ),
    ]
    markdown.input(
        lambda on: gr.Chatbot(render_markdown=on, allow_tags=on or _ELEMENTS.split()),
        markdown,
        talk,
        queue=False,
        **quiet,
    )
    talk.undo(undo, talk, [talk, said], queue=False, **quiet)
    talk.like(judge, [talk, program, system], note, queue=False, **quiet)
    said.stop(lambda: gr.Textbox(submit_btn="Send", stop_btn=False), None, said, cancels=streams, queue=False, **quiet)
    gr.on([clear.click, talk.clear], lambda: ([], ""), None, [talk, note], cancels=streams, queue=False, **quiet)
    return program, offer


def _index(event: Any) -> int:
    return int(event.index if not isinstance(event.index, (list, tuple)) else event.index[0])


def _note(text: str) -> str:
    return fragment(f'<div class="sw2"><p class="caption" role="status">{escape(text)}</p></div>') if text else ""
