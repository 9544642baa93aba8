"""`sw2 run PROGRAM INPUT…`: answers. Text streams as it is written; other answers are printed by their kinds.

Under a constraint (`--json-schema` and its like) the answer alone is printed, so that another program can read it, and
one that was cut off is said to be; a program that chats answers each input as a message, one after the other. The same
holds for a prompt, whose further inputs are written NAME=VALUE.

Of an answer that is a picture, such as a mask, `--out` keeps the picture; printed it would be letters.

With `--tool` a program that chats answers each input as a message and may call tools on the way; what came of a call is
shown in brackets.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import (
    JsonOption,
    OfflineOption,
    SeedOption,
    YesOption,
    context,
    emit,
    refuse_unused,
    say,
    verb,
)
from sw2.faces.cli.constraint_options import (
    ChoiceOption,
    GrammarOption,
    JsonSchemaOption,
    RegexOption,
    constraint_of,
)
from sw2.faces.cli.second_options import ReviewOption, VotesOption, answered
from sw2.faces.cli.tool_options import ToolOption, offered, shown

if TYPE_CHECKING:
    from sw2.core.capabilities import Chat, ChatPiece, Outcome
    from sw2.core.kinds import Kind
    from sw2.core.second_chance import Draft
    from sw2.parts.decoding.constraint import Constraint
    from sw2.parts.decoding.sampling import Sampling
    from sw2.parts.decoding.text import TextPiece, TokenScore

__all__ = ["run_command", "show"]


@app.command("run")
@verb
def run_command(
    command: typer.Context,
    program: Annotated[str, typer.Argument(help="A program's or run's folder, a prompt, or named weights.")],
    inputs: Annotated[
        list[str], typer.Argument(help="A picture's path, a text, @file, - for standard input; of a prompt NAME=VALUE.")
    ],
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Text: the most tokens to write.")] = 256,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="Text: end before this; may be repeated.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, help="Text: 0 takes the likeliest.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Text: keep the K likeliest; 0 keeps all.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Text: keep the likeliest that reach P.")] = None,
    min_p: Annotated[
        float | None, typer.Option("--min-p", help="Text: keep those P times as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option("--repetition-penalty", help="Text: divides the logits of all tokens so far.")
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option("--presence-penalty", help="Text: taken off for tokens written before.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option("--frequency-penalty", help="Text: the same, for each time.")
    ] = None,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option("--logit-bias", metavar="TOKEN=BIAS", help="Text: added to a token's logit; may be repeated."),
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option("--logprobs", min=0, metavar="N", help="Text, with --json: name the N likeliest in each place."),
    ] = None,
    json_schema: JsonSchemaOption = None,
    regex: RegexOption = None,
    choice: ChoiceOption = None,
    grammar: GrammarOption = None,
    tool: ToolOption = None,
    votes: VotesOption = 1,
    review: ReviewOption = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Pictures: write the answer's here, a new .png file.", dir_okay=False)
    ] = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Use a program. Several texts are continued as one batch."""
    from sw2.base.errors import UsageError
    from sw2.catalog import catalog
    from sw2.core.capabilities import Ask, Chat, Generate
    from sw2.core.kinds import parse_arguments
    from sw2.parts.decoding.sampling import USUAL

    loaded = catalog().program(program, context(seed, yes=yes, offline=offline))
    kind = next(iter(loaded.task.inputs.values()))
    constraint = constraint_of(json_schema, regex, choice, grammar)
    raws = parse_arguments(loaded.task.inputs, inputs)
    if out is not None:
        _refuse_out(out, loaded.task.outputs, len(raws))
    chosen: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "logit_bias": _biases(logit_bias) if logit_bias else None,
        "seed": seed,
    }
    chosen = {key: value for key, value in chosen.items() if value is not None}
    if isinstance(loaded.runtime, Ask):
        unused = ("stop", "logprobs", "json_schema", "regex", "choice", "grammar", "tool")
        taken = [each.name for each in command.command.params if each.name and each.name not in unused]
        refuse_unused(command, taken, "A prompt says itself where answers end and what they are.")
        if not _given(command, "seed"):
            del chosen["seed"]
        sampling = dataclasses.replace(loaded.runtime.sampling, **chosen)
        most = max_tokens if _given(command, "max_tokens") else None
        outcomes = loaded.runtime.ask(raws, sampling=sampling, max_tokens=most, votes=votes, reviews=review)
        _print(outcomes, _shown(outcomes), json_output)
        return
    writer = loaded.runtime if isinstance(loaded.runtime, Generate) and kind.name == "text" else None
    talker = loaded.runtime if isinstance(loaded.runtime, Chat) and kind.name == "conversation" else None
    second = votes > 1 or review > 0
    if tool and talker is None:
        raise UsageError("Only a program that chats calls tools.", wanted="a program for chat", got=loaded.task.name)
    tools = [] if talker is None else offered(tool, talker.own_tools())
    if second and talker is not None:
        if logprobs is not None:
            raise UsageError("Answers in a conversation have no log-probabilities.", got=f"--logprobs {logprobs}")
        sampling = dataclasses.replace(USUAL, **chosen)
        drafts = [
            answered(
                talker, _messages(each), sampling, max_tokens, stop=stop or [], tools=[*_tools(each), *tools],
                constraint=constraint, votes=votes, reviews=review,
            )
            for each in raws
        ]  # fmt: skip
        _print(drafts, [draft.text.strip() for draft in drafts], json_output)
        return
    if second and writer is not None:
        raise UsageError(
            "What goes on from a text has no second chance.",
            wanted="a prompt, or a program for chat",
            got=f"a program for {loaded.task.name}",
            do="sw2 chat, with the same options",
        )
    if talker is not None and tools:
        if logprobs is not None:
            raise UsageError("Answers in a conversation have no log-probabilities.", got=f"--logprobs {logprobs}")
        sampling = dataclasses.replace(USUAL, **chosen)
        talks = [
            talker.converse(_messages(each), sampling, max_tokens, stop or [], [*_tools(each), *tools], constraint)
            for each in raws
        ]
        _show_talks(talks, json_output)
        return
    if writer is not None or (talker is not None and constraint is not None):
        if logprobs is not None and not json_output:
            raise UsageError("Log-probabilities are shown with --json only.", got=f"--logprobs {logprobs}")
        sampling = dataclasses.replace(USUAL, **chosen)
        pieces: Iterator[tuple[int, TextPiece]]
        if writer is not None:
            samplings = [sampling] * len(raws)
            pieces = writer.generate_many(raws, samplings, max_tokens, stop or [], logprobs, constraint)
        else:
            assert talker is not None
            if logprobs is not None:
                raise UsageError("Answers in a conversation have no log-probabilities.", got=f"--logprobs {logprobs}")
            pieces = _replies(talker, raws, sampling, max_tokens, stop or [], constraint)
        begun = raws if constraint is None else [""] * len(raws)
        written = _show_written(pieces, begun, json_output)
        if constraint is not None:
            _name_incomplete(written)
        return
    used = ("program", "inputs", "out", "seed", "yes", "offline", "json_output")
    why = "takes these settings together with a constraint or tools only" if talker else "does not write text"
    refuse_unused(command, used, f"This program {why}, so they would have no effect.")
    answers = loaded.map(raws)
    if out is not None:
        _write_picture(out, answers[0], loaded.task.outputs)
    if json_output:
        emit({"answers": answers})
        return
    # Of a program with several inputs, an argument NAME=VALUE is no question of its own.
    first = next(iter(loaded.task.inputs))
    asked = inputs if len(loaded.task.inputs) == 1 else [str(raw[first]) for raw in raws]
    for text, answer in zip(asked, answers, strict=True):
        show(text, answer, loaded.task.outputs, kept=out)


