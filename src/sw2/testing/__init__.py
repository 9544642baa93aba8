"""Layer 3: the public contract checks. A domain that passes them works with every verb and face.

    check_domain(registry, domain)              every string resolves; every config survives TOML
    check_task(registry, name, source, context) reading, checking, preparing and asking keep their promises
    check_program(registry, program, question, folder)   saving, loading and answering keep theirs

Each raises AssertionError with a sentence that says what the contract wants. Third-party domains call them in their own
tests; sw2 runs them over everything that is registered.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sw2.base.config import from_dict, to_dict, to_toml
from sw2.base.names import resolve
from sw2.core.capabilities import Classify
from sw2.core.data import Data
from sw2.core.domain import ChainRequest, Domain, Request
from sw2.core.labelled import Labelled
from sw2.core.model import Model
from sw2.core.program import Program, Runtime
from sw2.core.registry import Registry
from sw2.core.task import Context, Prep, Task

__all__ = ["check_domain", "check_program", "check_task"]

PRESETS = ("tiny", "small", "full")


def check_domain(registry: Registry, domain: Domain) -> None:
    """Every name that `domain` registers leads to something of the right kind.

    Raises:
        AssertionError: naming the entry that does not.
    """
    assert domain.name.isidentifier(), f"a domain's name is an identifier: {domain.name!r}"
    assert domain.summary.endswith("."), f"the summary of {domain.name} is a sentence"
    for name, entry in domain.tasks.items():
        task = registry.task(name)
        assert task.name == name, f"the task {name} calls itself {task.name}"
        assert entry.models, f"the task {name} has no model"
        for model in entry.models:
            registry.model_class(model)
        for objective in entry.objectives:
            registry.objective_config(objective)
        assert task.runtime in domain.runtimes, f"the runtime {task.runtime} of {name} is not registered"
        if entry.recipe:
            assert callable(registry.recipe(name)), f"the recipe of {name} is not a function"
        else:
            assert any(each.task == name for each in domain.weights.values()), f"nothing makes a program for {name}"
        assert list(task.inputs), f"the task {name} has no input"
        assert list(task.outputs), f"the task {name} has no output"
    for name, chain in domain.chains.items():
        assert callable(registry.stages(name)), f"the stages of {name} are not a function"
        for preset in PRESETS:
            stages = registry.stages(name)(ChainRequest(data=chain.data, preset=preset, minutes=10.0))
            assert stages, f"the chain {name} has no stages"
            assert all(stage.share > 0 for stage in stages), f"a stage of {name} has no share"
            for stage in stages:
                registry.task(stage.task)
            last = [stage for stage in stages if not stage.beside][-1]
            assert last.task == chain.task, f"the last stage of {name} makes a program for {last.task}"
    for name, claim in domain.claims.items():
        assert callable(registry.claim(name)), f"the experiment of the claim {name} is not a function"
        assert claim.question.endswith("?"), f"the question of the claim {name} is none"
        assert 0 < claim.minutes <= 10, f"the quick form of {name} has 10 minutes at most"
        assert 0 < claim.full_minutes <= 90, f"the full form of {name} has 90 minutes at most"
    for name in domain.models:
        model_class = registry.model_class(name)
        assert issubclass(model_class, Model), f"the model {name} is no Model"
        config = model_class.Config()
        assert _through_toml(config) == config, f"the Config of {name} does not survive TOML"
    for name in domain.runtimes:
        runtime = registry.runtime_class(name)
        assert issubclass(runtime, Runtime), f"the runtime {name} is no Runtime"
        assert runtime.name == name, f"the runtime {name} calls itself {runtime.name}"
        assert issubclass(runtime.Prep, Prep), f"the runtime {name} names no Prep"
    for name in domain.objectives:
        registry.objective_config(name)
    for name, entry_of_data in domain.data.items():
        for task_name in entry_of_data.also:
            assert task_name in domain.tasks, f"the data {name} is also for {task_name}, which is no task of the domain"
    for name, weights in domain.weights.items():
        assert callable(resolve(weights.target)), f"the weights {name} have no loader"


def _through_toml(config: Any) -> Any:
    text = to_toml({"section": to_dict(config)})
    return from_dict(type(config), tomllib.loads(text)["section"], "section")


def check_task(registry: Registry, name: str, source: str, context: Context) -> tuple[Data, Prep | None]:
    """The task `name` keeps its promises on the data at `source`.

    Returns:
        The data and the fitted preprocessing, for further checks; None where nothing learns the task.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    task = registry.task(name)
    data = task.read(source, task.Options(), context)
    again = task.read(source, task.Options(), context)
    assert data.fingerprint == again.fingerprint, "reading twice gives two fingerprints"
    assert "train" in data.splits, "there is no training split"
    for split in data.splits.values():
        assert len(split), "an empty split is left out, not kept"
    if isinstance(task, Labelled):
        _check_labels(task, data, source, context)
    report = task.check(data)
    assert report.facts, "a check reports facts"
    for example in (data.split("train")[0], data.split("train")[len(data.split("train")) - 1]):
        task.question(example)
    if not registry.task_entry(name).recipe:
        return data, None
    for preset in PRESETS:
        recipe = registry.recipe(name)(Request(data=data, preset=preset))
        assert recipe.model in registry.task_entry(name).models, f"{recipe.model} is not among the models of {name}"
        for config in (recipe.model_config, recipe.prep_config, recipe.learn_config):
            assert _through_toml(config) == config, f"{type(config).__name__} does not survive TOML"
        assert isinstance(recipe.learn_config, registry.objective_config(recipe.objective)), "another config class"
    recipe = registry.recipe(name)(Request(data=data, preset="tiny"))
    prep = task.prepare(data.split("train"), recipe.prep_config)
    _check_prep(registry, task, prep)
    return data, prep


