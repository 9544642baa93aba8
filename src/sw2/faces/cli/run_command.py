"""`sw2 run PROGRAM INPUT…`: answers. Text streams as it is written; other answers are printed by their kinds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, YesOption, context, emit, verb

__all__ = ["run_command", "show"]


@app.command("run")
@verb
def run_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, or named weights.")],
    inputs: Annotated[list[str], typer.Argument(help="A picture's path, a text, @file, or - for standard input.")],
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Text: the most tokens to write.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, help="Text: 0 takes the likeliest.")
    ] = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Use a program."""
    from sw2.base.errors import UsageError
    from sw2.catalog import catalog
    from sw2.core.capabilities import Generate
    from sw2.core.kinds import parse_argument
    from sw2.parts.decoding.sampling import USUAL

    loaded = catalog().program(program, context(seed, yes=yes, offline=offline))
    kind = next(iter(loaded.task.inputs.values()))
    raws = [parse_argument(kind, text) for text in inputs]
    writes = isinstance(loaded.runtime, Generate)
    if not writes and (max_tokens is not None or temperature is not None):
        raise UsageError(
            "This program does not write text, so these settings would have no effect.",
            wanted="no --max-tokens and --temperature",
            got=f"a program for {loaded.task.name}",
        )
    if isinstance(loaded.runtime, Generate):
        sampling = replace(USUAL, seed=seed, temperature=USUAL.temperature if temperature is None else temperature)
        texts = []
        for raw in raws:
            pieces = []
            if not json_output:
                typer.echo(raw, nl=False)
            for piece in loaded.runtime.generate(raw, sampling, max_tokens or 256):
                pieces.append(piece.text)
                if not json_output:
                    typer.echo(piece.text, nl=False)
                    sys.stdout.flush()
            texts.append({"text": "".join(pieces)})
            if not json_output:
                typer.echo()
        if json_output:
            emit({"answers": texts})
        return
    answers = loaded.map(raws)
    if json_output:
        emit({"answers": answers})
        return
    for text, answer in zip(inputs, answers, strict=True):
        show(text, answer, loaded.task.outputs)


def show(text: str, answer: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """One answer for people; how depends on the kind of each output."""
    plain = [str(answer[name]) for name, kind in outputs.items() if kind.name != "distribution"]
    typer.echo(f"{text}: {', '.join(plain)}")
    for name, kind in outputs.items():
        if kind.name == "distribution":
            ranked = sorted(answer[name].items(), key=lambda pair: -pair[1])[:5]
            width = max(len(label) for label, _ in ranked)
            for label, probability in ranked:
                typer.echo(f"  {label:<{width}}  {probability:7.2%}  {'█' * round(30 * probability)}")
