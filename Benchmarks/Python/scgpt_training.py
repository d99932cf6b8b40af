"""Trains scGPT's own TransformerModel on real cells, with its own losses and with FastLoss's, and compares.

    scripts/testing/train-scgpt [--steps N] [--timed N] [--cells B] [--genes L] [--width D] [--layers N]
                                [--frozen] [--json FILE]

The task is scGPT's integration of batches with its defaults: masked values and explicit zeros from the
decoder and from the cell embedding, ECS with threshold 0.8, batch labels behind a gradient reversal, dropout
0.2, Adam, gradients clipped to norm 1. The cells are those of Benchmarks/Data/pbmc68k, the GEM well standing
in for the batch. Every run starts from the same weights and draws the same random numbers:

    scgpt               its own losses
    patched             after fastloss.patch_scgpt()
    fused               all terms by one call of fastloss.torch.integration_loss
    scgpt, one thread   its own losses again, added up in another order: what rounding alone does to a loss
    curve

With --frozen, the encoder's parameters are not trained. --steps 0 leaves the curves out, --timed 0 the times.

Exit code 1 if the curve of a run with FastLoss leaves scGPT's by more than TOLERANCE.

The time of a step is measured in turns, scGPT's and patched, on the same batches: the whole step, and its
heads and losses, forward and backward, on the encoder's states, which are then leaves. The rest of a step is
the encoder, the clipping and Adam.

The time of the loss part is measured on the outputs of every step, taken as leaves: all terms, and their
gradients with respect to the outputs. scGPT's own ECS lies inside its model; for this time
`peers.torch_written` performs the same operations.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from light_scgpt import light_scgpt
from peers import torch_written
from peers.inputs import MASK_RATIO, cells
from peers.problems import ECS_WEIGHT, THRESHOLD
from peers.quiet import LIMIT, Disturbance
from torch import Tensor

import fastloss
import fastloss.torch

#: The relative tolerance of the total. Every operation rounds differently, and training amplifies that.
TOLERANCE = 1e-4
PAD_VALUE, MASK_VALUE = -2, -1
CLS, PAD = 0, 1
SPECIAL_TOKENS = 2


def batches(options: argparse.Namespace, steps: int) -> list[dict[str, Tensor]]:
    """Batches of cells of one well each, masked as scGPT masks them; the first token is <cls> with value
    0."""
    bins, wells = cells()
    random = np.random.default_rng(1)
    order = [int(well) for well in np.argsort(-np.bincount(wells))]
    result = []
    for step in range(steps):
        well = order[step % min(3, len(order))]
        members = np.flatnonzero(wells == well)
        chosen = random.choice(members, options.cells, replace=len(members) < options.cells)
        genes = random.permutation(bins.shape[1])[: options.genes]
        values = np.concatenate([np.zeros((len(chosen), 1), np.float32), bins[chosen][:, genes]], axis=1)
        # Exactly the ratio of the genes of each row, and never the <cls> token.
        mask = np.zeros(values.shape, dtype=bool)
        mask[:, 1:] = random.random((len(chosen), len(genes))).argsort(axis=1) < int(MASK_RATIO * len(genes))
        tokens = np.concatenate([[CLS], SPECIAL_TOKENS + genes])
        result.append(
            {
                "src": torch.from_numpy(np.tile(tokens, (len(chosen), 1))),
                "target": torch.from_numpy(values),
                "mask": torch.from_numpy(mask),
                "input": torch.from_numpy(np.where(mask, np.float32(MASK_VALUE), values)),
                "labels": torch.full((len(chosen),), well),
            }
        )
    return result


#: What --frozen does not train: the modules that `_encode` calls, and the embedding of the batches.
ENCODER = ("encoder", "value_encoder", "dsbn", "transformer_encoder", "batch_encoder")


def new_model(options: argparse.Namespace) -> Any:
    bins, wells = cells()
    torch.manual_seed(0)
    kind = light_scgpt().model.model.TransformerModel
    with contextlib.redirect_stdout(io.StringIO()):  # It prints how it normalises.
        model = kind(
            ntoken=SPECIAL_TOKENS + bins.shape[1],
            d_model=options.width,
            nhead=4,
            d_hid=options.width,
            nlayers=options.layers,
            vocab={"<cls>": CLS, "<pad>": PAD},
            dropout=0.2,
            pad_value=PAD_VALUE,
            do_mvc=True,
            do_dab=True,
            use_batch_labels=True,
            num_batch_labels=int(wells.max()) + 1,
            domain_spec_batchnorm=True,
            n_input_bins=51,
            ecs_threshold=THRESHOLD,
            explicit_zero_prob=True,
        )
    if options.frozen:
        for name in ENCODER:
            getattr(model, name).requires_grad_(False)
    return model


def new_optimizer(model: Any) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=1e-3, eps=1e-4)


def scgpt_loss(
    output: dict[str, Tensor], batch: dict[str, Tensor], elastic: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total as scGPT's integration adds it up, with the current functions of scgpt.loss."""
    loss = light_scgpt().loss
    values = batch["target"], batch["mask"]
    terms = {
        "mse": loss.masked_mse_loss(output["mlm_output"], *values),
        "nzlp": loss.criterion_neg_log_bernoulli(output["mlm_zero_probs"], *values),
        "mvc": loss.masked_mse_loss(output["mvc_output"], *values),
        "mvc_nzlp": loss.criterion_neg_log_bernoulli(output["mvc_zero_probs"], *values),
        "ecs": ECS_WEIGHT * elastic,
        "dab": torch.nn.functional.cross_entropy(output["dab_output"], batch["labels"]),
    }
    with torch.no_grad():
        metric = loss.masked_relative_error(output["mlm_output"], *values)
    return sum(terms.values(), torch.zeros(())), {**terms, "mre": metric}


