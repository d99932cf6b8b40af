"""What the losses do with arguments that are not what they take, and where their results lie."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from losses import DIFFERENTIABLE, METRIC, Loss, leaves
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import fastloss
import fastloss.torch


def integration_arguments() -> list[Any]:
    random = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random).requires_grad_()

    outputs = [rand(6, 9), rand(6, 9), rand(6, 9), rand(6, 9), rand(6, 4), rand(6, 3), rand(6, 5)]
    labels = torch.arange(6) % 3
    return [*outputs, torch.ones(6, 9), torch.rand(6, 9, generator=random) < 0.5, labels, labels.clone()]


OUTPUTS = (
    "mlm_output",
    "mlm_zero_probs",
    "mvc_output",
    "mvc_zero_probs",
    "cell_emb",
    "cls_output",
    "dab_output",
)


def integrated(*arguments: Any, **options: Any) -> Tensor:
    target, mask, cell_type_labels, batch_labels = arguments[7:]
    return fastloss.torch.integration_loss(
        dict(zip(OUTPUTS, arguments[:7], strict=True)),
        target,
        mask,
        batch_labels,
        cell_type_labels=cell_type_labels,
        **options,
    ).total


INTEGRATION = Loss("integration_loss", integrated, integrated, integration_arguments, None)
VALUES = ("input", "target", "mask")
#: The names of the tensors that each takes.
NAMES: dict[str, tuple[str, ...]] = {
    "masked_mse_loss": VALUES,
    "criterion_neg_log_bernoulli": VALUES,
    "masked_relative_error": VALUES,
    "elastic_cell_similarity": ("cell_emb",),
    "contrastive_cell_embedding": ("cell1", "cell2"),
    "cross_entropy": ("logits", "labels"),
    "integration_loss": (
        *OUTPUTS,
        "target_values",
        "masked_positions",
        "cell_type_labels",
        "batch_labels",
    ),
}
EVERYTHING = [*DIFFERENTIABLE, METRIC, INTEGRATION]
every_function = pytest.mark.parametrize("loss", EVERYTHING, ids=str)
every_tensor = pytest.mark.parametrize(
    ("loss", "index", "name"),
    [
        pytest.param(loss, index, name, id=f"{loss}-{name}")
        for loss in EVERYTHING
        for index, name in enumerate(NAMES[loss.name])
    ],
)


def refused(
    loss: Loss, index: int, name: str, value: Any, kind: type[Exception] = fastloss.ArrayError
) -> str:
    arguments = loss.arguments()
    arguments[index] = value
    with pytest.raises(kind) as caught:
        loss.function(*arguments)
    message = str(caught.value)
    assert message.startswith(f"{name} ") and "expected" in message, message
    return message


# --- What is no plain tensor --------------------------------------------------------------------------------


def quantized(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor.detach().float(), 0.1, 0, torch.quint8)


def quietly(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """PyTorch calls some of these prototypes, in a warning."""

    def call(tensor: Tensor) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(tensor)

    return call


WRONG: list[tuple[str, Callable[[Tensor], Any], str]] = [
    ("string", lambda tensor: "tensor", "is a str; expected a torch.Tensor"),
    ("list", lambda tensor: tensor.tolist(), "is a list; expected a torch.Tensor"),
    ("ndarray", lambda tensor: tensor.detach().numpy(), "is a numpy.ndarray; expected a torch.Tensor"),
    ("complex", lambda tensor: tensor.detach().to(torch.complex64), "is a torch.complex64 tensor"),
    ("meta", lambda tensor: tensor.detach().to("meta"), "tensor on meta"),
    ("sparse", lambda tensor: tensor.detach().to_sparse(), "torch.sparse_coo; expected"),
    ("quantized", quietly(quantized), "is a torch.quint8 tensor"),
    (
        "nested",
        quietly(lambda tensor: torch.nested.nested_tensor(list(tensor.detach().unbind()))),
        "is a nested torch.",
    ),
    (
        "masked",
        quietly(
            lambda tensor: torch.masked.masked_tensor(
                tensor.detach().clone(), torch.ones_like(tensor, dtype=torch.bool)
            )
        ),
        "MaskedTensor, a tensor subclass without support",
    ),
]
if hasattr(torch, "jagged"):  # Since PyTorch 2.2.
    WRONG.append(
        (
            "jagged",
            quietly(
                lambda tensor: torch.nested.nested_tensor(
                    [tensor.detach().reshape(-1)] * 2, layout=torch.jagged
                )
            ),
            "NestedTensor, a tensor subclass without support",
        )
    )


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
@every_tensor
def test_what_is_no_plain_tensor(
    loss: Loss, index: int, name: str, change: Callable[[Tensor], Any], message: str
) -> None:
    assert message in refused(loss, index, name, change(loss.arguments()[index]))


@every_tensor
def test_none(loss: Loss, index: int, name: str) -> None:
    if loss is not INTEGRATION:
        assert "is None; expected a torch.Tensor" in refused(loss, index, name, None)
    elif name in OUTPUTS:
        arguments = loss.arguments()
        arguments[index] = None
        with pytest.raises(fastloss.FastLossError, match=f"outputs has no '{name}', which is required"):
            loss.function(*arguments)
    elif not name.endswith("labels"):
        refused(loss, index, name, None)


@every_tensor
def test_tensors_without_memory(loss: Loss, index: int, name: str) -> None:
    """A null pointer in the place of a mask would select everything."""
    tensor = loss.arguments()[index]
    arguments = loss.arguments()
    arguments[index] = torch._efficientzerotensor(tensor.shape, dtype=tensor.dtype)
    assert arguments[index].data_ptr() == 0
    if tensor.dtype is torch.int64:
        loss.function(*arguments)  # The conversion to int32 makes memory.
        return
    with pytest.raises(fastloss.ArrayError):
        loss.function(*arguments)


@every_function
def test_tensors_of_a_transform(loss: Loss) -> None:
    first, *others = loss.arguments()
    with pytest.raises(fastloss.ArrayError, match=r"is a tensor of a transform of torch\.func"):
        torch.func.vmap(lambda first: loss.function(first, *others))(first.detach().unsqueeze(0))


class Own(Tensor):
    """A subclass that adds nothing."""


@every_function
def test_a_subclass_that_is_a_tensor_still(loss: Loss) -> None:
    arguments = loss.arguments()
    expected = loss.function(*arguments)
    own = [
        argument.detach().as_subclass(Own).requires_grad_(argument.requires_grad)
        if isinstance(argument, Tensor)
        else argument
        for argument in arguments
    ]
    value = loss.function(*own)
    assert value.as_subclass(Tensor) == expected
    if expected.requires_grad:
        gradients = torch.autograd.grad(expected, leaves(arguments))
        for one, other in zip(torch.autograd.grad(value, leaves(own)), gradients, strict=True):
            torch.testing.assert_close(one.as_subclass(Tensor), other)


@every_function
def test_fake_tensors_outside_of_their_mode(loss: Loss) -> None:
    mode = FakeTensorMode()
    fake = [
        mode.from_tensor(argument) if isinstance(argument, Tensor) else argument
        for argument in loss.arguments()
    ]
    value = loss.function(*fake)
    assert type(value) is type(fake[0]) and value.shape == () and value.dtype is torch.float32
    if loss.name in ("masked_mse_loss", "integration_loss"):
        index = NAMES[loss.name].index("mask" if loss is not INTEGRATION else "masked_positions")
        with pytest.raises(fastloss.ArrayError, match=r"is a torch\.complex64 tensor"):
            loss.function(*fake[:index], fake[index].to(torch.complex64), *fake[index + 1 :])


@every_function
def test_what_follows_the_operators_sees_them(loss: Loss) -> None:
    """make_fx would record the number that came out as a constant, torch.jit.trace too."""
    with torch.no_grad():
        arguments = [
            argument.detach() if isinstance(argument, Tensor) else argument for argument in loss.arguments()
        ]
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    rest = arguments[len(tensors) :]

    def call(*tensors: Tensor) -> Tensor:
        return loss.function(*tensors, *rest)

    graph: Any = make_fx(call)(*tensors)
    assert "torch.ops.fastloss." in graph.code
    other = [tensor * 0.5 if tensor.is_floating_point() else tensor for tensor in tensors]
    assert graph(*other) == call(*other)
    with (
        warnings.catch_warnings(),
        pytest.raises(fastloss.FastLossError, match=r"torch\.jit\.trace records"),
    ):
        warnings.simplefilter("ignore")
        torch.jit.trace(call, tuple(tensors))


# --- Masks, and gradients that nobody computes --------------------------------------------------------------


MASKED = [loss for loss in EVERYTHING if "mask" in NAMES[loss.name] or loss is INTEGRATION]


@pytest.mark.parametrize("loss", MASKED, ids=str)
def test_masks_that_are_none(loss: Loss) -> None:
    name = "masked_positions" if loss is INTEGRATION else "mask"
    index = NAMES[loss.name].index(name)
    mask = loss.arguments()[index]
    assert "torch.complex64" in refused(loss, index, name, mask.to(torch.complex64))
    names = ("float32", "float64", "bfloat16", "int32", "uint8", "uint16")
    # PyTorch 2.3 added uint16.
    for kind in (getattr(torch, name) for name in names if hasattr(torch, name)):
        expected = loss.function(*loss.arguments())
        arguments = loss.arguments()
        arguments[index] = mask.to(kind)
        assert loss.function(*arguments) == expected
        wrong = [2] if not kind.is_floating_point else [2, -1, 0.5, float("nan"), float("inf")]
        for value in wrong:
            spoilt = mask.to(kind)
            spoilt[0, 0] = value
            assert "holds numbers other than 0 and 1" in refused(loss, index, name, spoilt)


@pytest.mark.parametrize("loss", [loss for loss in MASKED if loss is not METRIC], ids=str)
def test_gradients_that_would_be_missing(loss: Loss) -> None:
    """Upstream's formulas have a derivative in the mask: its absence is said."""
    names = ["target_values", "masked_positions"] if loss is INTEGRATION else ["mask"]
    for name in names:
        index = NAMES[loss.name].index(name)
        tensor = loss.arguments()[index].float().requires_grad_()
        assert "requires gradients" in refused(loss, index, name, tensor)
        arguments = loss.arguments()
        arguments[index] = tensor
        with torch.no_grad():
            assert loss.function(*arguments) == loss.function(*loss.arguments())


