"""What NumPy arrays may look like, and what is said about those that may not."""

from typing import Any

import numpy as np
import pytest

import fastloss


@pytest.fixture
def inputs() -> tuple[Any, Any, Any]:
    random = np.random.default_rng(1)
    predictions = random.standard_normal((6, 10)).astype(np.float32)
    return predictions, random.integers(0, 5, (6, 10)).astype(np.float32), random.random((6, 10)) < 0.5


def test_rows_that_lie_apart_are_read_where_they_are(inputs: Any) -> None:
    predictions, targets, mask = inputs
    expected = fastloss.masked_mse(predictions, targets, mask)

    def apart(array: Any) -> Any:
        wide = np.full((array.shape[0], array.shape[1] + 7), -1).astype(array.dtype)
        wide[:, 2 : 2 + array.shape[1]] = array
        return wide[:, 2 : 2 + array.shape[1]]

    wide_gradient = np.full((6, 20), 9, dtype=np.float32)
    gradient = wide_gradient[:, 5:15]
    assert not gradient.flags.c_contiguous
    assert fastloss.masked_mse(apart(predictions), apart(targets), apart(mask), gradient=gradient) == expected
    dense = np.empty_like(predictions)
    fastloss.masked_mse(predictions, targets, mask, gradient=dense)
    np.testing.assert_array_equal(gradient, dense)
    # What lies between the rows is not written.
    assert (wide_gradient[:, :5] == 9).all() and (wide_gradient[:, 15:] == 9).all()


def test_every_other_row(inputs: Any) -> None:
    predictions, targets, mask = inputs
    found = fastloss.masked_mse(predictions[::2], targets[::2], mask[::2])
    assert found == fastloss.masked_mse(*(array[::2].copy() for array in inputs))


def test_a_vector_is_one_row(inputs: Any) -> None:
    predictions, targets, mask = (array.reshape(-1) for array in inputs)
    assert fastloss.masked_mse(predictions, targets, mask) == fastloss.masked_mse(*inputs)


def test_read_only_inputs(inputs: Any) -> None:
    for array in inputs:
        array.flags.writeable = False
    fastloss.masked_mse(*inputs)
    with pytest.raises(fastloss.ArrayError, match="gradient is read-only"):
        fastloss.masked_mse(*inputs, gradient=inputs[0])


def test_scale_and_accumulation(inputs: Any) -> None:
    plain, scaled = np.empty_like(inputs[0]), np.ones_like(inputs[0])
    fastloss.masked_mse(*inputs, gradient=plain)
    fastloss.masked_mse(*inputs, gradient=scaled, gradient_scale=3, accumulate=True)
    np.testing.assert_allclose(scaled, 1 + 3 * plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, t, m: (x.astype(np.float64), t, m),
            r"predictions has elements of float64; expected float32",
        ),
        (lambda x, t, m: (x, t.astype(np.int64), m), r"targets has elements of int64"),
        (lambda x, t, m: (x, t, m.astype(np.float32)), r"mask has elements of float32; expected bool"),
        (lambda x, t, m: (x.tolist(), t, m), r"predictions is a list; expected a numpy.ndarray"),
        (lambda x, t, m: (x.astype(">f4"), t, m), r"predictions has elements of >f4"),
        (lambda x, t, m: (x, t[:5], m), r"targets is 5 × 10; expected 6 × 10"),
        (lambda x, t, m: (x, t, m[:, :9]), r"mask is 6 × 9; expected 6 × 10"),
        (lambda x, t, m: (x[None], t, m), r"predictions has 3 dimensions; expected 2"),
        (lambda x, t, m: (np.asfortranarray(x), t, m), r"predictions has strides of \(4, 24\) bytes"),
        (lambda x, t, m: (x[::-1], t, m), r"predictions has strides of \(-40, 4\) bytes"),
    ],
)
def test_what_does_not_fit(inputs: Any, change: Any, message: str) -> None:
    with pytest.raises(fastloss.FastLossError, match=message):
        fastloss.masked_mse(*change(*inputs))


