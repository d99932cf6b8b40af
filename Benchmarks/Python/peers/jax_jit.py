"""The losses in JAX, value and gradient in one jitted call."""

import jax
import jax.numpy as jnp

from .head_inputs import DECODER, DISCRIMINATOR, MVC_DECODER
from .inputs import MASK_RATIO
from .problems import CLAMP, ECS_WEIGHT, TEMPERATURE, THRESHOLD

Inputs = dict[str, jax.Array]
#: PyTorch's, which scGPT leaves as it is.
LAYER_NORM_EPSILON = 1e-5


def normalized(rows: jax.Array, floor: float) -> jax.Array:
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.maximum(norms, floor)


def mse(inputs: Inputs) -> jax.Array:
    squares = (inputs["gene"] - inputs["targets"]) ** 2
    return jnp.where(inputs["mask"], squares, 0.0).sum() / inputs["mask"].sum()


def value_terms(inputs: Inputs) -> tuple[jax.Array, jax.Array]:
    targets, mask = inputs["targets"], inputs["mask"]
    count = mask.sum()

    def mean(elements: jax.Array) -> jax.Array:
        return jnp.where(mask, elements, 0.0).sum() / count

    total = jnp.float32(0)
    for name in ("gene", "cell"):
        total = total + mean((inputs[name] - targets) ** 2)
    for name in ("gene_nonzero", "cell_nonzero"):
        probabilities = jnp.clip(inputs[name], CLAMP, 1 - CLAMP)
        total = total - mean(jnp.log(jnp.where(targets > 0, probabilities, 1 - probabilities)))
    metric = mean(jnp.abs(jax.lax.stop_gradient(inputs["gene"]) - targets) / (targets + 1e-6))
    return total, metric


def elastic(inputs: Inputs) -> jax.Array:
    rows = normalized(inputs["embedding"], 1e-12)
    pairs = rows @ rows.T
    pairs = jnp.where(jnp.eye(pairs.shape[0], dtype=bool), 0.0, pairs)
    return jnp.mean(1 - (jax.nn.relu(pairs) - THRESHOLD) ** 2)


def contrastive(inputs: Inputs) -> jax.Array:
    pairs = normalized(inputs["embedding"], 1e-8) @ normalized(inputs["second"], 1e-8).T / TEMPERATURE
    return jnp.mean(jax.nn.logsumexp(pairs, axis=1) - jnp.diagonal(pairs))


def cross_entropy(inputs: Inputs) -> jax.Array:
    logits, labels = inputs["logits"], inputs["labels"]
    right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


def integration(inputs: Inputs) -> tuple[jax.Array, jax.Array]:
    total, metric = value_terms(inputs)
    return total + ECS_WEIGHT * elastic(inputs) + cross_entropy(inputs), metric


# --- The task heads -----------------------------------------------------------------------------------------


def masked_rows(mask: jax.Array) -> jax.Array:
    """The masked tokens of each cell, as indices of B·L tokens: as many in every cell."""
    cells, tokens = mask.shape
    count = cells * int(MASK_RATIO * tokens)
    return jnp.nonzero(mask.ravel(), size=count)[0].reshape(cells, -1)


