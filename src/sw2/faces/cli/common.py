"""What all verbs of the command line share: output, errors, questions and options.

Results go to standard output, everything else to standard error, so that `--json` output can be piped.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sw2.base.errors import Interrupted, ResourceError, Sw2Error, UsageError
from sw2.base.store import finite

if TYPE_CHECKING:
    from sw2.core.task import Context

__all__ = [
    "DeviceOption",
    "JsonOption",
    "OfflineOption",
    "SeedOption",
    "SettingsOption",
    "YesOption",
    "context",
    "emit",
    "refuse_unused",
    "say",
    "show_scores",
    "verb",
]

F = TypeVar("F", bound=Callable[..., Any])

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of every random draw.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Install named data and weights without asking.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never install anything, never ask.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one setting by hand; may be repeated.")
]


def verb(function: F) -> F:
    """Wrap a command so that a user's mistake ends with its text and exit code."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with _terminated_like_interrupted():
                return function(*args, **kwargs)
        except BrokenPipeError:
            # The reader of a pipe (head, less) went away; that is no failure of ours. What is still to be flushed at
            # the end of the process goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (Sw2Error, OSError, KeyboardInterrupt, typer.Abort) as caught:
            error = _for_users(caught)
            if error is None:
                raise
            if kwargs.get("json_output"):
                emit(error.to_json())
            else:
                say(f"sw2: {error}")
            raise typer.Exit(error.exit_code) from caught

    return wrapped  # type: ignore[return-value]


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends what is under way as Ctrl-C does; a training handles both itself while it learns."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _for_users(error: BaseException) -> Sw2Error | None:
    """The error as the user's, or None when it is ours; the one border where foreign errors are mapped."""
    if isinstance(error, Sw2Error):
        return error
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):  # the latter while a question was waiting
        return Interrupted("Interrupted.")
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return ResourceError("The system refused access to a file.", where=error.filename, got=error.strerror)
    return None


# What the system answers to a path that a user gave; every other OSError is ours.
_REFUSALS = frozenset({
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
})  # fmt: skip


def refuse_unused(context: typer.Context, used: Collection[str], why: str) -> None:
    """Complain about options and arguments that were given and would have no effect.

    Args:
        context: of the running command.
        used: names of the parameters that have an effect.
        why: a sentence.

    Raises:
        UsageError: naming them as they are written.
    """
    sources = {each: context.get_parameter_source(str(each.name)) for each in context.command.params}
    unused = [
        each.opts[0] if each.param_type_name == "option" else str(each.name).upper()
        for each, source in sources.items()
        if each.name not in used and source is not None and source.name == "COMMANDLINE"
    ]
    if unused:
        raise UsageError(why, where=f"sw2 {context.info_name}", wanted="no further settings", got=", ".join(unused))


def say(text: str) -> None:
    """One line on standard error."""
    typer.echo(text, err=True)


def show_scores(scores: Sequence[Mapping[str, Any]]) -> None:
    """A line for each score: whom it judges, the metric, the value, its interval, over how many examples."""
    from sw2.core.card import figure

    who = max((len(score["of"]) for score in scores), default=0)
    what = max((len(score["name"]) for score in scores), default=0)
    for score in scores:
        line = f"{score['of']:<{who}}  {score['name']:<{what}}  {figure(score['value']):>9}"
        if score["interval"]:
            line += f"  (95 %: {score['interval'][0]:.4f} to {score['interval'][1]:.4f})"
        typer.echo(f"{line}  n={score['examples']}")


def emit(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output; numbers that JSON does not have are null."""
    typer.echo(json.dumps(finite(value), ensure_ascii=False, allow_nan=False, default=str))


def context(seed: int, *, yes: bool, offline: bool) -> Context:
    """What reading and judging may use; questions are asked on a terminal only."""
    from sw2.core.task import Context

    def confirm(question: str) -> bool:
        if offline:
            return False
        if yes:
            say(question + " yes (--yes)")
            return True
        return sys.stdin.isatty() and typer.confirm(question, err=True)

    return Context(seed=seed, confirm=confirm, say=say)
