"""The whole objective of integration from one call."""

from typing import Any

import pytest
import reference
import torch
from losses import assert_gradients
from torch import Tensor

import fastloss
import fastloss.torch

CELLS, TOKENS, WIDTH, BATCHES, TYPES = 11, 60, 16, 3, 4


@pytest.fixture
def step() -> dict[str, Any]:
    """A model's outputs as leaves, with what they are to match."""
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    targets = torch.randint(0, 51, (CELLS, TOKENS), generator=random).float()
    targets[torch.rand(CELLS, TOKENS, generator=random) < 0.4] = 0
    outputs = {
        "mlm_output": targets + 8 * normal(CELLS, TOKENS),
        "mlm_zero_probs": normal(CELLS, TOKENS).sigmoid(),
        "mvc_output": targets + 8 * normal(CELLS, TOKENS),
        "mvc_zero_probs": normal(CELLS, TOKENS).sigmoid(),
        "cell_emb": normal(CELLS, WIDTH) + normal(1, WIDTH),
        "dab_output": normal(CELLS, BATCHES),
        "cls_output": normal(CELLS, TYPES),
    }
    return {
        "outputs": {name: output.requires_grad_() for name, output in outputs.items()},
        "target_values": targets,
        "masked_positions": torch.rand(CELLS, TOKENS, generator=random) < 0.4,
        "batch_labels": torch.randint(0, BATCHES, (CELLS,), generator=random),
        "cell_type_labels": torch.randint(0, TYPES, (CELLS,), generator=random),
    }


