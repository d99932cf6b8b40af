"""The losses in eager mode: values, gradients, and what autograd may ask of them."""

from typing import Any

import pytest
import torch
from losses import METRIC, Loss, assert_gradients, every_loss, in_double, leaves
from torch import Tensor
from torch.autograd import forward_ad
from versions import HAS_KEEP_GRAPH

import fastloss
import fastloss.torch


@every_loss
def test_value_and_gradient_against_float64(loss: Loss) -> None:
    arguments = loss.arguments()
    doubles = in_double(arguments)
    value, truth = loss.function(*arguments), loss.reference(*doubles)
    assert value.dtype == torch.float32 and value.shape == ()
    assert value.item() == pytest.approx(truth.item(), rel=1e-6)
    assert_gradients(
        torch.autograd.grad(value, leaves(arguments)), torch.autograd.grad(truth, leaves(doubles))
    )


@every_loss
def test_gradient_against_central_differences(loss: Loss) -> None:
    """Of the float64 oracle, along a random direction: independent of autograd's own formulas."""
    arguments = loss.arguments()
    gradients = torch.autograd.grad(loss.function(*arguments), leaves(arguments))
    random = torch.Generator().manual_seed(5)
    step = 1e-6
    directions = [
        torch.randn(leaf.shape, generator=random, dtype=torch.float64) for leaf in leaves(arguments)
    ]
    if loss.name == "criterion_neg_log_bernoulli":
        # A step proportional to the distance from 0 and 1 stays between them.
        directions = [
            d * leaf.detach() * (1 - leaf.detach())
            for d, leaf in zip(directions, leaves(arguments), strict=True)
        ]

    def moved(sign: float) -> Tensor:
        pending = iter(directions)
        changed = [
            argument.detach() + sign * step * next(pending)
            if isinstance(argument, Tensor) and argument.requires_grad
            else argument
            for argument in in_double(arguments)
        ]
        return loss.reference(*changed)

    slope = ((moved(1) - moved(-1)) / (2 * step)).item()
    found = sum(
        (gradient.double() * d).sum().item() for gradient, d in zip(gradients, directions, strict=True)
    )
    assert found == pytest.approx(slope, rel=1e-4, abs=1e-7)


@every_loss
def test_incoming_gradient(loss: Loss) -> None:
    arguments = loss.arguments()
    plain = torch.autograd.grad(loss.function(*arguments), leaves(arguments))
    scaled = torch.autograd.grad(-2.5 * loss.function(*arguments), leaves(arguments))
    for one, other in zip(plain, scaled, strict=True):
        torch.testing.assert_close(other, -2.5 * one)


@every_loss
def test_used_twice(loss: Loss) -> None:
    arguments = loss.arguments()
    plain = torch.autograd.grad(loss.function(*arguments), leaves(arguments))
    value = loss.function(*arguments)
    both = torch.autograd.grad(value * 3 + value, leaves(arguments))
    for one, other in zip(plain, both, strict=True):
        torch.testing.assert_close(other, 4 * one)


@every_loss
def test_backward_twice_adds_up(loss: Loss) -> None:
    """The gradient that is handed on as it is must not be the memory that .grad accumulates in."""
    arguments = loss.arguments()
    value = loss.function(*arguments)
    value.backward(retain_graph=True)
    once = [leaf.grad.clone() for leaf in leaves(arguments)]  # type: ignore[union-attr]
    for leaf in leaves(arguments):
        leaf.grad.mul_(0.5)  # type: ignore[union-attr]
    value.backward()
    for leaf, gradient in zip(leaves(arguments), once, strict=True):
        torch.testing.assert_close(leaf.grad, 1.5 * gradient)


@every_loss
def test_a_second_pass_needs_the_graph(loss: Loss) -> None:
    """Without retain_graph=True the gradients belong to the caller of the first pass."""
    arguments = loss.arguments()
    value = loss.function(*arguments)
    first = torch.autograd.grad(value, leaves(arguments))
    before = [gradient.clone() for gradient in first]
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(value, leaves(arguments))
    for gradient, copy in zip(first, before, strict=True):
        assert torch.equal(gradient, copy)


