"""The task heads: against PyTorch modules that compute scGPT's operations in float64, and scGPT's own."""

import importlib.util
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import reference
import scgpt_heads
import torch
from losses import assert_gradients
from torch import Tensor, nn
from torch.nn import functional as F
from versions import opcheck

import fastloss
from fastloss.torch import heads

CELLS, TOKENS, WIDTH, GENES, CLASSES, BATCHES = 5, 23, 12, 17, 4, 3
needs_scgpt = pytest.mark.skipif(importlib.util.find_spec("scgpt") is None, reason="scgpt is not installed")


@dataclass
class Case:
    """A decoder with its inputs, and the same computation in scGPT's order of operations."""

    module: nn.Module
    #: Leaves that require gradients, by the names of the arguments of `loss`.
    inputs: dict[str, Tensor]
    others: dict[str, Tensor]
    own: nn.Module
    #: Takes the reference module and its inputs in float64, and returns its outputs for all tokens.
    outputs: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, generator=random)


random = torch.Generator()


def batch() -> dict[str, Tensor]:
    target = torch.randint(0, 3, (CELLS, TOKENS), generator=random).float()
    # One cell without any selected token.
    mask = torch.rand(CELLS, TOKENS, generator=random) < 0.4
    if CELLS > 1:
        mask[CELLS // 2] = False
    return {"target": target, "mask": mask}


def expression_case(zeros: bool, batches: str) -> Case:
    random.manual_seed(1)
    torch.manual_seed(2)
    module = heads.ExprDecoder(WIDTH, zeros, batches != "none")
    inputs = {"x": rand(CELLS, TOKENS, WIDTH)}
    if batches == "per cell":
        inputs["batch_emb"] = rand(CELLS, WIDTH)
    elif batches == "by label":
        inputs["batch_emb"] = rand(BATCHES, WIDTH)
    elif batches == "per token":
        inputs["x"] = rand(CELLS, TOKENS, 2 * WIDTH)
    others = batch()
    if batches == "by label":
        others["batch_labels"] = torch.randint(0, BATCHES, (CELLS,), generator=random)
    own = scgpt_heads.ExpressionDecoder(WIDTH, zeros, batches != "none")

    def outputs(own: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        result: dict[str, Tensor] = own(inputs["x"], of_cells(inputs, others))
        return result

    return Case(module, inputs, others, own, outputs)


def of_cells(inputs: dict[str, Tensor], others: dict[str, Tensor]) -> Tensor | None:
    """The embedding of each cell's batch."""
    if "batch_labels" in others:
        return inputs["batch_emb"][others["batch_labels"]]
    return inputs.get("batch_emb")


def masked_value_case(style: str, zeros: bool, batches: bool | str, genes: str) -> Case:
    random.manual_seed(3)
    torch.manual_seed(4)
    module = heads.MVCDecoder(WIDTH, style, explicit_zero_prob=zeros, use_batch_labels=bool(batches))
    others = batch()
    inputs = {"cell_emb": rand(CELLS, 2 * WIDTH if batches is True else WIDTH)}
    if batches == "by label":
        inputs["batch_emb"] = rand(BATCHES, WIDTH)
        others["batch_labels"] = torch.randint(0, BATCHES, (CELLS,), generator=random)
    if genes == "per token":
        inputs["gene_embs"] = rand(CELLS, TOKENS, WIDTH)
    elif genes == "shared":
        inputs["gene_embs"] = rand(TOKENS, WIDTH)
    else:
        inputs["gene_embs"] = rand(GENES, WIDTH)
        others["genes"] = torch.randint(0, GENES, (CELLS, TOKENS), generator=random)
    if style.startswith("inner"):
        own: nn.Module = scgpt_heads.InnerProductDecoder(
            WIDTH, zeros, bool(batches), style.endswith("detach")
        )
    else:
        own = scgpt_heads.HiddenLayerDecoder(WIDTH, 64, style == "concat query")

    def outputs(own: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        embeddings = inputs["gene_embs"]
        if genes == "shared":
            embeddings = embeddings.expand(CELLS, -1, -1)
        elif genes == "by index":
            embeddings = embeddings[others["genes"]]
        batches = of_cells(inputs, others)
        cells = inputs["cell_emb"]
        result: dict[str, Tensor] = own(
            cells if batches is None else torch.cat([cells, batches], dim=1), embeddings
        )
        return result

    return Case(module, inputs, others, own, outputs)


CASES: dict[str, Callable[[], Case]] = {
    **{
        f"ExprDecoder, {zeros=}, batches {batches}": lambda z=zeros, b=batches: expression_case(z, b)
        for zeros, batches in itertools.product((False, True), ("none", "per cell", "per token", "by label"))
    },
    **{
        f"MVCDecoder, {style}, {zeros=}, {batches=}, genes {genes}": (
            lambda s=style, z=zeros, b=batches, g=genes: masked_value_case(s, z, b, g)
        )
        for style, zeros, batches, genes in itertools.product(
            ("inner product", "inner product, detach", "concat query", "sum query"),
            (False, True),
            (False, True, "by label"),
            ("per token", "shared", "by index"),
        )
        if style.startswith("inner") or not (zeros or batches)
    },
}
every_case = pytest.mark.parametrize("name", CASES)
WEIGHTS = (0.7, 2.5)


def truth(case: Case) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Both losses in float64, and the gradients of their weighted sum for inputs and parameters by name."""
    own = case.own.double()
    own.load_state_dict(case.module.state_dict())
    inputs = {name: value.double().requires_grad_() for name, value in case.inputs.items()}
    outputs = case.outputs(own, inputs)
    target, mask = case.others["target"].double(), case.others["mask"]
    losses = [reference.masked_mse(outputs["predictions"], target, mask)]
    if "nonzeroProbabilities" in outputs:
        losses.append(reference.bernoulli(outputs["nonzeroProbabilities"], target, mask))
    return losses, gradients_of(losses, own, inputs)


def gradients_of(
    losses: list[Tensor], module: nn.Module, inputs: dict[str, Tensor]
) -> dict[str, Tensor | None]:
    total = sum((weight * loss for weight, loss in zip(WEIGHTS, losses, strict=False)), torch.zeros(()))
    return gradients_of_total(total, module, inputs)


def gradients_of_total(
    total: Tensor, module: nn.Module, inputs: dict[str, Tensor]
) -> dict[str, Tensor | None]:
    places = {**dict(module.named_parameters()), **inputs}
    found = torch.autograd.grad(total, list(places.values()), allow_unused=True)
    return dict(zip(places, found, strict=True))


def assert_equal(
    found: tuple[list[Tensor], dict[str, Tensor | None]],
    expected: tuple[list[Tensor], dict[str, Tensor | None]],
) -> None:
    assert len(found[0]) == len(expected[0])
    for loss, true_loss in zip(found[0], expected[0], strict=True):
        assert loss.item() == pytest.approx(true_loss.item(), rel=2e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        other = found[1][name]
        if gradient is None:
            assert other is None, name
        else:
            assert other is not None, name
            # A slope's gradient is one sum, of terms that cancel.
            assert_gradients([other], [gradient], 2e-5 if name == "hidden_activation.weight" else 5e-6)


def run(case: Case, loss: Callable[..., Any]) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    inputs = {name: value.clone().requires_grad_() for name, value in case.inputs.items()}
    result = loss(**inputs, **case.others, mse_weight=WEIGHTS[0], nzlp_weight=WEIGHTS[1])
    assert isinstance(result, heads.DecoderLoss)
    terms = [term for term in result[1:] if term is not None]
    assert not any(term.requires_grad for term in terms)
    total = sum(weight * term.item() for weight, term in zip(WEIGHTS, terms, strict=False))
    assert total != total or result.total.item() == pytest.approx(total, rel=1e-6)
    return terms, gradients_of_total(result.total, case.module, inputs)


@every_case
def test_loss(name: str) -> None:
    case = CASES[name]()
    assert_equal(run(case, case.module.loss), truth(case))


@every_case
def test_masks_of_numbers_and_targets_of_integers(name: str) -> None:
    case = CASES[name]()
    expected = case.module.loss(**case.inputs, **case.others)
    case.others["mask"] = case.others["mask"].float()
    case.others["target"] = case.others["target"].long()
    assert [*case.module.loss(**case.inputs, **case.others)] == [*expected]


@pytest.mark.parametrize(
    "name",
    [
        "ExprDecoder, zeros=True, batches per cell",
        "ExprDecoder, zeros=False, batches none",
        "ExprDecoder, zeros=True, batches by label",
        "MVCDecoder, inner product, zeros=True, batches=True, genes per token",
        "MVCDecoder, inner product, detach, zeros=False, batches=False, genes by index",
        "MVCDecoder, concat query, zeros=False, batches=False, genes shared",
        "MVCDecoder, sum query, zeros=False, batches=False, genes per token",
    ],
)
def test_compiled(name: str) -> None:
    torch.compiler.reset()
    case = CASES[name]()

    def loss(**arguments: Any) -> Any:
        return case.module.loss(**arguments)

    assert_equal(run(case, torch.compile(loss, fullgraph=True)), truth(case))
    torch.compiler.reset()


@every_case
def test_forward(name: str) -> None:
    """Every output of scGPT's module, for its own form of the arguments."""
    case = CASES[name]()
    case.inputs.pop("batch_emb", None)
    if {"genes", "batch_labels"} & case.others.keys() or (name.startswith("Expr") and "per cell" in name):
        pytest.skip("forward has no such arguments")
    own = case.own.double()
    own.load_state_dict(case.module.state_dict())
    outputs = case.outputs(own, {name: value.double() for name, value in case.inputs.items()})
    found = case.module(*case.inputs.values())
    if isinstance(found, Tensor):
        found = {"pred": found}
    assert list(found) == ["pred", "zero_probs"][: len(outputs)]
    for output, expected in zip(found.values(), outputs.values(), strict=True):
        torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)


def test_tokens_outside_the_mask_are_not_read() -> None:
    case = expression_case(True, "per cell")
    losses, gradients = run(case, case.module.loss)
    case.inputs["x"][~case.others["mask"]] = float("nan")
    found, other_gradients = run(case, case.module.loss)
    for loss, expected in zip(found, losses, strict=True):
        assert torch.equal(loss, expected)
    for name, gradient in gradients.items():
        other = other_gradients[name]
        assert gradient is not None and other is not None and torch.equal(gradient, other), name
    states = other_gradients["x"]
    assert states is not None and not states[~case.others["mask"]].any()


def test_an_empty_mask() -> None:
    for case in (expression_case(True, "per cell"), masked_value_case("inner product", True, True, "shared")):
        case.others["mask"] = case.others["mask"] & False
        losses, gradients = run(case, case.module.loss)
        assert all(loss.isnan() for loss in losses)
        # As scGPT's.
        assert all(gradient is not None and gradient.isnan().all() for gradient in gradients.values())


# --- One call of the library, and PyTorch's operations ------------------------------------------------------


def is_of_the_library(loss: Tensor) -> bool:
    return type(loss.grad_fn).__name__ == "FastLossBackward"


@every_case
def test_what_the_library_computes(name: str) -> None:
    """Everything except an embedding of its own for each token."""
    case = CASES[name]()
    inputs = {name: value.requires_grad_() for name, value in case.inputs.items()}
    assert is_of_the_library(case.module.loss(**inputs, **case.others).total) == ("per token" not in name)


SHAPES = ((1, 1, 1), (1, 23, 12), (7, 1, 5), (3, 49, 17), (2, 130, 33))
BOTH = {
    "ExprDecoder": lambda: expression_case(True, "per cell"),
    "ExprDecoder, batches by label": lambda: expression_case(True, "by label"),
    "MVCDecoder, inner product": lambda: masked_value_case("inner product", True, True, "by index"),
    "MVCDecoder, batches by label": lambda: masked_value_case("inner product", True, "by label", "by index"),
    "MVCDecoder, inner product, detach": lambda: masked_value_case(
        "inner product, detach", True, False, "shared"
    ),
    "MVCDecoder, concat query": lambda: masked_value_case("concat query", False, False, "by index"),
    "MVCDecoder, sum query": lambda: masked_value_case("sum query", False, False, "shared"),
}


@pytest.mark.parametrize("selected", ["some", "all", "one"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BOTH)
def test_shapes(
    monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, int, int], selected: str
) -> None:
    for size, value in zip(("CELLS", "TOKENS", "WIDTH"), shape, strict=True):
        monkeypatch.setitem(globals(), size, value)
    case = BOTH[name]()
    # No residual near 0, where a relative tolerance of the loss would say nothing.
    mask, case.others["target"] = case.others["mask"], 2 * case.others["target"] - 1
    if selected == "all":
        mask |= True
    elif selected == "one" or not mask.any():
        mask &= False
        mask[-1, -1] = True
    assert_equal(run(case, case.module.loss), truth(case))


@pytest.mark.parametrize("name", BOTH)
def test_only_the_gradients_that_are_needed(name: str) -> None:
    case = BOTH[name]()
    expected = run(case, case.module.loss)
    frozen = next(key for key, value in expected[1].items() if value is not None)
    dict(case.module.named_parameters())[frozen].requires_grad_(False)
    inputs = {name: value.clone() for name, value in case.inputs.items()}
    loss = case.module.loss(**inputs, **case.others, mse_weight=WEIGHTS[0], nzlp_weight=WEIGHTS[1])
    loss.total.backward()
    for key, parameter in case.module.named_parameters():
        if key == frozen:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and torch.equal(parameter.grad, expected[1][key])
    for parameter in case.module.parameters():
        parameter.requires_grad_(False)
    assert not case.module.loss(**inputs, **case.others).total.requires_grad


@pytest.mark.parametrize("name", BOTH)
def test_without_gradients_and_again(name: str) -> None:
    case = BOTH[name]()
    inputs = {name: value.requires_grad_() for name, value in case.inputs.items()}
    with torch.no_grad():
        plain = case.module.loss(**inputs, **case.others).total
    assert not plain.requires_grad
    total = case.module.loss(**inputs, **case.others).total
    assert torch.equal(total, plain)
    leaves = [*case.module.parameters(), inputs["gene_embs" if "cell_emb" in inputs else "x"]]
    first = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
    copies = [None if gradient is None else gradient.clone() for gradient in first]
    # An incoming gradient scales, and the gradients that were handed out stay.
    second = torch.autograd.grad(3 * total, leaves, retain_graph=True, allow_unused=True)
    for one, copy, another in zip(first, copies, second, strict=True):
        assert (one is None) == (another is None)
        if one is not None and another is not None:
            assert torch.equal(one, copy) and torch.equal(another, 3 * copy)
    again = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(sum(one.sum() for one in again if one is not None), leaves)
    torch.autograd.grad(total, leaves, allow_unused=True)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(total, leaves, allow_unused=True)


OTHERS: dict[str, Callable[[Case], None]] = {
    "another activation": lambda case: case.module.fc.__setitem__(1, nn.GELU()),
    "another slope": lambda case: case.module.fc.__setitem__(3, nn.LeakyReLU(0.2)),
    "no bias": lambda case: case.module.fc.__setitem__(2, nn.Linear(WIDTH, WIDTH, bias=False)),
    "a subclass of Linear": lambda case: case.module.fc.__setitem__(
        2, type("Own", (nn.Linear,), {})(WIDTH, WIDTH)
    ),
    "a hook": lambda case: case.module.fc[2].register_forward_hook(lambda *_: None) and None,
    "parametrized": lambda case: nn.utils.parametrizations.weight_norm(case.module.fc[2]) and None,
    "a target with gradients": lambda case: case.others.update(target=case.others["target"].requires_grad_()),
    "a parameter with gaps": lambda case: setattr(
        case.module.fc[2], "weight", nn.Parameter(rand(WIDTH, 2 * WIDTH)[:, ::2])
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_layers(other: str) -> None:
    case = expression_case(False, "none")
    OTHERS[other](case)
    x = case.inputs["x"].requires_grad_()
    loss = case.module.loss(x, **case.others).total
    assert not is_of_the_library(loss)
    target, mask = case.others["target"], case.others["mask"]
    expected = reference.masked_mse(case.module(x)["pred"], target, mask)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    leaves = [x, *case.module.parameters()]
    for found, own in zip(
        torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", BOTH)
def test_other_types(name: str, kind: torch.dtype) -> None:
    case = BOTH[name]()
    losses, gradients = truth(case)
    case.module.to(kind)
    inputs = {name: value.to(kind).requires_grad_() for name, value in case.inputs.items()}
    target = case.others["target"].to(kind)
    found = case.module.loss(
        **inputs, **{**case.others, "target": target}, mse_weight=WEIGHTS[0], nzlp_weight=WEIGHTS[1]
    )
    tolerance = 1e-9 if kind is torch.float64 else 0.05
    assert found.mse.item() == pytest.approx(losses[0].item(), rel=tolerance)
    for key, gradient in gradients_of_total(found.total, case.module, inputs).items():
        own = gradients[key]
        assert (gradient is None) == (own is None)
        if gradient is not None and own is not None:
            assert gradient.dtype == kind
            assert (gradient.double() - own).norm() <= tolerance * own.norm() + 1e-12


def test_a_view_of_states() -> None:
    """The states of some tokens of a longer sequence, in place; and states with gaps in their rows."""
    case = expression_case(True, "per cell")
    losses, gradients = run(case, case.module.loss)
    x = case.inputs["x"]
    longer = torch.cat([rand(CELLS, 2, WIDTH), x, rand(CELLS, 1, WIDTH)], dim=1)
    spread = torch.stack([x, x], dim=3)[..., 0]
    for view in (longer[:, 2:-1], spread, x.transpose(0, 1).contiguous().transpose(0, 1)):
        assert not view.is_contiguous() and torch.equal(view, x)
        inputs = {**case.inputs, "x": view.detach().requires_grad_()}
        loss = case.module.loss(**inputs, **case.others, mse_weight=WEIGHTS[0], nzlp_weight=WEIGHTS[1])
        (gradient,) = torch.autograd.grad(loss.total, inputs["x"])
        assert torch.equal(loss.mse, losses[0]) and torch.equal(gradient, gradients["x"])


def test_genes_out_of_range() -> None:
    case = masked_value_case("inner product", True, True, "by index")
    for wrong in (GENES, -1, 2**40):
        case.others["genes"][0, case.others["mask"][0].nonzero()[0, 0]] = wrong
        with pytest.raises(IndexError, match="genes"):
            case.module.loss(**case.inputs, **case.others)


@pytest.mark.parametrize("name", ["ExprDecoder, batches by label", "MVCDecoder, batches by label"])
def test_batch_labels_out_of_range(name: str) -> None:
    case = BOTH[name]()
    for wrong in (BATCHES, -1, 2**40):
        case.others["batch_labels"][2] = wrong
        with pytest.raises(IndexError, match="batch_labels"):
            case.module.loss(**case.inputs, **case.others)


@pytest.mark.parametrize("name", ["ExprDecoder, batches by label", "MVCDecoder, batches by label"])
def test_batch_labels_that_do_not_fit(name: str) -> None:
    case = BOTH[name]()
    arguments = {**case.inputs, **case.others}
    for changes, message in (
        ({"batch_labels": torch.zeros(CELLS + 1, dtype=torch.long)}, r"batch_labels has the shape \(6,\)"),
        ({"batch_emb": rand(BATCHES, WIDTH + 1)}, r"batch_emb has .*; expected \(batches, 12\)"),
        ({"batch_emb": rand(BATCHES)}, "batch_emb has the shape"),
        ({"batch_emb": None}, "batch_labels are given without batch_emb"),
    ):
        with pytest.raises(fastloss.ShapeError, match=message):
            case.module.loss(**{**arguments, **changes})
    with pytest.raises(fastloss.ArrayError, match=r"batch_labels is a torch\.float32 tensor"):
        case.module.loss(**{**arguments, "batch_labels": torch.zeros(CELLS)})
    with pytest.raises(fastloss.ArrayError, match="batch_labels is a list"):
        case.module.loss(**{**arguments, "batch_labels": [0] * CELLS})
    # int32, and a view with gaps.
    expected = case.module.loss(**arguments)
    labels = arguments["batch_labels"]
    for same in (labels.int(), torch.stack([labels, labels], dim=1)[:, 0]):
        assert [*case.module.loss(**{**arguments, "batch_labels": same})] == [*expected]


@pytest.mark.parametrize("name", ["ExprDecoder", "MVCDecoder, inner product", "MVCDecoder, sum query"])
def test_opcheck(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of the operator are those that a compiled call gives it."""
    from fastloss.torch import _heads

    case = BOTH[name]()
    calls: list[tuple[Any, tuple[Any, ...]]] = []

    def record(operator: Any, arguments: tuple[Any, ...]) -> Any:
        calls.append((operator, arguments))
        return run_before(operator, arguments)

    run_before = _heads.run
    monkeypatch.setattr(_heads, "run", record)
    inputs = {name: value.requires_grad_() for name, value in case.inputs.items()}
    case.module.loss(**inputs, **case.others)
    ((operator, arguments),) = calls
    names = torch.ops.fastloss
    operation = names.expression_decoder if name == "ExprDecoder" else names.masked_value_decoder
    opcheck(operation.default, (*arguments, operator.wanted(arguments)))


def test_shapes_that_that_do_not_fit() -> None:
    case = expression_case(True, "per cell")
    arguments = {**case.inputs, **case.others}
    for name, value, message in (
        ("x", rand(CELLS, TOKENS, WIDTH + 1), "x has the shape"),
        ("x", rand(TOKENS, WIDTH), "x has 2 dimensions; expected 3"),
        ("batch_emb", rand(CELLS + 1, WIDTH), "batch_emb has the shape"),
        ("target", rand(CELLS, TOKENS + 1), r"target has the shape \(5, 24\); expected \(5, 23\)"),
        ("mask", rand(CELLS), "mask has the shape"),
    ):
        with pytest.raises(fastloss.ShapeError, match=message):
            case.module.loss(**{**arguments, name: value})
    with pytest.raises(fastloss.ShapeError, match=r"batch_emb has .* expected None"):
        heads.ExprDecoder(WIDTH).loss(rand(2, 3, WIDTH), rand(2, 3), rand(2, 3) > 0, rand(2, WIDTH))
    with pytest.raises(fastloss.ArrayError, match="x is a list"):
        heads.ExprDecoder(WIDTH).loss([1.0], rand(2, 3), rand(2, 3) > 0)  # type: ignore[arg-type]
    decoder = heads.MVCDecoder(WIDTH)
    values = rand(CELLS, TOKENS), rand(CELLS, TOKENS) > 0
    genes = torch.zeros(CELLS, TOKENS, dtype=torch.long)
    with pytest.raises(fastloss.ShapeError, match="gene_embs has 3 dimensions; expected 2"):
        decoder.loss(rand(CELLS, WIDTH), rand(CELLS, TOKENS, WIDTH), *values, genes)
    with pytest.raises(
        fastloss.ShapeError, match="cell_emb has 6 rows; expected one for each cell, as genes"
    ):
        decoder.loss(rand(CELLS + 1, WIDTH), rand(GENES, WIDTH), *values, genes)
    with pytest.raises(fastloss.ShapeError, match=r"cell_emb has 6 rows; .* as gene_embs"):
        decoder.loss(rand(CELLS + 1, WIDTH), rand(CELLS, TOKENS, WIDTH), *values)


def test_weights() -> None:
    case = expression_case(True, "none")
    arguments = {**case.inputs, **case.others}
    total, mse, nzlp = case.module.loss(**arguments)
    assert total.item() == pytest.approx((mse + nzlp).item())
    assert torch.equal(case.module.loss(**arguments, nzlp_weight=0).total, mse)
    for name in ("mse_weight", "nzlp_weight"):
        for value in (float("nan"), "1", None):
            with pytest.raises(fastloss.InvalidParameterError, match=name):
                case.module.loss(**arguments, **{name: value})


def test_what_scgpt_does_not_implement() -> None:
    with pytest.raises(ValueError, match="Unknown arch_style: dot"):
        heads.MVCDecoder(WIDTH, "dot")
    for style in ("concat query", "sum query"):
        decoder = heads.MVCDecoder(WIDTH, style, explicit_zero_prob=True)
        with pytest.raises(NotImplementedError):
            decoder(rand(CELLS, WIDTH), rand(CELLS, TOKENS, WIDTH))
        with pytest.raises(NotImplementedError):
            decoder.loss(rand(CELLS, WIDTH), rand(TOKENS, WIDTH), **batch())


# --- Classifiers --------------------------------------------------------------------------------------------


CLASSIFIERS: dict[str, tuple[Callable[[], heads.ClsDecoder], Callable[[], nn.Module]]] = {
    "ClsDecoder": (
        lambda: heads.ClsDecoder(WIDTH, CLASSES),
        lambda: scgpt_heads.Classifier(WIDTH, CLASSES, 2, nn.ReLU),
    ),
    "ClsDecoder of one layer": (
        lambda: heads.ClsDecoder(WIDTH, CLASSES, nlayers=1),
        lambda: scgpt_heads.Classifier(WIDTH, CLASSES, 0, nn.ReLU),
    ),
    "ClsDecoder with GELU": (
        lambda: heads.ClsDecoder(WIDTH, CLASSES, 4, nn.GELU),
        lambda: scgpt_heads.Classifier(WIDTH, CLASSES, 3, nn.GELU),
    ),
    "AdversarialDiscriminator": (
        lambda: heads.AdversarialDiscriminator(WIDTH, CLASSES),
        lambda: scgpt_heads.Classifier(WIDTH, CLASSES, 2, nn.LeakyReLU),
    ),
    "AdversarialDiscriminator, reversed": (
        lambda: heads.AdversarialDiscriminator(WIDTH, CLASSES, reverse_grad=True),
        lambda: scgpt_heads.Classifier(WIDTH, CLASSES, 2, nn.LeakyReLU, strength=1.0),
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, compiled: bool) -> None:
    random.manual_seed(5)
    torch.manual_seed(6)
    module, own = (make() for make in CLASSIFIERS[name])
    own = own.double()
    own.load_state_dict(module.state_dict())
    x = rand(9, WIDTH).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, -100, 1, 1, 0, 2])
    loss: Callable[[Tensor, Tensor], Tensor] = module.loss
    if compiled:
        torch.compiler.reset()
        loss = torch.compile(lambda x, labels: module.loss(x, labels), fullgraph=True)
    found = [loss(x, labels)]
    double = x.detach().double().requires_grad_()
    expected = [F.cross_entropy(own(double)["logits"], labels)]
    assert_equal(
        (found, gradients_of(found, module, {"x": x})), (expected, gradients_of(expected, own, {"x": double}))
    )
    torch.compiler.reset()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_again(name: str) -> None:
    torch.manual_seed(6)
    module = CLASSIFIERS[name][0]()
    x, labels = torch.randn(9, WIDTH).requires_grad_(), torch.arange(9) % CLASSES
    leaves = [x, *module.parameters()]
    loss = module.loss(x, labels)
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    copies = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(2 * loss, leaves, retain_graph=True)
    for one, copy, another in zip(first, copies, second, strict=True):
        assert torch.equal(one, copy)
        torch.testing.assert_close(another, 2 * copy)
    if is_of_the_library(loss):
        again = torch.autograd.grad(loss, leaves, create_graph=True)
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            torch.autograd.grad(sum(gradient.sum() for gradient in again), leaves)
    torch.autograd.grad(loss, leaves)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, leaves)


def test_batch_label_encoder() -> None:
    torch.manual_seed(7)
    encoder = heads.BatchLabelEncoder(3, WIDTH, padding_idx=2)
    own = scgpt_heads.BatchLabelEncoder(3, WIDTH)
    own.load_state_dict(encoder.state_dict())
    labels = torch.tensor([0, 1, 2, 1])
    assert torch.equal(encoder(labels), own(labels)["embeddings"])
    assert not encoder.embedding.weight[2].any()


# --- scGPT's own modules ------------------------------------------------------------------------------------


@needs_scgpt
@pytest.mark.parametrize(
    ("name", "arguments", "inputs"),
    [
        ("ExprDecoder", (WIDTH, True, True), lambda: [rand(CELLS, TOKENS, 2 * WIDTH)]),
        ("ExprDecoder", (WIDTH,), lambda: [rand(CELLS, TOKENS, WIDTH)]),
        ("MVCDecoder", (WIDTH,), lambda: [rand(CELLS, WIDTH), rand(CELLS, TOKENS, WIDTH)]),
        (
            "MVCDecoder",
            (WIDTH, "inner product, detach", nn.Tanh, nn.PReLU, True, True),
            lambda: [rand(CELLS, 2 * WIDTH), rand(CELLS, TOKENS, WIDTH)],
        ),
        ("MVCDecoder", (WIDTH, "concat query"), lambda: [rand(CELLS, WIDTH), rand(CELLS, TOKENS, WIDTH)]),
        (
            "MVCDecoder",
            (WIDTH, "sum query", nn.Sigmoid, nn.ReLU),
            lambda: [rand(CELLS, WIDTH), rand(CELLS, TOKENS, WIDTH)],
        ),
        ("ClsDecoder", (WIDTH, CLASSES), lambda: [rand(CELLS, WIDTH)]),
        ("AdversarialDiscriminator", (WIDTH, CLASSES, 3, nn.GELU, True), lambda: [rand(CELLS, WIDTH)]),
        ("BatchLabelEncoder", (3, WIDTH, 0), lambda: [torch.tensor([0, 2, 1])]),
    ],
)
def test_modules_are_scgpts(
    name: str, arguments: tuple[Any, ...], inputs: Callable[[], list[Tensor]]
) -> None:
    """The same seed draws the same parameters, a state dict goes both ways, and the outputs are the same."""
    from light_scgpt import light_scgpt

    torch.manual_seed(8)
    theirs = getattr(light_scgpt().model.model, name)(*arguments)
    torch.manual_seed(8)
    ours = getattr(heads, name)(*arguments)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    random.manual_seed(9)
    values = inputs()
    torch.testing.assert_close(ours(*values), theirs(*values), rtol=1e-5, atol=1e-6)


@needs_scgpt
def test_heads_in_scgpts_model() -> None:
    """In the place of the model's own heads, with its checkpoint, they give the same step."""
    from light_scgpt import light_scgpt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        net = light_scgpt().model.model.TransformerModel(
            ntoken=40,
            d_model=16,
            nhead=2,
            d_hid=16,
            nlayers=1,
            nlayers_cls=3,
            n_cls=CLASSES,
            vocab={"<pad>": 0},
            dropout=0.0,
            do_mvc=True,
            do_dab=True,
            use_batch_labels=True,
            num_batch_labels=3,
            explicit_zero_prob=True,
        )
    random.manual_seed(10)
    source = torch.randint(1, 40, (CELLS, TOKENS), generator=random)
    values = torch.rand(CELLS, TOKENS, generator=random)
    labels = torch.arange(CELLS) % 3

    def step() -> dict[str, Tensor]:
        output = net(source, values, source == 0, labels, CLS=True, MVC=True)
        return {name: value for name, value in output.items() if isinstance(value, Tensor)}

    expected = step()
    checkpoint = net.state_dict()
    net.decoder = heads.ExprDecoder(16, explicit_zero_prob=True, use_batch_labels=True)
    net.mvc_decoder = heads.MVCDecoder(16, explicit_zero_prob=True, use_batch_labels=True)
    net.cls_decoder = heads.ClsDecoder(16, CLASSES)
    net.grad_reverse_discriminator = heads.AdversarialDiscriminator(16, 3, reverse_grad=True)
    net.batch_encoder = heads.BatchLabelEncoder(3, 16)
    net.load_state_dict(checkpoint)
    found = step()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
