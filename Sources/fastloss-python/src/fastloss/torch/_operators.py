"""Makes PyTorch operators of the losses.

A loss is a scalar, so its backward pass only scales the gradient. Every operator therefore computes its
gradients in the forward pass and returns them with the loss. Autograd saves them, and the backward pass
multiplies them by `grad_output`. It skips the multiplication if `grad_output` is 1 and the saved gradients
are released.

Every loss has two forms:

- a `torch.library` custom operator `torch.ops.fastloss.…`, with a fake kernel and registered autograd, for
  torch.compile, torch.export and fake tensors;
- a `torch.autograd.Function` that calls the library directly, for eager mode. PyTorch's dispatcher would add
  11 µs per forward and backward pass; a masked MSE of 64 × 1201 takes 14.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import (
    _are_functorch_transforms_active,
    _get_tracing_state,
    _len_torch_dispatch_stack,
)
from torch._C._autograd import _get_current_graph_task_keep_graph
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

from .._parameters import kind_of, real
from ..errors import ArrayError, FastLossError
from ._tensors import CPU, check_tensor, refuse_transforms, transforms_are_active

__all__ = ["Operator"]

#: The loss and other results, and for every differentiable argument a gradient or None.
Outcome = tuple[tuple[Tensor, ...], Sequence[Tensor | None]]


#: The types whose tensors have no behaviour of their own.
PLAIN = frozenset({Tensor, torch.nn.Parameter})


class Once(torch.autograd.Function):
    """The identity on a gradient, with an error in place of a derivative.

    PyTorch's once_differentiable raises its error only if `grad_output` requires gradients. That of a plain
    loss does not, and a second derivative would silently lack a part.
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
    """Eager mode: one call of the library forward, and at most one multiplication backward."""

    @staticmethod
    def forward(ctx: Any, operator: "Operator", *arguments: Any) -> Any:
        needs = ctx.needs_input_grad
        wanted = [needs[index + 1] for index in operator.differentiable]
        results, gradients = operator.compute(wanted, *arguments)
        ctx.operator = operator
        # Without save_for_backward: the backward pass uses only whether they require gradients.
        ctx.inputs = [arguments[index] for index in operator.differentiable]
        ctx.save_for_backward(*gradients)
        ctx.set_materialize_grads(False)
        if len(results) == 1:
            return results[0]
        ctx.mark_non_differentiable(*results[1:])
        return results

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, *_: Any) -> Any:
        return None, *ctx.operator.chain(ctx.saved_tensors, ctx.inputs, grad_output, is_one(grad_output))


def is_one(grad_output: Tensor | None) -> bool:
    """Whether the backward pass can skip the multiplication.

    On the CPU the test costs nothing, and most losses end in a sum with weight 1.

    False if autograd records the multiplication, or if the tensor is not a plain number.
    """
    return (
        type(grad_output) is Tensor
        and not torch.is_grad_enabled()
        and not transforms_are_active()
        # is_grads_batched=True
        and not is_legacy_batchedtensor(grad_output)
        and grad_output.item() == 1.0
    )


def handed_over(gradient: Tensor) -> Tensor:
    """A saved gradient as a result that the caller may change in place.

    Returns the gradient itself if autograd releases it after this pass. With retain_graph=True the next pass
    needs it, so this returns a copy.
    """
    kept = _get_current_graph_task_keep_graph()
    return gradient.clone() if kept else gradient