@every_loss
def test_without_gradients(loss: Loss) -> None:
    arguments = loss.arguments()
    expected = loss.function(*arguments)
    with torch.no_grad():
        value = loss.function(*arguments)
    assert not value.requires_grad and value == expected.detach()
    with torch.inference_mode():
        assert loss.function(*arguments) == expected
    detached = [argument.detach() if isinstance(argument, Tensor) else argument for argument in arguments]
    assert not loss.function(*detached).requires_grad


@every_loss
def test_second_derivatives_are_refused(loss: Loss) -> None:
    arguments = loss.arguments()
    first = torch.autograd.grad(loss.function(*arguments), leaves(arguments), create_graph=True)
    # Also beside something that has a second derivative: it must not be taken for all of it.
    others = sum((leaf**2).sum() for leaf in leaves(arguments))
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(sum(gradient.sum() for gradient in first) + others, leaves(arguments))


@every_loss
def test_transforms_are_refused(loss: Loss) -> None:
    first, *others = loss.arguments()
    for transform in (torch.func.grad, torch.func.vmap, torch.func.jacrev, torch.func.jacfwd):
        with pytest.raises(fastloss.ArrayError, match=r"is a tensor of a transform of torch\.func"):
            transform(lambda first: loss.function(first, *others))(first.detach())


@every_loss
def test_forward_mode_is_refused(loss: Loss) -> None:
    """Not answered without a tangent, which would count as 0."""
    for index, argument in enumerate(loss.arguments()):
        if not isinstance(argument, Tensor) or not argument.is_floating_point():
            continue
        for wanted in (False, True):
            arguments = loss.arguments()
            with forward_ad.dual_level():
                # Beside tensors without a tangent.
                assert not forward_ad.unpack_dual(loss.function(*arguments)).tangent
                value = argument.detach().clone().requires_grad_(wanted)
                arguments[index] = forward_ad.make_dual(value, torch.ones_like(value))
                with pytest.raises(fastloss.ArrayError, match="has a tangent of forward-mode"):
                    loss.function(*arguments)
    first, *others = loss.arguments()
    with pytest.raises(fastloss.ArrayError, match=r"is a tensor of a transform of torch\.func"):
        torch.func.jvp(lambda first: loss.function(first, *others), (first.detach(),), (first.detach(),))


def test_forward_mode_is_refused_behind_the_dispatcher() -> None:
    input, target, mask = METRIC.arguments()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(input.detach(), torch.ones_like(input))
        with pytest.raises(fastloss.ArrayError, match="input has a tangent of forward-mode"):
            torch.ops.fastloss.masked_mse(dual, target, mask, [False, False])
        with pytest.raises(fastloss.ArrayError, match="x has a tangent of forward-mode"):
            fastloss.torch.grad_reverse(dual)
        with pytest.raises(fastloss.ArrayError, match="mlm_output has a tangent of forward-mode"):
            fastloss.torch.integration_loss(
                {"mlm_output": dual}, target, mask, explicit_zero_prob=False, gepc=False, ecs_threshold=0
            )


# --- The gradients that come back ---------------------------------------------------------------------------


@every_loss
def test_a_gradient_may_be_changed_in_place(loss: Loss) -> None:
    """It is the caller's: the next pass finds what was saved as it was."""
    for weight in (1.0, 2.0):
        arguments = loss.arguments()
        value = weight * loss.function(*arguments)
        first = torch.autograd.grad(value, leaves(arguments), retain_graph=True)
        kept = [gradient.clone() for gradient in first]
        for gradient in first:
            gradient.mul_(3)
        second = torch.autograd.grad(value, leaves(arguments), create_graph=True)
        for gradient, expected in zip(second, kept, strict=True):
            assert torch.equal(gradient, expected)
            gradient.detach().zero_()
        for gradient, expected in zip(torch.autograd.grad(value, leaves(arguments)), kept, strict=True):
            assert torch.equal(gradient, expected)


