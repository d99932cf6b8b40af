"""How a loss becomes a PyTorch operator.

Every loss computes its gradients in the same pass as its value, because the gradient of a scalar is only
scaled by what comes from above. So an operator returns the loss and the gradients; autograd keeps the
gradients and, in the backward pass, multiplies them by `grad_output`, or hands them on as they are where that
is 1.

Each exists twice:

- as a `torch.library` custom operator `torch.ops.fastloss.…`, with a fake kernel and registered autograd:
  what torch.compile, torch.export and fake tensors see;
- as a `torch.autograd.Function` that calls the library directly: what eager mode takes, because the
  dispatcher's way through a Python operator costs 11 µs more (measured: 27 µs against 16 µs for forward and
  backward of an empty operator), and a masked MSE of 64 × 1201 takes 14.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Operator"]

#: The loss, and what else comes out; then a gradient, or None, for every differentiable argument.
Outcome = tuple[tuple[Tensor, ...], Sequence[Tensor | None]]


class Once(torch.autograd.Function):
    """A gradient as it is, which refuses to be differentiated.

    PyTorch's once_differentiable refuses only where `grad_output` requires gradients, which that of a plain
    loss does not: a second derivative would lack a part without a word.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, input: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        raise RuntimeError(
            "FastLoss's losses can be differentiated once; PyTorch's own operations have second derivatives"
        )


class Direct(torch.autograd.Function):
    """Eager mode: one call of the library forward, at most a multiplication backward."""

    @staticmethod
    def forward(ctx: Any, operator: "Operator", *arguments: Any) -> Any:
        needs = ctx.needs_input_grad
        wanted = [needs[index + 1] for index in operator.differentiable]
        results, gradients = operator.compute(wanted, *arguments)
        ctx.operator = operator
        # Not by save_for_backward: their values are not used, only that they require gradients.
        ctx.inputs = [arguments[index] for index in operator.differentiable]
        ctx.save_for_backward(*gradients)
        ctx.set_materialize_grads(False)
        if len(results) == 1:
            return results[0]
        ctx.mark_non_differentiable(*results[1:])
        return results

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, *_: Any) -> Any:
        # On the CPU looking at a number is free, and most losses end in a sum with weight 1.
        unchanged = grad_output is not None and grad_output.item() == 1.0
        return None, *ctx.operator.chain(ctx.saved_tensors, ctx.inputs, grad_output, unchanged)


class Operator:
    """A loss as a function of tensors, differentiable in some of its arguments."""

    def __init__(
        self,
        name: str,
        arguments: str,
        differentiable: Sequence[int],
        compute: Callable[..., Outcome],
        fake: Callable[..., tuple[Tensor, ...]],
        results: int = 1,
    ) -> None:
        """
        name: of the custom operator, in the namespace `fastloss`.
        arguments: their schema, without the last one, which says which gradients are wanted.
        differentiable: the indices of the arguments that gradients are returned for.
        compute: takes the list of wanted gradients and the arguments.
        fake: takes the arguments; returns results of the right shapes. Checks what can be checked without
        data.
        results: how many tensors come before the gradients; the first is the loss, and the only
        differentiable one.
        """
        self.differentiable = tuple(differentiable)
        self.compute = compute
        #: How many arguments there are, without the last one of the schema.
        self.count = arguments.count(",") + 1
        self.results = results
        self.nothing = [False] * len(self.differentiable)
        outputs = ", ".join(["Tensor"] * (results + len(self.differentiable)))
        schema = f"({arguments}, bool[{len(self.differentiable)}] wanted) -> "
        alone = results == 1 and not self.differentiable
        schema += outputs if alone else f"({outputs})"

        def kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            found, gradients = compute(wanted, *values)
            if alone:
                return found[0]
            return (*found, *(torch.empty(0) if gradient is None else gradient for gradient in gradients))

        def fake_kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            if alone:
                return fake(*values)[0]
            gradients = (
                values[index].new_empty(values[index].shape) if flag else torch.empty(0)
                for index, flag in zip(self.differentiable, wanted, strict=True)
            )
            return (*fake(*values), *gradients)

        operator = torch.library.custom_op(
            f"fastloss::{name}", kernel, mutates_args=(), device_types="cpu", schema=schema
        )
        operator.register_fake(fake_kernel)
        operator.register_autograd(self.backward, setup_context=self.setup_context)
        self.dispatched = operator

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            ctx.mark_non_differentiable(output)
            return
        ctx.wanted = inputs[-1]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[1:])
        gradients = (
            gradient if flag else None
            for gradient, flag in zip(output[self.results :], ctx.wanted, strict=True)
        )
        ctx.save_for_backward(*gradients, *(inputs[index] for index in self.differentiable))

    def backward(self, ctx: Any, grad_output: Tensor | None, *_: Tensor | None) -> Any:
        half = len(self.differentiable)
        return *self.chain(ctx.saved_tensors[:half], ctx.saved_tensors[half:], grad_output, False), None

    def chain(
        self,
        gradients: Sequence[Tensor | None],
        inputs: Sequence[Tensor | None],
        grad_output: Tensor | None,
        unchanged: bool,
    ) -> list[Tensor | None]:
        """For every argument the gradient that the forward pass computed, times what comes from above."""
        places: list[Tensor | None] = [None] * self.count
        if grad_output is None:
            return places
        for index, gradient, input in zip(self.differentiable, gradients, inputs, strict=True):
            if gradient is None:
                continue
            if torch.is_grad_enabled():
                # create_graph=True: that the gradient depends on the input is recorded, to be refused later.
                gradient = Once.apply(gradient, input)  # type: ignore[no-untyped-call]
            places[index] = gradient if unchanged else gradient * grad_output
        return places

    def __call__(self, *arguments: Any) -> Any:
        """The loss, or the tuple of results where there are several."""
        wanted = self.nothing
        if torch.is_grad_enabled():
            wanted = [
                arguments[index] is not None and arguments[index].requires_grad
                for index in self.differentiable
            ]
        if not is_direct(arguments):
            outputs = self.dispatched(*arguments, wanted)
            results = (outputs,) if isinstance(outputs, Tensor) else outputs[: self.results]
        elif True in wanted:
            return Direct.apply(self, *arguments)  # type: ignore[no-untyped-call]
        else:
            results, _ = self.compute(wanted, *arguments)
        return results[0] if self.results == 1 else results


def is_direct(arguments: Sequence[Any]) -> bool:
    """Whether the tensors hold numbers that the library can read now: no tracing, no subclass."""
    if torch.compiler.is_compiling():
        return False
    for argument in arguments:
        kind = type(argument)
        if kind is not Tensor and kind is not torch.nn.Parameter and isinstance(argument, Tensor):
            return False
    return True
