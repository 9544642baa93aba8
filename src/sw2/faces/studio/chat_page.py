"""The page of conversations: an answer streams, can be stopped, asked for again, edited, and judged.

What a person changes above an answer asks for a new one; a better answer that is put in place of one counts as said.
Where the studio was started with a file for feedback, it goes there, as thumbs do, and `sw2 data from-feedback` makes
pairs of it. Only what is judged is kept, with the program and the system prompt that it was said by.

With documents an answer is what `verbs.ask` makes of them: it is looked at as a whole before it is shown, and its
sources stand under the conversation; each opens its passage.

A newer question ends the answer to an older one: two texts at once would overwrite each other in the page.

Texts are shown letter for letter. As Markdown they are when somebody asks for it; HTML in them then goes through
Gradio's sanitizer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

import gradio as gr

from sw2.base.errors import ResourceError, Sw2Error
from sw2.core.capabilities import Chat, Generate
from sw2.faces.server.errors import ApiError
from sw2.faces.server.gate import Held
from sw2.faces.server.grounded import fitting
from sw2.faces.server.library import Library
from sw2.faces.server.programs import Served
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.look import fragment
from sw2.faces.studio.sources import CLICKS, FOCUS, Source, listed, opened, sources_of
from sw2.faces.studio.writing import asker, told, write
from sw2.parts.decoding.sampling import USUAL
from sw2.verbs.ask import Answered, AskConfig, settle
from sw2.verbs.feedback import Verdict
from sw2.verbs.shelf import talkers

__all__ = ["chat_page", "plain"]

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


@dataclass(frozen=True, kw_only=True)
class _Said:
    """By whom an answer was said: the program's id, and the system prompt; and where documents say it."""

    program: str
    system: str
    sources: Sequence[Source] = ()


@dataclass
class _Talk:
    """A conversation of one page, as the server knows it.

    Args:
        turn: counts what was asked for; an answer to an older one ends.
        asked: what is to be answered next. A browser's own copy may be overwritten by an answer that is ending.
        answers: by their place in the history.
    """

    turn: int = 0
    asked: list[Any] = field(default_factory=list)
    answers: dict[int, _Said] = field(default_factory=dict)

    def begin(self, asked: list[Any] | None = None) -> None:
        """Something new is asked for, or nothing any more; what is under way ends."""
        self.turn += 1
        self.asked = asked or []


