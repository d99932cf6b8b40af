"""Losses across the processes of a gloo group: those of one process, and errors that name a rank in time."""

import pathlib
import subprocess
import sys
import time

import pytest

#: What every process runs: its rank, the number of processes, a file to meet at, and the name of a scenario.
PROGRAM = """
import datetime, os, signal, sys, time, warnings
warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import fastloss
import fastloss.torch as single
import fastloss.torch.distributed as across

rank, size, place, scenario = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
fastloss.set_workers(1)
TIMEOUT = 6.0


def start():
    dist.init_process_group(
        "gloo", init_method="file://" + place, rank=rank, world_size=size,
        timeout=datetime.timedelta(seconds=60))


def distance(a, b):
    return float((a - b).double().norm() / b.double().norm().clamp_min(1e-300))


def near(a, b, bound=1e-6):
    assert a.shape == b.shape and distance(a, b) <= bound, (a.shape, b.shape, distance(a, b))


def batches():
    for counts in (
        [16] * size, [5 + 4 * r for r in range(size)], [[1, 40, 23, 2, 77][r % 5] for r in range(size)],
        [21 if r % 2 == 0 else 0 for r in range(size)], [13 if r == size - 1 else 0 for r in range(size)],
    ):
        first = sum(counts[:rank])
        yield sum(counts), slice(first, first + counts[rank])


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = torch.nn.Sequential(torch.nn.Linear(12, 24), torch.nn.Tanh(), torch.nn.Linear(24, 16))
        self.genes = torch.nn.Linear(16, 30)
        self.zero = torch.nn.Linear(16, 30)
        self.batch = torch.nn.Linear(16, 3)
        self.types = torch.nn.Linear(16, 4)

    def forward(self, cells):
        state = self.body(cells)
        genes, zero = self.genes(state), torch.sigmoid(self.zero(state))
        return {
            "mlm_output": genes, "mlm_zero_probs": zero,
            "mvc_output": genes * 2, "mvc_zero_probs": zero * 0.5,
            "cell_emb": state, "dab_output": self.batch(state), "cls_output": self.types(state),
            "second": torch.tanh(state + 0.1 * cells[:, :1]),
        }


def data(rows):
    random = torch.Generator().manual_seed(7)
    return (
        torch.randn(rows, 12, generator=random), torch.rand(rows, 30, generator=random).round(decimals=1),
        torch.rand(rows, 30, generator=random) < 0.4, torch.randint(0, 3, (rows,), generator=random),
        torch.randint(0, 4, (rows,), generator=random),
    )


def losses(module, output, target, mask, labels, types, **options):
    total = module.integration_loss(
        output, target, mask, labels, cell_type_labels=types, ecs_threshold=0.3, **options)
    return [
        module.elastic_cell_similarity(output["cell_emb"], 0.3, **options),
        module.contrastive_cell_embedding(output["cell_emb"], output["second"], 0.2, **options),
        total.total,
    ], total.terms


def same():
    for rows, own in batches():
        whole, parts = Model(), data(rows)
        expected, terms = losses(single, whole(parts[0]), *parts[1:])
        expected_sum = expected[0] * 2 + expected[1] * 3 + expected[2]
        expected_sum.backward()
        for gradients in ("mean", "sum"):
            model = DistributedDataParallel(Model()) if gradients == "mean" else Model()
            mine = [part[own] for part in parts]
            found, found_terms = losses(across, model(mine[0]), *mine[1:], gradients=gradients)
            for a, b in zip(found, expected):
                assert abs(float(a) - float(b)) <= 2e-7 * max(1, abs(float(b))), (a, b)
            for name, term in terms.items():
                assert abs(float(found_terms[name]) - float(term)) <= 2e-7 * max(1, abs(float(term))), name
            values = torch.stack([value.detach() for value in found])
            everyone = [torch.empty_like(values) for _ in range(size)]
            dist.all_gather(everyone, values)
            assert all(torch.equal(values, other) for other in everyone)
            (found[0] * 2 + found[1] * 3 + found[2]).backward()
            for (name, parameter), other in zip(model.named_parameters(), whole.parameters()):
                gradient = parameter.grad
                if gradients == "sum":
                    dist.all_reduce(gradient)
                near(gradient, other.grad, 2e-6)

        # Bitwise the same, run after run, and the gradients of the embeddings themselves.
        embeddings = torch.randn(rows, 16, generator=torch.Generator().manual_seed(5))
        second = torch.randn(rows, 16, generator=torch.Generator().manual_seed(6))
        for function, tensors, argument in (
            ("elastic_cell_similarity", [embeddings], 0.3),
            ("contrastive_cell_embedding", [embeddings, second], 0.2),
        ):
            runs = []
            for _ in range(3):
                leaves = [tensor[own].clone().requires_grad_() for tensor in tensors]
                loss = getattr(across, function)(*leaves, argument, gradients="sum")
                loss.backward()
                runs.append([loss.detach(), *(leaf.grad for leaf in leaves)])
            for run in runs[1:]:
                assert all(torch.equal(a, b) for a, b in zip(run, runs[0]))
            leaves = [tensor.clone().requires_grad_() for tensor in tensors]
            getattr(single, function)(*leaves, argument).backward()
            for gradient, leaf in zip(runs[0][1:], leaves):
                everyone = [None] * size
                dist.all_gather_object(everyone, gradient)
                near(torch.cat(everyone), leaf.grad)
            with torch.no_grad():
                assert torch.equal(
                    getattr(across, function)(*(tensor[own] for tensor in tensors), argument), runs[0][0])


def types():
    # Outputs of autocast: the losses and gradients of one process, and gradients in the outputs' type.
    rows, own = next(batches())
    made = Model()(data(rows)[0])
    kinds = (torch.bfloat16, torch.float16, torch.float32)
    for shift in range(len(kinds)):
        # Each output has a type of its own, so that those of a contrastive pair differ, too.
        output = {
            name: tensor.detach().to(kinds[(shift + place) % len(kinds)])
            for place, (name, tensor) in enumerate(made.items())
        }
        for kind in kinds:
            pair = {name: made[name].detach().to(kind) for name in ("cell_emb", "second")}
            for given in (output, output | pair):
                whole = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
                mine = {name: tensor[own].clone().requires_grad_() for name, tensor in given.items()}
                target, mask, labels, types = data(rows)[1:]
                expected, _ = losses(single, whole, target, mask, labels, types)
                found, _ = losses(
                    across, mine, target[own], mask[own], labels[own], types[own], gradients="sum")
                for a, b in zip(found, expected):
                    assert abs(float(a) - float(b)) <= 2e-7 * max(1, abs(float(b))), (a, b)
                for value in (expected, found):
                    (value[0] * 2 + value[1] * 3 + value[2]).backward()
                for name, tensor in mine.items():
                    other = whole[name].grad[own]
                    assert tensor.grad.dtype == tensor.dtype == other.dtype, name
                    # Two gradients that are each rounded, and summed in the type.
                    near(tensor.grad.double(), other.double(), 4 * torch.finfo(tensor.dtype).eps + 2e-6)


def raises(kind, text, call):
    begin = time.monotonic()
    try:
        call()
    except kind as error:
        assert text in str(error), str(error)
        assert time.monotonic() - begin < TIMEOUT + 3, time.monotonic() - begin
    else:
        raise AssertionError("no error")


def elastic(threshold=0.3, columns=8, **options):
    embeddings = torch.randn(20, columns, generator=torch.Generator().manual_seed(rank))
    return across.elastic_cell_similarity(
        embeddings.requires_grad_(), threshold, timeout=TIMEOUT, **options)


def disagree():
    different = rank == 1
    raises(fastloss.RanksDisagreeError, "rank 1 has 0.25 for threshold, but rank 0 has 0.5",
        lambda: elastic(0.25 if different else 0.5))
    raises(fastloss.RanksDisagreeError, "rank 1 has 4 for columns, but rank 0 has 8",
        lambda: elastic(columns=4 if different else 8))
    cells = torch.ones(3, 2)
    raises(fastloss.RanksDisagreeError, "rank 1 has 0.125 for temperature, but rank 0 has 0.5",
        lambda: across.contrastive_cell_embedding(cells, cells, 0.125 if different else 0.5))
    # The group stays usable: nobody was late.
    elastic()
    if different:
        raises(fastloss.ArrayError, "cell_emb is a torch.float64",
            lambda: across.elastic_cell_similarity(cells.double(), 0.3))
        raises(fastloss.InvalidParameterError, "threshold", lambda: elastic(3.0))
        raises(fastloss.FastLossError, "outputs has no",
            lambda: across.integration_loss({}, cells, cells > 0))
    else:
        raises(fastloss.RankFailedError, "rank 1 failed",
            lambda: across.elastic_cell_similarity(cells, 0.3))
        raises(fastloss.RankFailedError, "rank 1 failed", lambda: elastic(0.5))
        raises(fastloss.RankFailedError, "rank 1 failed",
            lambda: across.contrastive_cell_embedding(cells, cells))
    elastic()


def stays_away():
    elastic()
    if rank == 1:
        time.sleep(2 * TIMEOUT)
    else:
        raises(fastloss.RankFailedError, "rank 1 failed", elastic)


def ends():
    elastic()
    if rank == 1:
        os._exit(0)
    raises(fastloss.RankFailedError, "rank 1 failed", elastic)


def ends_in_the_middle():
    if rank == 1:
        finish = across.Communicator.finish
        across.Communicator.finish = lambda self, _: os._exit(0)
        elastic()
    raises(fastloss.RankFailedError, "rank 1 failed", elastic)


start()
globals()[scenario]()
if scenario in ("same", "types", "disagree"):
    dist.barrier()
    dist.destroy_process_group()
os._exit(0)
"""


def run(size: int, scenario: str, folder: pathlib.Path) -> None:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    meeting = folder / f"{scenario}-{size}"
    processes = [
        subprocess.Popen(
            [sys.executable, program, str(rank), str(size), meeting, scenario],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    deadline = time.monotonic() + 240
    try:
        for rank, process in enumerate(processes):
            output, _ = process.communicate(timeout=deadline - time.monotonic())
            assert process.returncode == 0, f"rank {rank}: {output}"
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_processes_give_what_one_gives(size: int, tmp_path: pathlib.Path) -> None:
    run(size, "same", tmp_path)


@pytest.mark.parametrize("size", [1, 3])
def test_types_of_outputs(size: int, tmp_path: pathlib.Path) -> None:
    run(size, "types", tmp_path)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_options_that_differ_and_arguments_that_are_wrong(size: int, tmp_path: pathlib.Path) -> None:
    run(size, "disagree", tmp_path)


@pytest.mark.parametrize("scenario", ["stays_away", "ends", "ends_in_the_middle"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_process_that_fails(size: int, scenario: str, tmp_path: pathlib.Path) -> None:
    run(size, scenario, tmp_path)
