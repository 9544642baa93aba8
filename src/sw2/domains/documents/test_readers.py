"""Readers: what each format's blocks are and where they stand, and every kind of file that is refused by name."""

from __future__ import annotations

import contextlib
import io
import os
import random
import zipfile
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from sw2.base.errors import UsageError
from sw2.domains.documents.blocks import Block, Unreadable
from sw2.domains.documents.readers import ReadConfig, is_known, load, read
from sw2.testing.hostile import mutated

_CONFIG = ReadConfig()


def _blocks(name: str, text: str | bytes, config: ReadConfig = _CONFIG) -> list[tuple[str, str, int, int]]:
    content = text if isinstance(text, bytes) else text.encode()
    return [_told(block) for block in read(name, content, config)[1]]


def _told(block: Block) -> tuple[str, str, int, int]:
    kind = f"{block.kind} {block.level}" if block.kind == "heading" else block.kind
    return kind, block.text, block.first, block.last


def _refusal(name: str, content: bytes, config: ReadConfig = _CONFIG) -> str:
    with pytest.raises(Unreadable) as caught:
        read(name, content, config)
    assert caught.value.lasting
    return caught.value.why


# ----------------------------------------------------------------------------------------------------- texts with lines


def test_markdown() -> None:
    text = """---
title: x
---
# Guide #

Some text,
two lines.

```sh
# no heading
```
- one
- two
  more
| a | b |
Setext
------
#hashtag
"""
    assert _blocks("a.md", text) == [
        ("code", "---\ntitle: x\n---", 1, 3),
        ("heading 1", "Guide", 4, 4),
        ("paragraph", "Some text,\ntwo lines.", 6, 7),
        ("code", "```sh\n# no heading\n```", 9, 11),
        ("paragraph", "- one", 12, 12),
        ("paragraph", "- two\n  more", 13, 14),
        ("row", "| a | b |", 15, 15),
        ("heading 2", "Setext", 16, 17),
        ("paragraph", "#hashtag", 18, 18),
    ]


def test_an_unclosed_fence_of_markdown_is_code_to_the_end() -> None:
    assert _blocks("a.md", "x\n~~~\n# a\n```\n\ny") == [
        ("paragraph", "x", 1, 1),
        ("code", "~~~\n# a\n```\n\ny", 2, 6),
    ]


def test_restructured_text() -> None:
    text = """=====
Guide
=====
As follows::

    code

    more
Install
=======
.. code-block:: python
   :linenos:

   import os

>>> 1
1

Sub
---
.. note:: read this

   indented prose
"""
    assert _blocks("a.rst", text) == [
        ("heading 1", "Guide", 1, 3),
        ("paragraph", "As follows::", 4, 4),
        ("code", "    code\n\n    more", 6, 8),
        ("heading 2", "Install", 9, 10),
        ("paragraph", ".. code-block:: python\n   :linenos:", 11, 12),
        ("code", "   import os", 14, 14),
        ("code", ">>> 1\n1", 16, 17),
        ("heading 3", "Sub", 19, 20),
        ("paragraph", ".. note:: read this", 21, 21),
        ("paragraph", "   indented prose", 23, 23),
    ]


def test_plain_text_and_names_without_ending() -> None:
    assert _blocks("README", "a\nb\n\n\nc") == [("paragraph", "a\nb", 1, 2), ("paragraph", "c", 5, 5)]


def test_source_code_is_divided_where_something_begins() -> None:
    text = "import os\n\n\ndef f():\n    a\n\n    b\nx = 1\n"
    assert _blocks("a.py", text) == [("code", "import os", 1, 1), ("code", "def f():\n    a\n\n    b\nx = 1", 4, 8)]


def test_the_first_line_of_a_table_is_the_heading_of_its_rows() -> None:
    assert _blocks("a.csv", "\nname,age\nAnna,7\n\nBo,8\n") == [
        ("heading 1", "name,age", 2, 2),
        ("row", "Anna,7", 3, 3),
        ("row", "Bo,8", 5, 5),
    ]