def chat_page(desk: Desk) -> tuple[Any, Any]:
    """Lay the page out; called inside a tab.

    Returns:
        The choice of a program, and the function that offers what there is.
    """
    with gr.Row(elem_classes="bar"):
        program = gr.Dropdown([], label="Program", elem_id="talker", scale=3)
        grounded = gr.Checkbox(
            desk.library is not None,
            label="Answer from the documents",
            elem_id="grounded",
            visible=desk.library is not None,
            scale=1,
            min_width=250,
        )
        clear = gr.Button("New conversation", elem_id="chat-new", scale=1, min_width=160)
    talk = gr.Chatbot(
        elem_id="talk",
        show_label=False,
        height=None,
        min_height=260,
        max_height="min(62vh, 640px)",
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
    sources = gr.HTML(elem_id="sources", js_on_load=CLICKS, apply_default_css=False)
    said = gr.Textbox(
        elem_id="said",
        show_label=False,
        placeholder="Write a message; Enter sends it",
        lines=1,
        max_lines=8,
        submit_btn="Send",
        stop_btn=False,
        autofocus=False,
    )
    note = gr.HTML(elem_id="chat-note", apply_default_css=False)
    with gr.Column(visible=False, elem_id="passage", elem_classes="panel") as passage:
        read = gr.HTML(apply_default_css=False)
        shut = gr.Button("Close", elem_id="passage-close")
    with gr.Accordion("Settings", open=False, elem_id="chat-settings"):
        system = gr.Textbox(label="System prompt", lines=2, placeholder="What the program is told before you speak")
        with gr.Row():
            temperature = gr.Slider(0, 2, value=USUAL.temperature, step=0.05, label="Temperature", info="0: likeliest")
            top_p = gr.Slider(0.05, 1, value=USUAL.top_p, step=0.05, label="Top-p")
        with gr.Row():
            most = gr.Slider(16, 2048, value=512, step=16, label="Most tokens of an answer")
            seed = gr.Number(value=None, label="Seed", info="Empty: another one each time", precision=0, minimum=0)
        markdown = gr.Checkbox(label="Show texts as Markdown", elem_id="chat-markdown")
    state = gr.State(_Talk())
    settings = [program, grounded, system, temperature, top_p, most, seed]

    def offer(current: str | None) -> Any:
        names = talkers(desk.shelf())
        return gr.Dropdown(choices=names, value=current if current in names else next(iter(names), None))

    async def answer(
        state: _Talk,
        name: str | None,
        grounded: bool,
        system: str | None,
        temperature: float,
        top_p: float,
        most: float,
        seed: Any,
        request: gr.Request,
    ) -> AsyncIterator[tuple[Any, Any, Any, Any]]:
        history, state.asked = state.asked, []
        if not history:
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        turn, finished, note = state.turn, None, ""
        who, place = asker(request), len(history)
        try:
            found = desk.shelf().program(name or "")
            yield history, _note("Opening the program …"), gr.Textbox(submit_btn=False, stop_btn="Stop"), ""
            served = await desk.opened(found)
            state.answers[place] = _Said(program=found.id, system=system or "")
            if grounded and desk.library is not None:
                yield gr.skip(), _note("Looking through the documents …"), gr.skip(), gr.skip()
                answered = await _answered(served, desk.library, plain(history, None), who)
                if state.turn != turn:
                    return
                state.answers[place] = _Said(program=found.id, system="", sources=sources_of(answered))
                text = f"“{answered.text}”" if answered.quoted else answered.text
                listing = listed(state.answers[place].sources, place)
                yield [*history, {"role": "assistant", "content": text}], "", gr.skip(), listing
            else:
                talker = served.capability(Chat)  # type: ignore[type-abstract]
                prompt = await asyncio.to_thread(talker.encode_conversation, plain(history, system), ())
                chosen: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
                chosen["seed"] = None if seed is None else int(seed)
                async for piece in write(served, prompt, int(most), who.who, **chosen):
                    if state.turn != turn:
                        return
                    finished = piece.finished
                    yield [*history, {"role": "assistant", "content": piece.text}], "", gr.skip(), gr.skip()
                note = _note(_CUT) if finished == "length" else ""
        except (Sw2Error, ApiError) as error:
            note = told(error)
        yield gr.skip(), note, gr.Textbox(submit_btn="Send", stop_btn=False), gr.skip()

    def ask(text: str, history: list[Any], state: _Talk) -> tuple[str, Any]:
        if not text.strip():
            return "", gr.skip()
        state.begin([*history, {"role": "user", "content": text}])
        return "", state.asked

    def again(history: list[Any], state: _Talk, event: gr.RetryData) -> list[Any]:
        state.begin(history[: _index(event) + 1])
        return state.asked

    def undo(history: list[Any], state: _Talk, event: gr.UndoData) -> tuple[list[Any], str]:
        state.begin()
        return history[: _index(event)], _text(history[_index(event)]["content"])

    def judge(history: list[Any], state: _Talk, event: gr.LikeData) -> str:
        if event.liked not in ("Like", "Dislike", True, False):
            return ""  # taken back; what was written stays written
        number, thumb = _index(event), "up" if event.liked in ("Like", True) else "down"
        return keep(history[: number + 1], state.answers.get(number), Verdict(thumb=thumb))

    def edit(history: list[Any], state: _Talk, event: gr.EditData) -> tuple[list[Any], str]:
        number, better = _index(event), _text(event.value)
        if history[number]["role"] == "user":
            state.begin([*history[:number], {"role": "user", "content": better}])
            return state.asked, ""
        before = [*history[:number], {**history[number], "content": _text(event.previous_value)}]
        said = state.answers.get(number)
        return history, keep(before, said, Verdict(edit=better)) if better.strip() else ""

    def keep(history: Sequence[Any], said: _Said | None, verdict: Verdict) -> str:
        if desk.feedback is None or said is None:
            return ""
        try:
            desk.judge(plain(history, said.system), said.program, verdict)
        except OSError as error:
            return told(ResourceError("This cannot be kept.", where=desk.feedback, got=error.strerror))
        except Sw2Error as error:
            return told(error)
        return _note(f"Kept in {desk.feedback.name}; sw2 data from-feedback makes pairs to learn from.")

    def pick(state: _Talk, event: gr.SelectData) -> Any:
        said = state.answers.get(_index(event))
        return gr.skip() if said is None else listed(said.sources, _index(event))

    def show(state: _Talk, request: gr.Request, event: gr.EventData) -> tuple[Any, str]:
        said = state.answers.get(int(event.answer))
        if desk.library is None or said is None or not 0 <= int(event.source) < len(said.sources):
            return gr.Column(visible=False), ""
        source = said.sources[int(event.source)]
        try:
            return gr.Column(visible=True), opened(
                source, desk.library.around(source.passage.id, 1, asker(request).names)
            )
        except Sw2Error as error:
            return gr.Column(visible=True), told(error)

    def stop(state: _Talk) -> tuple[Any, str]:
        state.begin()
        return gr.Textbox(submit_btn="Send", stop_btn=False), ""

    def fresh(state: _Talk) -> tuple[Any, ...]:
        state.begin()
        state.answers.clear()
        return [], "", gr.Textbox(submit_btn="Send", stop_btn=False), "", gr.Column(visible=False)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    asked = [
        said.submit(ask, [said, talk, state], [said, talk], queue=False, **quiet),
        talk.retry(again, [talk, state], talk, queue=False, **quiet),
        talk.edit(edit, [talk, state], [talk, note], queue=False, **quiet),
    ]
    # An answer may be asked for while another one, which is about to end, is under way.
    streams = [
        each.then(answer, [state, *settings], [talk, note, said, sources], trigger_mode="multiple", **quiet)
        for each in asked
    ]
    markdown.input(
        lambda on: gr.Chatbot(render_markdown=on, allow_tags=on or _ELEMENTS.split()),
        markdown,
        talk,
        queue=False,
        **quiet,
    )
    talk.undo(undo, [talk, state], [talk, said], queue=False, **quiet)
    talk.select(pick, state, sources, queue=False, **quiet)
    sources.click(show, state, [passage, read], **quiet).then(None, None, None, js=FOCUS)
    shut.click(lambda: gr.Column(visible=False), None, passage, queue=False, **quiet)
    if desk.feedback is not None:
        talk.like(judge, [talk, state], note, queue=False, **quiet)
    said.stop(stop, state, [said, note], cancels=streams, queue=False, **quiet)
    gr.on(
        [clear.click, talk.clear],
        fresh,
        state,
        [talk, note, said, sources, passage],
        cancels=streams,
        queue=False,
        **quiet,
    )
    return program, offer


async def _answered(served: Served, library: Library, messages: Sequence[Mapping[str, Any]], who: Held) -> Answered:
    """What documents and a program make of the last question of a conversation, as `/v1/chat/completions` has it."""
    *history, last = messages
    looked = await asyncio.to_thread(library.look, str(last["content"]), history, who.names, AskConfig())
    answered = looked.refusal()
    if looked.told:
        talker = served.capability(Chat)  # type: ignore[type-abstract]
        context = served.capability(Generate).context  # type: ignore[type-abstract]
        looked, prompt = await asyncio.to_thread(fitting, looked, history, talker, context)
        written = ""
        async for piece in write(served, prompt, looked.config.max_tokens, who.who, temperature=0.0):
            written = piece.text
        answered = settle(looked, written)
    library.settled(served.name, "refused" if answered.refused else "quoted" if answered.quoted else "answered")
    return answered


def _index(event: Any) -> int:
    return int(event.index if not isinstance(event.index, (list, tuple)) else event.index[0])


def _note(text: str) -> str:
    return fragment(f'<div class="sw2"><p class="caption" role="status">{escape(text)}</p></div>') if text else ""
