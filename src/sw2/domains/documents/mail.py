"""E-mail: single messages (.eml) and mailboxes (mbox), by the standard library's parser.

The subject is a heading, sender, receivers and date are a paragraph, then the body: plain text, or HTML where there is
nothing else. Positions are messages, counted from 1: what a message says is encoded, so its lines are not the file's.

Sources: RFC 5322; the mbox formats, https://www.loc.gov/preservation/digital/formats/fdd/fdd000383.shtml.

Not here: attachments, signatures, threads.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from typing import Final

from sw2.domains.documents.blocks import Block, paragraphs
from sw2.domains.documents.markup import html

__all__ = ["mailbox", "message"]

_FROM: Final = re.compile(rb"(?:\A|(?<=\n))From [^\n]*\n")
_QUOTED: Final = re.compile(rb"^>(>*From )", re.MULTILINE)
_SHOWN: Final = ("From", "To", "Cc", "Date")


def mailbox(content: bytes, seconds: float) -> Iterator[Block]:
    """The blocks of every message of a mailbox; `seconds` for each of its pages of HTML."""
    for number, raw in enumerate(_FROM.split(content)[1:], start=1):
        yield from message(_QUOTED.sub(rb"\1", raw), seconds, number)


def message(content: bytes, seconds: float, number: int = 1) -> Iterator[Block]:
    """The blocks of one message, which is the number-th of its file."""
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    subject = " ".join(str(parsed["Subject"] or "").split())
    if subject:
        yield Block(subject, "heading", number, number, 1)
    shown = [f"{name}: {' '.join(str(parsed[name]).split())}" for name in _SHOWN if parsed[name]]
    if shown:
        yield Block("\n".join(shown), "paragraph", number, number)
    body = parsed.get_body(("plain", "html"))
    if body is None:
        return
    text = str(body.get_content()).replace("\r\n", "\n")
    blocks = html(text, seconds) if body.get_content_subtype() == "html" else paragraphs(text)
    for block in blocks:
        # Headings of a page in a message stand below its subject.
        yield replace(block, first=number, last=number, level=block.level + 1 if block.kind == "heading" else 0)
