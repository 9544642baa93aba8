"""The Python face: the same verbs as the command line, as functions.

Nothing here asks questions: a function that would need a download raises and names the argument `install=True`, which
gives consent beforehand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sw2.catalog import catalog
from sw2.core.documents import Documents
from sw2.core.estimate import Estimate, Target
from sw2.core.program import Program
from sw2.core.space import text_of
from sw2.core.task import Context, Score
from sw2.core.trainer import Budget
from sw2.verbs import ask as _ask
from sw2.verbs import chain as _chain
from sw2.verbs import evaluate as _evaluate
from sw2.verbs import search as _search
from sw2.verbs import shrink as _shrink
from sw2.verbs import train as _train

__all__ = ["ask", "estimate", "evaluate", "load", "open_documents", "plan", "search", "shrink", "train"]


def _context(seed: int, install: bool) -> Context:
    return Context(seed=seed, confirm=lambda question: install)


def _order(
    task: str,
    data: str | Path,
    minutes: float | None,
    steps: int | None,
    epochs: float | None,
    model: str | None,
    objective: str | None,
    start: str | Path | None,
    uses: Mapping[str, str | Path] | None,
    preset: str,
    depth: int | None,
    settings: Mapping[str, Any] | None,
    seed: int,
    device: str,
) -> _train.Order:
    budget = None
    if (minutes, steps, epochs) != (None, None, None):
        budget = Budget(minutes=minutes, steps=steps, epochs=epochs)
    return _train.Order(
        task=task,
        data=str(data),
        budget=budget,
        model=model,
        objective=objective,
        parent=None if start is None else str(start),
        uses={role: str(program) for role, program in (uses or {}).items()},
        preset=preset,
        depth=depth,
        settings=[f"{key}={_toml(value)}" for key, value in (settings or {}).items()],
        seed=seed,
        device=device,
    )


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def train(
    task: str,
    data: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    model: str | None = None,
    objective: str | None = None,
    start: str | Path | None = None,
    uses: Mapping[str, str | Path] | None = None,
    preset: str = "small",
    depth: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    install: bool = False,
) -> Program:
    """Learn a program from examples.

    Args:
        task: what is asked, e.g. "image-classification"; `sw2 list tasks` names them. Or a chain of `sw2 list chains`.
        data: a path, or the name of a data set.
        minutes, steps, epochs: how long; at most one of them, none takes the preset's length.
        model: the network; None for the recipe's choice.
        objective: the way to learn, where a task has several; None for its default.
        start: a program's folder or the name of weights to start from.
        uses: further programs that the learning uses, by role, e.g. {"reward": "runs/judge"}.
        preset: "tiny" (seconds), "small" (minutes) or "full".
        depth: how big, in blocks, where the task knows such a dial; width, batch and rates follow from it.
        settings: any setting by its key, e.g. {"learn.batch_size": 32}.
        out: the run's folder; None picks a free one under runs/.
        install: whether packages with data or weights may be installed.

    Returns:
        The program, saved in the folder `out`/program.

    Raises:
        Sw2Error: see `sw2.base.errors`.
    """
    order = _order(
        task, data, minutes, steps, epochs, model, objective, start, uses, preset, depth, settings, seed, device
    )
    target = _train.default_out(task, str(data)) if out is None else out
    return _chain.train(catalog(), order, target, _context(seed, install))


def plan(
    task: str,
    data: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    model: str | None = None,
    objective: str | None = None,
    start: str | Path | None = None,
    uses: Mapping[str, str | Path] | None = None,
    preset: str = "small",
    depth: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    install: bool = False,
) -> _train.Planned:
    """What `train` with the same arguments would take, measured by a few steps on this machine."""
    order = _order(
        task, data, minutes, steps, epochs, model, objective, start, uses, preset, depth, settings, seed, device
    )
    return _train.plan(catalog(), order, _context(seed, install))


def search(
    task: str,
    data: str | Path,
    *,
    space: Mapping[str, str | Sequence[Any]] | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    strategy: str = "halving",
    trials: int | None = None,
    model: str | None = None,
    objective: str | None = None,
    start: str | Path | None = None,
    uses: Mapping[str, str | Path] | None = None,
    preset: str = "small",
    depth: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    install: bool = False,
) -> Program:
    """Find the settings that learn best, and learn with them.

    Args:
        space: what to try, by key: a list of choices, or a text as of `--space`, e.g. {"model.depth": [2, 4, 8],
            "learn.gradient.optim.learning_rate": "1e-4..1e-2 log"}; None for what the model declares.
        minutes, steps, epochs: of everything together; half is for trials.
        strategy: "halving", "random", "evolution", or "tpe" (takes the extra `search`).
        trials: how many combinations; None derives it.
        out: the search's folder; None picks a free one under runs/. Its report.html tells of all trials.

    The other arguments are those of `train`.

    Returns:
        The program of the last training, saved in the folder `out`/program.

    Raises:
        Sw2Error: see `sw2.base.errors`.
    """
    order = _order(
        task, data, minutes, steps, epochs, model, objective, start, uses, preset, depth, settings, seed, device
    )
    target = _train.default_out(f"search-{task}", str(data)) if out is None else out
    texts = [f"{key}={values if isinstance(values, str) else text_of(values)}" for key, values in (space or {}).items()]
    context = _context(seed, install)
    return _search.search(catalog(), order, target, context, space=texts, strategy=strategy, trials=trials).program


def estimate(
    task: str,
    *,
    params: str | float,
    gpu: str,
    tokens: str | float | None = None,
    gpus: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Estimate:
    """What a training on a cluster would take, from arithmetic and published runs; nothing is measured.

    Args:
        task: one that offers an estimate, e.g. "text-generation".
        params: how many parameters, or the name of a published size, e.g. "llama-65b".
        gpu: the kind of device, e.g. "a100-80".
        tokens: how much to learn from; None for what is best for the size.
        gpus: how many devices; None for the fewest that hold it.
        settings: what is assumed, by key, e.g. {"price": 1.5}.

    Returns:
        `facts` by name, and why.

    Raises:
        UsageError: a name or number does not fit, or the model does not fit on so many devices.
    """
    target = Target(
        parameters=str(params),
        tokens=None if tokens is None else str(tokens),
        gpus=gpus,
        gpu=gpu,
        settings=[f"{key}={_toml(value)}" for key, value in (settings or {}).items()],
    )
    return catalog().estimate(task)(target)


def load(path: str | Path, *, install: bool = False) -> Program:
    """The program in a folder, a prompt's file, or named weights.

    Raises:
        ProgramError: when there is none, or it is damaged.
    """
    return catalog().program(str(path), _context(0, install))


def evaluate(
    program: Program,
    data: str | Path | None = None,
    *,
    task: str | None = None,
    split: str = "test",
    seed: int = 0,
    install: bool = False,
) -> list[Score]:
    """Scores of `program` on held-out data, with baselines beside them.

    Args:
        data: a path or the name of a data set; None for the tests that the program itself brings, as prompts do.
        task: judge it by this task; that of the named data, or its own, when None.
    """
    source = None if data is None else str(data)
    return _evaluate.evaluate(catalog(), program, source, _context(seed, install), split=split, task=task)


def shrink(
    program: Program,
    bits: int,
    *,
    out: str | Path | None = None,
    method: str | None = None,
    data: str | Path | None = None,
    most_loss: float = _shrink.MOST_LOSS,
    examples: int | None = None,
    seed: int = 0,
    install: bool = False,
) -> Program:
    """The program with its weights in fewer bits, judged beside the one it was.

    Args:
        program: stays as it is.
        bits: 4 or 8 for language models.
        out: a new folder to save it in; None only returns it.
        method: how numbers are rounded; None for the program's own choice.
        data: examples to calibrate (training split) and to judge on (test split); None for those that it was learned
            from, as the card names them.
        most_loss: how much worse it may be, relative: 0.03 for three per cent.
        examples: judge on so many held-out examples; None for all.
        install: whether packages with data may be installed.

    Returns:
        The smaller program; its card has the figures.

    Raises:
        ProgramError: it loses more than that; nothing is saved.
        Sw2Error: see `sw2.base.errors`.
    """
    source = None if data is None else str(data)
    found = _shrink.shrink(
        program,
        bits,
        _context(seed, install),
        method=method,
        source=source,
        examples=examples,
        most_loss=most_loss,
    )
    if out is None:
        found.check()
        return found.program
    return load(found.save(out))


def open_documents(
    folder: str | Path,
    *,
    index: str | Path | None = None,
    embedder: Program | None = None,
    install: bool = False,
) -> Documents:
    """A folder of documents to `ask`: its index brought up to date and every passage embedded.

    Args:
        folder: of the documents; nothing is written to it.
        index: where their index is; None takes a place of its own for each folder.
        embedder: a program that can `Embed`; None takes the usual one of the catalogue.
        install: whether its package may be installed.

    Returns:
        A session, to be closed; `refresh()` and `fill()` bring it up to date again.

    Raises:
        DataError: there is no such folder.
        SessionError: another process writes to the index, or it is damaged.
        UsageError: the usual embedder is not there and may not be fetched.
    """
    program = load(catalog().usual_embedder(), install=install) if embedder is None else embedder
    opened = catalog().documents(folder, None if index is None else Path(index), program)
    try:
        opened.refresh()
        opened.fill(lambda _: True)
    except BaseException:
        opened.close()
        raise
    return opened


def ask(program: Program, documents: Documents, question: str, *, owners: Collection[str] = ()) -> _ask.Answered:
    """An answer from documents, with the places where it is said, or a refusal where they do not say.

    Args:
        program: one that can chat.
        documents: from `open_documents`.
        question: of a person.
        owners: the names by which the person goes.

    Raises:
        ProgramError: the program cannot chat.
        UsageError: there is no question.
    """
    return _ask.ask(program, documents, question, owners=owners)
