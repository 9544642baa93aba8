"""`make demo`: what the catalogue has for it is learned from example data, used, and put into one table.

A task is learned by one training; a chain by its stages, each beside its control, and a stage without gain is called
so. No question is asked and nothing beyond the package registry is reached. The runs stay under runs/demo-… to look at.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sw2.base.errors import Sw2Error
from sw2.catalog import Catalog, catalog
from sw2.core.capabilities import Chat, Generate
from sw2.core.card import duration, figure, size
from sw2.core.data import Split
from sw2.core.program import Program
from sw2.core.task import Context, Score
from sw2.core.trainer import Budget
from sw2.faces.cli.progress import Line
from sw2.faces.cli.run_command import show
from sw2.faces.cli.stage_table import stage_table
from sw2.parts.decoding.sampling import USUAL, Sampling
from sw2.verbs import chain
from sw2.verbs.stages import Ended
from sw2.verbs.train import Order, latency

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    """What is learned: a task or a chain, the task of its program, from what, for how long."""

    name: str
    task: str
    data: str
    minutes: float


class _Quiet(Line):
    """Progress and headlines alone."""

    def note(self, text: str) -> None:
        del text

    def headline(self, text: str) -> None:
        super().note(text)


def _lessons(found: Catalog) -> list[_Lesson]:
    tasks = [
        _Lesson(name=name, task=name, data=entry.data, minutes=entry.demo_minutes)
        for name, entry in sorted(found.tasks.items())
    ]
    chains = [
        _Lesson(name=name, task=entry.task, data=entry.demo_data or entry.data, minutes=entry.demo_minutes)
        for name, entry in sorted(found.chains.items())
    ]
    return [each for each in (*tasks, *chains) if each.minutes]


def _free(stem: str) -> Path:
    number = 1
    while (path := Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path


def _use(program: Program, lesson: _Lesson, console: Console) -> float:
    """Ask the program something that it was not trained on, and show the answer; seconds of one answer."""
    task = program.task
    test = _held_out(lesson, program)
    question = task.question(test[0])
    if isinstance(program.runtime, Chat):
        console.print("\n[bold]Two conversations, as they are; their questions were held out:[/bold]")
        for number in (0, len(test) // 2):
            _talk(program.runtime, task.question(test[number]), console)
    elif isinstance(program.runtime, Generate):
        console.print("\n[bold]It writes on from a held-out document:[/bold]")
        console.print(question, end="", style="dim", markup=False, highlight=False)
        for piece in program.runtime.generate(question, USUAL, max_tokens=120):
            console.print(piece.text, end="", markup=False, highlight=False)
        console.print("\n")
    else:
        console.print("\n[bold]It answers about held-out examples:[/bold]")
        for number in (0, len(test) // 2):
            show(f"held-out example {number}", program(task.question(test[number])), task.outputs)
        console.print()
    known = program.card.facts.get("latency of one answer in ms")
    return latency(program, question) if known is None else known / 1000


def _as_in(lesson: _Lesson, program: Program) -> str:
    """The options with which a chat begins as the examples do."""
    asked = program.task.question(_held_out(lesson, program)[0])
    first = asked["messages"][0]
    system = f" --system {shlex.quote(first['content'])}" if first["role"] == "system" else ""
    return "".join(f" --tool {tool['function']['name']}" for tool in asked["tools"]) + system


def _held_out(lesson: _Lesson, program: Program) -> Split:
    return program.task.read(lesson.data, program.task.Options(), Context()).split("test")


def _talk(talker: Chat, question: object, console: Console) -> None:
    """A question, what is called, what comes of it, the answer."""
    assert isinstance(question, Mapping)
    messages: Sequence[Mapping[str, object]] = question["messages"]
    for message in messages:
        _say(console, str(message["role"]), str(message["content"]))
    pieces = talker.converse(messages, Sampling(temperature=0.0), 128, tools=question["tools"])
    written = ""
    with closing(pieces) as stream:  # type: ignore[type-var]
        for piece in stream:
            written += piece.text
            if piece.message is not None:
                role = str(piece.message["role"])
                _say(console, role, str(piece.message["content"]) if role == "tool" else written)
                written = ""
    console.print()


def _say(console: Console, role: str, text: str) -> None:
    line = Text(f"{role:>9}  ", style="dim" if role in ("system", "tool") else "")
    line.append(text)
    console.print(Padding(line, 0))


def _row(program: Program, lesson: _Lesson, minutes: tuple[float, float], seconds: float) -> list[str]:
    ended = Ended(title="", task=lesson.task, scores=[Score(**row) for row in program.card.scores])
    main = ended.lead
    assert main is not None
    assert program.path is not None
    rivals = [score for score in ended.scores if score.of != "program" and score.name == main.name]
    ordered = sorted(rivals, key=lambda score: score.value, reverse=main.better == "higher")
    disk = sum(file.stat().st_size for file in program.path.iterdir() if file.is_file())
    return [
        f"{lesson.name}\nfrom {lesson.data}",
        f"{minutes[0]:.1f} / {minutes[1]:.1f}",
        f"{figure(main.value)}\n{main.name}",
        "\n".join(f"{figure(score.value)} {score.of}" for score in ordered),
        f"{size(disk)}\n{seconds * 1000:.0f} ms",
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
    for lesson in _lessons(found):
        out = _free(f"demo-{lesson.name}")
        console.rule(f"sw2 train {lesson.name} {lesson.data} --minutes {lesson.minutes:g}")
        line = _Quiet()
        try:
            order = Order(task=lesson.name, data=lesson.data, budget=Budget(minutes=lesson.minutes))
            program = chain.train(found, order, out, Context(say=line.note), line)
        except Sw2Error as error:
            console.print(f"sw2: {error}", markup=False)
            return error.exit_code
        finally:
            line.close()
        minutes = program.card.planned["minutes"], program.card.measured["minutes"]
        if chain.is_chain(out):
            ended = chain.stages_ended(found, out)
            minutes = lesson.minutes, sum(each.minutes[1] for each in ended)
            console.print()
            console.print(stage_table(ended))
        seconds = _use(program, lesson, console)
        table.add_row(*_row(program, lesson, minutes, seconds))
        taken = duration(minutes[1] * 60)
        use = (
            f"sw2 chat {out}{_as_in(lesson, program)}" if isinstance(program.runtime, Chat) else f"sw2 run {out} INPUT"
        )
        reports.append(f"{lesson.name}: {taken}\n  report  {out / 'report.html'}\n  use it  {use}")
    console.print(table)
    for text in reports:
        console.print(text, soft_wrap=True, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
