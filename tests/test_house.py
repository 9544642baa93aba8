"""The house rules that a machine can hold: layers, frames, names, import times, how much is installed."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
# Where words for people or machines stand; what tools generate is left out.
TEXTS = [
    path
    for folder in ("src", "tests", "docs", "examples", "benchmarks", "scripts", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".html", ".js", ".css", ".sh", ""} and path.is_file()
] + [path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name not in ("LICENSE", ".git")]

# Spelled in pieces, so that this file is no finding of its own.
MACHINE_PATHS = re.compile("|".join(["/" + "work/", "/" + r"root/", "/" + r"home/\w", "/" + "opt/", "/" + "Users/"]))
REGISTRY_HOSTS = re.compile("|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch\.org"]))


def _label(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ----------------------------------------------------------------------------------------------------------- sources


def test_imports_only_go_down() -> None:
    """The contracts in pyproject.toml, imports inside functions included."""
    tool = shutil.which("lint-imports", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if tool is None:
        pytest.skip("import-linter is not installed (extra dev)")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=_label)
def test_every_file_opens_with_a_frame(path: Path) -> None:
    frame = ast.get_docstring(ast.parse(path.read_text()))
    assert frame, "a file opens with a docstring: what it is, notable choices, sources, what it does not do"
    assert len(frame.split()) >= 4


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.name.startswith("test_")], ids=_label)
def test_all_is_sorted_and_true(path: Path) -> None:
    """`__all__` is there where anything public is, sorted, without repeats, and names only what exists."""
    tree = ast.parse(path.read_text())
    listed: list[str] | None = None
    defined: set[str] = set()
    public: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            listed = ast.literal_eval(node.value)
        defined |= _names_defined_by(node)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            public.add(node.name)
    if listed is None:
        assert not public, f"defines {', '.join(sorted(public))} and has no __all__"
        return
    assert listed == sorted(set(listed), key=_rank)
    lazy = "__getattr__" in defined
    assert lazy or set(listed) <= defined, f"does not define {set(listed) - defined}"


def _rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _names_defined_by(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}


def test_nothing_names_a_machine_or_a_registry() -> None:
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if MACHINE_PATHS.search(line) or REGISTRY_HOSTS.search(line):
                found.append(f"{_label(path)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


# ------------------------------------------------------------------------------------------------------------- times


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def _seconds(arguments: list[str]) -> float:
    """Processor seconds of a command, median of five: on a busy machine wall time measures the neighbours."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, *arguments], env=_environment(), check=True, capture_output=True)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(times)


def test_importing_sw2_is_quick() -> None:
    assert _seconds(["-c", "import sw2"]) - _seconds(["-c", "pass"]) < 0.15


def test_listing_is_quick() -> None:
    assert _seconds(["-c", "from sw2.faces.cli import main; main()", "list"]) < 0.5


@pytest.mark.parametrize("statement", ["import sw2", "from sw2.catalog import catalog; catalog().tasks"])
def test_names_come_without_torch(statement: str) -> None:
    heavy = "torch, numpy, scipy, sklearn, PIL, pyarrow, tokenizers, onnx, onnxruntime, tensorboard"
    code = f"{statement}\nimport sys\nprint([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------------------- packaging


def _requirements(text: str) -> set[str]:
    """The distributions that lines like `numpy>=1.26` name."""
    return {_canonical(re.split(r"[<>=!~\[; ]", line)[0]) for line in text.splitlines() if line and line[0] != "#"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    return {group: _requirements("\n".join(lines)) - {"sw2"} for group, lines in groups.items()}


def test_constraints_pin_everything_that_is_asked_for() -> None:
    lines = (ROOT / "constraints.txt").read_text()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines.splitlines() if not line.startswith("#"))
    assert set().union(*_declared().values()) <= _requirements(lines)


def test_every_dependency_has_its_line() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    written = {_canonical(name) for name in re.findall(r"^\| `([\w.-]+)`", page, flags=re.MULTILINE)}
    assert written == set().union(*_declared().values())


def test_all_holds_every_extra_for_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = project["optional-dependencies"]["all"]
    named = set(re.findall(r"[a-z]+", line.partition("[")[2]))
    # What weighs hundreds of megabytes and is for machines that serve is asked for by its name.
    assert named == project["optional-dependencies"].keys() - {"all", "scale", "test", "dev", "bench"}


@pytest.mark.slow
def test_the_core_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 20 distributions beside torch and what torch brings; asks the package registry."""
    monkeypatch.delenv("PIP_NO_INDEX")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True)

    def resolved(name: str, *requirements: str) -> set[str]:
        report = tmp_path / f"{name}.json"
        command = [str(tmp_path / "venv" / "bin" / "python"), "-m", "pip", "install", "--dry-run", "--quiet"]
        command += ["--report", str(report), "--constraint", str(ROOT / "constraints.txt"), *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {_canonical(each["metadata"]["name"]) for each in json.loads(report.read_text())["install"]}

    beside_torch = resolved("core", *sorted(_declared()["core"])) - resolved("torch", "torch")
    assert len(beside_torch) <= 20, sorted(beside_torch)
