"""Lines: programs that predict a number from the other numbers of a row. The template for a domain of your own.

What is asked: `tabular-regression`, a record of numbers in, a number out.

Shapes: N rows, F columns to learn from.

Reading order: `data` (where rows come from), `task` (what is asked, preprocessing, baseline, judging), `ridge` (the
model), `objective` (how it is learned), `presets` (which settings, and why). Measured results: README.md.
"""

from sw2.core.domain import DataEntry, Domain, ModelEntry, ObjectiveEntry, TaskEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="lines",
    summary="Programs that predict a number from the other numbers of a row.",
    tasks={
        "tabular-regression": TaskEntry(
            target="sw2_lines.task:Regression",
            recipe="sw2_lines.presets:recipe",
            summary="Which number belongs to these numbers?",
            models=("ridge",),
            data="diabetes",
        )
    },
    models={
        "ridge": ModelEntry(
            target="sw2_lines.ridge:Ridge",
            summary="A weighted sum of the columns.",
            source="Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634",
        )
    },
    objectives={
        "least-squares": ObjectiveEntry(
            target="sw2_lines.objective:LeastSquares",
            config="sw2_lines.objective:LearnConfig",
            summary="Ridge regression in closed form, one step.",
        )
    },
    runtimes={"predictor": "sw2_lines.task:Predictor"},
    data={
        "diabetes": DataEntry(
            task="tabular-regression", summary="442 patients, and their diabetes a year later.", licence="unknown"
        )
    },
)