def _check_labels(task: Task, data: Data, source: str, context: Context) -> None:
    assert isinstance(task, Labelled)
    every = task.gather(source, task.Options(), context)
    assert every.fingerprint == data.fingerprint, "gathering gives another fingerprint than reading"
    count = sum(len(split) for split in every.splits.values())
    assert count == sum(len(split) for split in data.splits.values()), "gathering leaves examples out, or reading does"
    rows = [task.row(example) for split in every.splits.values() for example in split]
    assert all(row.name and row.label and len(row.content) == 64 for row in rows), "a row lacks what it is called by"
    for example in task.unlabelled(source, task.Options(), context).split("unlabelled"):
        task.question(example)
        assert task.row(example).content, "an example without a label has a content"


def _check_prep(registry: Registry, task: Task, prep: Prep) -> None:
    state = prep.state()
    json.dumps(dict(state.config))
    kind = registry.runtime_class(task.runtime).Prep
    restored = kind.restore(state).state()
    assert dict(restored.config) == dict(state.config), "a restored Prep has another config"
    assert dict(restored.assets) == dict(state.assets), "a restored Prep has other assets"
    assert restored.arrays.keys() == state.arrays.keys(), "a restored Prep has other arrays"
    for name, array in state.arrays.items():
        assert np.array_equal(restored.arrays[name], array), f"the array {name} of a restored Prep differs"


def check_program(registry: Registry, program: Program, question: Any, folder: Path) -> Program:
    """`program` answers, saves and loads as promised.

    Args:
        question: a raw input of its task.
        folder: an empty folder to write in.

    Returns:
        The loaded program.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    answer = program(question)
    json.dumps(answer)
    assert set(answer) == set(program.task.outputs), f"an answer holds {set(answer)}, not {set(program.task.outputs)}"
    assert _alike(program.map([question, question])[1], answer), "two equal inputs get two answers"
    if isinstance(program.task, Labelled):
        classifier = program.capability(Classify)  # type: ignore[type-abstract]
        said = classifier.classify([question, question])
        assert said.probabilities.shape == (2, len(classifier.labels)), "a probability for each label"
        assert np.allclose(said.probabilities.sum(1), 1, atol=1e-4), "probabilities add up to 1"
        assert said.features.ndim == 2, "features are a vector for each example"
        assert len(said.features) == 2, "features are a vector for each example"
    before = program.id
    for net in program.thaw().values():
        for parameter in net.parameters():
            parameter.data.add_(1.0)
    assert program.id == before, "changing thawed copies changed the program"
    loaded = Program.load(program.save(folder / "program"), registry)
    assert loaded.id == before, "a loaded program has another id"
    assert loaded(question) == answer, "a loaded program answers otherwise"
    assert (folder / "program" / "README.md").read_text(encoding="utf-8").startswith("# "), (
        "there is no card for people"
    )
    return loaded


def _alike(one: Any, other: Any) -> bool:
    """Equal up to the last digits: in which order a sum is taken may depend on the size of the batch."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    return bool(one == other)
