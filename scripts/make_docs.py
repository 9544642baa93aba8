"""Write the pages of docs/ that are made from code; with --check, fail when one of them is stale.

    docs/cli.md         every verb with its arguments, from the command line itself
    docs/catalog.md     every task, model, data set and set of weights, from the catalogue
    docs/settings.md    every setting with its default and meaning, from the config classes of each task's recipe
    docs/claims/        a page and drawings for each claim whose result is kept there, and the list of all

A result that is kept and no longer that of its experiment fails the check too; see `sw2.verbs.gallery`.

Numbers in README.md between `<!-- made from … -->` marks are not made here: they are measured, and LOG.md says when.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sw2.base.config import to_dict
from sw2.catalog import catalog
from sw2.core.domain import Request
from sw2.core.task import Context
from sw2.core.trainer import TrainerConfig
from sw2.faces.cli import VERBS
from sw2.verbs import gallery

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = ROOT / "docs" / "claims"
MADE = "<!-- made by scripts/make_docs.py; do not edit -->\n\n"

# Verbs whose module has several commands.
NAMES = {
    "train": ["train", "plan"],
    "data": ["data show", "data commit", "data diff", "data log"],
    "label": ["label suspects", "label next", "label serve"],
    "claims": ["claims list", "claims run"],
}


def cli_page() -> str:
    """The help of each verb, as a terminal 100 columns wide shows it."""
    parts = [MADE, "# The command line\n"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for verb in ("", *VERBS):
        names = NAMES.get(verb, [verb])
        for name in names:
            command = [sys.executable, "-m", "sw2.faces.cli", *name.split(), "--help"]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
            lines = [line.rstrip() for line in done.stdout.splitlines()]
            parts.append(f"\n## sw2 {name}".rstrip() + "\n\n```\n" + "\n".join(lines).strip("\n") + "\n```\n")
    return "".join(parts)


def catalog_page() -> str:
    """The catalogue as tables."""
    found = catalog()
    lines = [
        MADE + "# What there is\n",
        "## Tasks\n",
        "| task | question | models | example data |",
        "|---|---|---|---|",
    ]
    lines += [f"| {n} | {e.summary} | {', '.join(e.models)} | {e.data} |" for n, e in sorted(found.tasks.items())]
    lines += ["\n## Chains of several trainings\n", "| chain | what | makes | example data |", "|---|---|---|---|"]
    lines += [f"| {n} | {e.summary} | {e.task} | {e.data} |" for n, e in sorted(found.chains.items())]
    lines += ["\n## Models\n", "| model | what | source |", "|---|---|---|"]
    lines += [f"| {n} | {e.summary} | {e.source} |" for n, e in sorted(found.models.items())]
    lines += ["\n## What `sw2 search` tries by itself\n", "| model | setting | values |", "|---|---|---|"]
    for name, entry in sorted(found.models.items()):
        lines += [f"| {name} | `{key}` | {values} |" for key, values in entry.space.items()]
    lines += ["\n## Data\n", "| name | what | for | licence | download |", "|---|---|---|---|---|"]
    for name, entry in sorted(found.data.items()):
        download = f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "none"
        tasks = ", ".join((entry.task, *entry.also))
        lines.append(f"| {name} | {entry.summary} | {tasks} | {entry.licence} | {download} |")
    lines += ["\n## Weights\n", "| name | what | for | licence | download |", "|---|---|---|---|---|"]
    for name, entry in sorted(found.weights_entries.items()):
        lines.append(f"| {name} | {entry.summary} | {entry.task} | {entry.licence} | {entry.bytes / 1e6:.1f} MB |")
    lines += ["\n## Prompts\n", "| name | what |", "|---|---|"]
    lines += [f"| {name} | {summary} |" for name, (_, summary) in sorted(found.files.items())]
    lines += ["\n## Formats of other toolkits that open as programs\n", "| name | what | opens |", "|---|---|---|"]
    for name, entry in sorted(found.formats.items()):
        lines.append(f"| {name} | {entry.summary} | {entry.suffix or f'folders with {entry.file}'} |")
    lines += ["\n## Claims\n", "| claim | question | source |", "|---|---|---|"]
    lines += [f"| {n} | {e.question} | {e.source} |" for n, e in sorted(found.claims.items())]
    return "\n".join(lines) + "\n"


def _meanings(config: object) -> dict[str, str]:
    """The meaning of each field, from the Args of the config's docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    for line in (type(config).__doc__ or "").splitlines():
        text = line.strip()
        head, colon, rest = text.partition(":")
        listed = [name.strip() for name in head.split(",")]
        if colon and set(listed) <= fields:
            names = listed
            found |= dict.fromkeys(names, rest.strip())
        elif names and text and line.startswith(" " * 12):
            found |= {name: f"{found[name]} {text}" for name in names}
        else:
            names = []
    return found


