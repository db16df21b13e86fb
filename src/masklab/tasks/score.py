"""Scores of predicted classes: accuracy, macro-F1, Matthews' correlation (for two classes), F1 of the rarer labels.

The definitions, and so the numbers, are scikit-learn's.
"""

from collections.abc import Sequence

import numpy as np

Answers = Sequence[int] | np.ndarray  # (N,) class numbers


def scores(truth: Answers, predicted: Answers, classes: int, usual: int | None = None) -> dict[str, float]:
    """All that applies: `matthews` for two classes, `f1_rare` if one class, `usual`, is what mostly happens.

    scores([0, 0, 1, 1], [0, 1, 1, 1], 2) -> {"accuracy": 0.75, "macro_f1": 0.733, "matthews": 0.577}
    """
    table = confusion(truth, predicted, classes)
    found = {"accuracy": float(np.trace(table) / table.sum()), "macro_f1": macro_f1(table)}
    if classes == 2:
        found["matthews"] = matthews(table)
    if usual is not None:
        found["f1_rare"] = f1_without(table, usual)
    return found


def confusion(truth: Answers, predicted: Answers, classes: int) -> np.ndarray:
    """(classes, classes) int64: how often each true class (row) was called each class (column)."""
    pairs = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def macro_f1(table: np.ndarray) -> float:
    """The plain mean of the classes' F1; a class that neither occurs nor is predicted does not count."""
    right, total = np.diag(table), table.sum(0) + table.sum(1)
    return float(np.mean(2 * right[total > 0] / total[total > 0]))


def f1_without(table: np.ndarray, usual: int) -> float:
    """F1 over all labels but the usual one (micro-averaged): what tells taggers apart when most words are plain."""
    rest = np.arange(len(table)) != usual
    right, total = np.diag(table)[rest].sum(), table.sum(0)[rest].sum() + table.sum(1)[rest].sum()
    return float(2 * right / total) if total else 0.0


def matthews(table: np.ndarray) -> float:
    """Correlation of truth and prediction for two classes, -1 to 1; 0 if one of them is constant."""
    (a, b), (c, d) = table.astype(float)
    below = np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    return float((a * d - b * c) / below) if below else 0.0