@pytest.mark.skipif(not HAS_KEEP_GRAPH, reason="this PyTorch does not say which pass is the last")
@every_loss
def test_the_last_pass_copies_nothing(loss: Loss) -> None:
    """What autograd gives up after the pass is handed over as it is."""
    arguments = loss.arguments()
    value: Any = loss.function(*arguments)
    saved = [gradient.data_ptr() for gradient in value.grad_fn.saved_tensors if gradient is not None]
    value.backward()
    assert [leaf.grad.data_ptr() for leaf in leaves(arguments)] == saved  # type: ignore[union-attr]


@every_loss
def test_derivatives_in_the_incoming_gradient(loss: Loss) -> None:
    """The gradient is linear in it, also where it is 1."""
    arguments = loss.arguments()
    plain = torch.autograd.grad(loss.function(*arguments), leaves(arguments))
    incoming = torch.ones((), requires_grad=True)
    found = torch.autograd.grad(
        loss.function(*arguments), leaves(arguments), grad_outputs=incoming, create_graph=True
    )
    (slope,) = torch.autograd.grad(sum(gradient.sum() for gradient in found), incoming)
    torch.testing.assert_close(slope, sum(gradient.sum() for gradient in plain))


@every_loss
def test_batches_of_incoming_gradients(loss: Loss) -> None:
    arguments = loss.arguments()
    plain = torch.autograd.grad(loss.function(*arguments), leaves(arguments))
    several = torch.tensor([1.0, -2.0, 0.5])
    found = torch.autograd.grad(
        loss.function(*arguments), leaves(arguments), grad_outputs=several, is_grads_batched=True
    )
    for gradients, gradient in zip(found, plain, strict=True):
        for one, factor in zip(gradients, several, strict=True):
            torch.testing.assert_close(one, factor * gradient)


# --- Types, devices, memory ---------------------------------------------------------------------------------


@every_loss
def test_other_memory_layouts(loss: Loss) -> None:
    """Transposed tensors, tensors with gaps: copied where they have to be, and the same numbers."""
    arguments = loss.arguments()
    value = loss.function(*arguments)
    gradients = torch.autograd.grad(value, leaves(arguments))

    def transposed(tensor: Tensor) -> Tensor:
        return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor

    def with_gaps(tensor: Tensor) -> Tensor:
        if tensor.dim() == 1:
            return tensor.repeat_interleave(2)[::2]
        return torch.nn.functional.pad(tensor, (3, 2))[:, 3:-2]

    for change in (transposed, with_gaps):
        changed = [
            change(argument.detach()).requires_grad_(argument.requires_grad)
            if isinstance(argument, Tensor)
            else argument
            for argument in arguments
        ]
        assert any(not argument.is_contiguous() for argument in changed if isinstance(argument, Tensor))
        assert loss.function(*changed) == value
        for one, other in zip(
            gradients, torch.autograd.grad(loss.function(*changed), leaves(changed)), strict=True
        ):
            torch.testing.assert_close(one, other)


@every_loss
def test_other_devices_and_types_are_refused(loss: Loss) -> None:
    """The message says which call converts them."""
    arguments = loss.arguments()
    expected = "torch.float32, torch.bfloat16 or torch.float16"
    for kind in (torch.float64, torch.int32):
        with pytest.raises(
            fastloss.ArrayError,
            match=rf"{kind} tensor on cpu.*expected {expected} on the cpu.*; convert it with \.float\(\)$",
        ):
            loss.function(arguments[0].detach().to(kind), *arguments[1:])
    with pytest.raises(fastloss.ArrayError, match=r"on meta.*; a meta tensor has no elements$"):
        loss.function(arguments[0].detach().to("meta"), *arguments[1:])
    for change, calls in (
        (lambda x: x.to_sparse(), ".to_dense()"),
        (lambda x: x.double().to_sparse(), ".to_dense().float()"),
        (lambda x: x.to(torch.complex128), ".real.float()"),
    ):
        changed = change(arguments[0].detach())
        with pytest.raises(fastloss.ArrayError) as caught:
            loss.function(changed, *arguments[1:])
        message = str(caught.value)
        assert message.endswith(f"; convert it with {calls}")
        # The call that it names does.
        converted = eval(f"changed{calls}")
        torch.testing.assert_close(loss.function(converted, *arguments[1:]), loss.function(*arguments))


