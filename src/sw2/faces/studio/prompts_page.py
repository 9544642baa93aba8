"""The page of prompts: a text, what it says or what is wrong with it, its tests, two of them held against each other.

The text in the page is what is tried, saved or not (`bench`). It is saved below the folder, under a name of its kind,
once it can be read; a file that somebody else has changed meanwhile is not overwritten. Those that come along can be
looked at, tried, and saved under a name of one's own.

Which kinds of written programs there are is the catalogue's matter; what they are called here is this page's.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from html import escape
from typing import Any, Final

import gradio as gr

from sw2.base.errors import ResourceError, Sw2Error, UsageError
from sw2.base.store import finite, write_text
from sw2.core.card import figure
from sw2.core.data import Example
from sw2.core.draft import Draft
from sw2.core.program import Program
from sw2.core.task import Context, Score
from sw2.faces.studio.bench import Bench, Trial
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.fields import answer_of, field, question_of
from sw2.faces.studio.look import fragment
from sw2.faces.studio.writing import told
from sw2.verbs.compare import Comparison, compare
from sw2.verbs.evaluate import evaluate
from sw2.verbs.page import fact_list, table
from sw2.verbs.shelf import Shelf, talkers, within

__all__ = ["compared", "prompts_page", "read", "tested"]

_ALONG: Final = " (comes along)"
_ITSELF: Final = ("as it says itself", "")
_THIS: Final = ("this text", "")
_LONGEST: Final = 600
_SEEN: Final = "() => document.getElementById('prompt-result')?.scrollIntoView({block: 'nearest'})"
"""Brings what came out into view: it stands below the text."""


def read(draft: Draft) -> str:
    """What a text says, as HTML."""
    return f'<div class="sw2"><section><h2>It can be read</h2>{fact_list(draft.facts)}</section></div>'


def tested(scores: Sequence[Score], examples: Sequence[Example]) -> str:
    """How a text did in tests, as HTML: its scores beside the baselines', and each test.

    Args:
        scores: the first of which keeps the examples' own scores and answers.
        examples: the tests, in the same order.
    """
    rows = [
        (escape(each.name), escape("" if each.of == "program" else each.of), figure(each.value), _interval(each))
        for each in scores
    ]
    lead = scores[0]
    cases = lead.details.get("cases") or [None] * len(examples)
    answers = lead.answers or [("", "")] * len(examples)
    shown = "".join(
        _test(example, case, said) for example, case, (_, said) in zip(examples, cases, answers, strict=True)
    )
    passed = sum(bool(case) for case in cases)
    return (
        f'<div class="sw2"><section><h2>{passed} of {len(examples)} tests passed</h2>'
        f"{table(('score', 'of', 'value', '95 %'), rows, words=2)}</section>"
        f'<section><h2>Each test</h2><ul class="tests">{shown}</ul></section></div>'
    )


def _interval(score: Score) -> str:
    return f"{figure(score.interval[0])} to {figure(score.interval[1])}" if score.interval else ""


def _test(example: Example, case: Any, said: str) -> str:
    good = bool(case)
    tag = f'<span class="tag {"good" if good else "bad"}">{"passed" if good else "failed"}</span>'
    parts = "".join(
        f'<div class="part"><span class="what">{escape(str(name))}</span><p class="text">{_short(value)}</p></div>'
        for name, value in example.items()
    )
    return (
        f'<li class="row"><h3>{tag}</h3><div><div class="part"><span class="what">answer</span>'
        f'<p class="text">{_short(said)}</p></div><details><summary>The test</summary><div class="parts">{parts}</div>'
        f"</details></div></li>"
    )


def compared(found: Comparison, names: tuple[str, str]) -> str:
    """Two texts, or one on two programs, as HTML: the difference with its interval, and the answers that changed."""
    gain, interval = found.change.gain, found.change.interval
    spread = f" (95 %: {interval.low:+.4f} to {interval.high:+.4f})" if interval else ""
    total = len(found.new.details["cases"])
    others = len(found.changed) - found.better - found.worse
    heads = tuple(map(escape, names))
    rows = [
        (
            f'<span class="tag {"good" if each.gain > 0 else "bad" if each.gain < 0 else ""}">'
            f"{'better' if each.gain > 0 else 'worse' if each.gain < 0 else 'other words'}</span>",
            _short(each.asked),
            _short(each.old),
            _short(each.new),
        )
        for each in found.changed
    ]
    changed = table(("", "asked", *heads), rows, words=4) if rows else '<p class="intro">All answers are the same.</p>'
    return (
        f'<div class="sw2"><section><h2>{escape(found.change.verdict)}: {gain:+.4f}{spread}</h2>'
        f'<p class="intro">{escape(found.new.name)}: {figure(found.old.value)} for {heads[0]}, '
        f"{figure(found.new.value)} for {heads[1]}, over {total} tests. {found.better} better, {found.worse} worse, "
        f"{others} only worded otherwise, {total - len(found.changed)} the same.</p>"
        f"{changed}</section></div>"
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(finite(value), ensure_ascii=False, default=str)
    return escape(text if len(text) <= _LONGEST else text[: _LONGEST - 2] + " …")


def prompts_page(desk: Desk) -> tuple[Any, Any]:
    """Lay the page out; called inside a tab.

    Returns:
        The choices of a prompt and of programs, and the function that offers what there is.
    """
    bench = Bench(desk)
    state = gr.State(("", ""))  # the name of the file, and its text when it was opened or saved
    with gr.Row(elem_classes="bar"):
        prompt = gr.Dropdown([], label="Prompt", elem_id="prompt", scale=2)
        on = gr.Dropdown([_ITSELF], value="", label="Runs on", elem_id="prompt-on", scale=2)
    text = gr.Textbox(label="Text", elem_id="prompt-text", lines=18, max_lines=30, elem_classes="code")
    with gr.Row(elem_classes="actions"):
        check = gr.Button("Check", elem_id="prompt-check")
        try_it = gr.Button("Try it", elem_id="prompt-try")
        test = gr.Button("Run its tests", variant="primary", elem_id="prompt-test")
        stop = gr.Button("Stop", visible=False, elem_id="prompt-stop")
    with gr.Row(elem_classes="bar"):
        place = gr.Textbox(label="Save as", elem_id="prompt-place", scale=3, placeholder="A path in this folder")
        save = gr.Button("Save", elem_id="prompt-save", scale=1, min_width=110)
    with gr.Accordion("Compare", open=False, elem_id="prompt-comparing"):
        with gr.Row(elem_classes="bar"):
            other = gr.Dropdown([_THIS], value="", label="With", elem_id="prompt-other")
            other_on = gr.Dropdown([_ITSELF], value="", label="Which runs on", elem_id="prompt-other-on")
        data = gr.Textbox(
            label="Data", elem_id="prompt-data", placeholder="Empty: its own tests. Or a path in this folder"
        )
        with gr.Row(elem_classes="actions"):
            held = gr.Button("Compare", elem_id="prompt-compare")
    result = gr.HTML(elem_id="prompt-result", apply_default_css=False)
    tried = gr.State(("", "", "", 0.0))  # the text, the name of its file, what it runs on, and when that was asked for

    @gr.render(inputs=tried, triggers=[tried.change], show_progress="hidden")
    def form(tried: tuple[str, str, str, float]) -> None:
        text, name, on, _ = tried
        if name:
            _form(bench, Trial(text=text, name=name, on=on))

    def offer(current: str | None, on: str | None, other: str | None, other_on: str | None) -> tuple[Any, ...]:
        shelf = desk.shelf()
        names, models = _names(desk, shelf), [_ITSELF, *((name, name) for name in talkers(shelf))]
        chosen = current if current in names else next(iter(names), None)

        def model(current: str | None) -> Any:
            return gr.Dropdown(choices=models, value=current if current in dict(models).values() else "")

        return (
            gr.Dropdown(choices=names, value=chosen),
            model(on),
            gr.Dropdown(choices=[_THIS, *((name, name) for name in names)], value=other if other in names else ""),
            model(other_on),
        )

    def choose(name: str | None) -> tuple[Any, str, str, str]:
        if not name:
            return ("", ""), "", "", fragment(_EMPTY)
        try:
            source, file = _source(desk, name), _file(desk, name)
        except Sw2Error as error:
            return ("", ""), "", "", told(error)
        return (file, source), source, file, look(source, file)

    def look(text: str, place: str) -> str:
        try:
            return fragment(read(bench.read(text, place)))
        except Sw2Error as error:
            return told(error)

    def keep(text: str, place: str, state: tuple[str, str]) -> tuple[Any, str]:
        try:
            draft = bench.read(text, place)
            path = within(desk.root, place)
            hidden = any(part.startswith(".") for part in path.relative_to(desk.root.resolve()).parts)
            if hidden or not path.parent.is_dir() or (path.exists() and not desk.catalog.is_written(path)):
                raise UsageError(
                    "This is no place for it; nothing was written.",
                    where=place,
                    wanted="a new file, or one of its kind, in a folder that is there",
                    got="something else",
                )
            if path.exists() and (place, path.read_text("utf-8")) != tuple(state):
                raise UsageError(
                    "This file is not the one that was opened, or was changed since; nothing was written.",
                    where=place,
                    wanted="the text that was opened here",
                    got="another one",
                    do="Save under another name, or choose it above to see it.",
                )
            write_text(path, text)
        except OSError as error:
            return state, told(ResourceError("This cannot be saved.", where=place, got=error.strerror))
        except Sw2Error as error:
            return state, told(error)
        return (place, text), fragment('<div class="sw2"><p class="caption" role="status">Saved.</p></div>') + fragment(
            read(draft)
        )

    async def run(text: str, place: str, on: str) -> AsyncIterator[tuple[str, Any]]:
        yield _waiting("Asking its tests …"), gr.Button(visible=True)
        context = Context()

        def work(program: Program) -> str:
            scores = evaluate(desk.catalog, program, None, context, record=False)
            task: Any = program.task
            return tested(scores, list(task.tests(task.Options(), context).split("test")))

        try:
            html = fragment(await bench.tried([Trial(text=text, name=place, on=on or "")], work))
        except Sw2Error as error:
            html = told(error)
        yield html, gr.Button(visible=False)

    async def hold(
        text: str, place: str, on: str, other: str, other_on: str, data: str
    ) -> AsyncIterator[tuple[str, Any]]:
        yield _waiting("Asking both …"), gr.Button(visible=True)
        try:
            mine = Trial(text=text, name=place, on=on or "")
            its = (text, place) if not other else (_source(desk, other), _file(desk, other))
            theirs = Trial(text=its[0], name=its[1], on=other_on or "")
            source = str(within(desk.root, data.strip())) if data.strip() else None
            names = _called(theirs, other or "this text"), _called(mine, "this text")

            def work(old: Program, new: Program) -> str:
                return compared(compare(desk.catalog, old, new, source, Context()), names)

            html = fragment(await bench.tried([theirs, mine], work))
        except Sw2Error as error:
            html = told(error)
        yield html, gr.Button(visible=False)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    prompt.change(choose, prompt, [state, text, place, result], **quiet)
    try_it.click(
        lambda text, place, on: ("", (text, place, on or "", time.time())), [text, place, on], [result, tried], **quiet
    )
    seen: dict[str, Any] = {"fn": None, "js": _SEEN}
    check.click(look, [text, place], result, **quiet).then(**seen)
    save.click(keep, [text, place, state], [state, result], **quiet).then(
        offer, [prompt, on, other, other_on], [prompt, on, other, other_on], **quiet
    )
    going: list[Any] = [
        test.click(run, [text, place, on], [result, stop], **quiet),
        held.click(hold, [text, place, on, other, other_on, data], [result, stop], **quiet),
    ]
    for each in going:
        each.then(**seen)
    stop.click(
        lambda: (
            _waiting("What is asked now is answered behind this page, and thrown away."),
            gr.Button(visible=False),
        ),
        None,
        [result, stop],
        cancels=going,
        queue=False,
        api_visibility="private",
    )
    return [prompt, on, other, other_on], offer


def _form(bench: Bench, trial: Trial) -> None:
    """A field for each input of a text, and what it answers."""
    try:
        inputs = bench.read(trial.text, trial.name).inputs
    except Sw2Error as error:
        gr.HTML(told(error), apply_default_css=False)
        return
    with gr.Column(elem_id="prompt-form", elem_classes="panel"):
        widgets = [field(name, kind, alone=len(inputs) == 1) for name, kind in inputs.items()]
        with gr.Row(elem_classes="actions"):
            ask = gr.Button("Ask", variant="primary", elem_id="prompt-ask")
        answer = gr.HTML(elem_id="prompt-answer", apply_default_css=False)

    async def answered(*values: Any) -> AsyncIterator[str]:
        try:
            raw = question_of(inputs, values)
            yield _waiting("Asking …")

            def work(program: Program) -> str:
                return answer_of(program.task.outputs, program(raw))

            yield fragment(f'<div class="sw2">{await bench.tried([trial], work)}</div>')
        except Sw2Error as error:
            yield told(error)

    ask.click(answered, widgets, answer, show_progress="hidden", api_visibility="private")


_EMPTY: Final = (
    '<div class="sw2"><div class="empty"><h3>No prompt lies in this folder yet</h3>'
    "<p>Write one above and save it under a name that ends with .toml.</p></div></div>"
)


def _names(desk: Desk, shelf: Shelf) -> list[str]:
    """Written programs: those of the folder, then those that come along."""
    return [*shelf.written, *(f"{name}{_ALONG}" for name in desk.catalog.files)]


def _source(desk: Desk, name: str) -> str:
    """The text of a written program by its name in the page.

    Raises:
        Sw2Error: there is none, or it is no text.
    """
    if name.endswith(_ALONG):
        return desk.catalog.text(name.removesuffix(_ALONG))
    path = desk.shelf().written_file(name)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError("This cannot be read.", where=name, got=type(error).__name__) from error


def _file(desk: Desk, name: str) -> str:
    """Under which name a written program is saved."""
    if not name.endswith(_ALONG):
        return name
    along = name.removesuffix(_ALONG)
    return f"{along}{desk.catalog.files[along][0].suffix}"


def _called(trial: Trial, name: str) -> str:
    return f"{name} on {trial.on}" if trial.on else name


def _waiting(text: str) -> str:
    return fragment(f'<div class="sw2"><p class="caption" role="status">{escape(text)}</p></div>')
