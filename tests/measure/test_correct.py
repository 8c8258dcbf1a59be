"""Which samples a classifier gets right."""

import numpy as np
import pytest

from penjing.core.errors import InvalidInput
from penjing.measure.correct import correct

SCORES = np.array([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]])


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize("run", [lambda x: SCORES[x], lambda x: (SCORES[x], x)], ids=["array", "tuple"])
def test_the_largest_score_is_the_answer(run, chunk):
    found = correct(run, np.array([0, 1, 2]), np.array([0, 0, 0]), chunk=chunk)
    assert found.tolist() == [True, False, True]


def test_progress_counts_samples():
    seen = []
    correct(lambda x: SCORES[x], np.array([0, 1, 2]), np.array([0, 0, 0]), chunk=2, progress=seen.append)
    assert seen == [2, 3]


@pytest.mark.parametrize(("x", "y"), [([], []), ([0, 1], [0]), ([0], [2]), ([0], [-1])])
def test_labels_that_do_not_fit_are_refused(x, y):
    with pytest.raises(InvalidInput):
        correct(lambda i: SCORES[i], np.array(x, int), np.array(y, int))


def test_scores_that_are_no_vector_per_sample_are_refused():
    with pytest.raises(InvalidInput, match="do not fit labels"):
        correct(lambda x: np.zeros((len(x), 2, 2)), np.array([0]), np.array([0]))
