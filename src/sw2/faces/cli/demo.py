"""`make demo`: every task of the catalogue is learned from its own example data, used, and put into one table.

No question is asked and nothing beyond the package registry is reached. The runs stay under runs/demo-… to look at.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sw2.base.errors import Sw2Error
from sw2.catalog import catalog
from sw2.core.capabilities import Generate
from sw2.core.card import duration, size
from sw2.core.domain import TaskEntry
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.faces.cli.progress import Line
from sw2.faces.cli.run_command import show
from sw2.parts.decoding.sampling import USUAL
from sw2.verbs.train import Order, train

__all__ = ["main"]


def _free(stem: str) -> Path:
    number = 1
    while (path := Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path


def _use(program: Program, entry: TaskEntry, console: Console) -> None:
    """Ask the program something that it was not trained on, and show the answer."""
    task = program.task
    test = task.read(entry.data, task.Options(), Context()).split("test")
    question = task.question(test[0])
    if isinstance(program.runtime, Generate):
        console.print("\n[bold]It writes on from a held-out document:[/bold]")
        console.print(question, end="", style="dim", markup=False, highlight=False)
        for piece in program.runtime.generate(question, USUAL, max_tokens=120):
            console.print(piece.text, end="", markup=False, highlight=False)
        console.print("\n")
        return
    console.print("\n[bold]It answers about held-out examples:[/bold]")
    for number in (0, len(test) // 2):
        show(f"held-out example {number}", program(task.question(test[number])), task.outputs)


def _row(program: Program, entry: TaskEntry) -> list[str]:
    card = program.card
    main = card.scores[0]
    rivals = [score for score in card.scores if score["of"] != "program" and score["name"] == main["name"]]
    ordered = sorted(rivals, key=lambda score: score["value"], reverse=main["better"] == "higher")
    assert program.path is not None
    disk = sum(file.stat().st_size for file in program.path.iterdir() if file.is_file())
    return [
        f"{program.task.name}\nfrom {entry.data}",
        f"{card.planned['minutes']:.1f} / {card.measured['minutes']:.1f}",
        f"{main['value']:.4f}\n{main['name']}",
        "\n".join(f"{score['value']:.4f} {score['of']}" for score in ordered),
        f"{size(disk)}\n{card.facts['latency of one answer in ms']:.0f} ms",
    ]


def main() -> int:
    """Run the demo; the exit code."""
    console = Console(highlight=False)
    found = catalog()
    table = Table(title="What was learned, here and now", show_lines=True)
    # Five columns that fit a terminal 80 wide without cutting a word.
    for column in ("learned", "minutes\nplan / taken", "score", "baselines", "size,\nanswer"):
        table.add_column(column, overflow="fold")
    reports = []
    for name, entry in sorted(found.tasks.items()):
        if not entry.demo_minutes:
            continue
        out = _free(f"demo-{name}")
        console.rule(f"sw2 train {name} {entry.data} --minutes {entry.demo_minutes:g} --out {out}")
        line = Line()
        try:
            order = Order(task=name, data=entry.data, budget=Budget(minutes=entry.demo_minutes))
            program = train(found, order, out, Context(say=line.note), line)
        except Sw2Error as error:
            console.print(f"sw2: {error}", markup=False)
            return error.exit_code
        finally:
            line.close()
        _use(program, entry, console)
        table.add_row(*_row(program, entry))
        taken = duration(program.card.measured["minutes"] * 60)
        reports.append(f"{name}: learned in {taken}; report {out / 'report.html'}; use it: sw2 run {out} INPUT")
    console.print(table)
    for text in reports:
        console.print(text, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
