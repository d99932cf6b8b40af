"""The losses in PyTorch's own operations, for any floating type: what autograd makes of them is the truth in
float64.

As scGPT and scFormer define them; a mask selects, and the clamp is float32's, because it is part of the loss.
"""

import torch
from peers.oracle import clamped
from torch import Tensor
from torch.nn import functional as F


def masked_mse(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return ((input - target)[mask] ** 2).sum() / mask.sum()


def bernoulli(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    p, z = clamped(input[mask]), target[mask] > 0
    return -torch.where(z, p.log(), torch.log1p(-p)).sum() / mask.sum()


def relative_error(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return ((input - target).abs() / (target + 1e-6))[mask].mean()


def elastic(cell_emb: Tensor, threshold: float, certifies: bool = True) -> Tensor:
    """Computes every pair, whatever `certifies` says: the certificate changes no more than the rounding."""
    normalized = F.normalize(cell_emb, eps=1e-12)
    pairs = (normalized @ normalized.T).fill_diagonal_(0)
    return (1 - (F.relu(pairs) - threshold) ** 2).mean()


def contrastive(cell1: Tensor, cell2: Tensor, temperature: float) -> Tensor:
    logits = F.normalize(cell1, eps=1e-8) @ F.normalize(cell2, eps=1e-8).T / temperature
    return F.cross_entropy(logits, torch.arange(len(cell1)))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)
