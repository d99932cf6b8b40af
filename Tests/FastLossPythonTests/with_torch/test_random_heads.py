"""Random heads against PyTorch modules in float64: architectures, sizes, layouts, types, weights, and NaN
where nothing is selected.

No error may exceed that of the same modules in float32, there or near, by more than rounding.
`FASTLOSS_LONG_TESTS=1` asks for the long form, which scripts/verify runs.
"""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
import scgpt_heads
import test_heads
import torch
from repeated_calls import IS_LONG
from test_heads import CASES, Case
from torch import Tensor, nn
from torch.nn import functional as F

from fastloss.torch import heads

#: Seeds of one test, and how many tests there are.
SEEDS, BLOCKS = 10, 200 if IS_LONG else 4

#: Factors of the inputs. At one point alone, float32 may round a sum of cancelling terms right by chance.
POINTS = (1.0, 1 + 2.0**-9, 1 - 2.0**-9)

Gradients = dict[str, Tensor | None]
Outcome = tuple[list[Tensor], Gradients]


def named(outcome: Outcome) -> Gradients:
    return {**{f"loss {index}": loss for index, loss in enumerate(outcome[0])}, **outcome[1]}


def distance(value: Tensor, truth: Tensor) -> float:
    return (value.double() - truth).norm().item()


def assert_close(found: Outcome, points: list[tuple[Outcome, Outcome]], label: str) -> None:
    """points: in float64, and by the same operations in float32; of the inputs themselves, then near them.

    A gradient that is small among the others is a sum of terms that cancel, as a loss near 0 has.
    """
    expected = points[0][0]
    sizes = [gradient.norm().item() for gradient in expected[1].values() if gradient is not None]
    values = named(found)
    everywhere = [(named(truth), named(naive)) for truth, naive in points]
    assert all(results.keys() == values.keys() for pair in everywhere for results in pair), label
    for name, truth in named(expected).items():
        value = values[name]
        assert (value is None) == (truth is None), f"{label}: {name}"
        if value is None or truth is None:
            continue
        own = max(distance(naive[name], exact[name]) for exact, naive in everywhere)  # type: ignore[arg-type]
        others = 1.0 if name.startswith("loss ") else max(sizes)
        error = distance(value, truth)
        bound = 4 * own + 5e-6 * truth.norm().item() + 2e-6 * others + 1e-12
        assert error <= bound, f"{label}: {name}, {error} and {own}"


def in_another_layout(choice: random.Random, tensor: Tensor) -> Tensor:
    """The same numbers: contiguous, transposed in memory, or with gaps between the rows or in them."""
    layout = choice.randrange(4)
    if layout == 1:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == 2:
        return torch.cat([tensor, tensor], dim=-1)[..., : tensor.shape[-1]]
    if layout == 3:
        return torch.stack([tensor, tensor], dim=-1)[..., 0]
    return tensor


def outputs_in_float(case: Case) -> tuple[Any, Gradients, dict[str, Tensor]]:
    """The truth's operations in float32: the module, the inputs as leaves, and the outputs."""
    own = case.own.float()
    own.load_state_dict(case.module.state_dict())
    inputs = {name: value.clone().requires_grad_() for name, value in case.inputs.items()}
    return own, inputs, case.outputs(own, inputs)


def keep_off(predictions: Tensor, target: Tensor) -> None:
    """Moves targets near their predictions away from 0, until they are no nearer than 0.5.

    A small residual is a difference of large numbers: it has few correct digits, whoever computes it.
    """
    near = (predictions - target).abs() < 0.5
    target[near] += torch.where(target > 0, 1.0, -1.0)[near]


def written_in_float(case: Case) -> Outcome:
    own, inputs, outputs = outputs_in_float(case)
    target, mask = case.others["target"], case.others["mask"]
    losses = [test_heads.reference.masked_mse(outputs["predictions"], target, mask)]
    if "nonzeroProbabilities" in outputs:
        losses.append(test_heads.reference.bernoulli(outputs["nonzeroProbabilities"], target, mask))
    return losses, test_heads.gradients_of(losses, own, inputs)


def at_points(case: Case) -> list[tuple[Outcome, Outcome]]:
    scaled = (
        dataclasses.replace(case, inputs={name: factor * value for name, value in case.inputs.items()})
        for factor in POINTS
    )
    return [(test_heads.truth(point), written_in_float(point)) for point in scaled]


