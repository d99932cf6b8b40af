"""Trains the model of Sources/TrainIntegration in PyTorch, as scGPT writes its modules, and compares.

    scripts/testing/train-reference [--epochs N] [--width D] [--genes L] [--json FILE] ...

The Swift program trains one epoch and records its first parameters and, for every step, the masked cells,
the terms and the times. PyTorch starts from the same parameters and repeats the epoch on the same
cells and masks. Then the Swift program resumes for the next epoch, and so on: both are timed in turns. Only
the first parameters are shared.

With --ranks P, the Swift program runs on P ranks, and PyTorch trains once more on P processes of a gloo
group, which share the cells of each step and compute ECS with fastloss.torch.distributed. Both give the curve
of the one PyTorch process.

Exit code 1 if, in one of the first CHECKED_STEPS steps, a term differs by more than TOLERANCE. The learning
rate is 0.001 by default. At the program's own, 0.01, training amplifies rounding too much for any comparison:
with --control, PyTorch trains with one thread, too, and leaves PyTorch with two threads just as far.

The encoder embeds the tokens of every cell, the heads decode every token, the losses multiply masks into
predictions and targets, and the optimiser is torch.optim.Adam behind clip_grad_norm_. The graph is cut
between encoder, heads and losses, so that each part has a time of its own, forward and backward.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from peers import torch_written
from peers.problems import ECS_WEIGHT
from peers.quiet import LIMIT, Disturbance
from safetensors import safe_open
from scgpt_heads import BatchLabelEncoder, Classifier, ExpressionDecoder, InnerProductDecoder
from torch import Tensor, nn

#: The relative tolerance of each term. Every operation rounds differently, and training amplifies that.
TOLERANCE = 1e-3
CHECKED_STEPS = 50
BINS = 51
WELLS = 8
TERMS = ("MSE", "NLL", "MVC MSE", "MVC NLL", "ECS", "DAB", "relative error")
FASTLOSS, PYTORCH, CONTROL = "FastLoss", "PyTorch", "PyTorch, one thread"
RECORDED = ("targets", "mask", "wells", "terms", "seconds")
PARTS = ("encoder", "heads", "losses", "clipping and Adam")


class Model(nn.Module):
    """The compact encoder, and scGPT's heads. The names are those of the checkpoint."""

    def __init__(self, tokens: int, width: int, wells: int) -> None:
        super().__init__()
        self.encoder = BatchLabelEncoder(tokens, width)
        self.value_encoder = BatchLabelEncoder(BINS + 1, width)
        self.cell_encoder = Classifier(width, width, 1, nn.ReLU)
        self.batch_encoder = BatchLabelEncoder(wells, width)
        self.decoder = ExpressionDecoder(width, explicit_zeros=True, batch_labels=True)
        self.mvc_decoder = InnerProductDecoder(width, explicit_zeros=True, batch_labels=True, detach=False)
        self.grad_reverse_discriminator = Classifier(width, wells, 2, nn.LeakyReLU, strength=1.0)

    def encode(self, inputs: Tensor) -> dict[str, Tensor]:
        """The embedding of every token's gene, the cell embeddings, and the state of every token.

        Label 0 of a value is the mask, label 1 the value 0.
        """
        tokens = torch.arange(inputs.shape[1]).expand(inputs.shape)
        genes = self.encoder(tokens)["embeddings"]
        values = self.value_encoder((inputs + 1).long())["embeddings"]
        zero = self.value_encoder(torch.tensor([1]))["embeddings"]
        bound = genes * (values - zero) * (inputs > 0).unsqueeze(2)
        cell = self.cell_encoder(bound.sum(dim=1) / inputs.shape[1] ** 0.5)["logits"]
        return {"genes": genes, "cell": cell, "states": genes + values + cell.unsqueeze(1)}

    def decode(self, encoded: dict[str, Tensor], wells: Tensor) -> dict[str, Tensor]:
        batch = self.batch_encoder(wells)["embeddings"]
        expression = self.decoder(encoded["states"], batch)
        masked = self.mvc_decoder(encoded["cell"], encoded["genes"], batch)
        return {
            "gene": expression["predictions"],
            "gene_nonzero": expression["nonzeroProbabilities"],
            "cell": masked["predictions"],
            "cell_nonzero": masked["nonzeroProbabilities"],
            "logits": self.grad_reverse_discriminator(encoded["cell"])["logits"],
        }


def elastic(embedding: Tensor) -> Tensor:
    return torch_written.elastic({"embedding": embedding})


