"""PDF: the text of each page, by pypdf, in a process of its own with limits on time and memory.

A PDF can make any parser work for hours, so it is read by a child that is killed when its time is over. The child runs
this file as a script: it imports pypdf alone and writes a line of JSON for each page.

Not here: text in pictures (a scan has none), columns and tables as such, the old layout's line breaks undone.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["main", "pages"]

_MEMORY: Final = 4 * 2**30


def pages(content: bytes, seconds: float, most: int) -> Iterator[tuple[int, str]]:
    """The number, counted from 1, and text of each page that has any.

    Args:
        content: of the file.
        seconds: how long reading may take.
        most: characters of text altogether.

    Raises:
        Unreadable: it is damaged or encrypted, takes longer, holds more or none, or pypdf is not installed.
    """
    from sw2.base.names import missing_extra
    from sw2.domains.documents.blocks import Unreadable

    if importlib.util.find_spec("pypdf") is None:
        raise Unreadable(f"PDF needs pypdf: {missing_extra('pypdf').do}", lasting=False)
    command = [sys.executable, "-P", str(Path(__file__)), str(most), str(math.ceil(seconds) + 1)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"reading it takes longer than {seconds:g} seconds") from None
    lines = [json.loads(line) for line in done.stdout.splitlines()] if not done.returncode else []
    if not lines or "end" not in lines[-1]:
        raise Unreadable("damaged: its reader died")
    if lines[-1]["end"]:
        raise Unreadable(lines[-1]["end"])
    if len(lines) == 1:
        raise Unreadable("no text on its pages; a scan, perhaps")
    for line in lines[:-1]:
        yield line["page"], line["text"]


def main() -> None:
    """The child: a PDF on standard input, lines of JSON on standard output; the last one says how it ended."""
    _limit(int(sys.argv[2]))
    import pypdf
    from pypdf.errors import FileNotDecryptedError

    def say(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")

    end = ""
    try:
        reader = pypdf.PdfReader(io.BytesIO(sys.stdin.buffer.read()))
        left = int(sys.argv[1])
        # Many files are encrypted with an empty password, which every viewer tries first.
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileNotDecryptedError
        for number, page in enumerate(reader.pages, start=1):
            text = page.extract_text()
            left -= len(text)
            if left < 0:
                end = f"more than {int(sys.argv[1])} characters of text"
                break
            if text.strip():
                say({"page": number, "text": text})
    except (FileNotDecryptedError, pypdf.errors.DependencyError):
        end = "encrypted"
    except MemoryError:
        end = "reading it takes too much memory"
    except Exception as error:  # whatever pypdf stumbles on in a damaged file
        end = f"damaged: {error}"[:200]
    say({"end": end})


def _limit(seconds: int) -> None:
    """Hold this process to 4 GB of addresses, and to its time in case nobody is left to end it; not on Windows."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    main()
