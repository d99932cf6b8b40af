"""Losses in the processes of a DataLoader, and in those of distributed training."""

import pathlib
import subprocess
import sys

import pytest

#: A module, because the workers of `spawn` import what they run. Every one of its processes prints nothing.
ROWS = """
import torch
from torch.utils.data import Dataset
import fastloss.torch as losses

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
"""

LOADER = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from torch.utils.data import DataLoader
import fastloss
from rows import Rows, losses, mask, target

if __name__ == "__main__":
    fastloss.set_workers(4)
    losses.masked_mse_loss(target * 2, target, mask)
    loader = DataLoader(Rows(), num_workers=2, multiprocessing_context=sys.argv[1], timeout=100)
    found = torch.cat(list(loader))
    assert found.shape == (8, 4)
    assert torch.equal(found, torch.stack([Rows()[index] for index in range(8)])), found
"""

#: Two processes train the same model on halves of each batch, and average their gradients. One process trains
#: it on whole batches. The mean of the halves' means is the mean of the batch, because the halves are of one
#: size and each row selects the same number of elements.
DISTRIBUTED = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
import fastloss.torch as losses

random = torch.Generator().manual_seed(1)
INPUTS = torch.randn(32, 12, generator=random)
TARGETS = torch.rand(32, 20, generator=random)
MASK = (torch.arange(20) % 4 < 2).expand(32, 20)


def new_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Tanh(), torch.nn.Linear(16, 20))


def train(model, loader, sampler=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        if sampler is not None:
            sampler.set_epoch(epoch)
        for inputs, targets, mask in loader:
            optimizer.zero_grad()
            losses.masked_mse_loss(model(inputs), targets, mask).backward()
            optimizer.step()
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    data = TensorDataset(INPUTS, TARGETS, MASK)
    sampler = DistributedSampler(data, num_replicas=2, rank=rank, shuffle=False)
    loader = DataLoader(data, batch_size=4, sampler=sampler)
    torch.save(train(DistributedDataParallel(new_model()), loader, sampler), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    folder = sys.argv[2]
    # FastLoss has been used in the parent.
    losses.masked_mse_loss(TARGETS * 2, TARGETS, MASK)
    mp.start_processes(process, args=(folder,), nprocs=2, start_method=sys.argv[1])
    alone = train(new_model(), DataLoader(TensorDataset(INPUTS, TARGETS, MASK), batch_size=8))
    first, second = (torch.load(f"{folder}/{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-6)
"""


def run(folder: pathlib.Path, program: str, *arguments: str) -> None:
    (folder / "rows.py").write_text(ROWS)
    (folder / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "program.py", *arguments], cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(tmp_path: pathlib.Path, method: str) -> None:
    """They compute what their parent does. `fork` copies a process that has used FastLoss."""
    run(tmp_path, LOADER, method)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_distributed_training(tmp_path: pathlib.Path, method: str) -> None:
    run(tmp_path, DISTRIBUTED, method, str(tmp_path))
