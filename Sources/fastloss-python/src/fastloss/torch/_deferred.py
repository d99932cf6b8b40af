"""Outputs of scGPT's decoders that are computed when something reads them, for `fastloss.patch_scgpt`.

In training, the losses are what reads a decoder's outputs, and they need the selected tokens alone. The model
is not told which these are. So its outputs are tensors that know how they are computed. A loss of FastLoss
computes the head and both losses of the selected tokens in one call. Any other operation computes all tokens,
with scGPT's own decoder, and sees a plain tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch.utils._pytree import tree_map

from .._library import fail
from ..errors import ArrayError, FastLossError
from ._compatibility import keeps_graph
from ._heads import memory, takes_values
from ._operators import Once, Operator
from ._tensors import CPU, as_float, contiguous, mask_like

__all__ = ["Deferred", "Step", "undeferred"]

#: The losses, in the order of the operators' terms.
TERMS = ("mse", "nzlp", "mre")


class Fused(torch.autograd.Function):
    """Both losses of a decoder and the relative error, with the gradients of their sum.

    Upstream adds the losses with equal weights. Other weights take a second call in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, head: "Head", target: Tensor, mask: Tensor, *inputs: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[3:]
        terms, gradients = head.call(target, mask, inputs, wanted, (1.0, 1.0))
        ctx.head, ctx.target, ctx.mask, ctx.wanted = head, target, mask, wanted
        ctx.set_materialize_grads(False)
        # The inputs, so that autograd sees if they change before a second call needs them.
        ctx.save_for_backward(*inputs, *gradients)
        error = terms[2].clone()
        ctx.mark_non_differentiable(error)
        return terms[0].clone(), terms[1].clone(), error

    @staticmethod
    def backward(ctx: Any, of_mse: Tensor | None, of_nzlp: Tensor | None, _: Tensor | None) -> Any:
        half = len(ctx.wanted)
        inputs, gradients = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        weights = [0.0 if arriving is None else arriving.item() for arriving in (of_mse, of_nzlp)]
        if not ctx.head.has_zeros:
            weights[1] = weights[0]
        factor, are_ours = weights[0], keeps_graph()
        if weights[0] != weights[1]:
            _, gradients = ctx.head.call(ctx.target, ctx.mask, inputs, ctx.wanted, weights)
            factor, are_ours = 1.0, False
        if factor == 1 and not are_ours and not is_grad_enabled():
            # Autograd releases the saved gradients after this pass, and they become the caller's.
            return None, None, None, *gradients
        if is_grad_enabled():
            # create_graph=True: a second derivative is an error.
            pairs = zip(gradients, inputs, strict=True)
            gradients = [
                None if one is None else Once.apply(one, input)  # type: ignore[no-untyped-call]
                for one, input in pairs
            ]
        return None, None, None, *[None if one is None else one * factor for one in gradients]