def _refuse_out(out: Path, outputs: Mapping[str, Kind], count: int) -> None:
    """Complain before anything is computed about an `--out` that cannot be written."""
    from sw2.base.errors import UsageError

    if _picture(outputs) is None:
        raise UsageError("This program answers without a picture.", where="--out", wanted="no --out", got=out)
    if count != 1:
        raise UsageError("One file holds one answer.", where="--out", wanted="one input", got=f"{count} inputs")
    if out.suffix.lower() != ".png":
        raise UsageError("The picture is written as PNG.", where="--out", wanted="a name that ends in .png", got=out)
    if out.exists():
        raise UsageError("This file is there already; nothing was changed.", where=out, wanted="a new file", got=out)


def _picture(outputs: Mapping[str, Kind]) -> str | None:
    """The name of the output that is a picture."""
    return next((name for name, kind in outputs.items() if kind.name == "image"), None)


def _write_picture(out: Path, answer: Mapping[str, Any], outputs: Mapping[str, Kind]) -> None:
    from sw2.base.store import replacing

    letters = answer[str(_picture(outputs))].removeprefix("data:image/png;base64,")
    with replacing(out) as partial:
        partial.write_bytes(base64.b64decode(letters, validate=True))


def _given(command: typer.Context, name: str) -> bool:
    """Whether an option was said."""
    source = command.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _shown(outcomes: Sequence[Outcome]) -> list[str]:
    """Answers as they are printed: a text, an object as JSON, what was cut off as far as it goes."""
    return [
        each.text.strip()
        if each.answer is None or isinstance(each.answer, str)
        else json.dumps(each.answer, ensure_ascii=False)
        for each in outcomes
    ]


