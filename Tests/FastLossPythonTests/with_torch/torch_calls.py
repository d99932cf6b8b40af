"""A call of every loss and head of fastloss.torch, forward and backward, in the form of `calls.py`.

The arguments are NumPy arrays, and the tensors share their memory: states, targets, masks, labels, and the
parameters of the heads. PyTorch allocates the gradients. The tests of bounds, repetitions, threads and `fork`
run through these calls as through those of NumPy.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from calls import Arrays, Call
from torch import Tensor, nn

import fastloss.torch as fl
from fastloss.torch import distributed, heads

# The test of bounds gives read-only memory.
warnings.filterwarnings("ignore", message="The given NumPy array is not writ")

#: Arguments that have no gradient.
CONSTANT = ("target", "target_values")


def bfloat16(array: Any) -> Any:
    """The upper halves of floats, as NumPy has no such type: `tensors_of` makes bfloat16 of them."""
    return (array.view(np.uint32) >> 16).astype(np.int16)


def tensor_of(name: str, array: Any) -> Tensor:
    tensor = torch.from_numpy(array)
    if tensor.dtype is torch.int16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.requires_grad_(name not in CONSTANT and tensor.is_floating_point())


def tensors_of(arrays: Arrays) -> dict[str, Tensor]:
    """Tensors in the memory of the arrays, leaves of their own."""
    return {name: tensor_of(name, array) for name, array in arrays.items()}


def loss_and_gradients(loss: Tensor, tensors: dict[str, Tensor]) -> tuple[Any, ...]:
    leaves = [tensor for tensor in tensors.values() if tensor.requires_grad]
    found = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else ()
    return tuple(each.detach().float().numpy() for each in (loss, *found) if each is not None)


def of_loss(name: str, loss: Callable[..., Tensor], inputs: Arrays) -> Call:
    def call(**arrays: Any) -> tuple[Any, ...]:
        tensors = tensors_of(arrays)
        return loss_and_gradients(loss(**tensors), tensors)

    return Call(name, call, inputs)


def of_head(name: str, make: Callable[[], Any], inputs: Arrays, random: np.random.Generator) -> Call:
    """The loss of a head. Its parameters are arguments, too, with their names."""
    parameters: Arrays = {
        key: (0.3 * random.standard_normal(value.shape)).astype(np.float32)
        for key, value in make().named_parameters()
    }

    def call(**arrays: Any) -> tuple[Any, ...]:
        # A module of its own: threads make the call at the same time.
        head, tensors = make(), tensors_of(arrays)
        for key in parameters:
            path, _, leaf = key.rpartition(".")
            tensors[key] = nn.Parameter(tensors[key].detach())
            setattr(head.get_submodule(path), leaf, tensors[key])
        result = head.loss(**{key: tensors[key] for key in inputs})
        total = result.total if isinstance(result, heads.DecoderLoss) else result
        assert type(total.grad_fn).__name__ == "FastLossBackward", "PyTorch's operations computed the loss"
        return loss_and_gradients(total, tensors)

    return Call(name, call, {**inputs, **parameters})


def calls_across_processes(**sizes: int) -> list[Call]:
    """The losses of `fastloss.torch.distributed`, in a group of one process."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    names = ("elastic_cell_similarity", "contrastive_cell_embedding", "integration_loss")
    return [call for call in calls(**sizes, losses=distributed) if call.name.startswith(names)]


