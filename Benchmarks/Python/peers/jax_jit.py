"""The losses in JAX, value and gradient in one jitted call."""

import jax
import jax.numpy as jnp

from .problems import CLAMP, ECS_WEIGHT, TEMPERATURE, THRESHOLD

Inputs = dict[str, jax.Array]


def normalized(rows: jax.Array, floor: float) -> jax.Array:
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.maximum(norms, floor)


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
