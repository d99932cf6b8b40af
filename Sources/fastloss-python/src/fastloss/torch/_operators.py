"""Makes PyTorch operators of the losses.

A loss is a scalar, so its backward pass only scales the gradient. Every operator therefore computes its
gradients in the forward pass and returns them with the loss. Autograd saves them, and the backward pass
multiplies them by `grad_output`. It skips the multiplication if `grad_output` is 1 and the saved gradients
are released.

Every loss has two forms:

- a `torch.library` operator `torch.ops.fastloss.…`, with a fake kernel and registered autograd, for
  torch.compile, torch.export and fake tensors;
- a `torch.autograd.Function` around a direct call of the library, for eager mode. PyTorch's dispatcher would
  add 11 µs per forward and backward pass; a masked MSE of 64 × 1201 takes 14. Autograd functions in C++ are
  not part of LibTorch's stable ABI: they would need a wheel for every version of PyTorch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, contiguous_format, empty_like, float16, float32, is_grad_enabled, scalar_tensor
from torch._C import (
    _are_functorch_transforms_active,
    _get_tracing_state,
    _len_torch_dispatch_stack,
)
from torch.autograd import forward_ad

from .._library import NAMES, fail
from .._parameters import kind_of, real
from ..errors import ArrayError, FastLossError
from ._compatibility import define_operator, is_compiling, keeps_graph
from ._tensors import CPU, PLAIN, check_tensor, native, refuse_transforms, transforms_are_active

__all__ = ["Operator", "attach", "gradient_memory", "is_eager", "memory_like", "scalar"]

#: The loss and other results, and for every differentiable argument a gradient or None.
Outcome = tuple[tuple[Tensor, ...], Sequence[Tensor | None]]


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


class FastLoss(torch.autograd.Function):
    """A loss, with the tensors that it has been differentiated by as autograd's inputs.

    The loss and its gradients are computed before. Tensors that need no gradient are no inputs.
    """

    @staticmethod
    def forward(ctx: Any, loss: tuple[Tensor], gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        # Without save_for_backward: the backward pass uses only whether they require gradients.
        ctx.inputs = inputs
        ctx.save_for_backward(*gradients)
        ctx.set_materialize_grads(False)
        # In a tuple, so that it is a result and not an input.
        return loss[0]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> Any:
        gradients = ctx.saved_tensors
        # The test costs nothing on the CPU, and most losses end in a sum with weight 1. With
        # retain_graph=True the next pass needs the gradients; otherwise autograd releases them here, and they
        # become the caller's.
        if (
            native.is_one(grad_output)
            and not is_grad_enabled()
            and forward_ad._current_level < 0
            and not keeps_graph()
        ):
            return None, None, *gradients
        return None, None, *scaled(gradients, ctx.inputs, grad_output)


#: `apply` without its part in Python, which is for the transforms of torch.func.
attach: Callable[..., Tensor] = super(torch.autograd.Function, FastLoss).apply
# Autograd calls this method, which PyTorch defines as a search for `backward`.
FastLoss._backward_cls.apply = FastLoss.backward  # type: ignore[attr-defined]


def scaled(
    gradients: Sequence[Tensor | None], inputs: Sequence[Tensor | None], grad_output: Tensor | None
) -> list[Tensor | None]:
    """The gradients of the forward pass times `grad_output`."""
    if grad_output is None:
        return [None] * len(gradients)
    if is_grad_enabled():
        # create_graph=True: record the dependence on the input, so that a second derivative is an error.
        gradients = [
            None if gradient is None else Once.apply(gradient, input)  # type: ignore[no-untyped-call]
            for gradient, input in zip(gradients, inputs, strict=True)
        ]
    return [
        None if gradient is None or input is None else (gradient * grad_output).to(input.dtype)
        for gradient, input in zip(gradients, inputs, strict=True)
    ]


def gradient_type(tensor: Tensor) -> torch.dtype:
    """The type of a gradient before `grad_output` multiplies it; see `_losses` for float16."""
    return torch.bfloat16 if tensor.dtype is torch.bfloat16 else float32


# --- Eager mode ---------------------------------------------------------------------------------------------


def is_eager() -> bool:
    """Whether nothing but the result of a call counts: no compiler, tracer, transform or mode is watching."""
    return not (
        is_compiling()
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack()
        or _get_tracing_state()
        or forward_ad._current_level >= 0
    )


def memory_like(tensor: Tensor) -> Tensor | None:
    """Memory for a tensor's gradient, contiguous if `_native` reads the tensor; None if it needs none."""
    return gradient_memory(tensor) if tensor.requires_grad and is_grad_enabled() else None


def gradient_memory(tensor: Tensor) -> Tensor:
    """float32 for float16: see `_losses`."""
    return empty_like(tensor, dtype=float32) if tensor.dtype is float16 else empty_like(tensor)


def scalar(value: float) -> Tensor:
    return scalar_tensor(value, dtype=float32, device=CPU)


# --- Operators ----------------------------------------------------------------------------------------------


