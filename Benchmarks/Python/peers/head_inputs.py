"""The inputs of the task heads: what scGPT's heads read in a step of integration, and their parameters.

The parameters have the names of scGPT's state dict.
"""

import numpy as np

from .inputs import Array, embeddings, value_inputs

#: The batches of cells, as in an integration of two samples.
BATCHES = 2
#: One more than the largest bin of 51.
BINS = 51

#: The root mean square of the embeddings' elements. With it no logit of an untrained decoder comes near 15.9,
#: where scGPT clamps the probability, and a loss of logits does not.
EMBEDDING_SIZE = 0.25

DECODER, MVC_DECODER, DISCRIMINATOR = "decoder.", "mvc_decoder.", "grad_reverse_discriminator."


def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def layer_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def decoder_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The parameters of ExprDecoder, with explicit zeros and batch labels."""
    shapes = {}
    for name in ("fc", "zero_logit"):
        shapes |= linear(f"{DECODER}{name}.0", width, 2 * width)
        shapes |= linear(f"{DECODER}{name}.2", width, width)
        shapes |= linear(f"{DECODER}{name}.4", 1, width)
    return shapes


def mvc_decoder_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The parameters of MVCDecoder "inner product", with explicit zeros and batch labels."""
    shapes = linear(f"{MVC_DECODER}gene2query", width, width)
    shapes |= linear(f"{MVC_DECODER}W", 2 * width, width, bias=False)
    return shapes | linear(f"{MVC_DECODER}W_zero_logit", 2 * width, width)


def discriminator_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The parameters of AdversarialDiscriminator."""
    shapes = {}
    for layer in (0, 3):
        shapes |= linear(f"{DISCRIMINATOR}_decoder.{layer}", width, width)
        shapes |= layer_norm(f"{DISCRIMINATOR}_decoder.{layer + 2}", width)
    return shapes | linear(f"{DISCRIMINATOR}out_layer", BATCHES, width)


def parameters(shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """Values as PyTorch draws them: uniform up to 1/√inputs; 1 and 0 for the layers that normalise."""
    random = np.random.default_rng(12)
    values: dict[str, Array] = {}
    for name, shape in shapes.items():
        layer, kind = name.rsplit(".", 1)
        weight = shapes[f"{layer}.weight"]
        if len(weight) == 1:
            values[name] = np.full(shape, kind == "weight", dtype=np.float32)
        else:
            bound = weight[1] ** -0.5
            values[name] = random.uniform(-bound, bound, shape).astype(np.float32)
    return values


def scaled(rows: Array) -> Array:
    """Rows of the same directions, with elements of one size."""
    sizes = np.sqrt((rows**2).mean(axis=1, keepdims=True))
    return (EMBEDDING_SIZE * rows / sizes).astype(np.float32)


def batch_inputs(rows: int, tokens: int, width: int) -> dict[str, Array]:
    """Targets and mask of a batch, and the embedding of each of the two batches with the cells' labels.

    The bins are scaled to the size of an untrained decoder's outputs: the outputs would not matter beside
    targets of 50.
    """
    values = value_inputs(rows, tokens)
    random = np.random.default_rng(11)
    return {
        "targets": values["targets"] / np.float32(BINS),
        "mask": values["mask"],
        "batch_embedding": scaled(random.standard_normal((BATCHES, width))),
        "labels": np.arange(rows) % BATCHES,
    }


def states(rows: int, tokens: int, width: int) -> Array:
    """Token states of the size that the transformer's last layer normalises them to."""
    return np.random.default_rng(9).standard_normal((rows, tokens, width), dtype=np.float32)


def gene_inputs(rows: int, tokens: int, width: int, lists: bool) -> dict[str, Array]:
    """The embeddings of L distinct genes, and one list of them or, with `lists`, each cell's own order."""
    random = np.random.default_rng(10)
    genes = random.random((rows, tokens)).argsort(axis=1) if lists else np.arange(tokens)
    return {
        "embedding": scaled(embeddings(rows, width)),
        "gene_embedding": random.standard_normal((tokens, width), dtype=np.float32),
        "genes": genes,
    }


def expression_decoder(rows: int, tokens: int, width: int) -> dict[str, Array]:
    return {
        **batch_inputs(rows, tokens, width),
        **parameters(decoder_shapes(width)),
        "states": states(rows, tokens, width),
    }


def masked_value_decoder(rows: int, tokens: int, width: int, lists: bool) -> dict[str, Array]:
    return {
        **batch_inputs(rows, tokens, width),
        **parameters(mvc_decoder_shapes(width)),
        **gene_inputs(rows, tokens, width, lists),
    }


def integration_heads(rows: int, tokens: int, width: int) -> dict[str, Array]:
    shapes = decoder_shapes(width) | mvc_decoder_shapes(width) | discriminator_shapes(width)
    return {
        **batch_inputs(rows, tokens, width),
        **parameters(shapes),
        **gene_inputs(rows, tokens, width, lists=False),
        "states": states(rows, tokens, width),
    }


MAKERS = {
    "expression_decoder": expression_decoder,
    "masked_value_shared": lambda *shape: masked_value_decoder(*shape, lists=False),
    "masked_value_lists": lambda *shape: masked_value_decoder(*shape, lists=True),
    "integration_heads": integration_heads,
}
GENE_GRADIENTS = ("embedding", "gene_embedding")
#: The inputs whose gradients are computed; the names of the parameters are those of any width.
DIFFERENTIATED = {
    "expression_decoder": (*decoder_shapes(1), "states", "batch_embedding"),
    "masked_value_shared": (*mvc_decoder_shapes(1), *GENE_GRADIENTS, "batch_embedding"),
    "masked_value_lists": (*mvc_decoder_shapes(1), *GENE_GRADIENTS, "batch_embedding"),
    "integration_heads": (
        *decoder_shapes(1),
        *mvc_decoder_shapes(1),
        *discriminator_shapes(1),
        "states",
        *GENE_GRADIENTS,
        "batch_embedding",
    ),
}
