"""`forward` of scGPT's `TransformerModel` with deferred decoders, for `fastloss.patch_scgpt`."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, is_grad_enabled

from . import _heads
from ._compatibility import autocasts
from ._deferred import Deferred, Step
from ._operators import is_eager
from .heads import INNER_PRODUCTS, masked_value_parameters, perceptron_parameters

__all__ = ["deferred_forward"]

PRODUCT = "inner product"


def deferred_forward(arguments: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The outputs of scGPT's `forward` for its arguments by name, in its order, without CCE and ECS.

    None, before it runs anything, if a decoder is not scGPT's, or if not all the work is plain.
    """
    model, src, values = (arguments[name] for name in ("self", "src", "values"))
    batch_labels = arguments.get("batch_labels")
    classifies, decodes_cells = arguments.get("CLS", False), arguments.get("MVC", False)
    width, has_batches = model.d_model, model.use_batch_labels
    columns = 2 * width if has_batches else width
    if arguments.get("do_sample", False) or not is_grad_enabled() or not is_eager():
        return None
    decoder_parameters = of_expression_decoder(model.decoder, width, columns)
    if decoder_parameters is None:
        return None
    product_parameters = of_masked_value_decoder(model.mvc_decoder, width, columns) if decodes_cells else None
    if decodes_cells and product_parameters is None:
        return None

    states = model._encode(src, values, arguments["src_key_padding_mask"], batch_labels)
    batch_emb, rows = batch_embeddings(model, batch_labels) if has_batches else (None, None)

    def of_cells() -> Tensor | None:
        return batch_emb if batch_emb is None or rows is None else batch_emb.index_select(0, rows)

    output: dict[str, Tensor] = {}

    def all_tokens() -> dict[str, Tensor]:
        inputs = states
        batches = of_cells()
        if batches is not None:
            repeated = batches.unsqueeze(1).repeat(1, states.shape[1], 1)
            inputs = torch.cat([states, repeated], dim=2)
        found: dict[str, Tensor] = model_decoder(inputs)
        return found

    model_decoder = model.decoder
    # Autocast computes scGPT's decoders in its type, whenever something reads an output.
    defers = not autocasts() and _heads.takes_head((states, batch_emb), decoder_parameters)
    if defers:
        absent = [None] * (2 * _heads.PERCEPTRON - len(decoder_parameters))
        inputs = [states, None, None, batch_emb, rows, *decoder_parameters, *absent]
        zeros = model.explicit_zero_prob
        step = Step(_heads.expression, inputs, all_tokens, model_decoder, states.shape[:2], zeros)
        found: dict[str, Tensor] = deferred(step)
    else:
        found = all_tokens()
    output["mlm_output"] = found["pred"]
    if model.explicit_zero_prob:
        output["mlm_zero_probs"] = found["zero_probs"]

    cell_emb = model._get_cell_emb_from_layer(states, values)
    output["cell_emb"] = cell_emb
    if classifies:
        output["cls_output"] = model.cls_decoder(cell_emb)
    if decodes_cells:
        found = masked_values(model, src, cell_emb, (batch_emb, rows), of_cells, product_parameters, defers)
        output["mvc_output"] = found["pred"]
        if model.explicit_zero_prob:
            output["mvc_zero_probs"] = found["zero_probs"]
    if model.do_dab:
        output["dab_output"] = model.grad_reverse_discriminator(cell_emb)
    return output


def deferred(step: Step) -> dict[str, Tensor]:
    return {name: Deferred(step, name) for name in ("pred", "zero_probs")}


def has_hooks(decoder: Any) -> bool:
    return _heads.has_hooks(*decoder.modules())


def of_expression_decoder(decoder: Any, width: int, columns: int) -> list[Tensor] | None:
    if type(decoder).__name__ != "ExprDecoder" or has_hooks(decoder):
        return None
    return perceptron_parameters(decoder, width, columns)


def of_masked_value_decoder(decoder: Any, width: int, columns: int) -> list[Tensor | None] | None:
    if type(decoder).__name__ != "MVCDecoder" or has_hooks(decoder):
        return None
    if decoder.arch_style not in INNER_PRODUCTS:
        return None
    return masked_value_parameters(decoder, width, columns)


def masked_values(
    model: Any,
    src: Tensor,
    cell_emb: Tensor,
    batches: tuple[Tensor | None, Tensor | None],
    of_cells: Callable[[], Tensor | None],
    parameters: Any,
    defers: bool,
) -> dict[str, Tensor]:
    """The outputs of the decoder from cell embeddings."""
    decoder, token_embs = model.mvc_decoder, model.cur_gene_token_embs
    batch_emb, rows = batches

    def all_tokens() -> dict[str, Tensor]:
        embedded = of_cells()
        cells = cell_emb if embedded is None else torch.cat([cell_emb, embedded], dim=1)
        found: dict[str, Tensor] = decoder(cells, token_embs)
        return found

    present = [parameter for parameter in parameters if parameter is not None]
    if not defers or not _heads.takes_head((cell_emb, batch_emb, token_embs), present):
        return all_tokens()
    if type(model.encoder).__name__ == "GeneEncoder" and not has_hooks(model.encoder):
        # One embedding for each gene in place of one for each token.
        genes, ids = distinct(src, model.encoder.embedding.num_embeddings)
        gene_embs = model.encoder(ids)
    else:
        return all_tokens()
    style = decoder.arch_style
    if style != PRODUCT:
        gene_embs = gene_embs.detach()
    arguments = [
        *(cell_emb, gene_embs, None, None, batch_emb, rows, genes, *parameters),
        _heads.STYLES[style],
    ]
    return deferred(
        Step(_heads.masked_value, arguments, all_tokens, decoder, src.shape, model.explicit_zero_prob)
    )


def batch_embeddings(model: Any, batch_labels: Any) -> tuple[Tensor, Tensor | None]:
    """The embedding of each distinct batch, and the row of each cell's; None if each cell has its own."""
    encoder = model.batch_encoder
    if type(encoder).__name__ != "BatchLabelEncoder" or has_hooks(encoder) or batch_labels.dim() != 1:
        return encoder(batch_labels), None
    labels, rows = torch.unique(batch_labels, return_inverse=True)
    return encoder(labels), rows


def distinct(src: Tensor, count: int) -> tuple[Tensor | None, Tensor]:
    """The distinct genes, and for each token the place of its gene; None if all cells have one list."""
    if len(src) and bool((src == src[0]).all()):
        return None, src[0]
    seen = torch.zeros(count, dtype=torch.bool)
    seen[src] = True
    ids = seen.nonzero().squeeze(1)
    places = torch.zeros(count, dtype=torch.int64)
    places[ids] = torch.arange(len(ids))
    return places[src], ids
