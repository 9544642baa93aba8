"""`sw2 chat PROGRAM`: a conversation in the terminal.

An answer streams as it is written; Ctrl-C ends the answer, not the conversation. /reset forgets what was said, /exit or
the end of the input leaves. Lines may also come through a pipe, one message each. With `--tool` the model is told of a
tool; its calls are run, and their results shown in brackets.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, YesOption, context, emit, say, verb

__all__ = ["chat_command"]


@app.command("chat")
@verb
def chat_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, a model's file, or named weights.")],
    system: Annotated[str | None, typer.Option("--system", help="What the model is told before you speak.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The most tokens of an answer.")] = 512,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="0 takes the likeliest.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", help="Let it call this tool (calculator); may be repeated.")
    ] = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Talk with a program."""
    from sw2.base.errors import UsageError
    from sw2.base.names import pick
    from sw2.catalog import catalog
    from sw2.core.capabilities import Chat
    from sw2.parts.decoding.sampling import USUAL

    talker = catalog().program(program, context(seed, yes=yes, offline=offline)).capability(Chat)  # type: ignore[type-abstract]
    warmth = USUAL.temperature if temperature is None else temperature
    tools = [pick("tool", name, dict(talker.own_tools())) for name in tool or []]
    start: list[Mapping[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    messages = list(start)
    person = sys.stdin.isatty()
    if person:
        say("Ctrl-C ends an answer, /reset forgets, /exit leaves.")
    turn = 0
    while (line := _read(person)) is not None:
        if line in ("/exit", "/quit"):
            break
        if line == "/reset":
            messages = list(start)
            continue
        if not line:
            continue
        asked = [*messages, {"role": "user", "content": line}]
        written = ""
        try:
            sampling = replace(USUAL, temperature=warmth, seed=seed + turn)
            with closing(talker.converse(asked, sampling, max_tokens, tools=tools)) as stream:  # type: ignore[type-var]
                for piece in stream:
                    written += piece.text
                    shown = piece.text
                    if piece.message is not None:
                        asked.append(piece.message)
                        written = ""
                        if piece.message["role"] == "tool":
                            shown = f"\n[{piece.message['content']}]\n"
                    if not json_output:
                        typer.echo(shown, nl=False)
                        sys.stdout.flush()
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
        turn += 1
    if json_output:
        emit({"messages": messages})


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
