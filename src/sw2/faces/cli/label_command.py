"""`sw2 label …`: look after labels.

sw2 label suspects DATA             labels that are likely wrong
sw2 label next PROGRAM UNLABELLED   which examples to label next
sw2 label serve UNLABELLED          a page on which people label them

What `serve` does is `verbs.labelling`, its page `faces.studio.label_page`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import (
    DeviceOption,
    JsonOption,
    OfflineOption,
    SeedOption,
    SettingsOption,
    YesOption,
    context,
    emit,
    say,
    verb,
)

if TYPE_CHECKING:
    from sw2.verbs.labelling import Labelling

__all__ = ["label_next_command", "label_serve_command", "label_suspects_command"]

_SHOWN: Final = 20

label_app = typer.Typer(help="Look after labels.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(label_app, name="label")

OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write the whole table: a new file, .csv or .jsonl.", dir_okay=False)
]


@label_app.command("suspects")
@verb
def label_suspects_command(
    data: Annotated[str, typer.Argument(help="A path, or a name from `sw2 list data`.")],
    task: Annotated[str | None, typer.Option("--task", help="Which task reads it; found out when left out.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many to show.")] = _SHOWN,
    out: OutOption = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="PROGRAM", help="Start each fold's program from this one.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="As many programs are learned.")] = 4,
    minutes: Annotated[float | None, typer.Option("--minutes", help="How long to learn, all folds together.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="How long to learn each fold's program.")] = None,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Show labels that are likely wrong, the most doubtful first."""
    from sw2.catalog import catalog
    from sw2.core.trainer import Budget
    from sw2.verbs.labels import refuse_format, write_table
    from sw2.verbs.suspects import suspects

    if out is not None:
        refuse_format(out)
    budget = None
    if minutes is not None or steps is not None:
        budget = Budget(minutes=None if minutes is None else minutes / folds, steps=steps)
    found = suspects(
        catalog(), data, context(seed, yes=yes, offline=offline), task=task, folds=folds, budget=budget, start=start,
        settings=settings or [], device=device,
    )  # fmt: skip
    rows = [vars(each) for each in found.ranked]
    if out is not None:
        write_table(rows, out)
    if json_output:
        emit({
            "task": found.task,
            "data": {"name": found.data.name, "fingerprint": found.data.fingerprint, "examples": len(rows)},
            "wrong": found.wrong,
            "notes": list(found.notes),
            "suspects": rows[:count],
            "out": None if out is None else str(out),
        })  # fmt: skip
        return
    for note in found.notes:
        say(f"note: {note}")
    shown = found.ranked[:count]
    names = max(len("example"), *(len(each.name) for each in shown))
    labels = max(len("label"), *(len(each.label) for each in shown))
    typer.echo(f"{'example':<{names}}  {'label':<{labels}}  p(label)  looks like")
    for each in shown:
        guess = f"{each.looks_like} ({each.probability:.4f})"
        typer.echo(f"{each.name:<{names}}  {each.label:<{labels}}  {each.own:8.4f}  {guess}")
    say(f"about {found.wrong} of {len(rows)} labels are estimated to be wrong; look from the top, that far")
    if out is not None:
        say(f"all {len(rows)}, in this order: {out}")


