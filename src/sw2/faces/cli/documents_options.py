"""Options about documents, and what several verbs do with them: find, bring up to date, embed, and say so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sw2.faces.cli.common import say

if TYPE_CHECKING:
    from sw2.core.documents import Documents, Embedded
    from sw2.core.task import Context
    from sw2.verbs.ask import Answered

__all__ = [
    "AsOption",
    "EmbedderOption",
    "IndexOption",
    "fill_now",
    "filled_behind",
    "find_documents",
    "open_documents",
    "show_answer",
]

NO_EMBEDDER: Final = "none"
_TOLD_EVERY: Final = 5.0

IndexOption = Annotated[
    Path | None, typer.Option("--index", help="Where the index of the documents is; a place of its own when left out.")
]
EmbedderOption = Annotated[
    str | None,
    typer.Option("--embedder", help="The program that finds passages by meaning; 'none' finds them by words alone."),
]
AsOption = Annotated[
    list[str] | None,
    typer.Option("--as", metavar="NAME", help="Who asks, for documents with owners; may be repeated."),
]


def find_documents(docs: Path, index: Path | None, embedder: str | None, consent: Context) -> Documents:
    """The documents as they were indexed before. Without the usual embedder words have to do, which is said.

    Raises:
        UsageError: an embedder that was named may not be fetched.
    """
    from sw2.base.errors import MissingExtra, ResourceError, UsageError
    from sw2.catalog import catalog

    program = None
    if embedder != NO_EMBEDDER:
        name = embedder or catalog().usual_embedder()
        try:
            program = catalog().program(name, consent)
        except (UsageError, ResourceError) as error:
            if embedder is not None or isinstance(error, MissingExtra):
                raise
            say(f"sw2: documents are searched by words alone. {error.message} ({error.do})")
    return catalog().documents(docs, index, program)


def open_documents(docs: Path, index: Path | None, embedder: str | None, consent: Context) -> Documents:
    """The documents of `find_documents`, brought up to date; what that did is said."""
    opened = find_documents(docs, index, embedder, consent)
    try:
        for line in opened.refresh().said:
            say(f"{docs}: {line}")
    except BaseException:
        opened.close()
        raise
    return opened


def fill_now(documents: Documents) -> None:
    """Embed what has no vector, with a line now and then; Ctrl-C leaves the rest for the next time."""
    try:
        documents.fill(_teller(lambda: False))
    except KeyboardInterrupt:
        say("The rest is embedded next time; what has no vector is found by its words.")


@contextmanager
def filled_behind(documents: Documents) -> Iterator[None]:
    """Inside, what has no vector is embedded by another thread; what is left at the end waits for the next time."""
    ended = threading.Event()
    tell = _teller(ended.is_set)

    def work() -> None:
        from sw2.base.errors import Sw2Error

        try:
            documents.fill(tell)
        except Sw2Error as error:
            say(f"sw2: the documents are not embedded further. {error}")

    thread = threading.Thread(target=work, name="embedding", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _teller(ended: Callable[[], bool]) -> Callable[[Embedded], bool]:
    """Says how far embedding is, every few seconds, and whether to go on."""
    began = last = time.monotonic()
    first: list[int] = []

    def told(far: Embedded) -> bool:
        nonlocal last
        first.append(far.embedded)
        now = time.monotonic()
        if len(first) == 1 and far.passages > far.embedded:
            say(f"embedding {far.passages - far.embedded} passages; documents are searched meanwhile")
        elif now - last > _TOLD_EVERY and (done := far.embedded - first[0]) > 0:
            left = (far.passages - far.embedded) * (now - began) / done
            say(f"{far.embedded} of {far.passages} passages are embedded, {left / 60:.1f} minutes to go")
            last = now
        return not ended()

    return told


def show_answer(answered: Answered) -> None:
    """An answer with the places where it is said."""
    typer.echo(f"“{answered.text}”" if answered.quoted else answered.text)
    for citation in answered.citations:
        typer.echo(f"  {citation.place}" + ("" if answered.quoted else f"  “{citation.quote}”"))