class Operator:
    """A loss as a function of tensors, differentiable with respect to some of its arguments."""

    def __init__(
        self,
        name: str,
        arguments: str,
        differentiable: Sequence[int],
        direct: Callable[..., Any] | None,
        call: Callable[..., Any],
        checked: Callable[..., tuple[Any, ...]],
        fake: Callable[..., tuple[Tensor, ...]],
        names_in_messages: Mapping[str, str] = NAMES,
        results: int = 1,
        constant: Sequence[str] = (),
    ) -> None:
        """
        name: the name of the custom operator, in the namespace `fastloss`.
        arguments: the schema of the arguments, without the last one, the flags of the requested gradients.
        differentiable: the indices of the arguments with gradients.
        direct: the whole operator in eager mode, for arguments that the library reads in place. Returns None
            for others, and if the library fails. None if the caller has tried.
        call: takes memory for each gradient or None, and the arguments. Returns what `_native` returns.
        checked: takes the arguments and returns those that the library can read, or raises.
        fake: takes the arguments and returns results of the same shapes. Checks everything except the data.
        names_in_messages: the C interface's names of parameters, with those here.
        results: the number of tensors before the gradients. The first is the loss, the only differentiable
            one.
        constant: the names of arguments without a gradient here, but with one in upstream.
        """
        self.differentiable = tuple(differentiable)
        self.direct = direct
        self.call = call
        self.checked = checked
        self.names_in_messages = names_in_messages
        kinds = [argument.split() for argument in arguments.split(", ")]
        self.names = [name for _, name in kinds]
        #: The tensors, which come first, with the types that the library reads directly, and the numbers.
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
        schema = f"({arguments}, bool[{len(self.differentiable) or ''}] wanted) -> "
        alone = results == 1 and not self.differentiable
        schema += outputs if alone else f"({outputs})"

        def kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            if transforms_are_active():
                # The only check in a direct call of the custom operator.
                refuse_transforms(zip(self.names, values, strict=True))
            found, gradients = self.compute(wanted, values)
            if alone:
                return found[0]
            return (*found, *(nothing() if gradient is None else gradient for gradient in gradients))

        def fake_kernel(*inputs: Any) -> Any:
            *values, wanted = inputs
            if alone:
                return fake(*values)[0]
            gradients = (
                values[index].new_empty(values[index].shape, dtype=gradient_type(values[index]))
                if flag
                else nothing()
                for index, flag in zip(self.differentiable, wanted, strict=True)
            )
            return (*fake(*values), *gradients)

        self.dispatched = define_operator(
            name, schema, kernel, fake_kernel, self.setup_context, self.backward
        )

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
        places: list[Tensor | None] = [None] * (len(self.names) + 1)
        gradients = scaled(ctx.saved_tensors[:half], ctx.saved_tensors[half:], grad_output)
        for index, gradient in zip(self.differentiable, gradients, strict=True):
            places[index] = gradient
        return tuple(places)

    def compute(self, wanted: Sequence[bool], arguments: Sequence[Any]) -> Outcome:
        """The results and the wanted gradients, in one call of the library."""
        checked = self.checked(*arguments)
        memory = self.memory(wanted, checked)
        result = self.call(memory, *checked)
        gradients = [
            None
            if gradient is None
            else gradient.view(arguments[index].shape).to(gradient_type(arguments[index]))
            for index, gradient in zip(self.differentiable, memory, strict=True)
        ]
        if type(result) is not tuple:
            if type(result) is int:
                fail(result, self.names_in_messages)
            raise ArrayError("a tensor has a form that libfastloss cannot read")
        loss = scalar(result[0])
        return ((loss,) if self.results == 1 else (loss, result[1])), gradients

    def memory(self, wanted: Sequence[bool], arguments: Sequence[Any]) -> list[Tensor | None]:
        """Contiguous memory for the wanted gradients."""
        return [
            empty_like(arguments[index], memory_format=contiguous_format) if flag else None
            for index, flag in zip(self.differentiable, wanted, strict=True)
        ]

    def __call__(self, *arguments: Any) -> Any:
        """The loss, or a tuple if there are several results."""
        if is_eager() and self.direct is not None:
            try:
                found = self.direct(*arguments)
            except (AttributeError, RuntimeError):
                # PyTorch's, for an argument that is no plain tensor.
                found = None
            if found is not None:
                return found
        return self.call_anything(arguments)

    def call_anything(self, arguments: Sequence[Any]) -> Any:
        """A call that converts the arguments, rejects them, or takes PyTorch's dispatcher."""
        if is_compiling():
            return self.dispatch(arguments, self.wanted(arguments))
        return self.call_in_place(arguments) if is_eager() else self.call_with_care(arguments)

    def call_in_place(self, arguments: Sequence[Any]) -> Any:
        """Eager mode with arguments that may have to be converted."""
        for index, kinds in self.tensors:
            if type(arguments[index]) not in kinds:
                return self.call_with_care(arguments)
        wanted = self.wanted(arguments)
        results, gradients = self.compute(wanted, arguments)
        if True in wanted:
            inputs = [
                arguments[index] for index, flag in zip(self.differentiable, wanted, strict=True) if flag
            ]
            computed = [gradient for gradient in gradients if gradient is not None]
            results = (attach(results[:1], computed, *inputs), *results[1:])
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
        if not is_grad_enabled():
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