@label_app.command("next")
@verb
def label_next_command(
    program: Annotated[str, typer.Argument(help="A classifier: a program's or run's folder.")],
    unlabelled: Annotated[str, typer.Argument(help="Examples without labels: a folder of pictures, a table.")],
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = _SHOWN,
    out: OutOption = None,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Choose what to label next: what the program is unsure of, and unlike each other."""
    from sw2.catalog import catalog
    from sw2.verbs.choose import next_labels
    from sw2.verbs.labels import refuse_format, write_table

    if out is not None:
        refuse_format(out)
    asked = context(seed, yes=yes, offline=offline)
    found = next_labels(catalog().program(program, asked), unlabelled, count, asked, settings=settings or [])
    if out is not None:
        # A table to fill in, that `sw2 train` reads as it is; paths in it hold from anywhere.
        places = [Path(each.place).absolute() if Path(each.place).is_file() else each.place for each in found.chosen]
        write_table(
            [
                {found.column: str(place), "label": "", "guess": each.guess, "probability": round(each.probability, 4)}
                for place, each in zip(places, found.chosen, strict=True)
            ],
            out,
        )
    if json_output:
        rows = [vars(each) for each in found.chosen]
        emit({"next": rows, "among": found.among, "notes": list(found.notes), "out": None if out is None else str(out)})
        return
    for note in found.notes:
        say(f"note: {note}")
    places_wide = max(len("example"), *(len(each.place) for each in found.chosen))
    typer.echo(f"{'example':<{places_wide}}  margin  looks like")
    for each in found.chosen:
        typer.echo(f"{each.place:<{places_wide}}  {each.margin:6.4f}  {each.guess} ({each.probability:.4f})")
    say(f"{len(found.chosen)} of {found.among} different examples")
    if out is not None:
        say(f"fill in the column label: {out}")


@label_app.command("serve")
@verb
def label_serve_command(
    unlabelled: Annotated[str, typer.Argument(help="Examples without labels: a folder of pictures, a table.")],
    program: Annotated[
        str | None,
        typer.Option("--program", help="A classifier: its guesses, and the most telling examples first."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="A,B,…", help="Which there are; else those of before, or the program's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The table to write, .csv; beside UNLABELLED when left out."),
    ] = None,
    overlap: Annotated[float, typer.Option("--overlap", help="The share of examples that everybody labels.")] = 0.2,
    task: Annotated[str | None, typer.Option("--task", help="Which task reads it; found out when left out.")] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7861,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", envvar="SW2_SERVE_KEYS", show_envvar=True, help="Who may ask; may be repeated."),
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="The same from a file, a key a line.")] = None,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """A page on which people label examples by keys, until Ctrl-C; every label is kept at once."""
    from contextlib import ExitStack

    from sw2.base.names import resolve
    from sw2.catalog import catalog
    from sw2.faces.cli.serve_command import keys_in

    serve, listen = resolve("sw2.faces.server.serving:serve"), resolve("sw2.faces.server.serving:listen")
    label_studio, pages = resolve("sw2.faces.studio.label_page:label_studio"), resolve("sw2.faces.studio.frame:PAGES")
    from sw2.faces.server.app import Settings
    from sw2.faces.server.keys import check_binding
    from sw2.faces.server.log import to_stderr
    from sw2.verbs.labelling import open_labelling

    keys = [*(key or []), *(keys_in(key_file) if key_file else {})]
    check_binding(host, keys)
    asked = context(seed, yes=yes, offline=offline)

    def lines(event: str, facts: Mapping[str, Any]) -> None:
        if event != "request" or facts["status"] >= 500:
            to_stderr(event, facts)

    with ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))  # before anything is read, which may take long
        labelling = open_labelling(
            catalog(), unlabelled, asked, labels=labels.split(",") if labels else (), task=task, out=out,
            program=None if program is None else catalog().program(program, asked), overlap=overlap,
            settings=settings or [],
        )  # fmt: skip
        stack.callback(_summed_up, labelling)
        stack.callback(labelling.close)
        name = Path(unlabelled).resolve().name
        server = label_studio(labelling, name, Settings(keys=keys, pages=pages), lines)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"

        def ready() -> None:
            if json_output:
                emit({"address": address, "examples": unlabelled, "table": str(labelling.table_path)})
            else:
                typer.echo(f"Label {name} at {address}; Ctrl-C ends it.")

        serve(server, listening, 2.0, ready)


def _summed_up(labelling: Labelling) -> None:
    """Say what came of it."""
    import math

    counts, found = labelling.counts(), labelling.agreement()
    say(f"{sum(counts.values())} labels in {labelling.table_path}: " + ", ".join(f"{n} {k}" for k, n in counts.items()))
    undecided = sum(not each.decided for each in labelling.disagreements())
    if undecided:
        say(f"{undecided} examples on which people differ have no label; decide them on the page")
    if found.examples:
        value = "not defined (one label only)" if math.isnan(found.value) else f"{found.value:.3f}"
        same, low, high = found.same
        say(f"{found.examples} examples have several people's labels, the same in {same:.3f} ({low:.3f} to {high:.3f})")
        say(f"{found.measure}: {value}")