def _print(answers: Sequence[Outcome | Draft], texts: Sequence[str], json_output: bool) -> None:
    """The answers alone, so that another program can read them; what was cut off is said to be."""
    if json_output:
        emit({"answers": [vars(answer) for answer in answers]})
    else:
        for text in texts:
            typer.echo(text)
    _name_incomplete([vars(answer) for answer in answers])


def _biases(given: Sequence[str]) -> tuple[tuple[int, float], ...]:
    from sw2.base.errors import UsageError

    biases = []
    for text in given:
        token, _, bias = text.partition("=")
        try:
            biases.append((int(token), float(bias)))
        except ValueError as error:
            raise UsageError("A bias is written TOKEN=BIAS.", wanted="such as 42=-5", got=text) from error
    return tuple(biases)


def _replies(
    talker: Chat,
    conversations: Sequence[Any],
    sampling: Sampling,
    max_tokens: int,
    stop: Sequence[str],
    constraint: Constraint | None,
) -> Iterator[tuple[int, TextPiece]]:
    """The answer to each conversation, piece by piece, with its number."""
    for number, each in enumerate(conversations):
        for piece in talker.reply(_messages(each), sampling, max_tokens, stop, _tools(each), constraint):
            yield number, piece


def _show_talks(talks: Sequence[Iterator[ChatPiece]], json_output: bool) -> None:
    """Show conversations with calls as they go on; for --json, the messages that came to each."""
    answers = []
    for talk in talks:
        messages: list[Mapping[str, Any]] = []
        finished = None
        with closing(talk):  # type: ignore[type-var]
            for piece in talk:
                if piece.message is not None:
                    messages.append(piece.message)
                finished = piece.finished or finished
                if not json_output:
                    typer.echo(shown(piece), nl=False)
                    sys.stdout.flush()
        if not json_output:
            typer.echo()
        last = messages[-1]
        if last["role"] == "tool":  # its result filled the context
            finished = "length"
        answers.append({"text": last["content"], "finished": finished, "messages": messages})
    if json_output:
        emit({"answers": answers})
    _name_incomplete(answers)


def _messages(conversation: Any) -> list[Mapping[str, Any]]:
    return list((conversation.get("messages") or []) if isinstance(conversation, Mapping) else conversation)


def _tools(conversation: Any) -> list[Mapping[str, Any]]:
    return list((conversation.get("tools") or []) if isinstance(conversation, Mapping) else [])


