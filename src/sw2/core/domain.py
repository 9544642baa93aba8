"""A Domain: how one family of learned programs is registered. Strings only, so that listing imports nothing heavy.

Built-in domains (folders under `sw2.domains`) and third-party ones (entry points in the group `sw2.domains`) hold a
`DOMAIN = Domain(...)` in their `__init__.py`; this page is the whole door.

    "pkg.task:Vision"        a Task class
    "pkg.presets:recipe"     recipe(Request) -> Recipe: from the data and one dial to every setting, with reasons
    "pkg.resnet:ResNet"      a Model class
    "pkg.cells:Every"        a Shared class: many networks of a Model class that share their weights
    "pkg.objective:learn"    learn(config, catalogue names) -> Objective
    "pkg.task:Classifier"    a Runtime class
    "pkg.quiz:Quiz"          a Judge class: held-out examples that bring their own judge
    "pkg.files:open_it"      open(path, registry) -> Program: a format of another toolkit
    "pkg.files:written"      open(path, registry, context, on) -> Program: a file that somebody wrote
    "pkg.files:read"         read(text, where) -> Draft: the text of such a file
    "pkg.road:stages"        stages(ChainRequest) -> Stages: several trainings that make one program
    "pkg.index:open_it"      open(folder, home, embedder) -> Documents: a folder of documents, searched
    "pkg.cluster:estimate"   estimate(Target) -> Estimate: what a training on machines elsewhere would take
    "pkg.claims:run"         run(context, full) -> Result: what the field claims, tried; see `core.claims`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sw2.core.data import Data
    from sw2.core.program import Program

__all__ = [
    "ChainEntry",
    "ChainRequest",
    "ClaimEntry",
    "DataEntry",
    "DocumentsEntry",
    "Domain",
    "FormatEntry",
    "ModelEntry",
    "ObjectiveEntry",
    "Recipe",
    "Request",
    "Stage",
    "Start",
    "TaskEntry",
    "WeightsEntry",
    "WrittenEntry",
]


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A task.

    Args:
        target: its class.
        recipe: the function that turns a Request into a Recipe. "" where nothing learns the task, and its programs are
            weights by name.
        summary: one line.
        models: names of the models that can learn it, the default first.
        objectives: names of the ways to learn it that a user can choose (`--objective`), the default first; empty where
            there is no choice.
        data: the named data set that serves as an example.
        demo_minutes: how long `make demo` learns it from that data; 0 leaves it out.
        estimate: the function `(Target) -> Estimate` for `sw2 plan --gpu`; see `core.estimate`. "" for none.
        starts: the function `(Request) -> Sequence[Start]` that says between which ways to begin a short trial decides,
            where the user says nothing of it. "" for none.
    """

    target: str
    summary: str
    models: Sequence[str]
    data: str
    recipe: str = ""
    objectives: Sequence[str] = ()
    demo_minutes: float = 0.0
    estimate: str = ""
    starts: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A network.

    Args:
        target: its class.
        summary: one line.
        source: the paper or page that it comes from.
        space: what `sw2 search` tries where nobody says otherwise: settings and their values, as `--space` takes them
            (see `core.space`). All of them have to fit together, whatever the preset. Empty for none.
        shared: the class of a `core.model.Shared`, where networks of this kind can share weights in a search; "" where
            they cannot.
    """

    target: str
    summary: str
    source: str
    space: Mapping[str, str] = field(default_factory=dict)
    shared: str = ""


@dataclass(frozen=True, kw_only=True)
class ObjectiveEntry:
    """A way to learn: the function `(config, provider) -> Objective` that makes it, and its config class."""

    target: str
    config: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class DataEntry:
    """A named data set.

    Args:
        task: the task that reads it.
        summary: one line.
        licence: of its content.
        bytes: download size; 0 for what comes with sw2.
        judge: the class of a `core.task.Judge`, for data that programs are only judged on; "" for data of the task.
        also: further tasks that read it; their programs are judged on it by their own.
    """

    task: str
    summary: str
    licence: str
    bytes: int = 0
    judge: str = ""
    also: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """Named pretrained weights: the function `(registry, context) -> Program` that loads them, and what they are."""

    target: str
    task: str
    summary: str
    licence: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class FormatEntry:
    """A format of another toolkit that opens as a program: the function `(path, registry) -> Program`, and its mark.

    Args:
        target: the function.
        summary: one line.
        suffix: a file with this ending is one; "" for formats that are folders.
        begins: where several formats have one ending, what the first 64 bytes match, each byte a character (a regular
            expression; a dot is any byte); the first of them opens what none of them matches, and says what is wrong.
        file: a folder with a file of this name is one; "" for formats that are files.
        architectures: what that file, a JSON object, names as its "architectures", where several formats have one of
            the same name; the first of them opens what names none.
    """

    target: str
    summary: str
    suffix: str = ""
    begins: str = ""
    file: str = ""
    architectures: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class WrittenEntry:
    """Programs that people write and nobody trains: files that run on another program, such as prompts.

    Args:
        task: the class of their task, which is registered under the entry's own name.
        target: the function `(path, registry, context, on) -> Program` that opens such a file; `on` names the program
            to run on in place of the one in the file, and is "" to leave that.
        reads: the function `(text, where) -> core.draft.Draft` that reads the text of one, or says what is wrong with
            it; `where` is what it is called in messages.
        summary: one line.
        suffix: how the names of such files end.
        begins: how their texts begin, so that they are told from other files with that ending.
        folder: the package whose files come along.
        files: those by name, each with one line; the file is the name with the suffix.
    """

    task: str
    target: str
    reads: str
    summary: str
    suffix: str
    begins: str
    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ChainEntry:
    """Several trainings, one after the other, that make one program; `sw2 train NAME` runs them.

    Args:
        target: the function `(ChainRequest) -> Sequence[Stage]`.
        task: what the program at the end answers.
        summary: one line.
        data: the named data set that serves as an example.
        demo_minutes: how long `make demo` runs it; 0 leaves it out.
        demo_data: the named data set that `make demo` takes; "" for `data`.
    """

    target: str
    task: str
    summary: str
    data: str
    demo_minutes: float = 0.0
    demo_data: str = ""


@dataclass(frozen=True, kw_only=True)
class DocumentsEntry:
    """A way to search a folder of documents.

    Args:
        target: the function `(folder, home, embedder) -> core.documents.Documents`; home and embedder may be None.
        summary: one line.
        embedder: the named weights that embed where nobody says otherwise.
    """

    target: str
    summary: str
    embedder: str


@dataclass(frozen=True, kw_only=True)
class ClaimEntry:
    """Something that the field claims, shown by an experiment; what is expected stands here before anything runs.

    Args:
        target: the function `(Context, full: bool) -> core.claims.Result`; the context's seed decides every draw.
        question: one sentence.
        expected: what the claim says will be seen.
        rule: how the verdict is read off the numbers: when it holds, when it does not, else it is undecided.
        source: the paper or page that claims it.
        minutes: what the quick form may take on two cores, at most 10.
        full_minutes: what the full form may take, at most 90.
        full_seeds: how many seeds the full form takes.
    """

    target: str
    question: str
    expected: str
    rule: str
    source: str
    minutes: float
    full_minutes: float
    full_seeds: int = 5


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One family of learned programs.

    Args:
        name: the folder's name.
        summary: one line.
        extra: the extra of the distribution that it needs, or None.
    """

    name: str
    summary: str
    extra: str | None = None
    tasks: Mapping[str, TaskEntry] = field(default_factory=dict)
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    objectives: Mapping[str, ObjectiveEntry] = field(default_factory=dict)
    runtimes: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, DataEntry] = field(default_factory=dict)
    weights: Mapping[str, WeightsEntry] = field(default_factory=dict)
    formats: Mapping[str, FormatEntry] = field(default_factory=dict)
    chains: Mapping[str, ChainEntry] = field(default_factory=dict)
    written: Mapping[str, WrittenEntry] = field(default_factory=dict)
    documents: Mapping[str, DocumentsEntry] = field(default_factory=dict)
    claims: Mapping[str, ClaimEntry] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for, from which a recipe derives everything else.

    Args:
        data: the examples.
        preset: "tiny" (seconds), "small" (minutes) or "full".
        depth: how many blocks, or layers where a network is called by them, at least 1, from which the size and the
            rates follow; None leaves them to the preset.
        model: the model's name, or None for the best choice.
        objective: the name of the way to learn, one of the task's, or None for the default.
        minutes: the budget in minutes, or None when it is given in steps or epochs.
        parent: the program of `--from`, or None.
        uses: the programs of `--with`, by role.
    """

    data: Data
    preset: str
    depth: int | None = None
    model: str | None = None
    objective: str | None = None
    minutes: float | None = None
    parent: Program | None = None
    uses: Mapping[str, Program] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a training needs, as configs, with the reason for each derived value by its key.

    `keeps_prep` takes the preprocessing of the program to start from as it is (a tokenizer belongs to its weights).
    `runtime` is the registered name of the Runtime of its programs, where that is not the task's usual one.
    `depth` is the request's where the recipe follows it; where it does not, asking for one is an error.
    `roles` are those in which this learning uses other programs (`--with reward=PROGRAM`); any other is an error.
    """

    model: str
    model_config: Any
    prep_config: Any
    objective: str
    learn_config: Any
    keeps_prep: bool = False
    runtime: str = ""
    depth: int | None = None
    roles: Sequence[str] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Start:
    """A way to begin learning.

    Args:
        name: a few words for people.
        parent: named weights to start from; None for none.
        settings: `key=value` texts.
    """

    name: str
    parent: str | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ChainRequest:
    """What a user asked a chain for.

    Args:
        data: a path or the name of a data set, as on the command line.
        preset: "tiny", "small" or "full".
        minutes: the budget of the whole chain, or None when it is given in steps of each stage.
        parent: a program or named weights to start from, or None.
    """

    data: str
    preset: str
    minutes: float | None = None
    parent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training of a chain.

    Args:
        name: of this stage alone, a word.
        task, data: what it learns, from what, as on the command line.
        objective: how, or "" for the task's default.
        share: of the minutes that the chain has, relative to the other stages.
        why: one line for people.
        start: the stage whose program it starts from; "" for what the whole chain starts from.
        uses: stages whose programs it uses, by role.
        settings: `key=value` texts.
        beside: the stages that this one is the control of: what the same minutes bring without their idea.
            Nothing starts from a control.
    """

    name: str
    task: str
    data: str
    share: float
    why: str
    objective: str = ""
    start: str = ""
    uses: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()
    beside: Sequence[str] = ()