def poison(choice: random.Random, case: Case) -> None:
    """NaN or a huge number where the mask selects nothing: in targets, and in states of tokens."""
    outside = ~case.others["mask"]
    value = choice.choice([float("nan"), float("inf"), -3e38])
    case.others["target"][outside] = value
    for name in ("x", "gene_embs"):
        if name in case.inputs and case.inputs[name].dim() == 3:
            case.inputs[name][outside] = value


@pytest.mark.parametrize("block", range(BLOCKS))
def test_decoders(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        choice = random.Random(seed)
        sizes = {
            "CELLS": choice.choice([1, 2, 3, 8, 17]),
            "TOKENS": choice.choice([1, 2, 7, 31, 64, 130]),
            "WIDTH": choice.choice([1, 2, 5, 16, 33, 64]),
            "GENES": choice.choice([1, 3, 40]),
        }
        for name, value in sizes.items():
            monkeypatch.setattr(test_heads, name, value)
        weights = tuple(choice.choice([0.0, 1.0, -0.5, 40.0]) for _ in range(2))
        monkeypatch.setattr(test_heads, "WEIGHTS", weights)
        name = choice.choice(list(CASES))
        label = f"seed {seed}: {name}, {sizes}, weights {weights}"
        case = CASES[name]()
        case.others["target"] = 2 * case.others["target"] - 1
        for key in case.inputs:
            case.inputs[key] *= choice.choice([0.01, 1.0, 3.0])
        keep_off(outputs_in_float(case)[2]["predictions"].detach(), case.others["target"])
        mask = case.others["mask"]
        if choice.random() < 0.2:
            mask |= True
        elif not mask.any() or choice.random() < 0.1:
            mask &= False
            mask.view(-1)[choice.randrange(mask.numel())] = True
        points = at_points(case)
        poison(choice, case)
        case.inputs = {key: in_another_layout(choice, value) for key, value in case.inputs.items()}
        case.others["target"] = in_another_layout(choice, case.others["target"])
        mask = mask.to(choice.choice([torch.bool, torch.bool, torch.float32, torch.uint8, torch.int64]))
        case.others["mask"] = in_another_layout(choice, mask)
        assert_close(test_heads.run(case, case.module.loss), points, label)


CLASSIFIERS: dict[str, tuple[Callable[..., heads.ClsDecoder], Callable[[], nn.Module], float | None]] = {
    "ClsDecoder": (heads.ClsDecoder, nn.ReLU, None),
    "AdversarialDiscriminator": (heads.AdversarialDiscriminator, nn.LeakyReLU, None),
    "AdversarialDiscriminator, reversed": (
        lambda *sizes: heads.AdversarialDiscriminator(*sizes, reverse_grad=True),
        nn.LeakyReLU,
        1.0,
    ),
}


def written_classifier(
    module: heads.ClsDecoder, name: str, x: Tensor, labels: Tensor, kind: torch.dtype
) -> Outcome:
    _, activation, strength = CLASSIFIERS[name]
    own = scgpt_heads.Classifier(
        module.out_layer.in_features,
        module.out_layer.out_features,
        len(module._decoder) // 3,
        activation,
        strength,
    ).to(kind)
    own.load_state_dict(module.state_dict())
    leaf = x.to(kind).requires_grad_()
    loss = F.cross_entropy(own(leaf)["logits"], labels)
    return [loss], test_heads.gradients_of_total(loss, own, {"x": leaf})


@pytest.mark.parametrize("block", range(BLOCKS))
def test_classifiers(block: int) -> None:
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        choice = random.Random(seed)
        torch.manual_seed(seed)
        name = choice.choice(list(CLASSIFIERS))
        cells, width = choice.choice([1, 2, 9, 70]), choice.choice([1, 3, 16, 65, 256, 300])
        classes, layers = choice.choice([1, 2, 5, 33]), choice.choice([1, 2, 3, 5])
        label = f"seed {seed}: {name}, {cells} × {width} × {classes}, {layers} layers"
        module = CLASSIFIERS[name][0](width, classes, layers)
        x = choice.choice([0.01, 1.0, 30.0]) * torch.randn(cells, width)
        labels = torch.randint(0, classes, (cells,))
        labels[torch.rand(cells) < 0.3] = -100
        labels[choice.randrange(cells)] = choice.randrange(classes)
        points = [
            (
                written_classifier(module, name, factor * x, labels, torch.float64),
                written_classifier(module, name, factor * x, labels, torch.float32),
            )
            for factor in POINTS
        ]
        leaf: Any = in_another_layout(choice, x).detach().requires_grad_()
        loss = module.loss(leaf, labels.to(choice.choice([torch.int64, torch.int32])))
        found = [loss], test_heads.gradients_of_total(loss, module, {"x": leaf})
        assert_close(found, points, label)
