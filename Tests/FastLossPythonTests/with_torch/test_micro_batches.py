"""Gradient caching, as the article Across ranks shows it: micro-batches give the whole batch's gradient."""

import pytest
import torch

from fastloss.torch import contrastive_cell_embedding, elastic_cell_similarity


def model() -> torch.nn.Module:
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(9, 20), torch.nn.Tanh(), torch.nn.Linear(20, 8))


@pytest.mark.parametrize("counts", [[13], [5, 8], [1, 7, 5]])
@pytest.mark.parametrize("name", ["elastic", "contrastive"])
def test_micro_batches_have_the_gradient_of_the_batch(name: str, counts: list[int]) -> None:
    def loss(cells: torch.Tensor) -> torch.Tensor:
        if name == "elastic":
            return elastic_cell_similarity(cells, threshold=0.3)
        return contrastive_cell_embedding(cells, cells.roll(1, 1) + 0.1, temperature=0.2)

    batch = torch.randn(sum(counts), 9, generator=torch.Generator().manual_seed(4))
    whole = model()
    expected = loss(whole(batch))
    expected.backward()

    cached = model()
    parts = batch.split(counts)
    with torch.no_grad():
        cells = torch.cat([cached(part) for part in parts]).requires_grad_()
    value = loss(cells)
    value.backward()
    for part, gradient in zip(parts, cells.grad.split([len(part) for part in parts]), strict=True):
        cached(part).backward(gradient)

    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    for parameter, other in zip(cached.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-7)