class Head:
    """The call of one decoder, without its inputs.

    The backward pass keeps it. It has no way to the losses, so that reference counting frees a step.
    """

    def __init__(self, operator: Operator, arguments: Sequence[Any], has_zeros: bool) -> None:
        self.operator, self.has_zeros = operator, has_zeros
        self.arguments = list(arguments)
        for index in operator.differentiable:
            self.arguments[index] = None
        self.places = operator.names.index("target"), operator.names.index("mask")

    def call(
        self,
        target: Tensor,
        mask: Tensor,
        inputs: Sequence[Tensor | None],
        wanted: Sequence[bool],
        weights: Sequence[float],
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """The terms, and the wanted gradients of the weighted sum."""
        arguments = [*self.arguments, *weights]
        for place, value in zip(self.places, (target, mask), strict=True):
            arguments[place] = value
        for index, input in zip(self.operator.differentiable, inputs, strict=True):
            arguments[index] = input
        gradients = [
            memory(input) if flag and input is not None else None
            for input, flag in zip(inputs, wanted, strict=True)
        ]
        result = self.operator.call(gradients, *arguments)
        if type(result) is int:
            fail(result, self.operator.names_in_messages)
        if result is None:
            raise ArrayError("a tensor has a form that libfastloss cannot read")
        terms: Tensor = result[1]
        return terms, gradients


class Step:
    """One decoder in one forward pass."""

    def __init__(
        self,
        operator: Operator,
        arguments: Sequence[Any],
        all_tokens: Callable[[], dict[str, Tensor]],
        decoder: torch.nn.Module,
        shape: torch.Size,
        has_zeros: bool,
    ) -> None:
        """
        arguments: those of the operator, with None for target and mask, without the weights.
        all_tokens: calls the decoder as scGPT does.
        """
        self.head = Head(operator, arguments, has_zeros)
        self.inputs = [arguments[index] for index in operator.differentiable]
        self.all_tokens, self.shape = all_tokens, shape
        self.decoder = decoder
        self.versions = [parameter._version for parameter in decoder.parameters()]
        #: An optimizer changes the parameters in place. Outputs that are read afterwards are still those of
        #: this pass.
        self.parameters = {name: parameter.detach().clone() for name, parameter in decoder.named_parameters()}
        self.outputs: dict[str, Tensor] | None = None
        self.losses: tuple[Tensor, ...] | None = None
        self.selection: tuple[Tensor, int, Tensor, int] | None = None

    def is_current(self) -> bool:
        return self.versions == [parameter._version for parameter in self.decoder.parameters()]

    def output(self, name: str) -> Tensor:
        """The output of all tokens."""
        outputs = self.outputs
        if outputs is None:
            outputs = self.all_tokens() if self.is_current() else self.of_earlier_parameters()
            if is_grad_enabled():
                self.outputs = outputs
        return outputs[name]

    def of_earlier_parameters(self) -> dict[str, Tensor]:
        """Without gradients: those that autograd would need have changed."""
        live = {name: parameter.data for name, parameter in self.decoder.named_parameters()}
        try:
            for name, parameter in self.decoder.named_parameters():
                parameter.data = self.parameters[name]
            with torch.no_grad():
                return self.all_tokens()
        finally:
            for name, parameter in self.decoder.named_parameters():
                parameter.data = live[name]

    def loss(self, term: str, target: Any, mask: Any) -> Tensor | None:
        """A loss of the selected tokens; None if it has to be computed from all of them."""
        if self.outputs is not None or not takes_values(target, mask) or target.shape != self.shape:
            return None
        if self.selection is None:
            if mask.shape != self.shape or not self.is_current():
                return None
            bools = mask_like("mask", mask, mask.shape, "target")
            with torch.enable_grad():
                values = contiguous("target", as_float(target))
                self.losses = Fused.apply(self.head, values, bools, *self.inputs)  # type: ignore[no-untyped-call]
            self.selection = target, target._version, mask, mask._version
        elif not self.has_selected(target, mask):
            return None
        assert self.losses is not None
        loss = self.losses[TERMS.index(term)]
        return loss if is_grad_enabled() else loss.detach()

    def has_selected(self, target: Tensor, mask: Tensor) -> bool:
        assert self.selection is not None
        before, version, mask_before, mask_version = self.selection
        return (
            before._version == version
            and mask_before._version == mask_version
            and (target is before or torch.equal(target, before))
            and (mask is mask_before or (mask.dtype == mask_before.dtype and torch.equal(mask, mask_before)))
        )


class Deferred(Tensor):
    """An output of a decoder, B × L. Every operation but FastLoss's losses computes it."""

    step: Step
    #: Its name among the decoder's outputs.
    output: str

    @staticmethod
    def __new__(cls, step: Step, name: str) -> "Deferred":
        made: Deferred = Tensor._make_wrapper_subclass(
            cls, step.shape, dtype=torch.float32, device=CPU, requires_grad=False
        )
        made.step, made.output = step, name
        return made

    # The base class does not take these arguments.
    def __init__(self, step: Step, name: str) -> None:
        pass

    def value(self) -> Tensor:
        return self.step.output(self.output)

    def loss(self, term: str, target: Any, mask: Any) -> Tensor | None:
        """A loss of the selected tokens; None if `value` is needed for it."""
        return self.step.loss(term, target, mask)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = tree_map(undeferred, (args, kwargs or {}))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise FastLossError(
            f"{func} reached an output of a patched scGPT model below PyTorch's Python interface; expected "
            f"an operation of torch, or undo() of the patch"
        )


def undeferred(value: Any) -> Any:
    """The plain tensor of a deferred one; other values as they are."""
    return value.value() if type(value) is Deferred else value
