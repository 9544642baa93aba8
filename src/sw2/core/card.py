"""A Card: the record of how a program was made, and its page for people (README.md in the program's folder).

The card holds planned beside measured, every score beside its baselines, and where the data came from. It is a record,
not an identity: two trainings with the same weights have the same program id and different cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sw2.base.store import finite

__all__ = ["Card", "count", "duration", "figure", "item", "render_card", "size", "spoken"]

_LINE: Final = 100  # characters of a list


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known about the making of a program; plain JSON values.

    Args:
        made: date, versions, seed, device, threads, command settings.
        data: name, fingerprint, licence, source, examples.
        planned, measured: minutes, peak memory and disk, before and after.
        facts: parameters, steps, FLOPs, latency.
        scores: the scores on held-out examples, the program's and the baselines'.
        settings: the resolved config.
    """

    made: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    planned: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The card as a JSON object; a measurement that is no number (a validation loss of nan) is null."""
        return {name: finite(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        """The card that `values` describes."""
        return cls(**values)


def size(number: float) -> str:
    """Bytes for people: 12,345,678 as '12.3 MB'."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:.0f} B"


def count(number: float) -> str:
    """Large counts for people: 12,345,678 as '12.3 M'."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:.0f}"


def figure(number: float | None) -> str:
    """A score for people: 0.51234 as '0.5123', and one that is no number as 'none'."""
    return "none" if number is None else f"{number:.4f}"


def duration(seconds: float) -> str:
    """Seconds for people: 75 as '1 min 15 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def render_card(document: Mapping[str, Any]) -> str:
    """The Markdown page of a program from its `program.json`."""
    card = document["card"]
    lines = [f"# A program for {document['task']}", ""]
    lines.append(
        f"id `{document['id'][:12]}`, made by {document['domain']['distribution']} {document['domain']['version']}."
    )
    nets = ", ".join(f"{entry['model']} ({role})" for role, entry in document["nets"].items())
    lines += ["", f"Networks: {nets or 'none'}.", "", "In this folder (elsewhere, its path in place of the dot):"]
    lines += ["", "```", "sw2 run . INPUT", "sw2 info .", "```"]
    if card.get("scores"):
        lines += ["", "## Scores", "", "| who | metric | value | 95 % interval | examples |", "|---|---|---|---|---|"]
        for score in card["scores"]:
            interval = score.get("interval")
            spread = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
            lines.append(
                f"| {score['of']} | {score['name']} | {figure(score['value'])} | {spread} | {score['examples']} |"
            )
    for title in ("data", "made", "facts"):
        if card.get(title):
            lines += ["", f"## {title.capitalize()}", ""]
            for key, value in spoken(card[title]).items():
                flush = re.sub(r"^ +", "", value, flags=re.MULTILINE)  # what is indented would be code
                lines.append(f"- {item(key, flush, '  - ')}")
    if card.get("planned") or card.get("measured"):
        lines += ["", "## Planned and measured", "", "| | planned | measured |", "|---|---|---|"]
        planned, measured = spoken(card["planned"]), spoken(card["measured"])
        lines += [
            f"| {key} | {planned.get(key, '')} | {measured.get(key, '')} |"
            for key in dict.fromkeys([*planned, *measured])
        ]
    return "\n".join(lines) + "\n"


def spoken(part: Mapping[str, Any]) -> dict[str, str]:
    """A part of a card for people: bytes, times, long numbers and lists as they are read; empty lists are left out.

    A list that is longer than a line has a line for each of its items; `item` sets those.
    """
    said = {}
    for key, value in part.items():
        last = key.replace("_", " ").split()[-1]
        if isinstance(value, (list, tuple)):
            if not value:
                continue
            items = [" ".join(map(str, each.values())) if isinstance(each, Mapping) else str(each) for each in value]
            text = ", ".join(items)
            if len(items) > 1 and len(text) > _LINE:
                text = "\n".join(items)
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            text = str(value)[:12] if last in ("fingerprint", "commit") else str(value)
        elif last in ("memory", "disk", "bytes"):
            text = size(value)
        elif last == "minutes":
            text = duration(value * 60)
        else:
            text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        said["time" if last == "minutes" else key.replace("_", " ")] = text
    return said


def item(name: str, text: str, lead: str) -> str:
    """`name: text`; a text of several lines stands below its name, each line behind `lead`."""
    return "\n".join([f"{name}:", *(lead + line for line in text.split("\n"))]) if "\n" in text else f"{name}: {text}"
