"""The scores are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from masklab.tasks.score import scores

answers = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60)
    )
)


@given(answers)
def test_scores_equal_scikit_learn(drawn):
    classes, pairs = drawn
    truth, predicted = np.array(pairs).T
    found = scores(truth, predicted, classes, usual=0)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    rare = list(range(1, classes))
    expected = metrics.f1_score(truth, predicted, labels=rare, average="micro", zero_division=0)  # type: ignore[arg-type]
    assert found["f1_rare"] == pytest.approx(expected)
    if classes == 2:
        assert found["matthews"] == pytest.approx(metrics.matthews_corrcoef(truth, predicted))
