"""The certificate of elastic cell similarity: it is reported, and it can be switched off."""

import pickle

import numpy as np
import pytest

import fastloss

ROWS, COLUMNS = 1_100, 4


@pytest.fixture
def cone() -> np.ndarray:
    """Rows round one axis, whose similarities are all proved to be positive."""
    rows = np.random.default_rng(5).uniform(-0.2, 0.2, (ROWS, COLUMNS)).astype(np.float32)
    rows[:, 0] = 1
    return rows


def test_the_loss_counts_its_certified_pairs(cone: np.ndarray) -> None:
    gradients = np.empty((2, *cone.shape), np.float32)
    certified = fastloss.elastic_cell_similarity(cone, gradient=gradients[0])
    computed = fastloss.elastic_cell_similarity(cone, certifies=False, gradient=gradients[1])
    assert (certified.certified_pairs, computed.certified_pairs) == (ROWS**2, 0)
    assert certified.selected_count == computed.selected_count == ROWS
    assert certified.value == pytest.approx(computed.value, rel=1e-6)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=0, atol=1e-5 * np.abs(gradients[1]).max())
    assert fastloss.elastic_cell_similarity(cone).certified_pairs == ROWS**2

    # One row that points elsewhere takes its block of rows out, and no other.
    cone[0] = -cone[0]
    some = fastloss.elastic_cell_similarity(cone).certified_pairs
    assert 0 < some < ROWS**2
    assert fastloss.elastic_cell_similarity(cone[:1_000]).certified_pairs == 0


def test_the_result_is_a_loss_value(cone: np.ndarray) -> None:
    loss = fastloss.elastic_cell_similarity(cone)
    value, count = loss
    assert isinstance(loss, fastloss.LossValue) and (value, count) == loss
    assert pickle.loads(pickle.dumps(loss)).certified_pairs == ROWS**2


def test_the_objective(cone: np.ndarray) -> None:
    certified = fastloss.TotalObjective({"ecs": 10.0}).evaluate(cell_embedding=cone)
    computed = fastloss.TotalObjective({"ecs": 10.0}, certifies=False).evaluate(cell_embedding=cone)
    assert (certified.certified_pairs, computed.certified_pairs) == (ROWS**2, 0)
    assert certified.total == pytest.approx(computed.total, rel=1e-6)
    with pytest.raises(fastloss.InvalidParameterError, match="certifies is 0; expected True or False"):
        fastloss.TotalObjective({"ecs": 10.0}, certifies=0).evaluate(cell_embedding=cone)  # type: ignore[arg-type]
