"""Every loss on NumPy arrays against the goldens, value and gradient."""

from typing import Any

import numpy as np
import pytest
from goldens import GRADIENT_TOLERANCE, Case, assert_close, cases

import fastloss


def named(stem: str) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases(stem)])


def check(case: Case, key: str, found: Any, gradient: Any = None, gradient_key: str = "") -> None:
    assert_close(found, case.truth[key], case.naive[key])
    if gradient is not None:
        assert_close(gradient, case.truth[gradient_key], case.naive[gradient_key], GRADIENT_TOLERANCE)


def check_masked(case: Case, name: str, whole: Any, per_cell: Any, **options: Any) -> None:
    shape = case.parameters["rows"], case.parameters["columns"]
    predictions, targets = case.floats(name, *shape), case.floats("targets", *shape)
    mask = case.bools("mask", *shape)
    some_rows_empty = not mask.any(axis=1).all()
    for reduction in ("mean", "sum"):
        if not mask.any():
            with pytest.raises(fastloss.EmptySelectionError):
                whole(predictions, targets, mask, reduction=reduction, **options)
            continue
        gradient = np.full(shape, 7, dtype=np.float32)
        loss = whole(predictions, targets, mask, reduction=reduction, gradient=gradient, **options)
        assert loss.selected_count == mask.sum()
        check(case, reduction, loss.value, gradient, f"{reduction}Gradient")
        # Without a gradient, and with everything selected by no mask at all.
        assert whole(predictions, targets, mask, reduction=reduction, **options).value == pytest.approx(
            loss.value, nan_ok=True, rel=1e-12
        )
        if mask.all():
            assert whole(predictions, targets, None, reduction=reduction, **options).value == loss.value
    if some_rows_empty:
        with pytest.raises(fastloss.EmptySelectionError, match=r"row (2|0)"):
            per_cell(predictions, targets, mask, **options)
    values = per_cell(predictions, targets, mask, when_empty="nan", **options)
    check(case, "perCell", values)
    if not some_rows_empty:
        gradient = np.empty(shape, dtype=np.float32)
        per_cell(predictions, targets, mask, gradient=gradient, **options)
        assert_close(
            gradient, case.truth["perCellGradient"], case.naive["perCellGradient"], GRADIENT_TOLERANCE
        )


@named("MaskedMSE")
def test_masked_mse(case: Case) -> None:
    check_masked(case, "predictions", fastloss.masked_mse, fastloss.masked_mse_per_cell)


@named("BernoulliNLL")
def test_bernoulli_nll(case: Case) -> None:
    logits = "logits" in case.inputs
    name = "logits" if logits else "probabilities"
    check_masked(case, name, fastloss.bernoulli_nll, fastloss.bernoulli_nll_per_cell, logits=logits)


@named("MaskedRelativeError")
def test_masked_relative_error(case: Case) -> None:
    shape = case.parameters["rows"], case.parameters["columns"]
    predictions, targets = case.floats("predictions", *shape), case.floats("targets", *shape)
    mask = case.bools("mask", *shape)
    for reduction in ("mean", "sum"):
        if mask.any():
            loss = fastloss.masked_relative_error(predictions, targets, mask, reduction=reduction)
            check(case, reduction, loss.value)
        else:
            with pytest.raises(fastloss.EmptySelectionError):
                fastloss.masked_relative_error(predictions, targets, mask, reduction=reduction)
    check(
        case, "perCell", fastloss.masked_relative_error_per_cell(predictions, targets, mask, when_empty="nan")
    )


@named("CrossEntropy")
def test_cross_entropy(case: Case) -> None:
    logits = case.floats("logits", case.parameters["rows"], case.parameters["classes"])
    labels = case.labels("labels")
    for reduction in ("mean", "sum"):
        gradient = np.empty_like(logits)
        rule = "nan" if reduction == "mean" else "zero"
        loss = fastloss.cross_entropy(
            labels=labels, logits=logits, reduction=reduction, when_empty=rule, gradient=gradient
        )
        check(case, reduction, loss.value, gradient, f"{reduction}Gradient")
        assert loss.selected_count == (labels != -100).sum()


@named("GradientReversal")
def test_domain_adversarial(case: Case) -> None:
    rows, columns, classes = (case.parameters[key] for key in ("rows", "columns", "classes"))
    lambd = case.parameters["strength"]
    embeddings, weights = case.floats("embeddings", rows, columns), case.floats("weights", classes, columns)
    logits = np.array(case.truth["logits"], dtype=np.float32).reshape(rows, classes)
    own, reversed_ = np.empty_like(logits), np.empty_like(logits)
    loss = fastloss.domain_adversarial(
        logits, case.labels("labels"), lambd=lambd, discriminator_gradient=own, embedding_gradient=reversed_
    )
    check(case, "value", loss.value, own, "logitsGradient")
    check(case, "value", loss.value, own.T @ embeddings, "weightsGradient")
    check(case, "value", loss.value, reversed_ @ weights, "embeddingsGradient")
    again = np.empty_like(own)
    fastloss.gradient_reversal(own, again, lambd=lambd)
    np.testing.assert_array_equal(again, -np.float32(lambd) * own)