def _rows(section: str, config: object) -> list[str]:
    rows = []
    meanings = _meanings(config)
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            rows += _rows(f"{section}.{field.name}", value)
        else:
            rows.append(f"| `{section}.{field.name}` | {value!r} | {meanings.get(field.name, '')} |")
    return rows


def settings_page() -> str:
    """Every key of `--set`, with the value that the preset small takes on the example data."""
    lines = [
        MADE + "# Settings\n",
        "What `--set KEY=VALUE` can change; values are those of the preset small on the example data.",
    ]
    found = catalog()
    for name, entry in sorted((name, entry) for name, entry in found.tasks.items() if entry.recipe):
        task = found.task(name)
        data = task.read(entry.data, task.Options(), Context())
        recipe = found.recipe(name)(Request(data=data, preset="small", minutes=1.0))
        sections = {
            "data": task.Options(),
            "prep": recipe.prep_config,
            "model": recipe.model_config,
            "learn": recipe.learn_config,
            "trainer": TrainerConfig(),
        }
        assert all(to_dict(config) is not None for config in sections.values())
        lines += [f"\n## {name}\n", "| key | value | meaning |", "|---|---|---|"]
        lines += [row for section, config in sections.items() for row in _rows(section, config)]
        for model in entry.models[1:]:
            other = found.recipe(name)(Request(data=data, preset="small", minutes=1.0, model=model))
            lines += [f"\n### {name} with --model {model}\n", "| key | value | meaning |", "|---|---|---|"]
            lines += _rows("model", other.model_config)
            if type(other.learn_config) is not type(recipe.learn_config):
                lines += _rows("learn", other.learn_config)
        for objective in entry.objectives[1:]:
            other = found.recipe(name)(Request(data=data, preset="small", minutes=1.0, objective=objective))
            lines += [f"\n### {name} with --objective {objective}\n", "| key | value | meaning |", "|---|---|---|"]
            lines += _rows("learn", other.learn_config)
    return "\n".join(lines) + "\n"


def kept_results() -> dict[str, dict[str, Any]]:
    """The results of claims that are kept in docs/claims, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(CLAIMS.glob("*.json"))}


def claims_pages() -> dict[str, str]:
    """Every page and drawing of the gallery of claims, by its path in docs."""
    entries, results = catalog().claims, kept_results()
    made = {"claims/README.md": MADE + gallery.index(entries, results)}
    for name, result in results.items():
        made[f"claims/{name}.md"] = MADE + gallery.page(name, result)
        for place, plot in enumerate(result["plots"], start=1):
            made[f"claims/{name}-{place}.svg"] = gallery.drawing(plot)
    return made


def stale_results() -> list[str]:
    """What is wrong with the results of claims that are kept, and what to do."""
    entries, said = catalog().claims, []
    for name, result in kept_results().items():
        if name not in entries:
            said.append(f"docs/claims/{name}.json is of no claim that there is; remove it")
        elif why := gallery.why_stale(name, entries[name], result):
            said.append(why)
    return said


PAGES = {"cli.md": cli_page, "catalog.md": catalog_page, "settings.md": settings_page}


def main() -> int:
    """Write or check the pages; the exit code."""
    check = "--check" in sys.argv[1:]
    stale = []
    made = {**{name: make() for name, make in PAGES.items()}, **claims_pages()}
    for name, text in made.items():
        path = ROOT / "docs" / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in (*CLAIMS.glob("*.md"), *CLAIMS.glob("*.svg")):
        if (name := f"claims/{path.name}") not in made:
            stale.append(name)
            if not check:
                path.unlink()
    results = stale_results()
    for line in results:
        print(f"stale: {line}", file=sys.stderr)
    if check and stale:
        print(f"stale: docs/{', docs/'.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if results or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
