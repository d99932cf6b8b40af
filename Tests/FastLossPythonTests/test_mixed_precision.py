"""Outputs of 16 bits on NumPy arrays: the losses of the widened numbers, and gradients rounded once."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastloss

Change = Callable[[Any], Any]


def kinds() -> list[Any]:
    found = [pytest.param(np.dtype(np.float16), id="float16")]
    try:
        import ml_dtypes
    except ImportError:
        return [*found, pytest.param(None, marks=pytest.mark.skip(reason="needs ml_dtypes"), id="bfloat16")]
    return [*found, pytest.param(np.dtype(ml_dtypes.bfloat16), id="bfloat16")]


every_kind = pytest.mark.parametrize("kind", kinds())
every_loss = pytest.mark.parametrize(
    ("name", "form"), [("masked_mse", {}), ("bernoulli_nll", {}), ("bernoulli_nll", {"logits": True})]
)


def inputs(kind: Any) -> tuple[Any, Any, Any]:
    """16-bit probabilities, targets and a mask."""
    random = np.random.default_rng(3)
    predictions = random.uniform(0.01, 0.99, (7, 53)).astype(np.float32).astype(kind)
    return predictions, random.integers(0, 4, (7, 53)).astype(np.float32), random.random((7, 53)) < 0.5


@every_kind
@every_loss
def test_value_and_gradient(name: str, form: dict[str, bool], kind: Any) -> None:
    predictions, targets, mask = inputs(kind)
    widened = predictions.astype(np.float32)
    exact, gradient = np.empty_like(widened), np.zeros_like(predictions)
    function = functools.partial(getattr(fastloss, name), **form)
    expected = function(widened, targets, mask, gradient=exact, gradient_scale=100)
    found = function(predictions, targets, mask, gradient=gradient, gradient_scale=100)
    assert found == expected and gradient.dtype == kind
    np.testing.assert_array_equal(gradient, exact.astype(kind))
    assert function(predictions, targets, mask) == expected

    ones = np.ones_like(predictions)
    function(predictions, targets, mask, gradient=ones, gradient_scale=100, accumulate=True)
    np.testing.assert_array_equal(ones, (1 + exact).astype(kind))

    cells = functools.partial(getattr(fastloss, name + "_per_cell"), **form)
    np.testing.assert_array_equal(cells(predictions, targets, mask), cells(widened, targets, mask))


@every_kind
def test_metric(kind: Any) -> None:
    predictions, targets, mask = inputs(kind)
    widened = predictions.astype(np.float32)
    found = fastloss.masked_relative_error(predictions, targets, mask)
    assert found == fastloss.masked_relative_error(widened, targets, mask)


@every_kind
def test_rows_with_gaps(kind: Any) -> None:
    predictions, targets, mask = inputs(kind)
    wide, places = np.full((7, 60), 9).astype(kind), np.full((7, 60), 9).astype(kind)
    wide[:, 3:56] = predictions
    gradient = np.empty_like(predictions)
    expected = fastloss.masked_mse(predictions, targets, mask, gradient=gradient)
    assert fastloss.masked_mse(wide[:, 3:56], targets, mask, gradient=places[:, 3:56]) == expected
    np.testing.assert_array_equal(places[:, 3:56], gradient)
    assert (places[:, :3] == 9).all() and (places[:, 56:] == 9).all()


@every_kind
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {**a, "gradient": np.empty((7, 53), np.float32)}, "gradient has elements of float32"),
        (lambda a: {**a, "targets": a["predictions"]}, "targets has elements of .*float16; expected float32"),
        (lambda a: {**a, "predictions": a["predictions"][:, ::2]}, "predictions has strides of"),
        (
            lambda a: {**a, "predictions": a["predictions"].view(np.int16)},
            "predictions has elements of int16",
        ),
        (lambda a: {**a, "predictions": a["predictions"].view("V2")}, r"predictions has elements of \|V2"),
    ],
)
def test_other_arrays_are_errors(kind: Any, change: Change, message: str) -> None:
    predictions, targets, mask = inputs(kind)
    arguments = change({"predictions": predictions, "targets": targets, "mask": mask})
    with pytest.raises(fastloss.ArrayError, match=message):
        fastloss.masked_mse(**arguments)


LABELS = np.array([3, -100, 0, 30, 7, 7, -100, 12, 1], np.int32)
#: The function, the number of its outputs of the model, its other arguments, and its gradients.
OTHERS = [
    ("elastic_cell_similarity", 1, [], ["gradient"]),
    ("contrastive_cell_embedding", 2, [], ["first_gradient", "second_gradient"]),
    ("cross_entropy", 1, [LABELS], ["gradient"]),
    ("domain_adversarial", 1, [LABELS], ["discriminator_gradient", "embedding_gradient"]),
]


@every_kind
@pytest.mark.parametrize(("name", "count", "others", "gradients"), OTHERS)
def test_embeddings_and_logits(
    name: str, count: int, others: list[Any], gradients: list[str], kind: Any
) -> None:
    random = np.random.default_rng(5)

    def function(*outputs: Any, **options: Any) -> Any:
        return getattr(fastloss, name)(*outputs, *others, **options)

    wide = random.normal(size=(count, 9, 40)).astype(np.float32).astype(kind)
    outputs = [array[:, 3:34] for array in wide]
    widened = [np.ascontiguousarray(output.astype(np.float32)) for output in outputs]
    exact = {gradient: np.empty_like(widened[0]) for gradient in gradients}
    found = {gradient: np.zeros((9, 31)).astype(kind) for gradient in gradients}
    expected = function(*widened, gradient_scale=100, **exact)
    assert function(*outputs, gradient_scale=100, **found) == expected == function(*outputs)
    for gradient in gradients:
        np.testing.assert_array_equal(found[gradient], exact[gradient].astype(kind))
    ones = {gradient: np.ones((9, 31)).astype(kind) for gradient in gradients}
    function(*outputs, gradient_scale=100, accumulate=True, **ones)
    for gradient in gradients:
        np.testing.assert_array_equal(ones[gradient], (1 + exact[gradient]).astype(kind))
    with pytest.raises(fastloss.ArrayError, match=f"{gradients[0]} has elements of float32; expected "):
        function(*outputs, **exact)


@every_kind
def test_objective(kind: Any) -> None:
    """Each input has its own type; the cell embedding's gradients are added before they are rounded."""
    random = np.random.default_rng(6)
    targets = random.integers(0, 4, (9, 31)).astype(np.float32)
    names = ("gene_predictions", "cell_embedding", "second_cell_embedding", "batch_logits")
    outputs = {name: random.normal(size=(9, 31)).astype(np.float32).astype(kind) for name in names}
    outputs["second_cell_embedding"] = outputs["second_cell_embedding"].astype(np.float32)
    widened = {name: output.astype(np.float32) for name, output in outputs.items()}
    objective = fastloss.TotalObjective({"mse": 1, "ecs": 10, "cce": 10, "dab": 1})
    others = {"targets": targets, "batch_labels": np.arange(9, dtype=np.int32), "gradient_scale": 100}
    exact = {name: np.empty_like(array) for name, array in widened.items()}
    found = {name: np.empty_like(array) for name, array in outputs.items()}
    expected = objective.evaluate(**widened, **others, gradients=exact)
    assert objective.evaluate(**outputs, **others, gradients=found) == expected
    for name, gradient in found.items():
        np.testing.assert_array_equal(gradient, exact[name].astype(gradient.dtype))
    ones = {name: np.ones_like(array) for name, array in outputs.items()}
    plain = {name: np.ones_like(array) for name, array in widened.items()}
    objective.evaluate(**outputs, **others, gradients=ones, accumulate=True)
    objective.evaluate(**widened, **others, gradients=plain, accumulate=True)
    for name, gradient in ones.items():
        np.testing.assert_array_equal(gradient, plain[name].astype(gradient.dtype))
    with pytest.raises(fastloss.ArrayError, match=r"gradients\['gene_predictions'\] has elements of float32"):
        objective.evaluate(**outputs, **others, gradients=exact)


@every_kind
def test_losses_without_16_bits_say_so(kind: Any) -> None:
    embeddings = np.ones((3, 4)).astype(kind)
    with pytest.raises(fastloss.ArrayError, match=r"embeddings has elements of .*float16; expected float32"):
        fastloss.cosine_similarity(embeddings)


def test_a_float16_of_the_other_byte_order_is_an_error() -> None:
    predictions, targets, mask = inputs(np.dtype(">f2"))
    with pytest.raises(fastloss.ArrayError, match="predictions has elements of >f2; expected float32"):
        fastloss.masked_mse(predictions, targets, mask)