def test_only_one_embedding_with_a_gradient() -> None:
    arguments = every_loss.args[1][3].arguments()
    first, second, temperature = arguments
    both = torch.autograd.grad(fastloss.torch.contrastive_cell_embedding(*arguments), [first, second])
    fixed = fastloss.torch.contrastive_cell_embedding(first, second.detach(), temperature)
    torch.testing.assert_close(torch.autograd.grad(fixed, first)[0], both[0])
    fixed = fastloss.torch.contrastive_cell_embedding(first.detach(), second, temperature)
    torch.testing.assert_close(torch.autograd.grad(fixed, second)[0], both[1])


def test_gradient_of_the_target() -> None:
    input, target, mask = every_loss.args[1][0].arguments()
    target.requires_grad_()
    value = fastloss.torch.masked_mse_loss(input, target, mask)
    found = torch.autograd.grad(value, [input, target])
    torch.testing.assert_close(found[1], -found[0])
    value = fastloss.torch.masked_mse_loss(input.detach(), target, mask)
    torch.testing.assert_close(torch.autograd.grad(value, target)[0], found[1])


def test_metric() -> None:
    arguments = METRIC.arguments()
    value = METRIC.function(*arguments)
    assert not value.requires_grad
    assert value.item() == pytest.approx(METRIC.reference(*in_double(arguments)).item(), rel=1e-6)
    with pytest.raises(fastloss.EmptySelectionError):
        METRIC.function(arguments[0], arguments[1], torch.zeros_like(arguments[2]))


# --- Masks, targets, labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.uint8, torch.float64])
def test_masks_of_other_types(kind: torch.dtype) -> None:
    for loss in (*every_loss.args[1][:2], METRIC):
        input, target, mask = loss.arguments()
        assert loss.function(input, target, mask.to(kind)) == loss.function(input, target, mask)
        weights = mask.to(kind)
        weights[0, 0] = 3
        with pytest.raises(fastloss.ArrayError, match="mask holds numbers other than 0 and 1"):
            loss.function(input, target, weights)


def test_targets_of_other_types() -> None:
    for loss in (*every_loss.args[1][:2], METRIC):
        input, target, mask = loss.arguments()
        for kind in (torch.int64, torch.bfloat16):
            assert loss.function(input, target.to(kind), mask) == loss.function(input, target, mask)
        # Not silently: it would lose digits.
        with pytest.raises(
            fastloss.ArrayError, match=r"target is a torch.float64.*; convert it with \.float\(\)"
        ):
            loss.function(input, target.double(), mask)


def test_any_number_of_dimensions() -> None:
    for loss in (*every_loss.args[1][:2], METRIC):
        arguments = loss.arguments()
        for shape in ((-1,), (7, 13, 10), (1, 7, 130)):
            assert loss.function(*(argument.reshape(shape) for argument in arguments)) == loss.function(
                *arguments
            )


def test_nan_outside_the_mask_has_no_effect() -> None:
    for loss in every_loss.args[1][:2]:
        input, target, mask = loss.arguments()
        value = loss.function(input, target, mask)
        (gradient,) = torch.autograd.grad(value, input)
        spoilt = torch.where(mask, input.detach(), torch.nan).requires_grad_()
        again = loss.function(spoilt, torch.where(mask, target, torch.nan), mask)
        assert again == value
        torch.testing.assert_close(torch.autograd.grad(again, spoilt)[0], gradient)


def test_empty_masks_give_nan_as_upstream() -> None:
    for loss in every_loss.args[1][:2]:
        input, target, mask = loss.arguments()
        value = loss.function(input, target, torch.zeros_like(mask))
        assert value.isnan()
        assert torch.autograd.grad(value, input)[0].isnan().all()


