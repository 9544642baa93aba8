"""The verb `export`: a program as a file for other engines, checked there before it counts as written.

    OUT/model.onnx    the whole program, preprocessing and weights included
    OUT/labels.json   what its outputs stand for, where they have names; also in the metadata of model.onnx
    OUT/README.md     how to run it without sw2, with the program's own example
    OUT/…             what else the example needs (tokenizer.json)

Choices
- torch's newer exporter (`dynamo=True`) traces shapes as symbols, so that the lengths of the traced example are not
  written into masks, rotary tables and resizing. The older one has to be talked out of each such constant by hand.
- Of the ONNX optimiser only the folding of constants runs. It leaves the weights as they were learned; engines fuse
  normalisations into convolutions by themselves while they load. Without it the graph is twice as long
  and holds sequence operators that small engines lack.
- Traces of the Python source, which the exporter leaves at every node, are removed.
- What is checked is the file: ONNX Runtime reads it back and answers every input that the program names for this
  purpose. A folder whose answers differ is never seen.

Sources: ONNX, https://onnx.ai/onnx/repo-docs/IR.html, for the format and its 2 GB limit;
https://pytorch.org/docs/stable/onnx_export.html.

Other formats are a program's own business: a runtime with the capability `Convert` names them, writes them and checks
them (a language model: GGUF, a Hugging Face folder).

What it does not do: ONNX with fewer bits, or above 2 GB.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from sw2.base.errors import ProgramError
from sw2.base.names import pick, resolve
from sw2.base.store import folder, refuse_taken
from sw2.core.capabilities import Convert, Export, Graph
from sw2.core.program import Program

__all__ = ["Exported", "export"]

OPSET: Final = 18
"""The version of ONNX's operators: the one in which torch's exporter is written, so that nothing is converted."""

TOLERANCE: Final = 1e-4
"""The largest difference between an exported answer and the program's, in units of the largest answer or of 1."""

_MOST_BYTES: Final = 2**31 - 2**24  # protobuf's limit, less room for the graph
_TYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64"}  # ONNX Runtime's names for numpy's


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Args:
        path: the folder.
        checked: how many inputs were answered by the file and by the program.
        largest_difference: between their answers, in units of the largest answer to that input or of 1.
        files: the names of the files in the folder, sorted.
    """

    path: Path
    checked: int
    largest_difference: float
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {**vars(self), "path": str(self.path), "files": list(self.files)}


def export(program: Program, out: str | Path, format_name: str = "onnx") -> Exported:
    """Write `program` into the new folder `out`, in a form that runs without sw2 and torch.

    Args:
        program: one with the capability `Export`, or `Convert` for other formats than ONNX.
        out: a folder that is empty or does not exist.
        format_name: "onnx", or one that the program names.

    Raises:
        UsageError: there is no such format, or `out` is taken.
        MissingExtra: the libraries for this format are not installed.
        ProgramError: the program cannot be written in this format, or the written file does not answer as the
            program does. Nothing is left behind.
        ResourceError: the disk is full.
    """
    converter = program.runtime if isinstance(program.runtime, Convert) else None
    known = {"onnx": "for ONNX engines"} if isinstance(program.runtime, Export) else {}
    known |= converter.conversions() if converter else {}
    if not known:
        raise ProgramError(
            "Programs of this kind are written in no other format.",
            where=program.path,
            wanted="a program that can be exported",
            got=f"a program for {program.task.name} with: {', '.join(program.runtime.offers()) or 'none'}",
            do="Use it with sw2 run or sw2 serve, or from Python.",
        )
    pick("export format", format_name, known)
    out = Path(out)
    refuse_taken(out)
    if converter is not None and format_name != "onnx":
        with folder(out) as partial:
            checked, largest_difference = converter.convert(format_name, partial)
            files = tuple(sorted(file.name for file in partial.iterdir()))
        return Exported(path=out, checked=checked, largest_difference=largest_difference, files=files)
    graph = program.capability(Export).graph()  # type: ignore[type-abstract]
    with folder(out) as partial:
        for name, content in graph.assets.items():
            (partial / name).write_bytes(content)
        if graph.labels:
            (partial / "labels.json").write_text(_labels(graph), encoding="utf-8")
        largest_difference = _write_onnx(program, graph, partial)
        files = tuple(sorted(file.name for file in partial.iterdir()))
    return Exported(path=out, checked=1 + len(graph.samples), largest_difference=largest_difference, files=files)


def _labels(graph: Graph) -> str:
    return json.dumps(list(graph.labels), ensure_ascii=False)


def _write_onnx(program: Program, graph: Graph, into: Path) -> float:
    """Write model.onnx and README.md, and return the largest difference from the program's answers."""
    # Asked for first: a missing library is then said before minutes of work.
    session_class = resolve("onnxruntime:InferenceSession")
    resolve("onnxscript.optimizer:fold_constants")
    facts = {"task": program.task.name, "program": program.id, "sw2": version("sw2")}
    path = into / "model.onnx"
    _save_onnx(graph, {**facts, **({"labels": _labels(graph)} if graph.labels else {})}, path)
    try:
        session = session_class(str(path), providers=["CPUExecutionProvider"])
        largest, shapes = _largest_difference(graph, session)
    except Exception as error:  # the errors of ONNX Runtime share no other class
        if not type(error).__module__.startswith("onnxruntime."):
            raise
        raise ProgramError(
            "The exported file does not run in ONNX Runtime.", where=program.path, got=str(error).splitlines()[0]
        ) from error
    if not largest <= TOLERANCE:
        raise ProgramError(
            "The exported file does not answer as the program does.",
            where=program.path,
            wanted=f"differences of at most {TOLERANCE:.0e}",
            got=f"{largest:.1e}, for inputs of shape {shapes}",
            do="Write the network without choices that depend on the shape of its input.",
        )
    (into / "README.md").write_text(_readme(graph, facts, session, largest), encoding="utf-8")
    return largest