def test_json_is_text() -> None:
    assert _blocks("a.json", '{"a":\n 1}') == [("code", '{"a":\n 1}', 1, 2)]
    assert _blocks("a.jsonl", "{}\n[]") == [("row", "{}", 1, 1), ("row", "[]", 2, 2)]


def test_html() -> None:
    page = """<!doctype html><title>T &amp; x</title><script>"<p>no"</script><style>no</style>
<h1>Guide</h1><p>Some
text <b>bold</b><br>more</p><ul><li>one<li>two</ul>
<table><tr><td>a<td><p>b</p></tr></table><svg><text>no</text></svg><template><p>no</p></template>
<pre>
x = 1
  y
</pre><![if IE]>tail <!-- no -->end"""
    assert _blocks("a.html", page) == [
        ("heading 0", "T & x", 1, 1),
        ("heading 1", "Guide", 2, 2),
        ("paragraph", "Some text bold more", 2, 3),
        ("paragraph", "one", 3, 3),
        ("paragraph", "two", 3, 3),
        ("row", "a | b", 4, 4),
        ("code", "x = 1\n  y", 6, 7),
        ("paragraph", "tail end", 8, 8),
    ]


def test_html_that_is_nested_deeply_is_read() -> None:
    page = "<div>" * 100_000 + "deep" + "</div>" * 100_000
    assert _blocks("a.html", page) == [("paragraph", "deep", 1, 1)]


def test_html_that_takes_too_long_is_refused() -> None:
    why = _refusal("a.html", b"<a " * 20_000, ReadConfig(seconds=0.05))
    assert why == "reading it takes longer than 0.05 seconds"


# ------------------------------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encodings(encoding: str) -> None:
    text = "naïve “quotes”\r\nand\rlines"
    assert _blocks("a.txt", text.encode(encoding)) == [("paragraph", "naïve “quotes”\nand\nlines", 1, 3)]


def test_latin_1_is_the_last_resort() -> None:
    assert _blocks("a.txt", b"caf\xe9 \x81") == [("paragraph", "café \x81", 1, 1)]


def test_a_page_may_say_its_encoding() -> None:
    page = '<meta charset="koi8-r"><p>привет'
    assert _blocks("a.html", page.encode("koi8-r")) == [("paragraph", "привет", 1, 1)]
    assert _blocks("a.html", b'<meta charset="hex"><p>caf\xe9') == [("paragraph", "café", 1, 1)]


def test_broken_utf_16_is_refused() -> None:
    assert _refusal("a.txt", b"\xff\xfea").startswith("damaged: UnicodeDecodeError")


@pytest.mark.parametrize("content", [b"ab\0cd", bytes(range(1, 256)) * 9], ids=["zeros", "controls"])
def test_binary_files_with_a_name_of_text_are_refused(content: bytes) -> None:
    assert _refusal("a.txt", content) == "binary, in spite of its name"


# ----------------------------------------------------------------------------------------------------------------- Word

_SPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def _docx(body: str, styles: str = "", before: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml", f"{before}<w:document {_SPACE} {_MC}><w:body>{body}</w:body></w:document>"
        )
        if styles:
            archive.writestr("word/styles.xml", f"<w:styles {_SPACE}>{styles}</w:styles>")
    return file.getvalue()


def _paragraph(text: str, style: str = "") -> str:
    marked = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{marked}<w:r><w:t>{text}</w:t></w:r></w:p>"


