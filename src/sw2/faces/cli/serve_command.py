"""`sw2 serve PROGRAM…`: programs behind the requests that OpenAI's clients send, until Ctrl-C or SIGTERM.

The log on standard error is a JSON object a line and holds nothing that users wrote. A key may be read by whoever sees
the list of processes when it is an argument; an environment variable or a file is better.

With `--docs DIR` chats are answered from documents, as by `sw2 chat --docs`. A line of a file of keys may go on with
names, which say what its holder may read where documents have owners; without keys `--as` says it.

With `--tool` the server runs tools for its models; the documents may be searched by one (`--tool documents`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, YesOption, context, emit, say, verb
from sw2.faces.cli.documents_options import AsOption, EmbedderOption, IndexOption, find_documents
from sw2.faces.cli.tool_options import DOCUMENTS, ToolOption, offered, searches

if TYPE_CHECKING:
    from sw2.core.program import Program
    from sw2.core.tools import Tool

__all__ = ["check_documents", "check_names", "keys_in", "serve_command"]


@app.command("serve")
@verb
def serve_command(
    programs: Annotated[list[str], typer.Argument(help="Folders of programs or runs, models' files, named weights.")],
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", envvar="SW2_SERVE_KEYS", show_envvar=True, help="Who may ask; may be repeated."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The same from a file: a key a line, names after it.")
    ] = None,
    per_key: Annotated[
        int | None, typer.Option("--per-key", min=1, help="The most requests of one key at once.")
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, max=1024, help="Texts of a program at once.")] = 8,
    queue: Annotated[int, typer.Option("--queue", min=0, help="More of a program that may wait.")] = 64,
    max_megabytes: Annotated[int, typer.Option("--max-megabytes", min=1, help="The largest request.")] = 16,
    max_seconds: Annotated[float, typer.Option("--max-seconds", min=0.1, help="The longest request.")] = 600.0,
    drain: Annotated[
        float, typer.Option("--drain", min=0.0, metavar="SECONDS", help="What is under way gets at the end.")
    ] = 30.0,
    docs: Annotated[Path | None, typer.Option("--docs", help="Answer chats from the documents in this folder.")] = None,
    index: IndexOption = None,
    embedder: EmbedderOption = None,
    names: AsOption = None,
    refresh: Annotated[
        float, typer.Option("--refresh", min=1.0, metavar="SECONDS", help="Look for changed documents so often.")
    ] = 60.0,
    tool: ToolOption = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Keep conversations here, with what users wrote, and /v1/feedback.")
    ] = None,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Serve programs over HTTP."""
    from sw2.base.errors import UsageError
    from sw2.base.names import resolve
    from sw2.catalog import catalog
    from sw2.core.capabilities import Chat

    serve, listen = resolve("sw2.faces.server.serving:serve"), resolve("sw2.faces.server.serving:listen")
    from sw2.faces.server.app import Server, Settings
    from sw2.faces.server.gate import Limits
    from sw2.faces.server.keys import NOBODY, check_binding
    from sw2.faces.server.programs import named

    named_keys = keys_in(key_file) if key_file else {}
    keys = [*(key or []), *named_keys]
    check_binding(host, keys)
    if per_key is not None and not keys:
        raise UsageError(
            "Without keys there is nothing to count by, so --per-key would have no effect.",
            wanted="a key, or no --per-key",
            got=f"--per-key {per_key}",
        )
    check_documents(docs, {"--index": index, "--embedder": embedder, "--as": names, "--refresh": refresh != 60.0})
    check_names(names, keys)
    places = named(programs)
    consent = context(0, yes=yes, offline=offline)
    loaded = {name: catalog().program(place, consent) for name, place in places.items()}
    if searches(tool) and docs is None:
        raise UsageError("There are no documents to search.", where="--tool documents", wanted="--docs DIR", got="none")
    settings = Settings(
        slots=slots,
        queue_size=queue,
        keys=keys,
        per_key=per_key,
        limits=Limits(body_bytes=max_megabytes * 2**20, seconds=max_seconds),
        names={NOBODY: names} if names else named_keys,
        conversations=log,
        refresh_seconds=refresh,
        tools=_tools(loaded, tool or ()),
        documents_as="tool" if searches(tool) else "answers",
    )
    if docs is not None and not any(isinstance(program.runtime, Chat) for program in loaded.values()):
        raise UsageError(
            "None of these programs chats, so --docs would have no effect.",
            wanted="a program that can Chat",
            got=", ".join(loaded),
        )
    served = [
        {"model": name, "task": program.task.name, "capabilities": program.capabilities(), "from": places[name]}
        for name, program in loaded.items()
    ]

    def ready(address: str) -> None:
        if json_output:
            emit({"address": address, "models": served})
            return
        for each in served:
            typer.echo(f"{each['model']}: {each['task']} from {each['from']}")
        typer.echo(f"\nat {address}, for OpenAI's clients {address}/v1; Ctrl-C ends it. Try:\n")
        first = next(iter(loaded.values()))
        takes = [kind.name for kind in first.task.inputs.values()]
        typer.echo(_example(address, served[0], takes, bool(keys)))

    with ExitStack() as stack:
        if docs is not None:
            documents = stack.enter_context(find_documents(docs, index, embedder, consent))
            settings = replace(settings, documents=documents)
        listening = stack.enter_context(listen(host, port))
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        in_time = serve(Server(loaded, settings), listening, drain, lambda: ready(address))
    if not in_time:
        say(f"sw2: what was under way was ended after {drain:g} seconds.")