# --- Numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [1e300, float("nan"), float("inf"), "1", None, True, torch.tensor(0.5), [0.5], 1j], ids=str
)
def test_numbers(value: Any) -> None:
    embeddings = torch.ones(3, 4)
    arguments = integration_arguments()
    for name, call in {
        "threshold": lambda: fastloss.torch.elastic_cell_similarity(embeddings, value),
        "temperature": lambda: fastloss.torch.contrastive_cell_embedding(embeddings, embeddings, value),
        "lambd": lambda: fastloss.torch.grad_reverse(embeddings, value),
        "ecs_threshold": lambda: integrated(*arguments, ecs_threshold=value),
        "ecs_weight": lambda: integrated(*arguments, ecs_weight=value),
        "dab_weight": lambda: integrated(*arguments, dab_weight=value),
        "cls_weight": lambda: integrated(*arguments, cls_weight=value),
    }.items():
        with pytest.raises(fastloss.InvalidParameterError, match=f"^{name} is .*; expected a"):
            call()
    # The dispatcher is not asked, which has words of its own.
    with pytest.raises(fastloss.InvalidParameterError, match=r"^threshold is"):
        fastloss.torch.elastic_cell_similarity(embeddings.as_subclass(Own), value)


def test_numbers_of_other_types() -> None:
    embeddings = torch.eye(3, 4)
    for kind in (np.float32, np.float64):
        assert fastloss.torch.elastic_cell_similarity(
            embeddings, kind(0.5)
        ) == fastloss.torch.elastic_cell_similarity(embeddings, 0.5)