def _show_written(
    pieces: Iterable[tuple[int, TextPiece]], begun: Sequence[str], json_output: bool
) -> list[dict[str, Any]]:
    """Show texts and return them: one as it is written; several, and for --json, when all are done.

    Each is shown after what it goes on from, which `begun` holds.
    """
    streams, first = not json_output and len(begun) == 1, True
    answers: list[dict[str, Any]] = [{"text": "", "finished": None, "tokens": []} for _ in begun]
    for number, piece in pieces:
        answer = answers[number]
        answer["text"] += piece.text
        answer["finished"] = piece.finished
        answer["tokens"] += [_token(token) for token in piece.tokens]
        if streams:
            # The prompt is shown with the first piece: one that is refused would only bury the reason.
            typer.echo(begun[0] + piece.text if first else piece.text, nl=False)
            sys.stdout.flush()
            first = False
    if json_output:
        emit({"answers": answers})
    elif streams:
        typer.echo()
    else:
        for prompt, answer in zip(begun, answers, strict=True):
            typer.echo(f"{prompt}{answer['text']}\n")
    return answers


def _name_incomplete(answers: Sequence[Mapping[str, Any]]) -> None:
    """Say which answers obey their constraint only as far as they go."""
    for number, answer in enumerate(answers, 1):
        if answer["finished"] not in ("end", "stop"):
            do = "; raise --max-tokens" if answer["finished"] == "length" else ""
            say(f"sw2: answer {number} was cut off ({answer['finished']}) and is not complete{do}.")


def _token(token: TokenScore) -> dict[str, Any]:
    """A token for JSON: its number, its text (half a character as U+FFFD), its bytes, and how likely it was."""
    named = {"token": token.token, "text": token.bytes.decode(errors="replace"), "bytes": list(token.bytes)}
    if token.logprob is None:
        return named
    return {**named, "logprob": token.logprob, "top": [_token(each) for each in token.top]}


def show(text: str, answer: Mapping[str, Any], outputs: Mapping[str, Kind], kept: Path | None = None) -> None:
    """One answer for people; how depends on the kind of each output. `kept` is where its picture was written.

    Numbers by name are listed below: of a distribution the largest with their bars, of a record all as they come.
    """
    picture = str(kept) if kept else "a picture (--out FILE.png keeps it)"
    ways: Mapping[str, Callable[[Any], str]] = {
        "vector": _shortened,
        "image": lambda letters: picture,
        "record": partial(json.dumps, ensure_ascii=False),
    }
    listed = [name for name, kind in outputs.items() if kind.name == "distribution" or _is_table(kind, answer[name])]
    plain = [ways.get(kind.name, str)(answer[name]) for name, kind in outputs.items() if name not in listed]
    typer.echo(f"{text}: {', '.join(plain)}".rstrip())
    for name in listed:
        if outputs[name].name == "distribution":
            largest = sorted(answer[name].items(), key=lambda pair: -pair[1])[:5]
            rows = {label: f"{probability:7.2%}  {'█' * round(30 * probability)}" for label, probability in largest}
        else:
            numbers = answer[name].items()
            rows = {label: f"{value:7.4f}" if isinstance(value, float) else f"{value:7}" for label, value in numbers}
        width = max(map(len, rows))
        for label, figure in rows.items():
            typer.echo(f"  {label:<{width}}  {figure}")


def _is_table(kind: Kind, value: Any) -> bool:
    """Whether it is a record of one number or more by name, such as words with their cosines."""
    named = kind.name == "record" and isinstance(value, Mapping) and len(value) > 0
    return named and all(isinstance(each, int | float) and not isinstance(each, bool) for each in value.values())


def _shortened(vector: Sequence[float]) -> str:
    """The beginning of a vector; all of it is for machines (--json)."""
    begin = " ".join(f"{number:.4f}" for number in vector[:4])
    return f"{begin} …, {len(vector)} numbers" if len(vector) > 4 else begin
