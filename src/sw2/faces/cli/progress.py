"""The progress line of a training: one line that updates on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sw2.core.card import count, duration, size
from sw2.core.trainer import Reporter

__all__ = ["Line"]


class Line(Reporter):
    """Shows progress on standard error.

    Args:
        every: seconds between lines where standard error is no terminal.
    """

    def __init__(self, every: float = 10.0) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._every = every
        self._last = 0.0
        self._live: Live | None = None

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    def progress(self, step: int, total: int, values: Mapping[str, float | str]) -> None:
        text = self._text(step, total, values)
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=8, transient=True)
                self._live.start()
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))
            if step >= total:
                self.close()
                self._console.print(Text(text))
        elif step >= total or time.monotonic() - self._last > self._every:
            self._last = time.monotonic()
            self._console.print(Text(text))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _text(self, step: int, total: int, values: Mapping[str, float | str]) -> str:
        parts = [f"step {step}/{total} ({100 * step / total:.0f} %)"]
        # How long it still takes comes first: a narrow terminal cuts the end.
        for name, value in sorted(values.items(), key=lambda pair: pair[0] != "eta"):
            if isinstance(value, str):
                parts.append(f"{name} {value}")
            elif name == "memory":
                parts.append(f"memory {size(value)}")
            elif name == "eta":
                parts.append(f"{duration(value)} left")
            elif name.endswith("/s"):
                parts.append(f"{count(value)} {name}")
            else:
                parts.append(f"{name} {value:.4g}")
        return "  ".join(parts)