@named("ElasticCellSimilarity")
def test_elastic_cell_similarity(case: Case) -> None:
    embeddings = case.floats("embeddings", case.parameters["rows"], case.parameters["columns"])
    gradient = np.empty_like(embeddings)
    loss = fastloss.elastic_cell_similarity(
        embeddings, threshold=case.parameters["threshold"], gradient=gradient
    )
    check(case, "value", loss.value)
    # A row's gradient is what remains of ten times larger numbers: where it is 0 by cancellation, an absolute
    # bound.
    difference = np.abs(gradient.reshape(-1) - case.truth["gradient"])
    naive = np.abs(case.naive["gradient"] - case.truth["gradient"])
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    scale = np.broadcast_to(4 / np.maximum(norms, 1e-12), embeddings.shape).reshape(-1)
    assert (difference <= GRADIENT_TOLERANCE * scale + naive).all()
    found = fastloss.cosine_similarity(embeddings)
    np.testing.assert_allclose(found.reshape(-1), case.truth["similarities"], atol=1e-6)


@named("ContrastiveCellEmbedding")
def test_contrastive_cell_embedding(case: Case) -> None:
    shape = case.parameters["rows"], case.parameters["columns"]
    first, second = case.floats("first", *shape), case.floats("second", *shape)
    gradients = np.empty_like(first), np.empty_like(second)
    loss = fastloss.contrastive_cell_embedding(
        first,
        second,
        temperature=case.parameters["temperature"],
        first_gradient=gradients[0],
        second_gradient=gradients[1],
    )
    temperature = case.parameters["temperature"]
    # Rounding of the cosines is divided by the temperature before it reaches the loss.
    assert abs(loss.value - case.truth["value"][0]) <= 1e-6 / temperature + 2e-6 * abs(case.truth["value"][0])
    for key, rows, gradient in (("first", first, gradients[0]), ("second", second, gradients[1])):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        scale = np.broadcast_to(1 / np.maximum(norms, 1e-8), rows.shape).reshape(-1) / temperature**2
        difference = np.abs(gradient.reshape(-1) - case.truth[f"{key}Gradient"])
        naive = np.abs(case.naive[f"{key}Gradient"] - case.truth[f"{key}Gradient"])
        assert (difference <= GRADIENT_TOLERANCE * scale + naive).all()


#: The goldens' names of inputs, and this package's.
OBJECTIVE_INPUTS = {
    "targets": "targets",
    "genePredictions": "gene_predictions",
    "geneNonzeroProbabilities": "gene_nonzero",
    "cellPredictions": "cell_predictions",
    "cellNonzeroProbabilities": "cell_nonzero",
    "generatedPredictions": "generated_predictions",
    "cellEmbedding": "cell_embedding",
    "secondCellEmbedding": "second_cell_embedding",
    "cellTypeLogits": "cell_type_logits",
    "batchLogits": "batch_logits",
}
PRESETS = {
    "integration": fastloss.TotalObjective.integration(),
    "annotation": fastloss.TotalObjective.annotation(),
    "perturbation": fastloss.TotalObjective.perturbation(),
    "multiOmics": fastloss.TotalObjective.multi_omics(),
    "generativePretraining": fastloss.TotalObjective.generative_pretraining(),
    "maskedPretraining": fastloss.TotalObjective.masked_pretraining(),
    "scFormer": fastloss.TotalObjective.scformer(),
}


