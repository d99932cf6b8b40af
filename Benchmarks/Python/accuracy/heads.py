"""The task heads with their losses: the C interface of the installed library, and scGPT's modules."""

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from peers import head_inputs, head_modules, oracle
from scgpt_heads import BatchLabelEncoder, Classifier
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from fastloss._library import library

from .errors import UNIT
from .inputs import Arrays, Maker, opposites, single

#: B × L × D. A cell's tokens are masked with probability 0.4.
CELLS, TOKENS, WIDTH = 8, 60, 32
CLASSES = 12
#: A unit of a rectifier closer to 0, relative to its token's units, may have the other sign in float32.
KINK = 1e-5
#: How often each input is changed by a unit in the last place, at random.
PERTURBATIONS = 4

Results = dict[str, Any]
Tensors = dict[str, Tensor]
#: Sizes with which the errors of arrays are compared, where they exceed the arrays' norms.
Scales = Callable[[Tensors], list[float]]


# --- The structs of fastloss/heads.h ------------------------------------------------------------------------


class Layer(ctypes.Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class View(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("stride", c_int64)]


class Perceptron(ctypes.Structure):
    _fields_ = [("first", Layer), ("second", Layer), ("third", Layer)]


class ExpressionDecoder(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("width", c_int64), ("explicit_zeros", c_bool), ("batch_embeddings", c_bool),
        ("nonzero_form", c_int32), ("when_empty", c_int32), ("reserved", c_int32), ("fc", Perceptron),
        ("zero_logit", Perceptron),
    ]  # fmt: skip


class ExpressionInputs(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("cells", c_int64), ("tokens", c_int64), ("batch_count", c_int64),
        ("states", c_void_p), ("states_token_stride", c_int64), ("states_cell_stride", c_int64),
        ("mask", View), ("batch_embeddings", View), ("batch_labels", c_void_p),
    ]  # fmt: skip


class ExpressionGradients(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("scale", c_float), ("update", c_int32), ("states", c_void_p),
        ("states_token_stride", c_int64), ("states_cell_stride", c_int64), ("batch_embeddings", View),
        ("fc", Perceptron), ("zero_logit", Perceptron),
    ]  # fmt: skip


class DecoderTargets(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("values", View), ("squared_error_weight", c_float), ("nonzero_weight", c_float),
    ]  # fmt: skip


class DecoderLosses(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("squared_error", c_double), ("nonzero", c_double), ("relative_error", c_double),
        ("selected_count", c_int64),
    ]  # fmt: skip


class MaskedValueDecoder(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("width", c_int64), ("hidden_width", c_int64), ("style", c_int32),
        ("explicit_zeros", c_bool), ("batch_embeddings", c_bool), ("nonzero_form", c_int32),
        ("when_empty", c_int32), ("gene2query", Layer), ("w_weight", c_void_p), ("w_zero_logit", Layer),
        ("fc1", Layer), ("hidden_activation", c_void_p), ("fc2", Layer),
    ]  # fmt: skip


class MaskedValueInputs(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("cells", c_int64), ("tokens", c_int64), ("gene_count", c_int64),
        ("batch_count", c_int64), ("cell_embeddings", View), ("gene_embeddings", View), ("genes", c_void_p),
        ("genes_stride", c_int64), ("mask", View), ("batch_embeddings", View), ("batch_labels", c_void_p),
    ]  # fmt: skip


class MaskedValueGradients(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("scale", c_float), ("update", c_int32), ("cell_embeddings", View),
        ("gene_embeddings", View), ("batch_embeddings", View), ("gene2query", Layer), ("w_weight", c_void_p),
        ("w_zero_logit", Layer), ("fc1", Layer), ("hidden_activation", c_void_p), ("fc2", Layer),
    ]  # fmt: skip


class Block(ctypes.Structure):
    _fields_ = [("linear", Layer), ("norm", Layer)]


class NativeClassifier(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("width", c_int64), ("classes", c_int64), ("block_count", c_int64),
        ("blocks", c_void_p), ("out_layer", Layer),
    ]  # fmt: skip


class ClassifierGradients(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("scale", c_float), ("update", c_int32), ("cell_embeddings", View),
        ("blocks", c_void_p), ("out_layer", Layer),
    ]  # fmt: skip


class LossValue(ctypes.Structure):
    _fields_ = [("value", c_double), ("selected_count", c_int64)]


class Encoder(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("label_count", c_int64), ("width", c_int64), ("embedding", c_void_p),
        ("enc_norm", Layer),
    ]  # fmt: skip


class EncoderGradients(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("scale", c_float), ("update", c_int32), ("embedding", c_void_p),
        ("enc_norm", Layer),
    ]  # fmt: skip


def sized(structure: type[Any], **members: Any) -> Any:
    return structure(size=ctypes.sizeof(structure), **members)


def check(status: int) -> None:
    if status:
        raise RuntimeError(library.fastloss_last_error().decode())


# --- FastLoss -----------------------------------------------------------------------------------------------


class Buffers:
    """Addresses of inputs, or of gradients with the same shapes."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def pointer(self, name: str) -> int | None:
        return self.arrays[name].ctypes.data if name in self.arrays else None

    def layer(self, name: str) -> Layer:
        return Layer(self.pointer(f"{name}.weight"), self.pointer(f"{name}.bias"))

    def view(self, name: str) -> View:
        return View(self.pointer(name), self.arrays[name].shape[1])

    def perceptron(self, name: str) -> Perceptron:
        return Perceptron(*(self.layer(f"{name}.{index}") for index in (0, 2, 4)))


def gradients_of(arrays: Arrays, names: tuple[str, ...]) -> Buffers:
    return Buffers({name: np.empty_like(arrays[name]) for name in names})


def results(value: float, gradients: Buffers) -> Results:
    return {
        "value": np.asarray(value, dtype=np.float64),
        "gradients": [array.astype(np.float64) for array in gradients.arrays.values()],
    }


def decoder_value(losses: DecoderLosses) -> float:
    value: float = losses.squared_error + losses.nonzero
    return value


def expression_decoder(arrays: Arrays) -> Results:
    given, places = Buffers(arrays), gradients_of(arrays, EXPRESSION)
    cells, tokens, width = arrays["states"].shape
    labels = arrays["labels"].astype(np.int32)
    name = head_inputs.DECODER
    decoder = sized(
        ExpressionDecoder,
        width=width,
        explicit_zeros=True,
        batch_embeddings=True,
        fc=given.perceptron(f"{name}fc"),
        zero_logit=given.perceptron(f"{name}zero_logit"),
    )
    strides = {"states_token_stride": width, "states_cell_stride": tokens * width}
    inputs = sized(
        ExpressionInputs,
        cells=cells,
        tokens=tokens,
        batch_count=len(arrays["batch_embedding"]),
        states=given.pointer("states"),
        **strides,
        mask=given.view("mask"),
        batch_embeddings=given.view("batch_embedding"),
        batch_labels=labels.ctypes.data,
    )
    gradients = sized(
        ExpressionGradients,
        scale=1,
        states=places.pointer("states"),
        **strides,
        batch_embeddings=places.view("batch_embedding"),
        fc=places.perceptron(f"{name}fc"),
        zero_logit=places.perceptron(f"{name}zero_logit"),
    )
    return decoder_loss(library.fastloss_expression_decoder_loss, decoder, inputs, given, gradients, places)


def masked_value_decoder(arrays: Arrays) -> Results:
    given, places = Buffers(arrays), gradients_of(arrays, MASKED_VALUES)
    cells, width = arrays["embedding"].shape
    labels, genes = (arrays[name].astype(np.int32) for name in ("labels", "genes"))
    name = head_inputs.MVC_DECODER
    decoder = sized(
        MaskedValueDecoder,
        width=width,
        hidden_width=1,
        explicit_zeros=True,
        batch_embeddings=True,
        gene2query=given.layer(f"{name}gene2query"),
        w_weight=given.pointer(f"{name}W.weight"),
        w_zero_logit=given.layer(f"{name}W_zero_logit"),
    )
    inputs = sized(
        MaskedValueInputs,
        cells=cells,
        tokens=len(genes),
        gene_count=len(arrays["gene_embedding"]),
        batch_count=len(arrays["batch_embedding"]),
        cell_embeddings=given.view("embedding"),
        gene_embeddings=given.view("gene_embedding"),
        genes=genes.ctypes.data,
        genes_stride=0,
        mask=given.view("mask"),
        batch_embeddings=given.view("batch_embedding"),
        batch_labels=labels.ctypes.data,
    )
    gradients = sized(
        MaskedValueGradients,
        scale=1,
        cell_embeddings=places.view("embedding"),
        gene_embeddings=places.view("gene_embedding"),
        batch_embeddings=places.view("batch_embedding"),
        gene2query=places.layer(f"{name}gene2query"),
        w_weight=places.pointer(f"{name}W.weight"),
        w_zero_logit=places.layer(f"{name}W_zero_logit"),
    )
    return decoder_loss(library.fastloss_masked_value_decoder_loss, decoder, inputs, given, gradients, places)


def decoder_loss(
    function: Any, decoder: Any, inputs: Any, given: Buffers, gradients: Any, places: Buffers
) -> Results:
    targets = sized(DecoderTargets, values=given.view("targets"), squared_error_weight=1, nonzero_weight=1)
    losses = sized(DecoderLosses)
    structs = (ctypes.addressof(struct) for struct in (decoder, inputs, targets, gradients))
    check(function(*structs, None, ctypes.addressof(losses)))
    return results(decoder_value(losses), places)


def classifier(function: Any, arrays: Arrays) -> Results:
    given, places = Buffers(arrays), gradients_of(arrays, CLASSIFIER)
    cells, width = arrays["embedding"].shape

    def blocks(buffers: Buffers) -> Any:
        layers = ((f"_decoder.{index}", f"_decoder.{index + 2}") for index in (0, 3))
        return (Block * 2)(*(Block(*map(buffers.layer, pair)) for pair in layers))

    read, written = blocks(given), blocks(places)
    head = sized(
        NativeClassifier,
        width=width,
        classes=CLASSES,
        block_count=2,
        blocks=ctypes.addressof(read),
        out_layer=given.layer("out_layer"),
    )
    gradients = sized(
        ClassifierGradients,
        scale=1,
        cell_embeddings=places.view("embedding"),
        blocks=ctypes.addressof(written),
        out_layer=places.layer("out_layer"),
    )
    labels, loss = arrays["labels"].astype(np.int32), LossValue()
    check(
        function(
            ctypes.addressof(head),
            cells,
            given.pointer("embedding"),
            width,
            labels.ctypes.data,
            None,
            ctypes.addressof(gradients),
            None,
            ctypes.addressof(loss),
        )
    )
    return results(loss.value, places)


def encoder(arrays: Arrays) -> Results:
    """The outputs take the place of the value."""
    given, places = Buffers(arrays), gradients_of(arrays, ENCODER)
    count, width = arrays["embedding.weight"].shape
    labels = arrays["labels"].astype(np.int32)
    outputs = np.empty((len(labels), width), dtype=np.float32)
    head = sized(
        Encoder,
        label_count=count,
        width=width,
        embedding=given.pointer("embedding.weight"),
        enc_norm=given.layer("enc_norm"),
    )
    gradients = sized(
        EncoderGradients,
        scale=1,
        embedding=places.pointer("embedding.weight"),
        enc_norm=places.layer("enc_norm"),
    )
    start = ctypes.addressof(head), len(labels), labels.ctypes.data
    check(library.fastloss_batch_label_encoder_embed(*start, outputs.ctypes.data, width, None))
    check(
        library.fastloss_batch_label_encoder_gradient(
            *start, given.pointer("upstream"), width, ctypes.addressof(gradients), None
        )
    )
    return {
        "outputs": [outputs.astype(np.float64)],
        "gradients": [array.astype(np.float64) for array in places.arrays.values()],
    }


# --- PyTorch ------------------------------------------------------------------------------------------------


@cache
def module(kind: str) -> nn.Module:
    with torch.device("meta"):
        if kind == "encoder":
            return BatchLabelEncoder(CLASSES, WIDTH)
        activation = nn.LeakyReLU if kind == "discriminator" else nn.ReLU
        return Classifier(WIDTH, CLASSES, 2, activation, 1.0 if kind == "discriminator" else None)


def class_outputs(kind: str, t: Tensors) -> list[Tensor]:
    parameters = {name: t[name] for name in CLASSIFIER if name != "embedding"}
    return [functional_call(module(kind), parameters, (t["embedding"],), strict=True)["logits"]]


def class_loss(outputs: list[Tensor], t: Tensors) -> Tensor:
    return F.cross_entropy(outputs[0], t["labels"])


def decoder_outputs(function: Callable[[Tensors], Tensors], t: Tensors) -> list[Tensor]:
    outputs = function(t)
    return [outputs["predictions"], outputs["nonzeroProbabilities"]]


def decoder_losses(outputs: list[Tensor], t: Tensors) -> Tensor:
    return oracle.squares_and_likelihood(*outputs, t)


def encoder_outputs(t: Tensors) -> list[Tensor]:
    parameters = {name: t[name] for name in ENCODER}
    return [functional_call(module("encoder"), parameters, (t["labels"],), strict=True)["embeddings"]]


@dataclass(frozen=True)
class Head:
    """A head as two functions: the outputs, and a loss of them."""

    wanted: tuple[str, ...]
    outputs: Callable[[Tensors], list[Tensor]]
    loss: Callable[[list[Tensor], Tensors], Tensor]

    def total(self, t: Tensors) -> Tensor:
        return self.loss(self.outputs(t), t)

    def scales(self, t: Tensors) -> list[float]:
        """With what the error of each gradient is compared, where this exceeds the gradient's norm.

        The norm that it would have if every output's slope were positive: slopes of both signs cancel in the
        sum over tokens, all the more if the tokens resemble each other. And by how much the gradient changes,
        in units in the last place, if each input changes by one such unit: a sum of cancelling terms in front
        of a sigmoid decides its gradient, however that sum is rounded.
        """
        random = torch.Generator().manual_seed(0)

        def perturbed(value: Tensor) -> Tensor:
            signs = 2.0 * torch.randint(0, 2, value.shape, generator=random) - 1
            return value * (1 + UNIT * signs)

        sizes = [gradient.norm().item() for gradient in self.with_positive_slopes(t)]
        gradients = self.gradients(t)
        for _ in range(PERTURBATIONS):
            near = self.gradients(t | {name: perturbed(t[name]) for name in self.wanted})
            changes = [(one - other).norm().item() / UNIT for one, other in zip(gradients, near, strict=True)]
            sizes = list(map(max, sizes, changes))
        return sizes

    def gradients(self, t: Tensors) -> list[Tensor]:
        leaves = [t[name].detach().requires_grad_() for name in self.wanted]
        return list(torch.autograd.grad(self.total(t | dict(zip(self.wanted, leaves, strict=True))), leaves))

    def with_positive_slopes(self, t: Tensors) -> list[Tensor]:
        leaves = [t[name].detach().requires_grad_() for name in self.wanted]
        outputs = self.outputs(t | dict(zip(self.wanted, leaves, strict=True)))
        apart = [output.detach().requires_grad_() for output in outputs]
        slopes = torch.autograd.grad(self.loss(apart, t), apart)
        return list(torch.autograd.grad(outputs, leaves, [slope.abs() for slope in slopes]))


def with_gradients(
    loss: Callable[[Tensors], Tensor], names: tuple[str, ...], precision: torch.dtype, arrays: Arrays
) -> Results:
    from .kernels import doubles, in_precision

    tensors = in_precision(arrays, precision)
    leaves = [tensors[name].requires_grad_() for name in names]
    value = loss(tensors)
    return {"value": doubles(value), "gradients": list(map(doubles, torch.autograd.grad(value, leaves)))}


def encoder_in_torch(precision: torch.dtype, arrays: Arrays) -> Results:
    from .kernels import doubles, in_precision

    tensors = in_precision(arrays, precision)
    leaves = [tensors[name].requires_grad_() for name in ENCODER]
    (outputs,) = encoder_outputs(tensors)
    gradients = torch.autograd.grad(outputs, leaves, tensors["upstream"])
    return {"outputs": [doubles(outputs)], "gradients": list(map(doubles, gradients))}


# --- Inputs -------------------------------------------------------------------------------------------------

EXPRESSION = head_inputs.DIFFERENTIATED["expression_decoder"]
MASKED_VALUES = head_inputs.DIFFERENTIATED["masked_value_shared"]
CLASSIFIER = (
    "embedding",
    *(f"_decoder.{index}.{part}" for index in (0, 2, 3, 5) for part in ("weight", "bias")),
    "out_layer.weight",
    "out_layer.bias",
)
ENCODER = ("embedding.weight", "enc_norm.weight", "enc_norm.bias")

#: Rows of token states, embeddings of genes or of cells.
ROWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "lognormal": lambda random, shape: random.lognormal(0, 1.5, shape) * random.choice([-1.0, 1.0], shape),
    "Cauchy": lambda random, shape: random.standard_cauchy(shape),
    "near-duplicates": lambda random, shape: (
        random.standard_normal(shape[-1]) + 1e-4 * random.standard_normal(shape)
    ),
    "cancelling": lambda random, shape: opposites(random, shape),
}


def parameters_of(random: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """As PyTorch initialises them, but drawn anew, and with gains and biases of normalisations drawn, too."""
    found: Arrays = {}
    for name, shape in shapes.items():
        inputs = shapes[name.rsplit(".", 1)[0] + ".weight"]
        bound = inputs[1] ** -0.5 if len(inputs) == 2 else 1.0
        found[name] = single(random.uniform(-bound, bound, shape))
    return found


def small(rows: Any) -> Any:
    """Rows of embeddings that keep the logits of a decoder far from scGPT's clamp."""
    sizes = np.sqrt((rows**2).mean(axis=-1, keepdims=True))
    return single(head_inputs.EMBEDDING_SIZE * rows / sizes)


def batch(random: np.random.Generator) -> Arrays:
    targets = random.lognormal(-1, 1, (CELLS, TOKENS)) * (random.random((CELLS, TOKENS)) < 0.6)
    mask = random.random((CELLS, TOKENS)) < 0.4
    mask[:, 0] = True
    return {
        "targets": single(targets),
        "mask": mask,
        "labels": random.integers(0, 2, CELLS),
        "batch_embedding": small(random.standard_normal((2, WIDTH))),
    }


def clear(loss: Callable[[Tensors], Any], arrays: Arrays) -> bool:
    """Whether no unit of a rectifier is at its kink, where the gradient jumps."""
    from .kernels import in_precision

    nearest = [np.inf]

    def look(layer: nn.Module, units: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.LeakyReLU | nn.ReLU):
            sizes = units[0].square().mean(dim=-1, keepdim=True).sqrt()
            nearest.append((units[0].abs() / sizes).min().item())

    hook = register_module_forward_pre_hook(look)
    try:
        tensors = in_precision(arrays, torch.float64)
        # The hook of a gradient reversal needs a tensor with a gradient.
        loss({name: value.requires_grad_(value.is_floating_point()) for name, value in tensors.items()})
    finally:
        hook.remove()
    return min(nearest) > KINK


def families(draw: Callable[[np.random.Generator, Any], Arrays], loss: Any = None) -> dict[str, Maker]:
    def maker(rows: Any) -> Maker:
        def make(random: np.random.Generator) -> Arrays:
            while True:
                arrays = draw(random, rows)
                if loss is None or clear(loss, arrays):
                    return arrays

        return make

    return {name: maker(rows) for name, rows in ROWS.items()}


def expression_inputs(random: np.random.Generator, rows: Any) -> Arrays:
    parameters = parameters_of(random, head_inputs.decoder_shapes(WIDTH))
    return batch(random) | parameters | {"states": small(rows(random, (CELLS, TOKENS, WIDTH)))}


def masked_value_inputs(random: np.random.Generator, rows: Any) -> Arrays:
    return (
        batch(random)
        | parameters_of(random, head_inputs.mvc_decoder_shapes(WIDTH))
        | {
            "embedding": small(rows(random, (CELLS, WIDTH))),
            "gene_embedding": single(rows(random, (TOKENS, WIDTH))),
            "genes": np.arange(TOKENS),
        }
    )


def class_inputs(random: np.random.Generator, rows: Any) -> Arrays:
    shapes = head_inputs.linear("_decoder.0", WIDTH, WIDTH) | head_inputs.layer_norm("_decoder.2", WIDTH)
    shapes |= head_inputs.linear("_decoder.3", WIDTH, WIDTH) | head_inputs.layer_norm("_decoder.5", WIDTH)
    shapes |= head_inputs.linear("out_layer", CLASSES, WIDTH)
    return parameters_of(random, shapes) | {
        "embedding": single(rows(random, (64, WIDTH))),
        "labels": random.integers(0, CLASSES, 64),
    }


def encoder_inputs(random: np.random.Generator, rows: Any) -> Arrays:
    return parameters_of(random, head_inputs.layer_norm("enc_norm", WIDTH)) | {
        "embedding.weight": single(rows(random, (CLASSES, WIDTH))),
        "labels": random.integers(0, CLASSES, 64),
        "upstream": single(random.standard_normal((64, WIDTH))),
    }


EXPRESSION_HEAD = Head(EXPRESSION, partial(decoder_outputs, head_modules.expression_outputs), decoder_losses)
MASKED_VALUE_HEAD = Head(
    MASKED_VALUES, partial(decoder_outputs, head_modules.masked_value_outputs), decoder_losses
)
CELL_TYPE_HEAD = Head(CLASSIFIER, partial(class_outputs, "classifier"), class_loss)
DISCRIMINATOR_HEAD = Head(CLASSIFIER, partial(class_outputs, "discriminator"), class_loss)
ENCODER_HEAD = Head(ENCODER, encoder_outputs, lambda outputs, t: (outputs[0] * t["upstream"]).sum())
discriminate = partial(classifier, library.fastloss_adversarial_discriminator_loss)
classify = partial(classifier, library.fastloss_cell_type_decoder_loss)
