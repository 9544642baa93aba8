"""Sources of an answer that was found in documents: a button for each, and the passage that it opens.

    [1] notes/a.md:12  “Its lock has the code 4711.”          → the passage, the quoted words marked, its neighbours

What documents say is text and is escaped. Passages around one are asked for when it is opened, of those that whoever
opens it may read.

What it does not do: show a file as a whole, or anything that was not found for an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from sw2.core.documents import Passage
from sw2.faces.studio.look import fragment
from sw2.verbs.ask import Answered, Citation

__all__ = ["CLICKS", "FOCUS", "Source", "listed", "opened", "sources_of"]

CLICKS: Final = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-source]');
  if (button) trigger('click', {answer: +button.dataset.answer, source: +button.dataset.source});
});
"""
FOCUS: Final = """() => {
  let tries = 40;
  const look = setInterval(() => {
    const place = document.getElementById('passage-place');
    if (place?.offsetParent) place.focus();
    if (!--tries || document.activeElement === place) clearInterval(look);
  }, 50);
}"""
"""Brings whoever opened a passage to it, once it is drawn."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an answer is said, and the passage that it was found in."""

    citation: Citation
    passage: Passage


def sources_of(answered: Answered) -> list[Source]:
    """The sources of an answer; of each the passage, of those that were given, that its place lies in."""
    found = []
    for citation in answered.citations:
        near = [each for each in answered.given if each.path == citation.path]
        inside = [each for each in near if each.first <= citation.position <= each.last]
        if passages := inside or near:
            found.append(Source(citation=citation, passage=passages[0]))
    return found


def listed(sources: Sequence[Source], answer: int) -> str:
    """The sources of the answer with this number in its conversation as HTML, "" where it has none."""
    if not sources:
        return ""
    buttons = "".join(
        f'<li><button type="button" data-answer="{answer}" data-source="{number}" title="Open the passage">'
        f'<span class="place">{escape(each.citation.place)}</span> '
        f'<span class="quote">“{escape(each.citation.quote)}”</span></button></li>'
        for number, each in enumerate(sources)
    )
    return fragment(f'<div class="sw2 sources"><h3>Sources</h3><ol>{buttons}</ol></div>')


def opened(source: Source, around: Sequence[Passage]) -> str:
    """A source's passage as HTML.

    Args:
        source: what was clicked.
        around: the passage and its neighbours as they are now, in order; none where the document has changed since.
    """
    passage, place = source.passage, source.citation
    above = " › ".join(escape(each) for each in passage.headings)
    stale = '<p class="caption">The document has changed since; this is what was read then.</p>' if not around else ""
    parts = [
        f'<p class="text{"" if each.id == passage.id else " beside"}">'
        f"{_marked(each.text, place.quote) if each.id == passage.id else escape(each.text)}</p>"
        for each in around or (passage,)
    ]
    first, last = (around[0].first, around[-1].last) if around else (passage.first, passage.last)
    span = f"{passage.unit} {first}" if first == last else f"{passage.unit}s {first} to {last}"
    return fragment(
        f'<div class="sw2"><article class="passage" aria-labelledby="passage-place"><header>'
        f'<h3 id="passage-place" tabindex="-1">{escape(passage.path)}</h3>'
        f'<p class="caption">{above}{" · " if above else ""}{escape(span)}</p>{stale}</header>{"".join(parts)}'
        f"</article></div>"
    )


def _marked(text: str, quote: str) -> str:
    """A text as HTML with a sentence marked, in whatever lines it stands."""
    words = quote.split()
    found = re.search(r"\s+".join(map(re.escape, words)), text) if words else None
    if found is None:
        return escape(text)
    first, last = found.span()
    return f"{escape(text[:first])}<mark>{escape(text[first:last])}</mark>{escape(text[last:])}"
