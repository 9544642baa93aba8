"""`sw2 chat PROGRAM`: a conversation in the terminal.

An answer streams as it is written; Ctrl-C ends the answer, not the conversation. /reset forgets what was said, /exit or
the end of the input leaves. Lines may also come through a pipe, one message each. With `--tool` the model is told of a
tool, of its own or a Python function of yours; its calls are run, and their results shown in brackets. With
`--json-schema` and its like every answer obeys a constraint; one that was cut off is said to be. With `--votes` and
`--review` an answer comes whole, when it is settled.

With `--log FILE` the conversation is kept, an answer a line, with what is said about it: /good, /bad [why], /edit and a
better answer, which then counts as what was said. `sw2 data from-feedback` makes pairs of answers of it.

With `--docs DIR` answers are those of `sw2 ask`, each with the places where it is said; what was said before is known,
passages of earlier questions are not. Vectors are filled in while you talk. With `--tool documents` beside it the model
searches them when it calls for that, and answers as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, YesOption, context, emit, say, verb
from sw2.faces.cli.constraint_options import (
    ChoiceOption,
    GrammarOption,
    JsonSchemaOption,
    RegexOption,
    constraint_of,
)
from sw2.faces.cli.documents_options import (
    AsOption,
    EmbedderOption,
    IndexOption,
    filled_behind,
    open_documents,
    show_answer,
)
from sw2.faces.cli.second_options import ReviewOption, VotesOption, answered
from sw2.faces.cli.tool_options import ToolOption, offered, searches, shown
from sw2.verbs.feedback import Log, Verdict

if TYPE_CHECKING:
    from sw2.core.documents import Documents, Passage

__all__ = ["chat_command"]

_JUDGEMENTS: Final = ("/good", "/bad", "/edit")


@app.command("chat")
@verb
def chat_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, a model's file, or named weights.")],
    system: Annotated[str | None, typer.Option("--system", help="What the model is told before you speak.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The most tokens of an answer.")] = 512,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="0 takes the likeliest.")] = None,
    tool: ToolOption = None,
    docs: Annotated[Path | None, typer.Option("--docs", help="Answer from the documents in this folder.")] = None,
    index: IndexOption = None,
    embedder: EmbedderOption = None,
    names: AsOption = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Keep the conversation here, with /good, /bad and /edit.")
    ] = None,
    json_schema: JsonSchemaOption = None,
    regex: RegexOption = None,
    choice: ChoiceOption = None,
    grammar: GrammarOption = None,
    votes: VotesOption = 1,
    review: ReviewOption = 0,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Talk with a program."""
    from sw2.base.errors import UsageError
    from sw2.catalog import catalog
    from sw2.core.capabilities import Chat
    from sw2.parts.decoding.sampling import USUAL
    from sw2.verbs.ask import AskConfig, ask

    constraint = constraint_of(json_schema, regex, choice, grammar)
    if docs is None and (index is not None or embedder is not None or names):
        raise UsageError("Without documents --index, --embedder and --as would have no effect.", do="Add --docs DIR.")
    unused = {"--system": system, "--tool": tool, "a constraint": constraint, "--votes": votes > 1, "--review": review}
    answers = docs is not None and not searches(tool)
    if answers and any(unused.values()):
        raise UsageError(
            "Answers from documents have a prompt and a form of their own.",
            where="sw2 chat --docs",
            wanted="none of --system, --tool, --votes, --review, and no constraint",
            got=", ".join(name for name, given in unused.items() if given),
            do="Add --tool documents, and it answers as usual and searches when it calls for that.",
        )
    consent = context(seed, yes=yes, offline=offline)
    loaded = catalog().program(program, consent)
    talker = loaded.capability(Chat)  # type: ignore[type-abstract]
    warmth = USUAL.temperature if temperature is None else temperature
    start: list[Mapping[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    messages = list(start)
    sources: list[Mapping[str, Any]] = []
    person = sys.stdin.isatty()
    documents: Documents | None = None

    def search(question: str, count: int) -> Sequence[Passage]:
        assert documents is not None, "opened before anybody speaks"
        return documents.search(question, count, owners=names or ())

    tools = offered(tool, talker.own_tools(), None if docs is None else search)
    schemas = [each.schema for each in tools]
    kept = _Kept(None if log is None else Log(log), schemas, "" if log is None else loaded.id)
    if person:
        judging = "" if log is None else " /good, /bad [why] or /edit [a better one] says what it is worth,"
        say(f"Ctrl-C ends an answer,{judging} /reset forgets, /exit leaves.")
    turn = 0
    with ExitStack() as stack:
        stack.callback(kept.close)
        if docs is not None:
            documents = stack.enter_context(open_documents(docs, index, embedder, consent))
            stack.enter_context(filled_behind(documents))
        while (line := _read(person)) is not None:
            if line in ("/exit", "/quit"):
                break
            if line == "/reset":
                messages = list(start)
                kept.settle()
                continue
            if line.partition(" ")[0] in _JUDGEMENTS:
                messages = kept.judge(line, messages)
                continue
            if not line:
                continue
            kept.settle()
            asked = [*messages, {"role": "user", "content": line}]
            written = ""
            try:
                sampling = replace(USUAL, temperature=warmth, seed=seed + turn)
                if answers or votes > 1 or review:
                    if answers:
                        assert documents is not None
                        if temperature is None:
                            sampling = replace(sampling, temperature=0.0)  # what is read is not made up
                        config = AskConfig(max_tokens=max_tokens)
                        found = ask(
                            loaded, documents, line, history=messages, owners=names or (), config=config,
                            sampling=sampling,
                        )  # fmt: skip
                        asked.append({"role": "assistant", "content": found.text})
                        sources.append(found.to_json())
                        if not json_output:
                            show_answer(found)
                    else:
                        draft = answered(
                            talker, asked, sampling, max_tokens, tools=tools, constraint=constraint, votes=votes,
                            reviews=review,
                        )  # fmt: skip
                        asked.append({"role": "assistant", "content": draft.text})
                        if votes > 1:
                            say(f"{draft.agreed:.0%} of {votes} drafts agreed.")
                        if not json_output:
                            typer.echo(draft.text)
                    messages = asked
                    kept.answered(messages)
                    turn += 1
                    continue
                answering = talker.converse(asked, sampling, max_tokens, tools=tools, constraint=constraint)
                with closing(answering) as stream:  # type: ignore[type-var]
                    for piece in stream:
                        written += piece.text
                        if piece.message is not None:
                            asked.append(piece.message)
                            written = ""
                        if not json_output:
                            typer.echo(shown(piece), nl=False)
                            sys.stdout.flush()
                        if constraint is not None and piece.finished == "length":
                            say("sw2: the answer was cut off and is not complete; raise --max-tokens.")
            except KeyboardInterrupt:
                if not person:
                    raise
                asked.append({"role": "assistant", "content": written})
            except UsageError as error:
                if not person:
                    raise
                say(f"sw2: {error}")  # a conversation that became too long goes on after /reset
                continue
            if not json_output:
                typer.echo()
            messages = asked
            kept.answered(messages)
            turn += 1
    if json_output:
        emit({"messages": messages} if not answers else {"messages": messages, "answers": sources})


class _Kept:
    """The last answer, until it is settled what is said about it; then it goes into the log."""

    def __init__(self, log: Log | None, tools: Sequence[Mapping[str, Any]], program: str) -> None:
        self._log, self._tools, self._program = log, tools, program
        self._messages: list[Mapping[str, Any]] = []
        self._verdict = Verdict()

    def answered(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """The answer at the end of `messages` was just given."""
        self._messages, self._verdict = list(messages), Verdict()

    def judge(self, line: str, messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Take /good, /bad or /edit; how the conversation stands now. The last word counts."""
        word, _, text = line.partition(" ")
        text = text.strip()
        if self._log is None:
            say("Nothing is kept: start with --log FILE.")
        elif not self._messages:
            say("There is no answer yet.")
        elif word == "/edit" and not text:
            say("What should it have said? /edit and the better answer.")
        elif word == "/edit":
            self._verdict = Verdict(thumb=self._verdict.thumb, why=self._verdict.why, edit=text)
            return [*messages[:-1], {"role": "assistant", "content": text}]
        else:
            thumb = "up" if word == "/good" else "down"
            self._verdict = Verdict(thumb=thumb, why=text, edit="" if thumb == "up" else self._verdict.edit)
            return list(self._messages) if thumb == "up" else messages
        return messages

    def settle(self) -> None:
        """What is said about the last answer is said."""
        if self._log is not None and self._messages:
            self._log.append(self._messages, self._tools, self._program, self._verdict)
        self._messages = []

    def close(self) -> None:
        """Settle, and let go of the log."""
        self.settle()
        if self._log is not None:
            self._log.close()


def _read(person: bool) -> str | None:
    """The next message, None at the end."""
    try:
        return input("> " if person else "").strip()
    except EOFError:
        return None
    except KeyboardInterrupt:
        if person:
            say("")
            return None
        raise
