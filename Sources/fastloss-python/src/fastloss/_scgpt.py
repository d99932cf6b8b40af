"""Replaces scGPT's losses by those of FastLoss, and restores them.

The functions of scGPT's loss module are replaced in that module and in every module of scGPT that has
imported them. ECS and CCE are part of the models' `forward`. A wrapper calls it with both disabled and
computes them from the returned cell embedding. In training, the wrapper of `TransformerModel` calls the parts
of `forward` itself, and leaves the decoders to the losses. Nothing else of scGPT changes.
"""

import functools
import hashlib
import importlib
import inspect
import sys
import warnings
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
#: The model whose decoders are deferred, and the source of its `forward` (scGPT 0.2.4): the wrapper repeats
#: what this calls.
HEADED_MODEL = "TransformerModel"
KNOWN_FORWARD = "ed9295e8ceb83d36964c4c897befa5331de529e6353506d608047f20eca2fd1c"


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
    - the decoders in ``forward`` of ``TransformerModel``, in training: ``mlm_output``, ``mlm_zero_probs``,
      ``mvc_output`` and ``mvc_zero_probs`` are computed when something reads them. The losses above compute
      the selected tokens alone, with the head in one call, and each gene's query once. Any other operation
      computes all tokens with scGPT's decoder. After ``model.eval()`` or without gradients, all tokens are
      computed, as before. To differentiate with respect to an output itself, read it before the loss, for
      example with ``retain_grad()``;
    - ECS and CCE in ``forward`` of ``TransformerModel`` and ``MultiOmicTransformerModel``. The model keeps
      its CCE in training if ``torch.distributed`` is initialized, because it then gathers the embeddings of
      all processes.

    Call this before a script runs ``from scgpt.loss import …``: the script would keep the originals.

    Arguments that FastLoss does not take, for example tensors on a GPU or of float64, go to scGPT's own
    operations, and the first such call of a patch warns. With ``strict=True`` they are an error; see
    :mod:`fastloss.torch` for what FastLoss takes.

    The decoders stay scGPT's with hooks or layers that are not scGPT's, with other inner products, under
    autocast, torch.compile or torch.distributed, with ``do_sample=True``, and in a version of scGPT whose
    ``forward`` FastLoss does not know; this last case warns, and is an error with ``strict=True``.

    Dropout draws the same random numbers as without the patch, except in training with CCE and
    ``do_sample=True``.

    Returns the patch, which can be undone. Raises ImportError if scGPT cannot be imported, and RuntimeError
    if it is already patched, or with ``strict=True`` for an unknown version.
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
            defers = class_name == HEADED_MODEL and is_known(model.forward, strict)
            patch.replace(model, "forward", forward_with_fastloss(model.forward, warn, defers))
    except BaseException:
        patch.undo()
        raise
    return patch


def loaded_modules() -> list[Any]:
    """scGPT's loaded modules, with the one that defines the losses first."""
    names = sorted(name for name in sys.modules if name == "scgpt" or name.startswith("scgpt."))
    return [sys.modules[name] for name in sorted(names, key=lambda name: name != "scgpt.loss")]


def is_known(forward: Callable[..., Any], strict: bool) -> bool:
    """Whether `forward` is the one that the deferring wrapper repeats."""
    try:
        source = inspect.getsource(forward)
    except (OSError, TypeError):
        source = ""
    if hashlib.sha256(source.encode()).hexdigest() == KNOWN_FORWARD:
        return True
    reason = f"{HEADED_MODEL}.forward is not that of scGPT 0.2.4"
    if strict:
        raise RuntimeError(f"{reason}; without strict=True, its decoders stay scGPT's")
    warnings.warn(f"{reason}, so that its decoders stay scGPT's", UserWarning, stacklevel=3)
    return False


def forward_with_fastloss(
    forward: Callable[..., Any], warn: Callable[[str, str], None] | None, defers: bool
) -> Callable[..., Any]:
    """A model's `forward` with FastLoss's ECS and CCE. warn: None if there is no fallback.

    defers: whether its decoders are deferred in training.
    """
    import torch

    from .torch import contrastive_cell_embedding, elastic_cell_similarity
    from .torch._model import deferred_forward
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
        output: Any = None
        if defers and not gathers and self.training:
            output = deferred_forward(arguments)
        if output is None:
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