def test_errors_of_the_library_have_their_types(inputs: Any) -> None:
    predictions, targets, mask = inputs
    with pytest.raises(fastloss.EmptySelectionError) as caught:
        fastloss.masked_mse(predictions, targets, np.zeros_like(mask))
    assert caught.value.status == 5
    with pytest.raises(fastloss.OverlapError, match="gradient"):
        fastloss.masked_mse(predictions, targets, mask, gradient=targets)
    with pytest.raises(fastloss.ProbabilityOutOfRangeError):
        fastloss.bernoulli_nll(predictions + 5, targets, mask)
    with pytest.raises(
        fastloss.InvalidParameterError, match="reduction is 'median'; expected one of 'mean', 'sum'"
    ):
        fastloss.masked_mse(predictions, targets, mask, reduction="median")  # type: ignore[arg-type]
    with pytest.raises(fastloss.InvalidParameterError, match="threshold"):
        fastloss.elastic_cell_similarity(predictions, threshold=2)
    with pytest.raises(fastloss.InvalidParameterError, match="temperature"):
        fastloss.contrastive_cell_embedding(predictions, targets, temperature=0)
    logits, labels = predictions[:, :3].copy(), np.array([0, 1, 2, 3, 0, 1], dtype=np.int32)
    with pytest.raises(fastloss.LabelOutOfRangeError, match="3"):
        fastloss.cross_entropy(logits, labels)
    for wrong in (2**31, -(2**31) - 1):
        with pytest.raises(fastloss.InvalidParameterError, match="ignored_label is"):
            fastloss.cross_entropy(logits, labels, ignored_label=wrong)
        with pytest.raises(fastloss.InvalidParameterError, match="ignored_label is"):
            fastloss.TotalObjective.annotation(ignored_label=wrong).evaluate(
                cell_type_logits=logits, cell_type_labels=labels
            )
    with pytest.raises(fastloss.ArrayError, match="labels has elements of int64; expected int32"):
        fastloss.cross_entropy(logits, labels.astype(np.int64))
    with pytest.raises(fastloss.ShapeError, match=r"labels has the shape \(5,\)"):
        fastloss.cross_entropy(logits, labels[:5].copy())


def test_every_error_is_a_value_error() -> None:
    for name in fastloss.__all__:
        thing = getattr(fastloss, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, fastloss.FastLossError) and issubclass(thing, ValueError)


def test_empty_arrays() -> None:
    nothing = np.empty((0, 5), dtype=np.float32)
    with pytest.raises(fastloss.EmptySelectionError):
        fastloss.masked_mse(nothing, nothing)
    assert fastloss.masked_mse(nothing, nothing, when_empty="zero") == (0.0, 0)
    assert np.isnan(fastloss.elastic_cell_similarity(nothing, when_empty="nan").value)
    assert fastloss.cosine_similarity(nothing).shape == (0, 0)


def test_objective_says_what_is_missing_or_wrong(inputs: Any) -> None:
    predictions, targets, mask = inputs
    objective = fastloss.TotalObjective.multi_omics()
    with pytest.raises(
        fastloss.FastLossError, match="the term 'mvc' is enabled, but cell_predictions is missing"
    ):
        objective.evaluate(targets=targets, mask=mask, gene_predictions=predictions)
    with pytest.raises(fastloss.InvalidParameterError, match="weights has the term 'mlm'"):
        fastloss.TotalObjective({"mlm": 1}).evaluate()
    with pytest.raises(fastloss.InvalidParameterError, match="gradients has the key 'targets'"):
        fastloss.TotalObjective.perturbation().evaluate(
            targets=targets, gene_predictions=predictions, gradients={"targets": targets}
        )
    with pytest.raises(fastloss.ShapeError, match="targets has 5 rows; expected 6, as gene_predictions"):
        fastloss.TotalObjective.perturbation().evaluate(targets=targets[:5], gene_predictions=predictions)
    with pytest.raises(fastloss.ShapeError, match=r"gradients\['gene_predictions'\] is 6 × 9"):
        fastloss.TotalObjective.perturbation().evaluate(
            targets=targets,
            gene_predictions=predictions,
            gradients={"gene_predictions": np.empty((6, 9), dtype=np.float32)},
        )