def calls(
    rows: int = 6,
    columns: int = 10,
    masks: int = 3,
    cells: int = 5,
    width: int = 4,
    tokens: int = 7,
    losses: Any = fl,
) -> list[Call]:
    """Of the sizes: rows × columns of values, cells × tokens × width of token states; masks + 1 classes and
    batches. `losses` has the losses of embeddings and the objective."""
    random = np.random.default_rng(2)
    classes = masks + 1

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    def uniform(*shape: int) -> Any:
        return random.random(shape).astype(np.float32)

    def selection(*shape: int) -> Any:
        mask = random.random(shape) < 0.5
        mask[:, 0] = True
        return mask

    def labels(count: int) -> Any:
        return random.integers(0, classes, count)

    target = random.integers(0, 5, (rows, columns)).astype(np.float32)
    masked = {"target": target, "mask": selection(rows, columns)}
    values = {"input": normal(rows, columns), **masked}
    first, second = normal(cells, width), normal(cells, width)
    outputs = {
        "mlm_output": normal(rows, columns),
        "mlm_zero_probs": uniform(rows, columns),
        "mvc_output": normal(rows, columns),
        "mvc_zero_probs": uniform(rows, columns),
        "cell_emb": normal(rows, width),
        "cls_output": normal(rows, classes),
        "dab_output": normal(rows, classes),
    }
    others = {
        "target_values": target,
        "masked_positions": masked["mask"],
        "batch_labels": labels(rows),
        "cell_type_labels": labels(rows),
    }

    def integration(**tensors: Any) -> Tensor:
        constants = {name: tensors.pop(name) for name in others}
        return losses.integration_loss(tensors, **constants).total

    def elastic(cell_emb: Tensor) -> Tensor:
        return losses.elastic_cell_similarity(cell_emb, 0.3)

    def narrow(inputs: Arrays, *names: str) -> Arrays:
        return {**inputs, **{name: bfloat16(inputs[name]) for name in names}}

    pair = {"cell1": first, "cell2": second}

    found = [
        of_loss("masked_mse_loss", fl.masked_mse_loss, values),
        of_loss(
            "masked_mse_loss-float16",
            fl.masked_mse_loss,
            {**values, "input": values["input"].astype(np.float16)},
        ),
        of_loss("masked_mse_loss-bfloat16", fl.masked_mse_loss, narrow(values, "input")),
        of_loss(
            "criterion_neg_log_bernoulli",
            fl.criterion_neg_log_bernoulli,
            {"input": uniform(rows, columns), **masked},
        ),
        of_loss("masked_relative_error", fl.masked_relative_error, values),
        of_loss("cross_entropy", fl.cross_entropy, {"logits": normal(rows, classes), "labels": labels(rows)}),
        of_loss("elastic_cell_similarity", elastic, {"cell_emb": first}),
        of_loss("elastic_cell_similarity-bfloat16", elastic, {"cell_emb": bfloat16(first)}),
        of_loss("contrastive_cell_embedding", losses.contrastive_cell_embedding, pair),
        of_loss(
            "contrastive_cell_embedding-bfloat16", losses.contrastive_cell_embedding, narrow(pair, *pair)
        ),
        of_loss("integration_loss", integration, {**outputs, **others}),
        of_loss("integration_loss-bfloat16", integration, {**narrow(outputs, *outputs), **others}),
        of_loss(
            "integration_loss-float16",
            integration,
            {**{name: array.astype(np.float16) for name, array in outputs.items()}, **others},
        ),
    ]
    decoded = {
        "target": random.integers(0, 5, (cells, tokens)).astype(np.float32),
        "mask": selection(cells, tokens),
    }
    states, batch_emb = normal(cells, tokens, width), normal(cells, width)
    genes = {
        "gene_embs": normal(tokens + 2, width),
        "genes": random.integers(0, tokens + 2, (cells, tokens)),
    }
    found += [
        of_head("ExprDecoder", lambda: heads.ExprDecoder(width), {"x": states, **decoded}, random),
        of_head(
            "ExprDecoder-bfloat16",
            lambda: heads.ExprDecoder(width),
            {"x": bfloat16(states), **decoded},
            random,
        ),
        of_head(
            "ExprDecoder-zeros-batches",
            lambda: heads.ExprDecoder(width, True, True),
            {"x": states, "batch_emb": batch_emb, **decoded},
            random,
        ),
        of_head(
            "MVCDecoder-zeros-batches",
            lambda: heads.MVCDecoder(width, explicit_zero_prob=True, use_batch_labels=True),
            {"cell_emb": first, "batch_emb": batch_emb, **genes, **decoded},
            random,
        ),
    ]
    for style in ("inner product, detach", "concat query", "sum query"):
        found.append(
            of_head(
                f"MVCDecoder-{style}",
                lambda style=style: heads.MVCDecoder(width, style),
                {"cell_emb": first, "gene_embs": normal(tokens, width), **decoded},
                random,
            )
        )
    classified = {"x": first, "labels": labels(cells)}
    return [
        *found,
        of_head(
            "MVCDecoder-bfloat16",
            lambda: heads.MVCDecoder(width),
            {"cell_emb": bfloat16(first), "gene_embs": bfloat16(genes["gene_embs"][:tokens]), **decoded},
            random,
        ),
        of_head(
            "ClsDecoder-bfloat16",
            lambda: heads.ClsDecoder(width, classes),
            narrow(classified, "x"),
            random,
        ),
        of_head("ClsDecoder", lambda: heads.ClsDecoder(width, classes), classified, random),
        of_head(
            "AdversarialDiscriminator",
            lambda: heads.AdversarialDiscriminator(width, classes, reverse_grad=True),
            classified,
            random,
        ),
    ]
