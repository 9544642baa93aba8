"""`sw2 ask PROGRAM --docs DIR "question"`: an answer from documents, with the places where it is said.

The folder's index is made or refreshed first, and what that did is said. "The documents do not say." is an answer like
any other, and the exit code is 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, YesOption, context, emit, verb
from sw2.faces.cli.documents_options import (
    AsOption,
    EmbedderOption,
    IndexOption,
    fill_now,
    open_documents,
    show_answer,
)

__all__ = ["ask_command"]


@app.command("ask")
@verb
def ask_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, a model's file, or named weights.")],
    question: Annotated[str, typer.Argument(help="What you want to know; @file, or - for standard input.")],
    docs: Annotated[Path, typer.Option("--docs", help="The folder of documents.")],
    index: IndexOption = None,
    embedder: EmbedderOption = None,
    names: AsOption = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The most tokens of an answer.")] = 96,
    passages: Annotated[int, typer.Option("--passages", min=1, help="The most passages that it is given.")] = 2,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Ask documents."""
    from sw2.catalog import catalog
    from sw2.core.capabilities import Chat
    from sw2.core.kinds import Kind, parse_argument
    from sw2.verbs.ask import AskConfig, ask

    asked = parse_argument(Kind("text"), question)
    consent = context(seed, yes=yes, offline=offline)
    loaded = catalog().program(program, consent)
    loaded.capability(Chat)  # type: ignore[type-abstract]  # before a large folder is read for nothing
    with open_documents(docs, index, embedder, consent) as documents:
        fill_now(documents)
        config = AskConfig(max_tokens=max_tokens, passages=passages)
        answered = ask(loaded, documents, asked, owners=names or (), config=config)
    if json_output:
        emit(answered.to_json())
    else:
        show_answer(answered)