def terms(
    outputs: dict[str, Tensor],
    embedding: Tensor,
    batch: dict[str, Tensor],
    elastic: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """In the order of TERMS. The objective is the sum of all but the last."""
    values = batch["targets"], batch["mask"]
    return [
        torch_written.masked_mse(outputs["gene"], *values),
        torch_written.bernoulli_nll(outputs["gene_nonzero"], *values),
        torch_written.masked_mse(outputs["cell"], *values),
        torch_written.bernoulli_nll(outputs["cell_nonzero"], *values),
        ECS_WEIGHT * elastic(embedding),
        torch_written.cross_entropy({"logits": outputs["logits"], "labels": batch["wells"]}),
        torch_written.relative_error(outputs["gene"], *values),
    ]


class Clock:
    """The seconds of each part of a step."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.start = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self.start
        self.start = now


def cut(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same values as leaves of a new graph."""
    return {name: output.detach().requires_grad_() for name, output in outputs.items()}


def continue_backward(outputs: dict[str, Tensor], leaves: dict[str, Tensor]) -> None:
    torch.autograd.backward(list(outputs.values()), [leaves[name].grad for name in outputs])


class Ranks:
    """The processes that share the cells of a step: this one alone, or those of the default group."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def part(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """This process's cells, and their share of all."""
        cells = len(batch["wells"])
        own = slice(cells * self.rank // self.size, cells * (self.rank + 1) // self.size)
        return {name: values[own] for name, values in batch.items()}, (own.stop - own.start) / cells

    def elastic(self, embedding: Tensor) -> Tensor:
        if self.size == 1:
            return elastic(embedding)
        from fastloss.torch.distributed import elastic_cell_similarity

        return elastic_cell_similarity(embedding, torch_written.THRESHOLD, gradients="sum")

    def weighted(self, values: list[Tensor], share: float) -> list[Tensor]:
        """The process's part of each mean. ECS is that of all cells already."""
        return [value if name == "ECS" else share * value for name, value in zip(TERMS, values, strict=True)]

    def add(self, values: list[Tensor], parameters: list[nn.Parameter]) -> list[float]:
        """The terms of all cells; the gradients of the parameters become theirs, too."""
        if self.size > 1:
            for parameter in parameters:
                dist.all_reduce(parameter.grad)
            for name, value in zip(TERMS, values, strict=True):
                if name != "ECS":
                    dist.all_reduce(value.detach())
        return [value.item() for value in values]


def train_step(
    model: Model, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], ranks: Ranks
) -> tuple[list[float], list[float]]:
    """The terms and the seconds of a step."""
    batch, share = ranks.part(batch)
    clock = Clock()
    optimizer.zero_grad()
    clock.lap("clipping and Adam")
    encoded = model.encode(batch["inputs"])
    encoded_leaves = cut(encoded)
    clock.lap("encoder")
    outputs = model.decode(encoded_leaves, batch["wells"])
    output_leaves = cut(outputs)
    clock.lap("heads")
    values = terms(output_leaves, encoded_leaves["cell"], batch, ranks.elastic)
    values = ranks.weighted(values, share)
    torch.stack(values[:-1]).sum().backward()
    clock.lap("losses")
    continue_backward(outputs, output_leaves)
    clock.lap("heads")
    continue_backward(encoded, encoded_leaves)
    clock.lap("encoder")
    sums = ranks.add(values, list(model.parameters()))
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    clock.lap("clipping and Adam")
    return sums, list(clock.seconds.values())


class SwiftTraining:
    """The Swift program, one epoch after the other."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        self.folder = folder
        self.arguments = [
            *(options.swift, "--output", folder, "--record", f"{folder}/steps.safetensors"),
            *("--seed", str(options.seed), "--width", str(options.width), "--genes", str(options.genes)),
            *("--batch-size", str(options.batch_size), "--mask-ratio", str(options.mask_ratio)),
            *("--learning-rate", str(options.learning_rate), "--decay", str(options.decay)),
            *("--workers", str(options.threads), "--ranks", str(options.ranks)),
        ]

    def epoch(self, number: int) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """The parameters before an epoch, and the tensors RECORDED of its steps."""
        resume = ["--resume"] if number > 1 else []
        subprocess.run(
            [*self.arguments, "--epochs", str(number), *resume], stdout=subprocess.DEVNULL, check=True
        )
        with safe_open(f"{self.folder}/steps.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            count = int(file.metadata()["steps"])
        steps = [{name: tensors.pop(f"step.{step}.{name}") for name in RECORDED} for step in range(count)]
        return tensors, steps


def batch_of(step: dict[str, Tensor], genes: int) -> dict[str, Tensor]:
    """Cells as the Swift program masked them, after the token <cls> with value 0."""
    targets, mask = (step[name].reshape(-1, genes + 1) for name in ("targets", "mask"))
    inputs = targets.masked_fill(mask.bool(), -1)
    return {"targets": targets, "mask": mask.bool(), "inputs": inputs, "wells": step["wells"].long()}


class TorchTraining:
    """The same loop in PyTorch."""

    def __init__(self, options: argparse.Namespace, threads: int, ranks: Ranks | None = None) -> None:
        self.threads, self.ranks = threads, ranks or Ranks()
        self.model = Model(options.genes + 1, options.width, WELLS)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=options.learning_rate)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=options.decay)

    def epoch(self, batches: list[dict[str, Tensor]]) -> list[tuple[list[float], list[float]]]:
        """The terms and the seconds of every step."""
        torch.set_num_threads(self.threads)
        steps = [train_step(self.model, self.optimizer, batch, self.ranks) for batch in batches]
        self.scheduler.step()
        return steps


def train_on_rank(rank: int, options: argparse.Namespace, folder: str) -> None:
    """One process of a group: repeats all epochs, and the first one writes terms and seconds."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=options.ranks
    )
    parameters, epochs = torch.load(f"{folder}/epochs.pt")
    training = TorchTraining(options, max(1, options.threads // options.ranks), Ranks(rank, options.ranks))
    training.model.load_state_dict(parameters)
    steps = [step for batches in epochs for step in training.epoch(batches)]
    if rank == 0:
        pathlib.Path(folder, "ranks.json").write_text(json.dumps(steps))
    dist.destroy_process_group()


def train_on_ranks(
    options: argparse.Namespace,
    folder: str,
    parameters: dict[str, Tensor],
    epochs: list[list[dict[str, Tensor]]],
) -> list[Any]:
    """The terms and the seconds of every step on processes of a group."""
    torch.save((parameters, epochs), f"{folder}/epochs.pt")
    torch.multiprocessing.spawn(train_on_rank, (options, folder), nprocs=options.ranks)
    steps: list[Any] = json.loads(pathlib.Path(folder, "ranks.json").read_text())
    return steps


def train(options: argparse.Namespace, folder: str) -> tuple[dict[str, list[Any]], float]:
    """Terms and seconds of every step of every side; the share of the machine that others took."""
    swift = SwiftTraining(options, folder)
    peers = {PYTORCH: TorchTraining(options, options.threads)}
    if options.control:
        peers[CONTROL] = TorchTraining(options, 1)
    results: dict[str, list[Any]] = {FASTLOSS: [], **{name: [] for name in peers}}
    share = 0.0
    first: dict[str, Tensor] = {}
    epochs = []
    for epoch in range(1, options.epochs + 1):
        parameters, steps = swift.epoch(epoch)
        batches = [batch_of(step, options.genes) for step in steps]
        results[FASTLOSS] += [(step["terms"].tolist(), step["seconds"].tolist()) for step in steps]
        first = first or parameters
        epochs.append(batches)
        for name, peer in peers.items():
            if epoch == 1:
                peer.model.load_state_dict(parameters)
            with Disturbance([os.getpid()]) as others:
                results[name] += peer.epoch(batches)
            share = max(share, others.share)
    if options.ranks > 1:
        results[f"{PYTORCH}, {options.ranks} ranks"] = train_on_ranks(options, folder, first, epochs)
    return results, share


def time_table(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Medians over the steps, in Markdown."""

    def row(name: str, parts: slice) -> str:
        fast, slow = (1e3 * np.median(side[:, parts].sum(axis=1)) for side in (ours, theirs))
        return f"| {name} | {slow:.1f} ms | {fast:.1f} ms | {slow / fast:.1f}× |"

    return "\n".join(
        [
            f"| part of a step | {PYTORCH} | {FASTLOSS} | ratio |",
            "|---|---:|---:|---:|",
            *(row(name, slice(index, index + 1)) for index, name in enumerate(PARTS)),
            row("heads and losses", slice(1, 3)),
            row("whole step", slice(0, len(PARTS))),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swift", required=True, help="the program TrainIntegration; the script gives it")
    parser.add_argument("--epochs", type=int, default=5, help="of 10 steps by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--genes", type=int, default=765)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--mask-ratio", type=float, default=0.4)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--decay", type=float, default=0.95)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ranks", type=int, default=1, help="more than 1: train across ranks, too")
    parser.add_argument("--control", action="store_true", help="train with one thread of PyTorch, too")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        results, share = train(options, folder)
    terms_of = {name: np.array([terms for terms, _ in steps]) for name, steps in results.items()}
    seconds = {name: np.array([seconds for _, seconds in steps]) for name, steps in results.items()}
    reference = terms_of.pop(PYTORCH)
    differences = {name: np.abs(values / reference - 1)[:CHECKED_STEPS] for name, values in terms_of.items()}
    count = len(differences[FASTLOSS])
    print(f"terms of {PYTORCH}, each with the relative difference of {FASTLOSS}\n")
    print(f"{'step':>4}" + "".join(f"{name:>23}" for name in TERMS))
    for step, row in enumerate(differences[FASTLOSS]):
        pairs = zip(reference[step], row, strict=True)
        print(f"{step + 1:>4}" + "".join(f"{value:>15.4f}{difference:>8.0e}" for value, difference in pairs))
    print(f"\nlargest relative difference from {PYTORCH} in the first {count} steps\n")
    print(f"{'':<20}" + "".join(f"{name:>16}" for name in TERMS))
    for name, values in differences.items():
        print(f"{name:<20}" + "".join(f"{largest:>16.1e}" for largest in values.max(axis=0)))
    print(f"\nmedians of {len(reference)} steps, {options.threads} threads\n")
    print(time_table(seconds[FASTLOSS], seconds[PYTORCH]))
    if share > LIMIT:
        print(f"\nother processes took {share:.0%} of the machine: these times say little")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    # Written so that NaN fails.
    differences.pop(CONTROL, None)
    if not max(values.max() for values in differences.values()) <= TOLERANCE:
        print(f"\na term differs by more than {TOLERANCE:.0e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
