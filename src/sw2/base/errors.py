"""Every error that a user of sw2 can meet.

An error message is product: it says *where* it happened, what was *wanted*, what was *got* and what to *do*. The
command line prints exactly this text and no traceback; `exit_code` is what the process ends with.

    Sw2Error                          exit 1
    ├── UsageError                    exit 2   a wrong name, setting or combination of arguments
    │   ├── UnknownName                        a task, model, data set … that does not exist (the nearest is offered)
    │   └── MissingExtra                       the distribution that a feature needs is not installed
    ├── DataError                     exit 1   examples that cannot be learned from or read
    ├── ProgramError                  exit 1   a program folder that is damaged, too new, or cannot do what is asked
    ├── RunError                      exit 1   a run folder that is taken, damaged or holds nothing to resume
    ├── SessionError                  exit 1   a session's folder (an index of documents, …) that is taken or damaged
    ├── ResourceError                 exit 1   disk, memory or time ran out
    │   └── DiskFull                           nothing was lost; what was there before is unchanged
    ├── LearningError                 exit 1   optimisation cannot go on (a loss that is not finite, …)
    └── Interrupted                   exit 130 stopped by a signal after saving

Programming mistakes inside sw2 stay `assert` and ordinary Python exceptions: those print a traceback.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "DiskFull",
    "Interrupted",
    "LearningError",
    "MissingExtra",
    "ProgramError",
    "ResourceError",
    "RunError",
    "SessionError",
    "Sw2Error",
    "UnknownName",
    "UsageError",
]


class Sw2Error(Exception):
    """The root of the tree.

    Args:
        message: one sentence, starting with a capital letter, that says what went wrong.
        where: the file, row, key or command that it is about.
        wanted: what would have been right.
        got: what was there instead.
        do: what the user can do about it, as an instruction.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        where: object = None,
        wanted: object = None,
        got: object = None,
        do: str | None = None,
    ) -> None:
        self.message, self.where, self.wanted, self.got, self.do = message, where, wanted, got, do
        super().__init__(message)

    def __str__(self) -> str:
        lines = [self.message]
        for label, value in (("where", self.where), ("wanted", self.wanted), ("got", self.got), ("do", self.do)):
            if value is not None:
                lines.append(f"  {label + ':':<8}{value}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, str | None]:
        """The same facts as a JSON object, for `--json`."""
        fields = {"where": self.where, "wanted": self.wanted, "got": self.got, "do": self.do}
        return {
            "error": type(self).__name__,
            "message": self.message,
            **{key: None if value is None else str(value) for key, value in fields.items()},
        }


class UsageError(Sw2Error):
    """A wrong name, setting or combination of arguments."""

    exit_code = 2


class UnknownName(UsageError):
    """A task, model, data set, preset or setting that does not exist."""


class MissingExtra(UsageError):
    """A feature whose distribution is not installed; `do` holds the install line."""


class DataError(Sw2Error):
    """Examples that cannot be read or learned from."""


class ProgramError(Sw2Error):
    """A program folder that is damaged, too new, or cannot do what is asked of it."""


class RunError(Sw2Error):
    """A run folder that is taken, damaged, or holds nothing to resume."""


class SessionError(Sw2Error):
    """A session's folder, such as an index of documents, that is taken, damaged, or of another version."""


class ResourceError(Sw2Error):
    """Disk or memory ran out."""


class DiskFull(ResourceError):
    """A file found no room; what was there before is unchanged."""


class LearningError(Sw2Error):
    """Optimisation cannot go on, for instance because the loss is not finite."""


class Interrupted(Sw2Error):
    """Stopped by a signal; what was learned is saved."""

    exit_code = 130