def truth(step: dict[str, Any], **options: Any) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The total, the terms as upstream logs them, and the inputs, all in float64."""
    outputs = {name: output.detach().double().requires_grad_() for name, output in step["outputs"].items()}
    targets, mask = step["target_values"].double(), step["masked_positions"]
    zero, gepc = options.get("explicit_zero_prob", True), options.get("gepc", True)
    threshold = options.get("ecs_threshold", 0.8)
    terms = {"mse": reference.masked_mse(outputs["mlm_output"], targets, mask)}
    if zero:
        terms["nzlp"] = reference.bernoulli(outputs["mlm_zero_probs"], targets, mask)
    if gepc:
        terms["mvc"] = reference.masked_mse(outputs["mvc_output"], targets, mask)
    if zero and gepc:
        terms["mvc_nzlp"] = reference.bernoulli(outputs["mvc_zero_probs"], targets, mask)
    if options.get("cell_type_labels") is not None:
        cls = reference.cross_entropy(outputs["cls_output"], step["cell_type_labels"])
        terms["cls"] = options.get("cls_weight", 1.0) * cls
    if threshold > 0:
        terms["ecs"] = options.get("ecs_weight", 10.0) * reference.elastic(outputs["cell_emb"], threshold)
    total = sum(terms.values(), torch.zeros((), dtype=torch.float64))
    if options.get("batch_labels", step["batch_labels"]) is not None:
        terms["dab"] = reference.cross_entropy(outputs["dab_output"], step["batch_labels"])
        total = total + options.get("dab_weight", 1.0) * terms["dab"]
    terms["mre"] = reference.relative_error(outputs["mlm_output"].detach(), targets, mask)
    return total, terms, outputs


OPTIONS: list[dict[str, Any]] = [
    {},
    {"explicit_zero_prob": False},
    {"gepc": False},
    {"gepc": False, "explicit_zero_prob": False, "ecs_threshold": 0, "batch_labels": None},
    {"ecs_threshold": 0.3, "ecs_weight": 2.5, "dab_weight": 0.25},
    {"cell_type_labels": ..., "cls_weight": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_total_terms_and_gradients(step: dict[str, Any], options: dict[str, Any], compiled: bool) -> None:
    if "cell_type_labels" in options:
        options = {**options, "cell_type_labels": step["cell_type_labels"]}
    arguments = {"batch_labels": step["batch_labels"], **options}

    def objective(
        outputs: dict[str, Tensor], targets: Tensor, mask: Tensor
    ) -> fastloss.torch.IntegrationLoss:
        return fastloss.torch.integration_loss(outputs, targets, mask, **arguments)

    if compiled:
        torch.compiler.reset()
        objective = torch.compile(objective, fullgraph=True)
    loss = objective(step["outputs"], step["target_values"], step["masked_positions"])
    total, terms, doubles = truth(step, **options)
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-6)
    assert loss.terms.keys() == terms.keys()
    for name, term in terms.items():
        assert not loss.terms[name].requires_grad
        assert loss.terms[name].item() == pytest.approx(term.item(), rel=2e-6), name

    found = torch.autograd.grad(2 * loss.total, list(step["outputs"].values()), allow_unused=True)
    expected = torch.autograd.grad(2 * total, list(doubles.values()), allow_unused=True)
    used = [index for index, gradient in enumerate(expected) if gradient is not None]
    assert all(
        found[index] is None or (found[index] == 0).all() for index in range(len(found)) if index not in used
    )
    assert_gradients([found[index] for index in used], [expected[index] for index in used])


def test_some_outputs_without_gradients(step: dict[str, Any]) -> None:
    inputs = [step["target_values"], step["masked_positions"], step["batch_labels"]]
    everything = fastloss.torch.integration_loss(step["outputs"], *inputs).total
    (expected,) = torch.autograd.grad(everything, step["outputs"]["cell_emb"])
    outputs = {name: output.detach() for name, output in step["outputs"].items()}
    outputs["cell_emb"].requires_grad_()
    loss = fastloss.torch.integration_loss(outputs, *inputs).total
    assert loss == everything
    torch.testing.assert_close(torch.autograd.grad(loss, outputs["cell_emb"])[0], expected)
    with torch.no_grad():
        assert not fastloss.torch.integration_loss(step["outputs"], *inputs).total.requires_grad


def test_embedding_that_is_a_view(step: dict[str, Any]) -> None:
    """scGPT's cell embedding is the first token's states: rows that lie apart."""
    states = torch.randn(CELLS, 5, WIDTH, requires_grad=True)
    inputs = [step["target_values"], step["masked_positions"], step["batch_labels"]]
    found = fastloss.torch.integration_loss({**step["outputs"], "cell_emb": states[:, 0]}, *inputs).total
    copied = states.detach()[:, 0].contiguous().requires_grad_()
    expected = fastloss.torch.integration_loss({**step["outputs"], "cell_emb": copied}, *inputs).total
    assert found == expected
    gradient = torch.autograd.grad(found, states)[0]
    torch.testing.assert_close(gradient[:, 0], torch.autograd.grad(expected, copied)[0])
    assert (gradient[:, 1:] == 0).all()


def test_empty_mask_is_nan_as_upstream(step: dict[str, Any]) -> None:
    loss = fastloss.torch.integration_loss(
        step["outputs"],
        step["target_values"],
        torch.zeros_like(step["masked_positions"]),
        step["batch_labels"],
    )
    assert loss.total.isnan() and loss.terms["mse"].isnan() and not loss.terms["ecs"].isnan()


def test_what_is_missing_or_does_not_fit(step: dict[str, Any]) -> None:
    inputs = [step["target_values"], step["masked_positions"], step["batch_labels"]]
    for name in ("mlm_output", "mlm_zero_probs", "mvc_output", "mvc_zero_probs", "cell_emb", "dab_output"):
        outputs = {key: value for key, value in step["outputs"].items() if key != name}
        with pytest.raises(fastloss.FastLossError, match=f"outputs has no '{name}', which is required"):
            fastloss.torch.integration_loss(outputs, *inputs)
    with pytest.raises(fastloss.ShapeError, match=r"cell_emb has the shape \(3, 16\); expected 11 rows"):
        fastloss.torch.integration_loss({**step["outputs"], "cell_emb": torch.zeros(3, WIDTH)}, *inputs)
    with pytest.raises(fastloss.ShapeError, match="expected 11 rows, as target_values, and 60 columns"):
        fastloss.torch.integration_loss({**step["outputs"], "mvc_output": torch.zeros(CELLS, 3)}, *inputs)
    with pytest.raises(fastloss.ShapeError, match="masked_positions has the shape"):
        fastloss.torch.integration_loss(step["outputs"], inputs[0], inputs[1][:, 1:], inputs[2])
    with pytest.raises(fastloss.ArrayError, match=r"mvc_output is a torch\.float64 tensor"):
        outputs = {**step["outputs"], "mvc_output": step["outputs"]["mvc_output"].double()}
        fastloss.torch.integration_loss(outputs, *inputs)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("narrow", [None, "cell_emb", "mlm_output"])
def test_outputs_of_16_bits(
    step: dict[str, Any], kind: torch.dtype, compiled: bool, narrow: str | None
) -> None:
    """All outputs or one of them: value and gradients are those of the widened ones, rounded once."""
    for name, output in step["outputs"].items():
        if narrow in (None, name):
            step["outputs"][name] = output.detach().to(kind).requires_grad_()
    widened = {name: output.detach().float().requires_grad_() for name, output in step["outputs"].items()}

    def objective(outputs: dict[str, Tensor], targets: Tensor, mask: Tensor) -> Any:
        return fastloss.torch.integration_loss(outputs, targets, mask, batch_labels=step["batch_labels"])

    others = step["target_values"], step["masked_positions"]
    expected = objective(widened, *others)
    if compiled:
        torch.compiler.reset()
        objective = torch.compile(objective, fullgraph=True)
    loss = objective(step["outputs"], *others)
    assert loss.total.dtype == torch.float32 and loss.total == expected.total
    assert all(loss.terms[name] == term for name, term in expected.terms.items())
    found = torch.autograd.grad(loss.total, list(step["outputs"].values()), allow_unused=True)
    exact = torch.autograd.grad(expected.total, list(widened.values()), allow_unused=True)
    for output, gradient, true_gradient in zip(step["outputs"].values(), found, exact, strict=True):
        assert (gradient is None) == (true_gradient is None)
        if gradient is not None:
            assert gradient.dtype == output.dtype and torch.equal(gradient, true_gradient.to(output.dtype))


def test_autocast(step: dict[str, Any]) -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(8, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step["outputs"]["cell_emb"] = layer(torch.randn(CELLS, 8))
        loss = fastloss.torch.integration_loss(
            step["outputs"],
            step["target_values"],
            step["masked_positions"],
            batch_labels=step["batch_labels"],
        )
    assert step["outputs"]["cell_emb"].dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(loss.total, layer.weight)
    assert gradient.dtype == torch.float32 and gradient.isfinite().all() and gradient.any()
