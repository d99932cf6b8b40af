"""Losses in the processes of a DataLoader."""

import subprocess
import sys


def test_workers_of_a_data_loader() -> None:
    """They are forked from a process that has used FastLoss, and compute the same."""
    program = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from torch.utils.data import DataLoader, Dataset
import fastloss, fastloss.torch as losses

fastloss.set_workers(4)
random = torch.Generator().manual_seed(1)
target = torch.rand(300, 200, generator=random)
mask = torch.rand(300, 200, generator=random) < 0.5
rows = torch.randn(8, 256, 64, generator=random)

class Rows(Dataset):
    def __len__(self):
        return len(rows)

    def __getitem__(self, index):
        return torch.stack([
            losses.elastic_cell_similarity(rows[index], 0.3),
            losses.contrastive_cell_embedding(rows[index], rows[index - 1]),
            losses.masked_mse_loss(target * index, target, mask),
            losses.cross_entropy(rows[index], torch.arange(256) % 64),
        ])

losses.masked_mse_loss(target * 2, target, mask)
loader = DataLoader(Rows(), num_workers=2, multiprocessing_context="fork", timeout=60)
found = torch.cat(list(loader))
assert found.shape == (8, 4)
assert torch.equal(found, torch.stack([Rows()[index] for index in range(8)])), found
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
