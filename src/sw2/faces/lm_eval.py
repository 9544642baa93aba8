"""EleutherAI's `lm-eval` runs any program that can write, from its own command line or from Python.

    pip install lm-eval
    python -m sw2.faces.lm_eval run --model sw2 --model_args program=PROGRAM --tasks TASK

The second line is `lm_eval` itself with the model "sw2" in its list; everything else stands in its help. From Python:

    lm_eval.simple_evaluate(model=sw2.faces.lm_eval.model()(program="PROGRAM"), tasks=[...])

PROGRAM is a program's folder, a GGUF file, a Hugging Face folder or named weights. `install=True` beside it consents to
the download of named ones. What is asked of it, and by which conventions: `verbs.harness`.

The class is made on first use, so that sw2 does not need `lm-eval`.
"""

from __future__ import annotations

import functools
import importlib
import logging
from typing import TYPE_CHECKING, Any

from sw2.base.errors import MissingExtra, Sw2Error, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lm_eval.api.instance import Instance

__all__ = ["main", "model"]


@functools.cache
def model() -> type[Any]:
    """The class `Sw2(program, install=False)` of lm-eval's kind `LM`, registered there as "sw2".

    Raises:
        MissingExtra: lm-eval is not installed.
    """
    try:
        importlib.import_module("lm_eval.models")  # puts its own models in the list, which a first one would keep out
        from lm_eval.api.model import LM
        from lm_eval.api.registry import register_model
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "This needs the library 'lm_eval', which is not installed.",
            wanted="EleutherAI's evaluation harness",
            got=f"no module '{error.name}'",
            do="pip install lm-eval",
        ) from error

    from sw2.core.capabilities import Generate
    from sw2.faces.api import load
    from sw2.verbs.harness import Harness

    @register_model("sw2")
    class Sw2(LM):
        """A sw2 program.

        Args:
            program: its folder or name.
            install: whether packages with weights may be installed.
            batch_size, max_batch_size: for lm-eval; sw2 chooses its own.
            device: "cpu" or None.
        """

        def __init__(
            self,
            program: str,
            install: bool = False,
            batch_size: int | str | None = None,
            max_batch_size: int | None = None,
            device: str | None = None,
        ) -> None:
            super().__init__()
            del batch_size, max_batch_size
            if device not in (None, "cpu"):
                raise UsageError("Programs run on the CPU here.", wanted="--device cpu, or none", got=device)
            writer = load(str(program), install=install).capability(Generate)  # type: ignore[type-abstract]
            self._harness = Harness(writer)

        def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            del disable_tqdm
            return self._said(self._harness.loglikelihoods(each.args for each in requests))

        def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
            del disable_tqdm
            return self._harness.rolling(text for (text,) in (each.args for each in requests))

        def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
            del disable_tqdm
            return self._said(self._harness.texts([each.args for each in requests]))

        def _said(self, answers: list[Any]) -> list[Any]:
            if self._harness.cut:
                logging.getLogger("sw2").warning(
                    "%d contexts were too long and lost their beginning", self._harness.cut
                )
                self._harness.cut = 0
            return answers

    return Sw2


def main() -> None:
    """Run lm-eval's command line with the model "sw2" in its list."""
    try:
        model()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except Sw2Error as error:
        raise SystemExit(f"sw2: {error}") from error


if __name__ == "__main__":
    main()