def test_scformer_with_its_options() -> None:
    objective = fastloss.TotalObjective.scformer(cell_types=True, contrastive=True)
    assert objective.weights["cls"] == 1 and objective.weights["cce"] == 10
    assert objective.elastic_threshold == 0.5
    smaller = fastloss.TotalObjective.scformer(gepc=False, dab_weight=2.0, when_empty="nan")
    assert smaller.weights == {"mse": 1, "nzlp": 1, "ecs": 10, "dab": 2} and smaller.when_empty == "nan"
    assert "ecs" not in fastloss.TotalObjective.integration(ecs_threshold=0).weights


@pytest.mark.parametrize(
    ("preset", "parameters", "weights"),
    [
        ("integration", {}, {"mse": 1, "nzlp": 1, "mvc": 1, "mvc_nzlp": 1, "ecs": 10, "dab": 1}),
        ("integration", {"explicit_zero_prob": False}, {"mse": 1, "mvc": 1, "ecs": 10, "dab": 1}),
        ("integration", {"gepc": False, "dab_weight": 0.1}, {"mse": 1, "nzlp": 1, "ecs": 10, "dab": 0.1}),
        ("annotation", {}, {"cls": 1}),
        ("perturbation", {}, {"mse": 1}),
        ("multi_omics", {}, {"mse": 1, "mvc": 1, "dab": 1}),
        ("generative_pretraining", {}, {"mse": 1, "mvc": 1, "gen": 1}),
        ("generative_pretraining", {"from_cell_embedding": False}, {"mse": 1, "mvc": 1}),
        ("masked_pretraining", {}, {"mse": 1, "cls": 1, "cce": 10, "mvc": 1}),
        (
            "scformer",
            {"cell_types": True},
            {"mse": 1, "nzlp": 1, "mvc": 1, "mvc_nzlp": 1, "ecs": 10, "dab": 1, "cls": 1},
        ),
    ],
)
def test_presets(preset: str, parameters: dict[str, Any], weights: dict[str, float]) -> None:
    """The library's numbers, and the caller's as they are."""
    objective = getattr(fastloss.TotalObjective, preset)(**parameters, lambd=0.25)
    assert objective.weights == weights and objective.lambd == 0.25
    assert objective.elastic_threshold == (0.5 if preset == "scformer" else 0.8)
    assert objective.contrastive_temperature == 0.5 and objective.when_empty == "error"


def message(kind: type[Exception], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_messages_of_the_library_have_the_names_of_python(inputs: Any) -> None:
    predictions, targets, _ = inputs
    empty = np.zeros_like(predictions, dtype=np.bool_)
    assert (
        message(fastloss.EmptySelectionError, lambda: fastloss.masked_mse(predictions, targets, empty))
        == 'masked_mse: no element is selected; set when_empty to "zero" or "nan" to get a value instead'
    )
    large, reversed_gradient = predictions[:1].copy(), np.empty_like(predictions[:1])
    assert (
        message(fastloss.OverlapError, lambda: fastloss.gradient_reversal(large, large))
        == "output reversed_gradient shares memory with gradient"
    )
    states = np.ones((2, 0, 3), dtype=np.float32)
    assert (
        message(fastloss.InvalidParameterError, lambda: fastloss.token_pooling(states))
        == "tokens is 0, but it must be at least 1"
    )
    assert fastloss.gradient_reversal(large, reversed_gradient, lambd=0.0) is None
    square = np.ones((3, 3), dtype=np.float32)
    assert (
        message(fastloss.OverlapError, lambda: fastloss.cosine_similarity(square, out=square))
        == "output out shares memory with embeddings"
    )
    assert (
        message(
            fastloss.OverlapError,
            lambda: fastloss.TotalObjective.perturbation().evaluate(
                targets=targets, gene_predictions=predictions, gradients={"gene_predictions": predictions}
            ),
        )
        == "output gradients['gene_predictions'] shares memory with gene_predictions"
    )
    objective = fastloss.TotalObjective({"ecs": 1.0}, elastic_threshold=2.0)
    assert (
        message(fastloss.InvalidParameterError, lambda: objective.evaluate(cell_embedding=predictions))
        == "elastic_threshold is 2, but it must be between -1 and 1"
    )