def test_word() -> None:
    styles = """<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
        <w:style w:styleId="Own"><w:name w:val="Mine"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>"""
    box = f"<mc:AlternateContent><mc:Choice>{_paragraph('box')}</mc:Choice><mc:Fallback>{_paragraph('box')}"
    body = (
        _paragraph("Anleitung", "berschrift1")
        + "<w:p/>"
        + "<w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:delText>gone</w:delText></w:r></w:p>"
        + _paragraph("Part", "Own")
        + f"<w:tbl><w:tr><w:tc>{_paragraph('a')}{_paragraph('b')}</w:tc>"
        + f"<w:tc>{_paragraph('c &amp; d')}</w:tc></w:tr></w:tbl>"
        + f"<w:p><w:r>{box}</mc:Fallback></mc:AlternateContent><w:t>around</w:t></w:r></w:p>"
    )
    assert _blocks("a.docx", _docx(body, styles)) == [
        ("heading 1", "Anleitung", 1, 1),
        ("paragraph", "one two", 3, 3),
        ("heading 2", "Part", 4, 4),
        ("row", "a b | c & d", 5, 7),
        ("paragraph", "box", 9, 9),
        ("paragraph", "around", 8, 8),
    ]


def test_a_zip_bomb_is_refused_by_its_ratio_and_by_its_size() -> None:
    bomb = _docx(_paragraph("a" * 12_000_000))
    assert len(bomb) < 20_000
    assert _refusal("a.docx", bomb).startswith("a zip bomb: word/document.xml unpacks to more than 10 MB from")
    small = _docx(_paragraph("ab" * 1000))
    assert _refusal("a.docx", small, ReadConfig(unpacked_bytes=1000)).startswith("a zip bomb")


def test_an_entity_bomb_is_refused() -> None:
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    assert "declares a document type" in _refusal("a.docx", _docx(_paragraph("&b;"), before=entities))


def test_xml_that_is_nested_deeply_is_read() -> None:
    deep = "<w:sdt>" * 50_000 + _paragraph("deep") + "</w:sdt>" * 50_000
    assert _blocks("a.docx", _docx(deep)) == [("paragraph", "deep", 1, 1)]


def test_damaged_word_files_are_refused() -> None:
    good = _docx(_paragraph("text"))
    assert _refusal("a.docx", good[:-30]).startswith("damaged: ")
    assert _refusal("a.docx", b"no archive").startswith("damaged: ")
    assert _refusal("a.docx", _docx("<w:p>")).startswith("damaged: mismatched tag")
    assert _refusal("a.docx", b"\xd0\xcf\x11\xe0rest") == "encrypted, or in Word's old format"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    assert _refusal("a.docx", file.getvalue()) == "damaged: no Word document inside"


# ------------------------------------------------------------------------------------------------------------------ PDF


def _pdf(*pages: str, password: str | None = None) -> bytes:
    writer = pypdf.PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(width=200, height=200)
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password is not None:
        writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_pdf_by_page() -> None:
    unit, blocks = read("a.pdf", _pdf("first page", "", "third page"), _CONFIG)
    assert unit == "page"
    assert [_told(block) for block in blocks] == [("paragraph", "first page", 1, 1), ("paragraph", "third page", 3, 3)]


def test_an_encrypted_pdf_is_refused_and_one_with_an_empty_password_is_read() -> None:
    assert _refusal("a.pdf", _pdf("secret", password="word")) == "encrypted"
    assert _blocks("a.pdf", _pdf("open", password="")) == [("paragraph", "open", 1, 1)]


def test_pdfs_that_are_damaged_empty_or_slow_are_refused() -> None:
    assert _refusal("a.pdf", b"%PDF-1.7 nothing").startswith("damaged: ")
    assert _refusal("a.pdf", _pdf("")) == "no text on its pages; a scan, perhaps"
    assert _refusal("a.pdf", _pdf("x"), ReadConfig(seconds=0.001)) == "reading it takes longer than 0.001 seconds"
    assert _refusal("a.pdf", _pdf("many words"), ReadConfig(most_bytes=5)) == "more than 5 characters of text"


def test_without_pypdf_the_report_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unreadable, match=r"pip install 'sw2\[documents\]'") as caught:
        read("a.pdf", _pdf("x"), _CONFIG)
    assert not caught.value.lasting


def test_a_machine_that_starts_no_process_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.run", refuse)
    with pytest.raises(Unreadable, match="Resource temporarily unavailable") as caught:
        read("a.pdf", _pdf("x"), _CONFIG)
    assert not caught.value.lasting


