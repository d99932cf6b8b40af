"""The custom operators: PyTorch's own checks of them, and torch.compile."""

from typing import Any

import pytest
import torch
from losses import METRIC, Loss, assert_gradients, every_loss, in_double, leaves
from torch._subclasses.fake_tensor import FakeTensorMode
from versions import opcheck

import fastloss
import fastloss.torch


def operator_arguments(loss: Loss, wanted: bool) -> tuple[Any, ...]:
    arguments = loss.arguments()
    count = {"masked_mse_loss": 2, "contrastive_cell_embedding": 2, "masked_relative_error": 0}.get(
        loss.name, 1
    )
    flags = [wanted and arguments[index].requires_grad for index in range(count)]
    return (*arguments, flags)


@every_loss
def test_opcheck(loss: Loss) -> None:
    opcheck(loss.operator.default, operator_arguments(loss, True))
    with torch.no_grad():
        opcheck(loss.operator.default, operator_arguments(loss, False))


def test_opcheck_of_the_metric() -> None:
    opcheck(METRIC.operator.default, operator_arguments(METRIC, False))


@every_loss
def test_compiled(loss: Loss) -> None:
    torch.compiler.reset()
    arguments = loss.arguments()
    doubles = in_double(arguments)

    def objective(*arguments: Any) -> torch.Tensor:
        # Operations around the loss, so that there is something to compile.
        first, *others = arguments
        return 2.5 * loss.function(first * 1.0, *others)

    compiled = torch.compile(objective, fullgraph=True)
    value, truth = compiled(*arguments), 2.5 * loss.reference(*doubles)
    assert value.item() == pytest.approx(truth.item(), rel=1e-6)
    assert_gradients(
        torch.autograd.grad(value, leaves(arguments)), torch.autograd.grad(truth, leaves(doubles))
    )
    with torch.no_grad():
        assert compiled(*arguments).item() == pytest.approx(truth.item(), rel=1e-6)


def test_compiled_metric_and_reversal() -> None:
    torch.compiler.reset()
    arguments = METRIC.arguments()

    def both(
        input: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        reversed_ = fastloss.torch.grad_reverse(input, 0.5)
        return fastloss.torch.masked_relative_error(input, target, mask), (reversed_ * reversed_).sum()

    metric, loss = torch.compile(both, fullgraph=True)(*arguments)
    assert not metric.requires_grad and metric == METRIC.function(*arguments)
    (gradient,) = torch.autograd.grad(loss, arguments[0])
    torch.testing.assert_close(gradient, -0.5 * 2 * arguments[0].detach())


@every_loss
def test_dispatched_second_derivatives_are_refused(loss: Loss) -> None:
    arguments = operator_arguments(loss, True)
    value = loss.operator.default(*arguments)[0]
    first = torch.autograd.grad(value, leaves(list(arguments)), create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(sum(gradient.sum() for gradient in first), leaves(list(arguments)))


@every_loss
def test_fake_tensors(loss: Loss) -> None:
    real = loss.arguments()
    with FakeTensorMode() as mode:
        arguments = [
            mode.from_tensor(argument) if isinstance(argument, torch.Tensor) else argument
            for argument in real
        ]
        value = loss.function(*arguments)
        assert value.shape == () and value.dtype == torch.float32
        with pytest.raises(fastloss.ArrayError):
            loss.function(arguments[0].double(), *arguments[1:])


@pytest.mark.parametrize("missing", [None, "mvc_zero_probs", "dab_output"])
def test_opcheck_of_the_integration_objective(missing: str | None) -> None:
    random = torch.Generator().manual_seed(4)
    names = (
        "mlm_output",
        "mlm_zero_probs",
        "mvc_output",
        "mvc_zero_probs",
        "cell_emb",
        "cls_output",
        "dab_output",
    )
    columns = dict.fromkeys(names[:4], 13) | {"cell_emb": 7, "cls_output": 4, "dab_output": 3}
    outputs = [
        None if name == missing else torch.rand(5, columns[name], generator=random).requires_grad_()
        for name in names
    ]
    weights = [1.0, 1.0, 1.0, 1.0, 10.0, 0.5, 2.0]
    opcheck(
        torch.ops.fastloss.integration.default,
        (
            *outputs,
            torch.randint(0, 5, (5, 13), generator=random).float(),
            torch.rand(5, 13, generator=random) < 0.5,
            torch.randint(0, 4, (5,), generator=random),
            torch.randint(0, 3, (5,), generator=random),
            weights,
            0.8,
            [output is not None for output in outputs],
        ),
    )
