"""Replaces scGPT's losses by those of FastLoss, and restores them.

The functions of scGPT's loss module are replaced in that module and in every module of scGPT that has
imported them. ECS and CCE are part of the models' `forward`. A wrapper calls it with both disabled and
computes them from the returned cell embedding. Nothing else of scGPT changes.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["ScGPTPatch", "patch_scgpt"]

FUNCTIONS = ("masked_mse_loss", "criterion_neg_log_bernoulli", "masked_relative_error")
#: The models that return the cell embedding. TransformerGenerator does not, so it keeps its losses.
MODELS = {
    "scgpt.model.model": "TransformerModel",
    "scgpt.model.multiomic_model": "MultiOmicTransformerModel",
}


class ScGPTPatch:
    """The replacements of :func:`patch_scgpt`. `undo()` or leaving a `with` block restores the originals."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    @property
    def replaced(self) -> list[str]:
        """The names of the current replacements, for example "scgpt.loss.masked_mse_loss"."""
        return [f"{name_of(owner)}.{name}" for owner, name, _ in self._originals]

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, replacement)

    def undo(self) -> None:
        """Restores the originals. A second call does nothing."""
        while self._originals:
            owner, name, original = self._originals.pop()
            setattr(owner, name, original)

    def __enter__(self) -> "ScGPTPatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def name_of(owner: Any) -> str:
    return f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else str(owner.__name__)


def patch_scgpt(*, strict: bool = False) -> ScGPTPatch:
    """Replaces scGPT's losses by those of FastLoss, in this process:

    - ``masked_mse_loss``, ``criterion_neg_log_bernoulli`` and ``masked_relative_error`` in ``scgpt.loss`` and
      in every module of scGPT that has imported them (``scgpt.trainer``);
    - ECS and CCE in ``forward`` of ``TransformerModel`` and ``MultiOmicTransformerModel``. The model keeps
      its CCE in training if ``torch.distributed`` is initialized, because it then gathers the embeddings of
      all processes.

    Call this before a script runs ``from scgpt.loss import …``: the script would keep the originals.

    Arguments that FastLoss does not take, for example tensors on a GPU or of float64, go to scGPT's own
    operations, and the first such call of a patch warns. With ``strict=True`` they are an error; see
    :mod:`fastloss.torch` for what FastLoss takes.

    Dropout draws the same random numbers as without the patch, except in training with CCE and
    ``do_sample=True``.

    Returns the patch, which can be undone. Raises ImportError if scGPT cannot be imported, and RuntimeError
    if it is already patched.
    """
    from . import torch as losses
    from .torch import _upstream

    loss_module = importlib.import_module("scgpt.loss")
    if getattr(loss_module.masked_mse_loss, "__module__", "").startswith("fastloss"):
        raise RuntimeError("scGPT is already patched; undo() that patch first")
    patch = ScGPTPatch()
    warn = None if strict else _upstream.new_warning()
    try:
        for name in FUNCTIONS:
            original, replacement = getattr(loss_module, name), getattr(losses, name)
            if warn is not None:
                replacement = _upstream.with_fallback(replacement, original, _upstream.takes_values, warn)
            for module in loaded_modules():
                if getattr(module, name, None) is original:
                    patch.replace(module, name, replacement)
        for module_name, class_name in MODELS.items():
            model = getattr(importlib.import_module(module_name), class_name)
            patch.replace(model, "forward", forward_with_fastloss(model.forward, warn))
    except BaseException:
        patch.undo()
        raise
    return patch


def loaded_modules() -> list[Any]:
    """scGPT's loaded modules, with the one that defines the losses first."""
    names = sorted(name for name in sys.modules if name == "scgpt" or name.startswith("scgpt."))
    return [sys.modules[name] for name in sorted(names, key=lambda name: name != "scgpt.loss")]


def forward_with_fastloss(
    forward: Callable[..., Any], warn: Callable[[str, str], None] | None
) -> Callable[..., Any]:
    """A model's `forward` with FastLoss's ECS and CCE. warn: None if there is no fallback."""
    import torch

    from .torch import contrastive_cell_embedding, elastic_cell_similarity
    from .torch._upstream import own_elastic, takes_embeddings, with_fallback

    signature = inspect.signature(forward)
    elastic_loss = elastic_cell_similarity
    if warn is not None:
        elastic_loss = with_fallback(elastic_loss, own_elastic, takes_embeddings, warn)

    def contrastive_loss(model: Any, first: Any, second: Any) -> Any:
        def own(first: Any, second: Any, temperature: float) -> Any:
            similarities = model.sim(first.unsqueeze(1), second.unsqueeze(0))
            labels = torch.arange(similarities.size(0)).long().to(first.device)
            return model.creterion_cce(similarities, labels)

        loss = contrastive_cell_embedding
        if warn is not None:
            loss = with_fallback(loss, own, takes_embeddings, warn)
        return loss(first, second, model.sim.temp)

    @functools.wraps(forward)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(self, *args, **kwargs)
        arguments = call.arguments
        elastic = arguments.pop("ECS", False)
        gathers = torch.distributed.is_available() and torch.distributed.is_initialized() and self.training
        contrastive = not gathers and arguments.pop("CCE", False)
        output = forward(*call.args, **call.kwargs)
        embedding = output.get("cell_emb")
        if contrastive:
            # A second encoding of the same cells, with other dropout.
            names = ("src", "values", "src_key_padding_mask", "batch_labels")
            states = self._encode(*(arguments.get(name) for name in names))
            second = self._get_cell_emb_from_layer(states)
            output["loss_cce"] = contrastive_loss(self, embedding, second)
        if elastic:
            output["loss_ecs"] = elastic_loss(embedding, self.ecs_threshold)
        return output

    return wrapper