def _save_onnx(graph: Graph, metadata: Mapping[str, str], path: Path) -> None:
    from onnxscript import ir, optimizer

    tensors = [*graph.module.parameters(), *graph.module.buffers()]
    if (size := sum(tensor.numel() * tensor.element_size() for tensor in tensors)) > _MOST_BYTES:
        raise ProgramError(
            "This program is too large for one ONNX file.",
            wanted=f"weights of at most {_MOST_BYTES / 1e9:.2f} GB",
            got=f"{size / 1e9:.2f} GB",
        )
    with _quiet():
        try:
            exported = torch.onnx.export(
                graph.module,
                tuple(graph.inputs.values()),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=tuple(dict(graph.dynamic.get(name, {})) for name in graph.inputs),
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ProgramError(
                "This program cannot be written as ONNX.",
                wanted="a network of operations that torch's ONNX exporter knows",
                got=str(error.__cause__ or error).strip().splitlines()[0],
            ) from error
        assert exported is not None
        model = exported.model
        optimizer.fold_constants(model)
        optimizer.remove_unused_nodes(model)
        # A weight and the output of an operation may both be called "mean".
        ir.passes.common.NameFixPass()(model)
        ir.passes.common.ClearMetadataAndDocStringPass()(model)
        model.metadata_props.update(metadata)
        ir.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence for remarks about the insides of the exporter, which its users cannot act on: the file is checked."""
    before = logging.root.manager.disable
    hidden = io.StringIO()  # it prints, too
    with warnings.catch_warnings(), contextlib.redirect_stdout(hidden), contextlib.redirect_stderr(hidden):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def _largest_difference(graph: Graph, session: Any) -> tuple[float, list[list[int]]]:
    """The largest difference over all inputs that the graph names, and the shapes of the input that showed it."""
    worst, shapes = 0.0, [list(tensor.shape) for tensor in graph.inputs.values()]
    for arguments in (tuple(graph.inputs.values()), *graph.samples):
        with torch.inference_mode():
            answer = graph.module(*arguments)
        wanted = [answer] if isinstance(answer, Tensor) else list(answer)
        feed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, arguments, strict=True)}
        got = session.run(list(graph.outputs), feed)
        difference = max(_difference(ours, theirs.numpy()) for ours, theirs in zip(got, wanted, strict=True))
        if difference > worst:
            worst, shapes = difference, [list(tensor.shape) for tensor in arguments]
    return worst, shapes


def _difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """`max |got - wanted| / max(1, max |wanted|)`; infinite where they cannot be compared."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return math.inf
    difference = np.abs(got.astype(np.float64) - wanted).max(initial=0.0)
    return float(difference / np.abs(wanted).max(initial=1.0)) if np.isfinite(difference) else math.inf


def _readme(graph: Graph, facts: Mapping[str, str], session: Any, largest_difference: float) -> str:
    def row(way: str, value: Any) -> str:
        kind = _TYPES.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
        return f"| {way} | {value.name} | {kind} | {' × '.join(map(str, value.shape))} |"

    rows = [
        *(row("in", value) for value in session.get_inputs()),
        *(row("out", value) for value in session.get_outputs()),
    ]
    return f"""\
# {facts["task"]}, for ONNX engines

`model.onnx` is the whole program, preprocessing included. To run it, save this as `example.py` in this folder:

```python
{graph.example}```

| | name | type | shape |
|---|---|---|---|
{chr(10).join(rows)}

- Checked in ONNX Runtime {version("onnxruntime")} on {1 + len(graph.samples)} inputs of different sizes; the largest
  difference from the program was {largest_difference:.1e}.
- ONNX opset {OPSET}, weights inside. Its metadata names the task, the program and, where there are any, the labels.
- Made by sw2 {facts["sw2"]} from the program `{facts["program"]}`.
"""