# --------------------------------------------------------------------------------------------------------------- e-mail

_MAIL = b"""From: Anna <anna@example.org>
To: bo@example.org
Date: Mon, 02 Nov 2026 10:00:00 +0000
Subject: =?utf-8?q?Caf=C3=A9?= on Friday
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

At noon=2E

>From there we walk.
"""


def test_messages_and_mailboxes() -> None:
    head = "From: Anna <anna@example.org>\nTo: bo@example.org\nDate: Mon, 02 Nov 2026 10:00:00 +0000"
    assert _blocks("a.eml", _MAIL) == [
        ("heading 1", "Café on Friday", 1, 1),
        ("paragraph", head, 1, 1),
        ("paragraph", "At noon.", 1, 1),
        ("paragraph", ">From there we walk.", 1, 1),
    ]
    page = b"Subject: Page\nContent-Type: text/html\n\n<h1>Title</h1><p>Text</p>\n"
    box = b"From anna Mon\n" + _MAIL + b"\nFrom bo Tue\n" + page
    assert read("a.mbox", box, _CONFIG)[0] == "message"
    assert _blocks("a.mbox", box)[3:] == [
        ("paragraph", "From there we walk.", 1, 1),
        ("heading 1", "Page", 2, 2),
        ("heading 2", "Title", 2, 2),
        ("paragraph", "Text", 2, 2),
    ]


def test_messages_in_messages_without_end_are_refused_or_read() -> None:
    nested = b"Content-Type: message/rfc822\n\n" * 3000
    assert _refusal("a.eml", nested) == "its parts stand in each other too deep"


@pytest.mark.parametrize("name", ["a.docx", "a.eml", "a.html", "a.mbox", "a.md", "a.rst"])
def test_a_damaged_file_is_read_or_refused(name: str) -> None:
    good = _docx(_paragraph("text " * 50) * 5) if name == "a.docx" else b"From x\n" + _MAIL + b"<p>a<b>\n===\n" * 5
    for number in range(60):
        with contextlib.suppress(Unreadable):
            _, blocks = read(name, mutated(good, random.Random(number)), _CONFIG)
            assert all(block.text.strip() and 1 <= block.first <= block.last for block in blocks)


def test_half_surrogates_and_zeros_do_not_pass() -> None:
    (_, text, _, _) = _blocks("a.eml", b"Content-Type: text/plain; charset=utf-8\n\nab\xff\0c")[-1]
    assert "\0" not in text
    assert text.encode("utf-8")


# ---------------------------------------------------------------------------------------------------------------- files


def test_loading_refuses_what_is_no_regular_file_of_the_right_size(tmp_path: Path) -> None:
    def why(path: Path, config: ReadConfig = _CONFIG) -> str:
        with pytest.raises(Unreadable) as caught:
            load(path, config)
        assert not caught.value.lasting
        return caught.value.why

    (tmp_path / "a.txt").write_text("12345")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert load(tmp_path / "a.txt", _CONFIG)[0] == b"12345"
    assert why(tmp_path / "a.txt", ReadConfig(most_bytes=4)) == "larger than 4e-06 MB"
    assert why(tmp_path / "pipe.txt") == "no regular file"
    assert why(tmp_path / "link.txt") == "Too many levels of symbolic links"
    assert why(tmp_path / "none.txt") == "vanished while the folder was read"


def test_a_file_of_two_gigabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.txt", "wb") as file:
        file.truncate(2 * 2**30)  # sparse
    with pytest.raises(Unreadable, match="larger than 64 MB"):
        load(tmp_path / "big.txt", _CONFIG)


def test_which_files_are_read() -> None:
    assert all(map(is_known, ["a.md", "A.PDF", "README", "b.tar.txt", "x.docx"]))
    assert not any(map(is_known, ["a.png", "a.zip", "a.doc", "a.xlsx"]))


def test_limits_are_positive() -> None:
    with pytest.raises(UsageError, match=r"read\.seconds is out of range"):
        ReadConfig(seconds=0)
