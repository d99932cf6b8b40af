"""The certificate of elastic cell similarity with PyTorch: counted apart, and switched off."""

import pytest
import torch

import fastloss
from fastloss.torch import certified_pairs, elastic_cell_similarity

ROWS, COLUMNS = 1_100, 4


@pytest.fixture
def cone() -> torch.Tensor:
    """Rows round one axis, whose similarities are all proved to be positive."""
    rows = 0.4 * torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(5)) - 0.2
    rows[:, 0] = 1
    return rows


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_certified_pairs(cone: torch.Tensor, kind: torch.dtype) -> None:
    cells = cone.to(kind).requires_grad_()
    assert certified_pairs(cells, 0.3) == ROWS**2
    assert cells.grad is None
    assert certified_pairs(cells[:1_000], 0.3) == 0
    with pytest.raises(fastloss.InvalidParameterError, match="threshold is 2"):
        certified_pairs(cells, 2.0)
    with pytest.raises(fastloss.ArrayError, match="cell_emb is None"):
        certified_pairs(None, 0.3)  # type: ignore[arg-type]


def test_pairs_are_certified_or_computed(cone: torch.Tensor) -> None:
    """The two sums round differently, which shows the one that ran, also through the dispatcher."""
    found = []
    for certifies in (True, False):
        cells = cone.clone().requires_grad_()
        loss = elastic_cell_similarity(cells, 0.3, certifies=certifies)
        loss.backward()
        assert cells.grad is not None
        direct, gradient = torch.ops.fastloss.elastic_cell_similarity(cone, 0.3, certifies, [True])
        assert torch.equal(direct, loss) and torch.equal(gradient, cells.grad)
        found.append((loss.detach(), cells.grad))
    (certified, its_gradient), (computed, gradient) = found
    torch.testing.assert_close(certified, computed, rtol=1e-6, atol=0)
    torch.testing.assert_close(its_gradient, gradient, rtol=0, atol=1e-5 * gradient.abs().max().item())
    assert not torch.equal(its_gradient, gradient)
    array = fastloss.elastic_cell_similarity(cone.numpy(), threshold=0.3, gradient=cone.numpy().copy())
    assert certified.item() == pytest.approx(array.value, rel=1e-7)


def test_certified_pairs_needs_eager_mode(cone: torch.Tensor) -> None:
    with pytest.raises(fastloss.FastLossError, match="eager mode only"):
        torch.func.vmap(lambda cells: certified_pairs(cells, 0.3))(cone[None])
