"""Scores and how sure they are. Numbers in, numbers out; numpy only.

Reading order: `classification` (accuracy to calibration), `agreement` (of people who label the same), `intervals`
(Wilson, bootstrap, paired bootstrap, Student), `text` (bits per byte, perplexity).
"""

from __future__ import annotations

from sw2.parts.metrics.agreement import cohen_kappa, krippendorff_alpha
from sw2.parts.metrics.classification import (
    PerClass,
    accuracy,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    macro_f1,
    per_class,
    top_k_accuracy,
)
from sw2.parts.metrics.intervals import Interval, bootstrap, paired_bootstrap, student, wilson
from sw2.parts.metrics.text import bits_per_byte, perplexity

__all__ = [
    "Interval",
    "PerClass",
    "accuracy",
    "bits_per_byte",
    "bootstrap",
    "cohen_kappa",
    "confusion_matrix",
    "expected_calibration_error",
    "krippendorff_alpha",
    "log_loss",
    "macro_f1",
    "paired_bootstrap",
    "per_class",
    "perplexity",
    "student",
    "top_k_accuracy",
    "wilson",
]
