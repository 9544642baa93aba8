"""Labelled: what a Task offers so that its labels can be looked after.

Wrong labels (`sw2 label suspects`), what to label next (`sw2 label next`) and a data set's history (`sw2 data commit`)
are the same for every task whose examples have one label each, out of a few. Such a Task inherits this class beside
`Task`, and its programs offer the capability `Classify`; nothing else is asked of a domain.

What it does not do: several labels for one example, labels inside an example (boxes, tags of words).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from sw2.core.data import Data, Example
from sw2.core.task import Context

__all__ = ["Labelled", "Row"]


@dataclass(frozen=True)
class Row:
    """An example as its labels are looked after.

    Args:
        name: where people find it inside the data: a path, or the number of a row.
        label: as it stands in the data; "" where there is none.
        content: SHA-256 of the example without its label, in hexadecimal: equal examples have equal ones.
    """

    name: str
    label: str
    content: str


class Labelled(ABC):
    """A Task whose examples have one label each."""

    @abstractmethod
    def gather(self, source: str, options: Any, context: Context) -> Data:
        """Every labelled example at `source`, divided as the source divides them; nothing more is held out.

        The fingerprint is that of `Task.read` with the same options.

        Raises:
            DataError: when they cannot be read.
        """

    @abstractmethod
    def unlabelled(self, source: str, options: Any, context: Context) -> Data:
        """Examples at `source` that may be asked, as "unlabelled"; labels that they have are not looked at.

        Raises:
            DataError: when they cannot be read, or there are none.
        """

    @abstractmethod
    def row(self, example: Example) -> Row:
        """What an example of this task is called, its label, and its content."""
