"""The compared implementations. A provider makes a call from a problem; it returns loss and gradients."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .problems import Array, Problem

#: A loss, the metric if the problem has one, and the gradients in the problem's order.
Result = tuple[float, float | None, list[npt.NDArray[np.float64]]]


@dataclass
class Call:
    """A prepared problem: `run` does the whole job once, `read` turns its result into numbers."""

    run: Callable[[], Any]
    read: Callable[[Any], Result]


@dataclass(frozen=True)
class Provider:
    name: str
    prepare: Callable[[Problem, dict[str, Array]], Call]
    #: Problems that the provider cannot compute, with the reason.
    excludes: Callable[[Problem], str | None] = lambda problem: None


# --- PyTorch ------------------------------------------------------------------------------------------------


def split(outcome: Any) -> tuple[Any, Any]:
    """A loss alone, or a loss with the metric."""
    return outcome if isinstance(outcome, tuple) else (outcome, None)


def torch_call(function: Callable[[dict[str, Any]], Any], problem: Problem, inputs: dict[str, Array]) -> Call:
    import torch

    torch.set_num_threads(threads())
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    wanted = [tensors[name].requires_grad_() for name in problem.differentiated]

    def run() -> Any:
        if not wanted:
            with torch.no_grad():
                return (*split(function(tensors)), ())
        loss, metric = split(function(tensors))
        return loss, metric, torch.autograd.grad(loss, wanted)

    def read(result: Any) -> Result:
        loss, metric, gradients = result
        return (
            loss.item(),
            None if metric is None else metric.item(),
            [gradient.numpy().astype(np.float64) for gradient in gradients],
        )

    return Call(run, read)


def written(problem: Problem, inputs: dict[str, Array]) -> Call:
    from . import torch_written

    return torch_call(getattr(torch_written, problem.function), problem, inputs)


def best(problem: Problem, inputs: dict[str, Array]) -> Call:
    from . import torch_best

    return torch_call(getattr(torch_best, problem.function), problem, inputs)


def compiled(problem: Problem, inputs: dict[str, Array]) -> Call:
    import torch

    from . import torch_best

    function = getattr(torch_best, f"compiled_{problem.function}", None) or getattr(
        torch_best, problem.function
    )
    # Forget other shapes: otherwise torch.compile would make a slower program with symbolic shapes.
    torch.compiler.reset()
    return torch_call(torch.compile(function, dynamic=False, fullgraph=True), problem, inputs)


def fastloss_torch(problem: Problem, inputs: dict[str, Array]) -> Call:
    from . import fastloss_torch as functions

    return torch_call(getattr(functions, problem.function), problem, inputs)


def empty_function(problem: Problem, inputs: dict[str, Array]) -> Callable[[], Any]:
    """A step with as many tensors as the problem's, in which nothing is computed."""
    import torch

    from . import torch_empty

    tensors = [torch.from_numpy(inputs[name]).requires_grad_() for name in problem.differentiated]
    return lambda: torch_empty.step(tensors)


# --- JAX and NumPy ------------------------------------------------------------------------------------------


def jax_jit(problem: Problem, inputs: dict[str, Array]) -> Call:
    import jax

    from . import jax_jit as functions

    arrays = {name: jax.numpy.asarray(value) for name, value in inputs.items()}
    wanted = {name: arrays.pop(name) for name in problem.differentiated}

    def losses(wanted: dict[str, Any], others: dict[str, Any]) -> tuple[Any, Any]:
        return split(getattr(functions, problem.function)({**wanted, **others}))

    if wanted:
        both = jax.jit(jax.value_and_grad(losses, has_aux=True))
    else:
        value = jax.jit(losses)

        def both(wanted: dict[str, Any], others: dict[str, Any]) -> Any:
            return value(wanted, others), {}

    def run() -> Any:
        return jax.block_until_ready(both(wanted, arrays))

    def read(result: Any) -> Result:
        (loss, metric), gradients = result
        return (
            float(loss),
            None if metric is None else float(metric),
            [np.asarray(gradients[name], dtype=np.float64) for name in problem.differentiated],
        )

    return Call(run, read)


def fastloss_numpy(problem: Problem, inputs: dict[str, Array]) -> Call:
    from . import fastloss_numpy as functions

    gradients = {name: np.empty_like(inputs[name]) for name in problem.differentiated}
    function = getattr(functions, problem.function)(inputs, gradients)

    def read(result: Any) -> Result:
        loss, metric = split(result)
        return loss, metric, [gradients[name].astype(np.float64) for name in problem.differentiated]

    return Call(function, read)


# --- The list -----------------------------------------------------------------------------------------------


def without_heads(problem: Problem) -> str | None:
    return "NumPy users call the losses alone" if problem.is_head else None


def too_large_as_written(problem: Problem) -> str | None:
    if problem.loss != "contrastive" or problem.shape[0] <= 256:
        return None
    gibibytes = 4 * problem.shape[0] ** 2 * problem.shape[1] / 2**30
    return f"its B × B × D tensors take {gibibytes:.0f} GiB each"


def threads() -> int:
    """Two, as the comparison says of itself; PEERS_THREADS overrides it."""
    return int(os.environ.get("PEERS_THREADS", "2"))


def available() -> list[Provider]:
    """FastLoss, then the peers that are installed: JAX may be left out."""
    providers = [
        Provider("FastLoss", fastloss_torch),
        Provider("FastLoss, NumPy", fastloss_numpy, without_heads),
        Provider("PyTorch as written", written, too_large_as_written),
        Provider("PyTorch at its best", best),
        Provider("torch.compile", compiled),
    ]
    if importlib.util.find_spec("jax"):
        providers.append(Provider("JAX jit", jax_jit))
    return providers