def masked_losses(predictions: jax.Array, logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Both losses of a decoder's outputs under the mask."""
    nonzero = jnp.where(targets > 0, logits, 0.0)
    return jnp.mean((predictions - targets) ** 2) + jnp.mean(jax.nn.softplus(logits) - nonzero)


def linear(inputs: Inputs, name: str, rows: jax.Array) -> jax.Array:
    return rows @ inputs[f"{name}.weight"].T + inputs[f"{name}.bias"]


@jax.custom_vjp
def selected(states: jax.Array, mask: jax.Array) -> jax.Array:
    """The states of the masked tokens. Its gradient reads too: XLA adds to rows one after the other."""
    return states.reshape(-1, states.shape[-1])[masked_rows(mask).ravel()]


def selected_forward(states: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    return selected(states, mask), mask


def selected_backward(mask: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    places = jnp.cumsum(mask.ravel()) - 1
    rows = jnp.where(mask.ravel()[:, None], gradient[jnp.maximum(places, 0)], 0.0)
    return rows.reshape(*mask.shape, -1), None


selected.defvjp(selected_forward, selected_backward)


def expression_decoder(inputs: Inputs) -> jax.Array:
    mask = inputs["mask"]
    cells, width = mask.shape[0], inputs["states"].shape[-1]
    states = selected(inputs["states"], mask)
    # As PyTorch at its best: first layers in one product, the batch's half of them once per batch.
    perceptrons = [DECODER + name for name in ("fc", "zero_logit")]
    weights = jnp.concatenate([inputs[f"{name}.0.weight"] for name in perceptrons])
    biases = jnp.concatenate([inputs[f"{name}.0.bias"] for name in perceptrons])
    batches = (inputs["batch_embedding"] @ weights[:, width:].T + biases)[inputs["labels"]]
    first = (states @ weights[:, :width].T).reshape(cells, -1, 2 * width)
    first = jax.nn.leaky_relu(first + batches[:, None]).reshape(-1, 2 * width)
    outputs = []
    for name, hidden in zip(perceptrons, jnp.split(first, 2, axis=1), strict=True):
        hidden = jax.nn.leaky_relu(linear(inputs, f"{name}.2", hidden))
        outputs.append(linear(inputs, f"{name}.4", hidden).reshape(cells, -1))
    return masked_losses(*outputs, inputs["targets"].ravel()[masked_rows(mask)])


def masked_value_shared(inputs: Inputs) -> jax.Array:
    """(W·q)·c = q·(Wᵀ·c): queries per gene, and one product of all cells with all genes."""
    mask = inputs["mask"]
    rows = masked_rows(mask)
    queries = jax.nn.sigmoid(linear(inputs, f"{MVC_DECODER}gene2query", inputs["gene_embedding"]))
    batches = inputs["batch_embedding"][inputs["labels"]]
    embeddings = jnp.concatenate([inputs["embedding"], batches], axis=1)
    genes = jnp.broadcast_to(inputs["genes"], mask.shape).ravel()[rows]

    def answers(name: str) -> jax.Array:
        products = (embeddings @ inputs[f"{MVC_DECODER}{name}.weight"]) @ queries.T
        return jnp.take_along_axis(products, genes, axis=1)

    bias = embeddings @ inputs[f"{MVC_DECODER}W_zero_logit.bias"]
    logits = answers("W_zero_logit") + bias[:, None]
    return masked_losses(answers("W"), logits, inputs["targets"].ravel()[rows])


masked_value_lists = masked_value_shared


def discriminator(inputs: Inputs) -> jax.Array:
    embedding = inputs["embedding"]
    # The embedding, exactly, with the opposite gradient.
    hidden = 2 * jax.lax.stop_gradient(embedding) - embedding
    for layer in (0, 3):
        hidden = jax.nn.leaky_relu(linear(inputs, f"{DISCRIMINATOR}_decoder.{layer}", hidden))
        mean = hidden.mean(axis=1, keepdims=True)
        variance = ((hidden - mean) ** 2).mean(axis=1, keepdims=True)
        norm = f"{DISCRIMINATOR}_decoder.{layer + 2}"
        hidden = (hidden - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
        hidden = hidden * inputs[f"{norm}.weight"] + inputs[f"{norm}.bias"]
    logits = linear(inputs, f"{DISCRIMINATOR}out_layer", hidden)
    return cross_entropy({"logits": logits, "labels": inputs["labels"]})


def integration_heads(inputs: Inputs) -> jax.Array:
    total = expression_decoder(inputs) + masked_value_shared(inputs) + discriminator(inputs)
    return total + ECS_WEIGHT * elastic(inputs)
