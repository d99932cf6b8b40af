"""How a loss becomes a PyTorch operator.

Every loss computes its gradients in the same pass as its value, because the gradient of a scalar is only scaled by what
comes from above. So an operator returns the loss and the gradients; autograd keeps the gradients and, in the
backward pass, multiplies them by `grad_output`, or hands them on as they are where that is 1.

Each exists twice:

- as a `torch.library` custom operator `torch.ops.fastloss.…`, with a fake kernel and registered autograd: what
  torch.compile, torch.export, fake tensors and function transforms see;
- as a `torch.autograd.Function` that calls the library directly: what eager mode takes, because the dispatcher's way through
  a Python operator costs 11 µs more (measured: 27 µs against 16 µs for forward and backward of an empty operator),
  and a masked MSE of 64 × 1201 takes 14.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Operator"]

#: The loss, and what else comes out; then a gradient, or None, for every differentiable argument.
Outcome = tuple[tuple[Tensor, ...], Sequence[Tensor | None]]


def scaled(gradient: Tensor | None, grad_output: Tensor, unchanged: bool) -> Tensor | None:
    if gradient is None or unchanged:
        return gradient
    return gradient * grad_output


class Direct(torch.autograd.Function):
    """Eager mode: one call of the library in the forward pass, at most a multiplication in the backward pass."""

    @staticmethod
    def forward(ctx: Any, operator: "Operator", *arguments: Any) -> Any:
        needs = ctx.needs_input_grad
        results, gradients = operator.compute([needs[index + 1] for index in operator.differentiable], *arguments)
        ctx.operator = operator
        ctx.save_for_backward(*gradients)
        if len(results) == 1:
            return results[0]
        ctx.mark_non_differentiable(*results[1:])
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_output: Tensor | None, *_: Any) -> Any:
        operator: Operator = ctx.operator
        places: list[Tensor | None] = [None] * (operator.count + 1)
        if grad_output is not None:
            # On the CPU looking at a number is free, and most losses end in a sum with weight 1.
            unchanged = grad_output.item() == 1.0
            for index, gradient in zip(operator.differentiable, ctx.saved_tensors, strict=True):
                places[index + 1] = scaled(gradient, grad_output, unchanged)
        return tuple(places)


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
        fake: takes the arguments; returns results of the right shapes. Checks what can be checked without data.
        results: how many tensors come before the gradients; the first is the loss, and the only differentiable one.
        """
        self.differentiable = tuple(differentiable)
        self.compute = compute
        self.count = arguments.count(",") + 1
        self.results = results
        self.nothing = [False] * len(self.differentiable)
        outputs = ", ".join(["Tensor"] * (results + len(self.differentiable)))
        schema = f"({arguments}, bool[{len(self.differentiable)}] wanted) -> "
        schema += f"({outputs})" if self.differentiable or results > 1 else outputs

        def kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            found, gradients = compute(wanted, *values)
            return (*found, *(torch.empty(0) if gradient is None else gradient for gradient in gradients))

        def fake_kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
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

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.wanted = inputs[-1]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[self.results :])

    def backward(self, ctx: Any, *grad_outputs: Tensor | None) -> Any:
        if any(gradient is not None for gradient in grad_outputs[1:]):
            # The gradients are outputs, so a derivative of one of them arrives here.
            raise RuntimeError(
                "FastLoss's losses can be differentiated once; for second derivatives use PyTorch's own operations"
            )
        places: list[Tensor | None] = [None] * (self.count + 1)
        grad_output = grad_outputs[0]
        if grad_output is not None:
            for index, wanted, gradient in zip(self.differentiable, ctx.wanted, ctx.saved_tensors, strict=True):
                places[index] = gradient * grad_output if wanted else None
        return tuple(places)

    def __call__(self, *arguments: Any) -> Any:
        """The loss, or the tuple of results where there are several."""
        enabled = torch.is_grad_enabled()
        if is_direct(arguments):
            if enabled and any(
                arguments[index] is not None and arguments[index].requires_grad for index in self.differentiable
            ):
                return Direct.apply(self, *arguments)
            results, _ = self.compute(self.nothing, *arguments)
        else:
            wanted = [
                enabled and arguments[index] is not None and arguments[index].requires_grad
                for index in self.differentiable
            ]
            results = self.dispatched(*arguments, wanted)[: self.results]
        return results[0] if self.results == 1 else results


def is_direct(arguments: Sequence[Any]) -> bool:
    """Whether the tensors hold numbers that the library can read now: no tracing, no subclass, no transform."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return all(
        type(argument) is Tensor or type(argument) is torch.nn.Parameter or not isinstance(argument, Tensor)
        for argument in arguments
    )
