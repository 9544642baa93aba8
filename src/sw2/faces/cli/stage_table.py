"""The stages of a chain as a table for a terminal 80 wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from sw2.core.card import duration, figure
from sw2.verbs.stages import Ended, changes, yardsticks

__all__ = ["stage_table"]

_LOOKS = {"gained": "green", "lost": "red"}


def stage_table(ended: Sequence[Ended], seed: int = 0) -> Table:
    """What each stage brought, beside what it is compared with; one without gain is called so."""
    table = Table(show_lines=True)
    for column in ("stage", "score", "beside it"):
        table.add_column(column, overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for each in ended:
        name = escape(each.title)
        if each.stage is not None and each.stage.beside:
            name += f"\n[dim]control of\n{escape(', '.join(each.stage.beside))}[/dim]"
        lead = each.lead
        score = "" if lead is None else f"{figure(lead.value)}\n[dim]{escape(lead.name)}[/dim]"
        table.add_row(name, score, _beside(ended, each, seed), duration(each.minutes[1] * 60) if each.path else "")
    return table


def _beside(ended: Sequence[Ended], each: Ended, seed: int) -> str:
    lines = []
    for found in changes(ended, each, seed):
        look = _LOOKS.get(found.verdict, "yellow")
        lines.append(f"[{look}]{found.verdict}[/{look}] {found.gain:+.4f} against {escape(found.against)}")
    for score in yardsticks(each):
        whose = f"[b]{escape(score.name)}[/b]" if score.of == "program" else escape(score.of)
        lines.append(f"{figure(score.value)} {whose}")
    return "\n".join(lines)
