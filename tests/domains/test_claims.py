"""Every claim that is registered: its quick form ends with a verdict, and its numbers fit its table."""

from __future__ import annotations

import pytest

from sw2.catalog import catalog
from sw2.core.task import Context


@pytest.mark.slow
@pytest.mark.parametrize("name", list(catalog().claims))
def test_the_quick_form_ends_with_a_verdict(name: str) -> None:
    result = catalog().claim(name)(Context(), False)
    assert result.verdict in ("holds", "does not hold", "undecided")
    assert result.plots
    assert all(len(row) == len(result.head) for row in result.rows)