class Operator:
    """A loss as a function of tensors, differentiable with respect to some of its arguments."""

    def __init__(
        self,
        name: str,
        arguments: str,
        differentiable: Sequence[int],
        compute: Callable[..., Outcome],
        fake: Callable[..., tuple[Tensor, ...]],
        results: int = 1,
        constant: Sequence[str] = (),
    ) -> None:
        """
        name: the name of the custom operator, in the namespace `fastloss`. arguments: the schema of the
        arguments, without the last one, the flags of the requested gradients. differentiable: the indices of
        the arguments with gradients. compute: takes the flags of the requested gradients and the arguments.
        fake: takes the arguments and returns results of the same shapes. Checks everything except the data.
        results: the number of tensors before the gradients. The first is the loss, the only differentiable
        one. constant: the names of arguments without a gradient here, but with one in upstream.
        """
        self.differentiable = tuple(differentiable)
        self.compute = compute
        kinds = [argument.split() for argument in arguments.split(", ")]
        self.names = [name for _, name in kinds]
        #: The tensors, with the types that the library reads directly, and the numbers.
        self.tensors = [
            (index, PLAIN | {type(None)} if kind.endswith("?") else PLAIN)
            for index, (kind, _) in enumerate(kinds)
            if kind.startswith("Tensor")
        ]
        self.numbers = [(index, name) for index, (kind, name) in enumerate(kinds) if kind == "float"]
        self.constant = [self.names.index(name) for name in constant]
        self.results = results
        self.nothing = [False] * len(self.differentiable)
        outputs = ", ".join(["Tensor"] * (results + len(self.differentiable)))
        schema = f"({arguments}, bool[{len(self.differentiable)}] wanted) -> "
        alone = results == 1 and not self.differentiable
        schema += outputs if alone else f"({outputs})"

        def kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            if transforms_are_active():
                # The only check in a direct call of the custom operator.
                refuse_transforms(zip(self.names, values, strict=True))
            found, gradients = compute(wanted, *values)
            if alone:
                return found[0]
            return (*found, *(nothing() if gradient is None else gradient for gradient in gradients))

        def fake_kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            if alone:
                return fake(*values)[0]
            gradients = (
                values[index].new_empty(values[index].shape) if flag else nothing()
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
        """For every argument, the gradient of the forward pass times `grad_output`."""
        places: list[Tensor | None] = [None] * len(self.names)
        if grad_output is None:
            return places
        for index, gradient, input in zip(self.differentiable, gradients, inputs, strict=True):
            if gradient is None:
                continue
            if torch.is_grad_enabled():
                # create_graph=True: record the dependence on the input, so that a second derivative is an
                # error.
                gradient = Once.apply(gradient, input)  # type: ignore[no-untyped-call]
            places[index] = handed_over(gradient) if unchanged else gradient * grad_output
        return places

    def __call__(self, *arguments: Any) -> Any:
        """The loss, or a tuple if there are several results."""
        if torch.compiler.is_compiling():
            return self.dispatch(arguments, self.wanted(arguments))
        if (
            _are_functorch_transforms_active()
            or _len_torch_dispatch_stack()
            or _get_tracing_state()
            or forward_ad._current_level >= 0
        ):
            return self.call_with_care(arguments)
        for index, kinds in self.tensors:
            if type(arguments[index]) not in kinds:
                return self.call_with_care(arguments)
        wanted = self.wanted(arguments)
        if True in wanted:
            return Direct.apply(self, *arguments)  # type: ignore[no-untyped-call]
        results, _ = self.compute(wanted, *arguments)
        return results[0] if self.results == 1 else results

    def call_with_care(self, arguments: Sequence[Any]) -> Any:
        """A call with tensor subclasses, transforms or tracers: rejects it, or takes PyTorch's dispatcher.

        Tracers such as make_fx and fake tensors follow the dispatcher only. They would record the results of
        a direct call as constants.
        """
        if _get_tracing_state():
            raise FastLossError(
                "torch.jit.trace records PyTorch's operators and cannot record FastLoss's losses; expected "
                "eager mode, torch.compile or torch.export"
            )
        subclass = None
        for index, kinds in self.tensors:
            value = arguments[index]
            if type(value) not in kinds:
                check_tensor(self.names[index], value)
                subclass = f"{self.names[index]} is {kind_of(value)}"
        refuse_transforms(zip(self.names, arguments, strict=True))
        # Before the dispatcher raises an error of its own.
        for index, name in self.numbers:
            real(name, arguments[index])
        try:
            return self.dispatch(arguments, self.wanted(arguments))
        except (TypeError, NotImplementedError) as error:
            if subclass is None or isinstance(error, ArrayError):
                raise
            raise ArrayError(
                f"{subclass}, a tensor subclass without support for FastLoss's operators; expected a plain "
                f"torch.Tensor"
            ) from error

    def wanted(self, arguments: Sequence[Any]) -> list[bool]:
        """Whether the forward pass computes each gradient."""
        if not torch.is_grad_enabled():
            return self.nothing
        for index in self.constant:
            if arguments[index].requires_grad:
                raise ArrayError(
                    f"{self.names[index]} requires gradients, but FastLoss computes none for it; expected a "
                    f"tensor without, for example from .detach()"
                )
        return [
            arguments[index] is not None and arguments[index].requires_grad for index in self.differentiable
        ]

    def dispatch(self, arguments: Sequence[Any], wanted: list[bool]) -> Any:
        """The call through PyTorch's dispatcher, visible to tracers and subclasses."""
        outputs = self.dispatched(*arguments, wanted)
        results = (outputs,) if isinstance(outputs, Tensor) else outputs[: self.results]
        return results[0] if self.results == 1 else results


def nothing() -> Tensor:
    """The placeholder of a gradient that is not computed."""
    return torch.empty(0, dtype=torch.float32, device=CPU)
