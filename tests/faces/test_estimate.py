"""`sw2 plan --gpu` and `sw2.estimate`: a cluster that nobody has at hand."""

from __future__ import annotations

import importlib
import json

import pytest
from typer.testing import CliRunner

import sw2
from sw2.base.errors import UnknownName
from sw2.faces.cli import app

importlib.import_module("sw2.faces.cli.train_command")


def _said(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["plan", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_prints_what_the_function_says() -> None:
    arguments = ("text-generation", "--params", "65e9", "--tokens", "1.4e12", "--gpus", "2048", "--gpu", "a100-80")
    code, out, _ = _said(*arguments)
    assert code == 0
    assert "states sharded over 2,048" in out
    assert "utilisation: 0.463 of the peak" in out
    code, out, _ = _said(*arguments, "--json")
    facts = sw2.estimate("text-generation", params=65e9, tokens=1.4e12, gpus=2048, gpu="a100-80").facts
    assert json.loads(out)["days"] == facts["days"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text-generation", "--gpu", "a100-80"), "no --params"),
        (("text-generation", "--params", "1B"), "no --gpu"),
        (("--params", "1B", "--gpu", "a100-80"), "no TASK"),
        (("text-generation", "--params", "1B", "--gpu", "a10-80"), "Did you mean 'a100-80'?"),
        (("text-generation", "--params", "many", "--gpu", "a100-80"), "This is no number of parameters."),
        (("text-generation", "--params", "1B", "--tokens", "-3", "--gpu", "a100-80"), "This is no number of tokens."),
        (("text-generation", "notes/", "--params", "1B", "--gpu", "a100-80", "--seed", "3"), "DATA, --seed"),
        (("image-classification", "--params", "1B", "--gpu", "a100-80"), "There is no estimate for"),
        (("text-generation", "--params", "1B", "--gpu", "a100-80", "--set", "context=0"), "assumed.context"),
        (("text-generation", "--params", "1B", "--gpu", "a100-80", "--set", "prize=1"), "Did you mean 'assumed.price'"),
    ],
)
def test_mistakes_are_answered(arguments: tuple[str, ...], said: str) -> None:
    code, _, error = _said(*arguments)
    assert code == 2
    assert said in error


def test_a_gpu_nobody_knows_is_named() -> None:
    with pytest.raises(UnknownName, match="There is no GPU called 'tpu'"):
        sw2.estimate("text-generation", params="1B", gpu="tpu")