def _tools(programs: Mapping[str, Program], names: Sequence[str]) -> dict[str, list[Tool]]:
    """The tools of each program that chats, but for the search of documents, which depends on who asks.

    Raises:
        UsageError: there is no such tool, no program that chats, or one to which tools cannot be shown.
    """
    from sw2.base.errors import UsageError
    from sw2.core.capabilities import Chat

    found = {}
    for name, program in programs.items():
        if isinstance(program.runtime, Chat):
            tools = offered(names, program.runtime.own_tools(), lambda question, count: ())
            found[name] = [tool for tool in tools if tool.name != DOCUMENTS]
            try:
                program.runtime.encode_conversation(
                    [{"role": "user", "content": "Hello!"}], [tool.schema for tool in tools]
                )
            except UsageError as error:
                raise UsageError(
                    f"'{name}' cannot be shown these tools. {error.message}",
                    where=f"sw2 serve {name}",
                    wanted="a program that knows tools, or no --tool",
                    got=", ".join(names),
                    do=error.do,
                ) from error
    if names and not found:
        raise UsageError("None of these programs chats, so --tool would have no effect.", got=", ".join(programs))
    return found


def check_names(names: list[str] | None, keys: list[str]) -> None:
    """Refuse `--as` where keys say who asks.

    Raises:
        UsageError: it is given beside a key.
    """
    from sw2.base.errors import UsageError

    if names and keys:
        raise UsageError(
            "Who asks is known by their key, so --as would have no effect.",
            wanted="names after the key in --key-file, or a server without keys",
            got=f"--as {names[0]}",
        )


def check_documents(docs: Path | None, needs: dict[str, Any]) -> None:
    """Refuse options about documents, by name, where there are none.

    Raises:
        UsageError: one is given.
    """
    from sw2.base.errors import UsageError

    given = [option for option, said in needs.items() if said]
    if docs is None and given:
        raise UsageError("Without documents these would have no effect.", got=", ".join(given), do="Add --docs DIR.")


def keys_in(path: Path) -> dict[str, tuple[str, ...]]:
    """The keys of a file, each with the names after it; lines that begin with # say something else.

    Raises:
        UsageError: there is no such file, no key in it, or a key twice.
    """
    from sw2.base.errors import UsageError

    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UsageError(
            "There is no file of keys here.",
            where=path,
            wanted="a text, a key a line, perhaps with names after it",
            got=type(error).__name__,
        ) from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, *names = line.split()
        if key in found:
            raise UsageError("A key stands here twice.", where=f"{path}, line {number}", wanted="one line for each key")
        found[key] = tuple(names)
    if not found:
        raise UsageError("This file holds no key.", where=path, wanted="a key a line", got="none")
    return found


def _example(address: str, served: dict[str, Any], takes: Sequence[str], with_key: bool) -> str:
    """A line for a terminal that asks the first program, whose inputs are of the kinds `takes`."""
    can, body = served["capabilities"], dict[str, Any](model=served["model"])
    if "Chat" in can and "Generate" in can:
        path = "/v1/chat/completions"
        body["messages"] = [{"role": "user", "content": "Hello!"}]
    elif "Generate" in can:
        path, body["prompt"] = "/v1/completions", "Once upon a time"
    elif "Embed" in can and takes == ["text"]:
        path, body["input"] = "/v1/embeddings", "a text"
    else:
        return f"  curl {address}/openapi.json" + (' -H "Authorization: Bearer $KEY"' if with_key else "")
    key = ' -H "Authorization: Bearer $KEY"' if with_key else ""
    return f"  curl {address}{path}{key} \\\n    -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