def fused_loss(output: dict[str, Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return fastloss.torch.integration_loss(output, batch["target"], batch["mask"], batch["labels"])


def show_progress(run: str, step: int, steps: int, total: float, seconds: float) -> None:
    """Prints about ten lines per run to the standard error."""
    if step == steps or step % max(1, steps // 10) == 0:
        print(
            f"{run}: step {step} of {steps}, {seconds:.1f} s, total {total:.4f}", file=sys.stderr, flush=True
        )


def train(
    run: str,
    options: argparse.Namespace,
    fused: bool,
    each: Callable[[dict[str, Tensor], dict[str, Tensor]], None],
) -> Any:
    """One row per step with the total and every term, and the seconds of the steps."""
    began = time.perf_counter()
    model = new_model(options).train()
    optimizer = new_optimizer(model)
    curve, seconds = [], []
    for number, batch in enumerate(batches(options, options.steps)):
        torch.manual_seed(number)
        start = time.perf_counter()
        padding = batch["src"] == PAD
        output = model(batch["src"], batch["input"], padding, batch["labels"], MVC=True, ECS=not fused)
        if fused:
            total, terms = fused_loss(output, batch)
        else:
            total, terms = scgpt_loss(output, batch, output["loss_ecs"])
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        curve.append({"total": total.item(), **{name: term.item() for name, term in terms.items()}})
        seconds.append(time.perf_counter() - start)
        each(output, batch)
        show_progress(run, number + 1, options.steps, total.item(), time.perf_counter() - began)
    return curve, seconds


def time_steps(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """The seconds of whole steps, and of their heads and losses, of both ways in turns."""
    times: dict[str, dict[str, list[float]]] = {
        part: {"scgpt": [], "patched": []} for part in ("whole step", "heads and losses")
    }
    model = new_model(options).train()
    optimizer, encode = new_optimizer(model), model._encode

    def forward_and_backward(batch: dict[str, Tensor]) -> Tensor:
        padding = batch["src"] == PAD
        optimizer.zero_grad()
        output = model(batch["src"], batch["input"], padding, batch["labels"], MVC=True, ECS=True)
        total, _ = scgpt_loss(output, batch, output["loss_ecs"])
        total.backward()
        return total

    def whole(batch: dict[str, Tensor]) -> Tensor:
        total = forward_and_backward(batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return total

    def heads(batch: dict[str, Tensor], states: Tensor) -> Tensor:
        def kept(src: Tensor, *_: Any) -> Tensor:
            model.cur_gene_token_embs = model.encoder(src)
            return states.detach().requires_grad_(not options.frozen)

        model._encode = kept
        try:
            return forward_and_backward(batch)
        finally:
            model._encode = encode

    for number, batch in enumerate(batches(options, options.timed + 1)):
        with torch.no_grad():
            states = encode(batch["src"], batch["input"], batch["src"] == PAD, batch["labels"])
        for part, run in (
            ("whole step", whole),
            ("heads and losses", functools.partial(heads, states=states)),
        ):
            for way in ("scgpt", "patched") if number % 2 else ("patched", "scgpt"):
                with fastloss.patch_scgpt(strict=True) if way == "patched" else contextlib.nullcontext():
                    start = time.perf_counter()
                    total = run(batch)
                    seconds = time.perf_counter() - start
                # The first batch warms up.
                if number:
                    times[part][way].append(seconds)
                    show_progress(f"{part}, {way}", number, options.timed, total.item(), seconds)
    return times


def print_steps(times: dict[str, dict[str, list[float]]]) -> None:
    print(f"\nseconds, median of {len(times['whole step']['scgpt'])} steps in turns")
    print(f"    {'':<20}{'scgpt':>10}{'patched':>10}{'ratio':>8}")
    medians = {part: [statistics.median(values) for values in ways.values()] for part, ways in times.items()}
    for part, (own, patched) in medians.items():
        print(f"    {part:<20}{own:>10.3f}{patched:>10.3f}{own / patched:>7.1f}x")
    rest = [whole - heads for whole, heads in zip(*medians.values(), strict=True)]
    print(f"    {'the rest':<20}{rest[0]:>10.3f}{rest[1]:>10.3f}")


def time_loss_part(
    times: dict[str, list[float]], output: dict[str, Tensor], batch: dict[str, Tensor]
) -> None:
    """Adds the seconds of the losses, computed both ways in turn on the same outputs."""
    leaves = {
        name: value.detach().requires_grad_()
        for name, value in output.items()
        if name in ("mlm_output", "mlm_zero_probs", "mvc_output", "mvc_zero_probs", "cell_emb", "dab_output")
    }

    def own() -> Tensor:
        return scgpt_loss(leaves, batch, torch_written.elastic({"embedding": leaves["cell_emb"]}))[0]

    def patched() -> Tensor:
        with fastloss.patch_scgpt(strict=True):
            start = time.perf_counter()
            elastic = fastloss.torch.elastic_cell_similarity(leaves["cell_emb"], THRESHOLD)
            total = scgpt_loss(leaves, batch, elastic)[0]
            torch.autograd.grad(total, list(leaves.values()))
            times["patched"].append(time.perf_counter() - start)
        return total

    def timed(name: str, loss: Callable[[], Tensor]) -> None:
        start = time.perf_counter()
        torch.autograd.grad(loss(), list(leaves.values()))
        times[name].append(time.perf_counter() - start)

    for repetition in range(6):
        before = {name: len(values) for name, values in times.items()}
        timed("scgpt", own)
        patched()
        timed("fused", lambda: fused_loss(leaves, batch)[0])
        if repetition == 0:
            # The first call of a step warms up.
            for name, length in before.items():
                del times[name][length:]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--timed", type=int, default=4)
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()

    light_scgpt()
    torch.set_num_threads(options.threads)
    fastloss.set_workers(options.threads)
    with Disturbance([os.getpid()]) as others:
        steps = time_steps(options) if options.timed else None
    if steps:
        print_steps(steps)
        if others.share > LIMIT:
            print(f"other processes took {others.share:.0%} of the machine: these times say little")
    return compare_curves(options, steps) if options.steps else 0


def compare_curves(options: argparse.Namespace, steps: Any) -> int:
    """Trains in every way, and prints the curves, their differences, and the time of the loss part."""
    times: dict[str, list[float]] = {"scgpt": [], "patched": [], "fused": []}
    nothing = lambda output, batch: None  # noqa: E731
    curves: dict[str, Any] = {}
    seconds: dict[str, Any] = {}
    with Disturbance([os.getpid()]) as others:
        curves["scgpt"], seconds["scgpt"] = train(
            "scgpt", options, False, lambda output, batch: time_loss_part(times, output, batch)
        )
    with fastloss.patch_scgpt(strict=True) as patch:
        replaced = patch.replaced
        curves["patched"], seconds["patched"] = train("patched", options, False, nothing)
    curves["fused"], seconds["fused"] = train("fused", options, True, nothing)
    torch.set_num_threads(1)
    curves["scgpt, one thread"], seconds["scgpt, one thread"] = train(
        "scgpt, one thread", options, False, nothing
    )

    print("patch_scgpt() replaced", ", ".join(replaced))
    print(f"\n{'step':>4}" + "".join(f"{name:>20}" for name in curves))
    for step in range(options.steps):
        print(f"{step:>4}" + "".join(f"{curve[step]['total']:20.6f}" for curve in curves.values()))
    own = np.array([list(step.values()) for step in curves["scgpt"]])
    differences = {
        name: float(np.abs(np.array([list(step.values()) for step in curve]) / own - 1)[:, 0].max())
        for name, curve in curves.items()
        if name != "scgpt"
    }
    part = {name: statistics.median(values) for name, values in times.items()}
    print("\nlargest relative difference of the total from scgpt's")
    for name, difference in differences.items():
        print(f"    {name:<20}{difference:.1e}")
    print(
        f"\nloss part of a step, value and gradient, median of {len(times['scgpt'])}; a whole step takes "
        f"{1e3 * statistics.median(seconds['scgpt']):.0f} ms"
    )
    for name, value in part.items():
        print(f"    {name:<20}{1e3 * value:8.3f} ms   {part['scgpt'] / value:6.1f}x")
    if others.share > LIMIT:
        print(f"other processes took {others.share:.0%} of the machine: these times say little")
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "curves": curves,
                    "differences": differences,
                    "loss_part_seconds": part,
                    "step_seconds": seconds,
                    "timed_steps": steps,
                },
                indent=1,
            )
        )
    far = [name for name in ("patched", "fused") if not differences[name] <= TOLERANCE]
    if far:
        print(
            f"\nthe loss curve of {', '.join(far)} leaves scgpt's by more than {TOLERANCE:.0e}",
            file=sys.stderr,
        )
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
