"""Eager mode: which tensors the extension module reads in place, and what of a step is made at all."""

from typing import Any

import pytest
import torch
from losses import Loss, every_loss, leaves
from test_integration import step  # noqa: F401

import fastloss
import fastloss.torch
from fastloss.torch import _losses
from fastloss.torch._tensors import native

MASKED = [
    loss for loss in every_loss.args[1] if loss.name in ("masked_mse_loss", "criterion_neg_log_bernoulli")
]


@every_loss
def test_plain_tensors_take_the_direct_call(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise AssertionError("the arguments were converted")

    monkeypatch.setattr("fastloss.torch._operators.Operator.call_anything", refuse)
    arguments = loss.arguments()
    torch.autograd.grad(loss.function(*arguments), leaves(arguments))
    with torch.no_grad():
        loss.function(*arguments)
    arguments[0] = torch.nn.Parameter(arguments[0].detach())
    loss.function(*arguments).backward()


@every_loss
def test_views_of_the_opposite_sign(loss: Loss) -> None:
    """Their memory holds the negated elements, which DLPack does not say."""
    arguments = loss.arguments()
    expected = loss.function(*arguments)
    gradients = torch.autograd.grad(expected, leaves(arguments))
    for index, argument in enumerate(arguments):
        if isinstance(argument, torch.Tensor) and argument.dtype is torch.float32:
            negated = torch._neg_view(-argument.detach())
            assert negated.is_neg() and torch.equal(negated, argument)
            arguments[index] = negated.requires_grad_(argument.requires_grad)
    value = loss.function(*arguments)
    assert torch.equal(value, expected)
    for one, other in zip(torch.autograd.grad(value, leaves(arguments)), gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("loss", MASKED, ids=str)
def test_more_dimensions_than_the_module_reads(loss: Loss) -> None:
    arguments = loss.arguments()
    expected = loss.function(*arguments)
    gradients = torch.autograd.grad(expected, leaves(arguments))
    for shape in ((7, 1, 13, 10), (7, 1, 13, 1, 10), (1, 7, 1, 13, 2, 1, 5)):
        shaped = [
            argument.detach().reshape(shape).requires_grad_(argument.requires_grad) for argument in arguments
        ]
        value = loss.function(*shaped)
        assert torch.equal(value, expected)
        for one, other in zip(torch.autograd.grad(value, leaves(shaped)), gradients, strict=True):
            assert one.shape == shape and torch.equal(one.reshape(other.shape), other)


def test_only_wanted_gradients_are_saved(step: dict[str, Any]) -> None:  # noqa: F811
    outputs = {name: output.detach() for name, output in step["outputs"].items()}
    outputs["mvc_output"].requires_grad_()
    outputs["dab_output"].requires_grad_()
    inputs = [step["target_values"], step["masked_positions"], step["batch_labels"]]
    total: Any = fastloss.torch.integration_loss(outputs, *inputs).total
    assert [saved.shape for saved in total.grad_fn.saved_tensors] == [
        outputs["mvc_output"].shape,
        outputs["dab_output"].shape,
    ]
    total.backward()
    assert [name for name, output in outputs.items() if output.grad is not None] == [
        "mvc_output",
        "dab_output",
    ]


def test_terms_are_a_mapping(step: dict[str, Any]) -> None:  # noqa: F811
    inputs = [step["target_values"], step["masked_positions"], step["batch_labels"]]
    terms = fastloss.torch.integration_loss(step["outputs"], *inputs).terms
    assert list(terms) == ["mse", "nzlp", "mvc", "mvc_nzlp", "ecs", "dab", "mre"] and len(terms) == 7
    assert "mse" in terms and "cls" not in terms and terms.get("cls") is None
    with pytest.raises(KeyError):
        terms["cls"]
    assert all(torch.equal(terms[name], value) for name, value in terms.items())
    assert repr(terms) == repr(dict(terms))


def test_parameters_are_kept_apart_by_their_types(step: dict[str, Any]) -> None:  # noqa: F811
    """1 equals True, and must not find the parameters that were checked for True."""
    inputs = [step["target_values"], step["masked_positions"]]
    fastloss.torch.integration_loss(step["outputs"], *inputs, gepc=True)
    with pytest.raises(fastloss.InvalidParameterError, match="gepc is 1"):
        fastloss.torch.integration_loss(step["outputs"], *inputs, gepc=1)  # type: ignore[arg-type]
    with pytest.raises(fastloss.InvalidParameterError, match=r"ecs_weight is \[1.0\]"):
        fastloss.torch.integration_loss(step["outputs"], *inputs, ecs_weight=[1.0])  # type: ignore[arg-type]


def test_is_one() -> None:
    assert native.is_one(torch.ones(()))
    ones = (torch.tensor(2.0), torch.ones(1), torch.ones((), dtype=torch.float64), None, 1.0)
    assert not any(native.is_one(value) for value in ones)
    assert not native.is_one(torch._neg_view(torch.ones(())))


def test_numpy_arrays_are_no_tensors_and_the_reverse() -> None:
    embeddings = torch.eye(3, 4)
    arguments = ("nan", True, None, 1.0, False)
    assert native.elastic_cell_similarity(None, embeddings, 0.5, *arguments) is not None
    assert native.elastic_cell_similarity(None, embeddings.numpy(), 0.5, *arguments) is None
    with pytest.raises(fastloss.ArrayError, match=r"embeddings is a torch\.Tensor; expected a numpy"):
        fastloss.elastic_cell_similarity(embeddings)  # type: ignore[arg-type]


def test_labels_beyond_int32_stay_out_of_range() -> None:
    logits = torch.zeros(2, 3)
    for label in (2**32, -(2**32) + 1, 2**63 - 1):
        with pytest.raises(IndexError):
            fastloss.torch.cross_entropy(logits, torch.tensor([0, label]))
    assert _losses.IGNORED == -100
