"""Published sizes have the published counts; published runs come out as they were."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.core.estimate import Target
from sw2.domains.language.cluster import FITTED, GPUS, PETAFLOP_DAY, RUNS, estimate, fitted, operations, predict
from sw2.domains.language.decoder import parameter_count
from sw2.domains.language.shapes import PUBLISHED, SHAPES, gpt3, shape_for

# ------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_published_size_has_the_published_count(name: str) -> None:
    assert parameter_count(SHAPES[name]()) == pytest.approx(PUBLISHED[name], rel=0.01)


def test_every_published_size_has_a_count() -> None:
    assert SHAPES.keys() == PUBLISHED.keys()


@given(st.floats(min_value=8, max_value=14))
@settings(max_examples=30, deadline=None)
def test_a_shape_has_about_as_many_parameters_as_were_asked_for(power: float) -> None:
    config, _ = shape_for(10**power)
    assert parameter_count(config) == pytest.approx(10**power, rel=0.1)
    assert config.width == config.heads * config.attention.channels


def test_a_count_beside_a_published_one_takes_its_shape() -> None:
    config, origin = shape_for(65e9)
    assert (config.depth, config.width, config.heads, config.hidden, origin) == (
        80, 8192, 64, 22_016, "llama-65b as published",
    )  # fmt: skip


@pytest.mark.parametrize("parameters", [1e5, 1e16, math.nan])
def test_no_shape_for_absurd_counts(parameters: float) -> None:
    with pytest.raises(UsageError, match="No shape is known"):
        shape_for(parameters)


# ---------------------------------------------------------------------------------------------------- published runs


def test_operations_are_those_of_gpt3s_table() -> None:
    """Table D.1: 3,640 petaflop/s-days for 300 B tokens. It leaves attention out, which is 2.7 % here."""
    model, _ = operations(gpt3("175b"), 2048)
    assert 300e9 * model / PETAFLOP_DAY == pytest.approx(3640, rel=0.03)


@pytest.mark.parametrize("held_out", FITTED)
def test_each_fitted_run_is_predicted_by_the_other(held_out: str) -> None:
    other = [name for name in FITTED if name != held_out]
    assert predict(held_out, fitted(other)) == pytest.approx(RUNS[held_out].gpu_hours, rel=0.25)


@pytest.mark.parametrize("held_out", sorted(set(RUNS) - set(FITTED) - {"llama2-70b"}))
def test_runs_that_nothing_was_fitted_on_are_predicted(held_out: str) -> None:
    assert predict(held_out, fitted()) == pytest.approx(RUNS[held_out].gpu_hours, rel=0.25)


def test_the_miss_that_the_page_admits() -> None:
    real = RUNS["llama2-70b"].gpu_hours
    assert predict("llama2-70b", fitted()) == pytest.approx(1.33 * real, rel=0.01)
    assert predict("llama2-70b", fitted(), "off") == pytest.approx(0.99 * real, rel=0.01)


def test_llama_65b_takes_its_three_weeks() -> None:
    facts = estimate(Target(parameters="65e9", tokens="1.4e12", gpus=2048, gpu="a100-80")).facts
    assert facts["days"] == pytest.approx(21, rel=0.25)
    assert facts["gpu_hours"] == pytest.approx(facts["days"] * 24 * 2048)
    # Table 15 of the paper: 449 MWh, with the same watts and the same factor.
    assert facts["megawatt_hours"] == pytest.approx(449, rel=0.25)


# ------------------------------------------------------------------------------------------------------------- memory


def test_states_are_16_bytes_a_parameter_and_activations_32_widths_a_token() -> None:
    """ZeRO's section 3.1; Korthikanti et al.'s 34 without the two of dropout's masks, and without scores."""
    shape = gpt3("1.3b")
    memory = estimate(Target(parameters="gpt3-1.3b", gpus=1, gpu="a100-80")).facts["memory_per_gpu"]
    states = memory["weights"] + memory["gradients"] + memory["optimiser"]
    assert states == 16 * parameter_count(shape)
    assert memory["activations"] == 32 * shape.width * 2048 * shape.depth
    assert memory["total"] == pytest.approx(sum(value for name, value in memory.items() if name != "total"))


def test_what_fits_is_taken_and_what_does_not_says_why() -> None:
    facts = estimate(Target(parameters="bloom-176b", tokens="366B", gpus=384, gpu="a100-80")).facts
    taken = facts["layout"]
    assert taken == {
        "data_parallel": 384, "sharded": 384, "tensor_parallel": 1, "checkpointed": True, "rows_per_gpu_group": 5,
    }  # fmt: skip
    plain, sharded, checkpointed, *_ = facts["memory_of_layouts"]
    assert plain["why_not"].startswith("needs 2,8")
    assert sharded["why_not"].startswith("needs 100")
    assert checkpointed["why_not"] == ""
    assert checkpointed["total"] <= 0.9 * GPUS["a100-80"].memory


def test_matrices_are_divided_where_there_are_more_gpus_than_rows() -> None:
    small = Target(parameters="65e9", gpus=2048, gpu="a100-80", settings=["batch_tokens=1048576"])
    facts = estimate(small).facts
    assert facts["layout"]["tensor_parallel"] == 4
    assert "2,048 rows at once are more than the 1,048,576 tokens of a step" in str(facts["memory_of_layouts"])


def test_without_a_number_of_gpus_the_fewest_are_taken() -> None:
    target = Target(parameters="65e9", gpu="a100-80")
    fewest = estimate(target).facts["gpus"]
    with pytest.raises(UsageError, match=f"for instance --gpus {fewest}"):
        estimate(Target(parameters="65e9", gpu="a100-80", gpus=fewest // 2))


def test_tokens_are_those_of_chinchilla_unless_given() -> None:
    facts = estimate(Target(parameters="1B", gpu="a100-80")).facts
    assert facts["tokens"] == 20 * facts["parameters"]
    assert facts["best_parameters_for_this_compute"] == pytest.approx(facts["parameters"])


def test_assumptions_are_set_and_said() -> None:
    target = Target(parameters="1B", gpu="h100-80", settings=["price=3.5", "utilisation=0.4"])
    found = estimate(target)
    assert found.facts["utilisation"] == 0.4
    assert found.facts["dollars"] == pytest.approx(3.5 * found.facts["gpu_hours"])
    assert found.reasons["utilisation"] == "0.400 of the peak, set by hand"
    unset = estimate(Target(parameters="1B", gpu="h100-80")).reasons["utilisation"]
    assert "bloom-176b (0.432) and llama-65b (0.495); no published run on h100-80 is behind it" in unset
