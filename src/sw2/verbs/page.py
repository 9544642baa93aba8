"""What every report page is made of: its frame, and tables and lists of plain values.

A page opens anywhere, with no network and no script: its own policy forbids both. Everything that comes from outside is
escaped here or, where a function takes HTML, by its caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from sw2.verbs.charts import number

__all__ = ["fact_list", "page", "spelled", "table", "titled"]


def page(name: str, header: str, sections: Sequence[tuple[str, str]], footer: str) -> str:
    """A whole page.

    Args:
        name: of the page, as plain text.
        header: HTML above the list of sections.
        sections: (title, HTML); those without content are left out.
        footer: HTML of the last line.
    """
    shown = [(title, title.lower().replace(" ", "-"), body) for title, body in sections if body]
    links = "".join(f"<a href=#{key}>{escape(title)}</a>" for title, key, _ in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(name)}</title>\n<style>{files('sw2.verbs').joinpath('report.css').read_text('utf-8')}</style>"
        f'</head>\n<body><main>{header}<nav aria-label="Sections">{links}</nav>\n'
        + "\n".join(f'<section id="{key}"><h2>{escape(title)}</h2>{body}</section>' for title, key, body in shown)
        + f"\n<footer>{footer}</footer></main></body></html>\n"
    )


def spelled(value: Any) -> str:
    """Any plain value for people, not yet escaped."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {spelled(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(spelled, value)) or "none"
    return str(value)


def titled(name: str) -> str:
    """A name of code for people."""
    return name.replace("_", " ").strip()


def fact_list(values: Mapping[str, Any]) -> str:
    """Plain values under their names."""
    rows = "".join(
        f"<dt>{escape(titled(str(key)))}</dt><dd>{escape(spelled(item))}</dd>" for key, item in values.items()
    )
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table of cells that are HTML already; the first `words` columns hold text, the others numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}>{cell}</{tag}>" if i < words else f'<{tag} class="num">{cell}</{tag}>'
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{line("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'