def test_other_arguments_of_the_objective() -> None:
    arguments = integration_arguments()
    for name in ("explicit_zero_prob", "gepc"):
        with pytest.raises(fastloss.InvalidParameterError, match=f"^{name} is 1; expected True or False"):
            integrated(*arguments, **{name: 1})
    with pytest.raises(fastloss.InvalidParameterError, match=r"outputs is .*; expected a mapping of names"):
        fastloss.torch.integration_loss(arguments[0], *arguments[7:9])
    with pytest.raises(fastloss.ArrayError, match=r"x is a list; expected a torch\.Tensor"):
        fastloss.torch.grad_reverse([1.0])  # type: ignore[arg-type]


# --- Where results lie --------------------------------------------------------------------------------------


@contextlib.contextmanager
def other_defaults(how: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        if how == "dtype":
            torch.set_default_dtype(torch.float64)
        elif how == "device":
            torch.set_default_device("meta")
        with torch.device("meta") if how == "context" else contextlib.nullcontext():
            yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)


@pytest.mark.parametrize("how", ["device", "context", "dtype"])
@every_function
def test_default_devices_and_types_do_not_matter(loss: Loss, how: str) -> None:
    arguments = loss.arguments()
    expected = loss.function(*arguments)
    gradients = torch.autograd.grad(expected, leaves(arguments)) if expected.requires_grad else ()
    operator = loss.operator
    with other_defaults(how):
        value = loss.function(*arguments)
        assert value.device.type == "cpu" and value.dtype is torch.float32
        assert value.item() == expected.item()
        if value.requires_grad:
            again = torch.autograd.grad(value, leaves(arguments))
            for gradient, other in zip(again, gradients, strict=True):
                assert torch.equal(gradient, other)
            loss.function(*arguments).backward()
        if operator is not None:
            # None of the gradients is wanted: what stands for them is made by hand.
            count = len(operator.default._schema.returns) - 1
            results = operator.default(*arguments, [False] * count)
            for result in results if count else (results,):
                assert result.device.type == "cpu" and result.dtype is torch.float32
        if loss is INTEGRATION:
            terms = fastloss.torch.integration_loss(
                dict(zip(OUTPUTS, arguments, strict=False)), arguments[7], arguments[8], arguments[10]
            ).terms
            assert {(term.device.type, term.dtype) for term in terms.values()} == {("cpu", torch.float32)}