@named("TotalObjective")
def test_total_objective(case: Case) -> None:
    cells = case.parameters["cells"]
    weights = {
        key.removeprefix("weight."): value
        for key, value in case.parameters.items()
        if key.startswith("weight.")
    }
    objective = fastloss.TotalObjective(weights, elastic_threshold=case.parameters["threshold"])
    if case.name in PRESETS:
        assert dict(PRESETS[case.name].weights) == weights
        if "ecs" in weights:
            assert PRESETS[case.name].elastic_threshold == objective.elastic_threshold
    inputs: dict[str, Any] = {
        ours: case.floats(theirs, cells, -1)
        for theirs, ours in OBJECTIVE_INPUTS.items()
        if theirs in case.inputs
    }
    if "mask" in case.inputs:
        inputs["mask"] = case.bools("mask", cells, -1)
    if "batchLabels" in case.inputs:
        inputs["batch_labels"] = case.labels("batchLabels")
    if "cellTypeLabels" in case.inputs:
        inputs["cell_type_labels"] = case.labels("cellTypeLabels")
    names = {f"gradient.{theirs}": ours for theirs, ours in OBJECTIVE_INPUTS.items()}
    gradients = {names[key]: np.empty_like(inputs[names[key]]) for key in case.truth if key in names}
    value = objective.evaluate(**inputs, gradients=gradients)

    check(case, "total", value.total)
    assert value.values.keys() == value.weighted.keys() == value.logged.keys() == weights.keys()
    for term, weight in weights.items():
        check(case, f"value.{term}", value.values[term])
        check(case, f"logged.{term}", value.logged[term])
        assert value.weighted[term] == pytest.approx(weight * value.values[term], rel=1e-6)
    if "mse" in weights:
        check(case, "relativeError", value.relative_error)
    else:
        assert value.relative_error is None
    for key, name in names.items():
        if key in case.truth:
            assert_close(gradients[name], case.truth[key], case.naive[key], GRADIENT_TOLERANCE)
    assert objective.evaluate(**inputs).total == pytest.approx(value.total, rel=1e-12)


@named("MaskedReductions")
def test_masked_reductions(case: Case) -> None:
    rows, columns, count = (case.parameters[key] for key in ("rows", "columns", "maskCount"))
    values, masks = case.floats("values", rows, columns), case.bools("masks", count, columns)
    output_gradient = case.floats("outputGradient", rows, count)
    empty = not masks.any(axis=1).all()
    for reduction, key in (("sum", "sums"), ("mean", "means")):
        if empty:
            with pytest.raises(fastloss.EmptySelectionError):
                fastloss.masked_reductions(values, masks, reduction=reduction)
            continue
        check(case, key, fastloss.masked_reductions(values, masks, reduction=reduction))
        gradient = np.full_like(values, 3)
        fastloss.masked_reductions_gradient(
            output_gradient, masks, gradient, reduction=reduction, gradient_scale=0.5, accumulate=True
        )
        check(case, f"{key}Gradient", (gradient - 3) * 2)


@named("TokenPooling")
def test_token_pooling(case: Case) -> None:
    cells, tokens, width, count = (case.parameters[key] for key in ("cells", "tokens", "width", "weightings"))
    states = case.floats("states", cells, tokens, width)
    plain_gradient = case.floats("outputGradient", cells, width)
    for pooling, key in (("cls", "cls"), ("avg-pool", "average")):
        check(case, key, fastloss.token_pooling(states, pooling))
        gradient = np.empty_like(states)
        fastloss.token_pooling_gradient(plain_gradient, gradient, pooling)
        check(case, f"{key}StatesGradient", gradient)

    weights = case.floats("weights", cells, count, tokens)
    output_gradient = case.floats("weightedOutputGradient", cells, count, width)
    check(case, "weighted", fastloss.weighted_token_pooling(states, weights))
    normalized = fastloss.normalized_weighted_token_pooling(states, weights)
    check(case, "normalized", normalized.embeddings)
    for key, pooled in (("weighted", None), ("normalized", normalized)):
        gradients = np.empty_like(states), np.empty_like(weights)
        fastloss.weighted_token_pooling_gradient(
            output_gradient,
            states,
            weights,
            normalized=pooled,
            states_gradient=gradients[0],
            weights_gradient=gradients[1],
        )
        check(case, f"{key}StatesGradient", gradients[0])
        check(case, f"{key}WeightsGradient", gradients[1])


def test_pooling_of_states_with_gaps() -> None:
    wide = np.random.default_rng(1).standard_normal((3, 6, 12)).astype(np.float32)
    for states in (wide[:, ::2, 2:9], wide[::2, 1:5], wide[:, :, 3:7]):
        assert not states.flags.c_contiguous
        weights = np.ones((states.shape[0], 1, states.shape[1]), dtype=np.float32)
        np.testing.assert_allclose(fastloss.token_pooling(states, "avg-pool"), states.mean(axis=1), rtol=1e-5)
        sums = fastloss.weighted_token_pooling(states, weights)
        np.testing.assert_allclose(sums[:, 0], states.sum(axis=1), rtol=1e-5, atol=1e-6)
    with pytest.raises(fastloss.ShapeError, match="weights has the shape"):
        fastloss.weighted_token_pooling(wide, np.ones((3, 6), dtype=np.float32))
    with pytest.raises(fastloss.InvalidParameterError, match="pooling is 'w-pool'"):
        fastloss.token_pooling(wide, "w-pool")  # type: ignore[arg-type]
    with pytest.raises(fastloss.ShapeError, match="masks is 2 × 4; expected 2 × 5"):
        fastloss.masked_reductions(np.ones((1, 5), dtype=np.float32), np.ones((2, 4), dtype=bool))