def test_only_ignored_labels_give_nan_as_pytorch() -> None:
    logits, labels = every_loss.args[1][4].arguments()
    value = fastloss.torch.cross_entropy(logits, torch.full_like(labels, -100))
    assert value.isnan()
    assert (torch.autograd.grad(value, logits)[0] == 0).all()


def test_labels() -> None:
    logits, labels = every_loss.args[1][4].arguments()
    expected = fastloss.torch.cross_entropy(logits, labels)
    assert fastloss.torch.cross_entropy(logits, labels.int()) == expected
    for wrong in (-1, 5, 2**32, 2**40 + 1, -(2**33)):
        changed = labels.clone()
        changed[1] = wrong
        with pytest.raises(IndexError):
            fastloss.torch.cross_entropy(logits, changed)
    with pytest.raises(fastloss.ArrayError, match=r"labels is a torch\.float32 tensor"):
        fastloss.torch.cross_entropy(logits, labels.float())
    with pytest.raises(fastloss.ShapeError, match=r"labels has the shape \(20,\); expected \(21,\)"):
        fastloss.torch.cross_entropy(logits, labels[1:])


def test_probabilities_out_of_range() -> None:
    input, target, mask = every_loss.args[1][1].arguments()
    spoilt = input.detach().clone()
    spoilt[mask.nonzero()[0].tolist()[0], mask.nonzero()[0].tolist()[1]] = 1.5
    with pytest.raises(ValueError, match=r"1\.5 at element \d+ of input"):
        fastloss.torch.criterion_neg_log_bernoulli(spoilt, target, mask)


def test_shapes_that_do_not_fit() -> None:
    input, target, mask = METRIC.arguments()
    for loss in (*every_loss.args[1][:2], METRIC):
        with pytest.raises(fastloss.ShapeError, match="target has the shape"):
            loss.function(input, target[:3], mask)
        with pytest.raises(fastloss.ShapeError, match="mask has the shape"):
            loss.function(input, target, mask[0])
    with pytest.raises(fastloss.ShapeError, match="cell_emb has 1 dimensions; expected 2"):
        fastloss.torch.elastic_cell_similarity(input[0], 0.8)
    with pytest.raises(fastloss.ShapeError, match="cell2 has the shape"):
        fastloss.torch.contrastive_cell_embedding(input, input[:3], 0.5)


def test_inputs_are_not_changed() -> None:
    for loss in (*every_loss.args[1], METRIC):
        arguments = loss.arguments()
        copies = [
            argument.detach().clone() if isinstance(argument, Tensor) else argument for argument in arguments
        ]
        loss.function(*arguments)
        for argument, copy in zip(arguments, copies, strict=True):
            assert not isinstance(argument, Tensor) or torch.equal(argument, copy)


# --- Gradient reversal --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_grad_reverse(kind: torch.dtype) -> None:
    x: Any = torch.randn(4, 5, dtype=kind, requires_grad=True)
    y = fastloss.torch.grad_reverse(x, 0.25)
    assert torch.equal(x, y) and y.data_ptr() == x.data_ptr()
    weights = torch.randn(4, 5, dtype=kind)
    torch.testing.assert_close(torch.autograd.grad((y * weights).sum(), x)[0], -0.25 * weights)
    assert torch.equal(torch.autograd.grad(fastloss.torch.grad_reverse(x).sum(), x)[0], -torch.ones_like(x))


def test_grad_reverse_twice() -> None:
    """Differentiated twice it reverses twice, as upstream's: f = x³ behind the reversal."""
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (first,) = torch.autograd.grad((fastloss.torch.grad_reverse(x, 2.0) ** 3).sum(), x, create_graph=True)
    torch.testing.assert_close(first, -2 * 3 * x**2)
    torch.testing.assert_close(torch.autograd.grad(first.sum(), x)[0], 4 * 6 * x)
