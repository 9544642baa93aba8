"""`sw2 studio [DIR]`: a web page of every program and run in a folder, until Ctrl-C or SIGTERM.

With `--docs DIR` conversations are answered from documents, with their sources, as by `sw2 serve --docs`.

It listens as `sw2 serve` does: on this machine alone, or with a key for everybody else. Standard error gets a line for
what went wrong, and nothing that users wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, YesOption, context, emit, verb
from sw2.faces.cli.documents_options import AsOption, EmbedderOption, IndexOption, find_documents

__all__ = ["studio_command"]


@app.command("studio")
@verb
def studio_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of programs and runs.")] = Path(),
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7860,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", envvar="SW2_SERVE_KEYS", show_envvar=True, help="Who may ask; may be repeated."),
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="The same from a file, a key a line.")] = None,
    feedback: Annotated[
        Path | None, typer.Option("--feedback", metavar="FILE", help="Offer thumbs; they and better answers go here.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--docs", help="Answer conversations from the documents in this folder.")
    ] = None,
    index: IndexOption = None,
    embedder: EmbedderOption = None,
    names: AsOption = None,
    slots: Annotated[int, typer.Option("--slots", min=1, max=1024, help="Texts of a program at once.")] = 4,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """A web page: every program, every run, conversations, data."""
    from sw2.base.names import resolve
    from sw2.catalog import catalog
    from sw2.faces.cli.serve_command import check_documents, check_names, keys_in

    serve, listen = resolve("sw2.faces.server.serving:serve"), resolve("sw2.faces.server.serving:listen")
    studio, pages = resolve("sw2.faces.studio.app:studio"), resolve("sw2.faces.studio.frame:PAGES")
    from sw2.faces.server.app import Settings
    from sw2.faces.server.keys import NOBODY, check_binding
    from sw2.faces.server.log import to_stderr

    named_keys = keys_in(key_file) if key_file else {}
    keys = [*(key or []), *named_keys]
    check_binding(host, keys)
    check_documents(docs, {"--index": index, "--embedder": embedder, "--as": names})
    check_names(names, keys)

    def lines(event: str, facts: Mapping[str, Any]) -> None:
        if event != "request" or facts["status"] >= 500:
            to_stderr(event, facts)

    who = {NOBODY: names} if names else named_keys
    settings = Settings(slots=slots, keys=keys, names=who, pages=pages)

    def ready(address: str) -> None:
        if json_output:
            emit({"address": address, "folder": str(folder)})
            return
        typer.echo(f"The studio of {folder} is at {address}; Ctrl-C ends it.")

    with ExitStack() as stack:
        if docs is not None:
            consent = context(0, yes=yes, offline=offline)
            documents = stack.enter_context(find_documents(docs, index, embedder, consent))
            settings = replace(settings, documents=documents)
        server = studio(folder, catalog(), settings, lines, feedback)
        listening = stack.enter_context(listen(host, port))
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        serve(server, listening, 2.0, lambda: ready(address))
