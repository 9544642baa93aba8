"""`sw2 compare OLD NEW DATA`: the held-out answers that changed, better or worse."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, SettingsOption, YesOption, context, emit, verb

__all__ = ["compare_command"]

_LONGEST: Final = 400


@app.command("compare")
@verb
def compare_command(
    old: Annotated[str, typer.Argument(help="A program's or run's folder, a prompt, or named weights.")],
    new: Annotated[str, typer.Argument(help="The program to compare with it.")],
    data: Annotated[
        str | None, typer.Argument(help="A path, or a name from `sw2 list data`; of a prompt OLD's own tests.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Judge by this task; that of the named data, or their own.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which examples.")] = "test",
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Show which held-out answers changed between two programs."""
    from sw2.catalog import catalog
    from sw2.core.card import figure
    from sw2.verbs.compare import compare

    asked = context(seed, yes=yes, offline=offline)
    before, after = (catalog().program(name, asked) for name in (old, new))
    found = compare(catalog(), before, after, data, asked, split=split, settings=settings or [], task=task)
    gain, interval = found.change.gain, found.change.interval
    if json_output:
        emit({
            "task": found.task,
            "old": {"program": before.id, "score": found.old.to_json()},
            "new": {"program": after.id, "score": found.new.to_json()},
            "gain": gain,
            "interval": None if interval is None else [interval.low, interval.high],
            "verdict": found.change.verdict,
            "better": found.better,
            "worse": found.worse,
            "changed": [vars(each) for each in found.changed],
            "beside": [{"name": one.name, "old": one.to_json(), "new": other.to_json()} for one, other in found.beside],
        })  # fmt: skip
        return
    for each in found.changed:
        if each.gain:
            typer.echo(f"{'better' if each.gain > 0 else 'worse'}: {_short(each.asked)}")
            typer.echo(f"    old  {_short(each.old)}")
            typer.echo(f"    new  {_short(each.new)}")
    others = len(found.changed) - found.better - found.worse
    total = len(found.new.details["cases"])
    typer.echo(
        f"{found.new.name} {figure(found.old.value)} -> {figure(found.new.value)}, over {total} held-out examples"
    )
    for one, other in found.beside:
        typer.echo(f"{one.name} {figure(one.value)} -> {figure(other.value)}")
    typer.echo(
        f"{found.better} answers are better, {found.worse} worse, {others} only worded otherwise, "
        f"{total - len(found.changed)} the same"
    )
    spread = f" (95 %: {interval.low:+.4f} to {interval.high:+.4f})" if interval else ""
    typer.echo(f"{found.change.verdict}: {gain:+.4f}{spread}")


def _short(text: str) -> str:
    """On one line, and not for ever."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 2] + " …"
