"""scGPT's task heads as PyTorch modules, each with a call that computes its loss.

    from fastloss.torch.heads import ExprDecoder, MVCDecoder  # instead of: from scgpt.model.model import …

The modules have scGPT's names, constructor arguments, outputs and state-dict keys: a checkpoint of scGPT
loads, and the same seed draws the same initial parameters. `forward` computes what scGPT's does, on any
device and of any floating type. `loss` takes the targets or labels, too, and computes less:

- A decoder computes the selected tokens alone. The others are not read, and their gradients are 0.
- The embedding of a cell's batch goes through the first layer once per cell, not once per token.
- The inner product W q · c is computed as q · Wᵀ c: one product per cell in place of one per token.
- Queries are computed once per gene if the embeddings are given per gene.

For contiguous float32 parameters on the CPU and scGPT's layers, `loss` is one call of libfastloss, which
computes the head, its losses and the gradients block by block and stores no activations. It is differentiable
once; with retain_graph=True, as often as it is asked. States and embeddings are float32, bfloat16 or float16,
each of its own type, for example autocast's: they are read as they are, the head computes in float32 (under
autocast, too), and a gradient has the type of its tensor.

Everything else goes through PyTorch's operations: other devices and types, 16-bit parameters, other
activations, layers with hooks, targets with gradients, one gene embedding for each token, the batch's
embedding in every token's state, classifiers wider than 256, and classifiers under torch.compile. Autocast
then has its effect; without it, 16-bit inputs of float32 layers are widened. 16-bit outputs are widened
before the losses.

The results are those of scGPT up to rounding. An empty mask gives NaN and NaN gradients; where PyTorch's
operations run, the gradients of the parameters are then 0. Where torch.compile takes PyTorch's operations, it
cannot select tokens, because their number depends on data: it computes all of them, and a NaN outside the
mask reaches the gradients of the parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._parameters import real
from ..errors import ArrayError, ShapeError
from . import criterion_neg_log_bernoulli, cross_entropy, grad_reverse, masked_mse_loss
from ._compatibility import autocasts, is_compiling
from ._heads import classifier_loss, expression_loss, has_hooks, is_linear, masked_value_loss, takes
from ._tensors import PLAIN, STRIDED, check_tensor, mask_like

__all__ = [
    "AdversarialDiscriminator",
    "BatchLabelEncoder",
    "ClsDecoder",
    "DecoderLoss",
    "ExprDecoder",
    "MVCDecoder",
]

#: Types of a model's outputs besides the parameters' float32.
HALVES = (torch.bfloat16, torch.float16)
INNER_PRODUCTS = ("inner product", "inner product, detach")


class DecoderLoss(NamedTuple):
    """The loss of a decoder's outputs over a mask, and its terms for the log."""

    #: The sum of the terms times their weights: a scalar with a gradient.
    total: Tensor
    #: The mean squared error (scGPT logs it as "mse" and "mvc"), without a gradient.
    mse: Tensor
    #: The negative log-likelihood of the zeros ("nzlp", "mvc_nzlp"), without a gradient; None without
    #: explicit_zero_prob.
    nzlp: Tensor | None


def masked(
    target: Tensor, mask: Tensor, shape: torch.Size, like: str, weights: tuple[float, float]
) -> tuple[Tensor, tuple[float, float]]:
    """The mask as bool unless torch.compile looks on, and the weights, checked. shape: B × L, of both
    tensors."""
    checked = real("mse_weight", weights[0]), real("nzlp_weight", weights[1])
    for name, value in (("target", target), ("mask", mask)):
        check_tensor(name, value)
        if value.shape != shape:
            raise ShapeError(f"{name} has the shape {tuple(value.shape)}; expected {tuple(shape)}, as {like}")
    if mask.is_cpu and type(mask) in PLAIN and mask.dtype is not torch.bool and not is_compiling():
        mask = mask_like("mask", mask.detach(), mask.shape, "mask")
    return mask, checked


def check_dimensions(name: str, tensor: Tensor, *dimensions: int) -> None:
    if tensor.dim() not in dimensions:
        expected = " or ".join(map(str, dimensions))
        raise ShapeError(f"{name} has {tensor.dim()} dimensions; expected {expected}")


def check_batches(
    batch_emb: Tensor | None, batch_labels: Tensor | None, cells: int, width: int, inputs: int
) -> None:
    """inputs: the columns that the layers expect, 2 · width with batch labels."""
    if batch_labels is not None:
        check_tensor("batch_labels", batch_labels)
        if batch_emb is None:
            raise ShapeError("batch_labels are given without batch_emb; expected both, or neither")
        check_integers("batch_labels", batch_labels)
        if batch_labels.shape != (cells,):
            raise ShapeError(f"batch_labels has the shape {tuple(batch_labels.shape)}; expected ({cells},)")
    if batch_emb is None:
        return
    check_tensor("batch_emb", batch_emb)
    rows = cells if batch_labels is None or batch_emb.dim() != 2 else batch_emb.shape[0]
    if inputs == width or batch_emb.shape != (rows, width):
        expected = f"({rows}, {width})" if batch_labels is None else f"(batches, {width})"
        if inputs == width:
            expected = "None, because the layers have no columns for it"
        raise ShapeError(f"batch_emb has the shape {tuple(batch_emb.shape)}; expected {expected}")


def check_integers(name: str, tensor: Tensor) -> None:
    if tensor.dtype is not torch.int64 and tensor.dtype is not torch.int32:
        raise ArrayError(
            f"{name} is a {tensor.dtype} tensor; expected torch.int64 or torch.int32; convert it with .long()"
        )


def is_plain_index(tensor: Tensor | None) -> bool:
    return tensor is None or (type(tensor) in PLAIN and tensor.is_cpu)


def like(parameter: Tensor, name: str, tensor: Tensor) -> Tensor:
    """The tensor as PyTorch's operations combine it with the parameter: autocast converts types; without it,
    16-bit outputs of a model are widened. Raises if they cannot be combined."""
    if tensor.layout is STRIDED and tensor.device == parameter.device:
        if tensor.dtype is parameter.dtype or not tensor.is_cpu or autocasts():
            return tensor
        if tensor.dtype in HALVES and parameter.dtype is torch.float32:
            return tensor.float()
    raise ArrayError(
        f"{name} is a {tensor.dtype} tensor on {tensor.device}, {tensor.layout}; expected "
        f"{parameter.dtype} on {parameter.device}, torch.strided, as the parameters"
    )


class Selection:
    """The selected tokens of a batch, their targets, and the weights of the two losses.

    Every method keeps all tokens if `rows` is None.
    """

    def __init__(self, target: Tensor, mask: Tensor, weights: tuple[float, float]) -> None:
        self.weights = weights
        self.tokens = mask.shape[1]
        self.rows: Tensor | None = None
        self.target, self.mask = target.reshape(-1), mask.reshape(-1)
        if not is_compiling() and not mask.is_meta:
            if mask.is_cpu:
                mask = mask_like("mask", mask.detach(), mask.shape, "mask")
            self.rows = mask.reshape(-1).nonzero().squeeze(1)
            self.target = self.target.index_select(0, self.rows)
            self.mask = torch.ones_like(self.rows, dtype=torch.bool)

    def of_tokens(self, values: Tensor) -> Tensor:
        """B × L × D to selected tokens × D."""
        flat = values.reshape(-1, values.shape[-1])
        return flat if self.rows is None else flat.index_select(0, self.rows)

    def of_pairs(self, values: Tensor) -> Tensor:
        """B × L to selected tokens."""
        flat = values.reshape(-1)
        return flat if self.rows is None else flat.index_select(0, self.rows)

    def of_cells(self, values: Tensor) -> Tensor:
        """B × D to selected tokens × D: the row of each token's cell."""
        if self.rows is None:
            return values.repeat_interleave(self.tokens, dim=0)
        return values.index_select(0, torch.div(self.rows, self.tokens, rounding_mode="floor"))

    def loss(self, predictions: Tensor, zero_logits: Tensor | None) -> DecoderLoss:
        """The loss of one value for each selected token."""
        if predictions.dtype in HALVES:
            predictions = predictions.float()
            zero_logits = None if zero_logits is None else zero_logits.float()
        in_library = predictions.is_cpu and predictions.dtype is torch.float32
        mse_of, nzlp_of = (
            (masked_mse_loss, criterion_neg_log_bernoulli) if in_library else (own_mse, own_nzlp)
        )
        mse = mse_of(predictions, self.target, self.mask)
        total = self.weights[0] * mse
        if zero_logits is None:
            return DecoderLoss(total, mse.detach(), None)
        nzlp = nzlp_of(torch.sigmoid(zero_logits), self.target, self.mask)
        return DecoderLoss(total + self.weights[1] * nzlp, mse.detach(), nzlp.detach())


def own_mse(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The masked mean squared error in PyTorch's operations."""
    return torch.where(mask.bool(), (input - target) ** 2, 0).sum() / mask.sum()


def own_nzlp(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The negative log-likelihood of the zeros in PyTorch's operations, with scGPT's clamp."""
    epsilon = torch.finfo(input.dtype).eps
    clamped = input.clamp(epsilon, 1 - epsilon)
    losses = torch.where(target > 0, clamped.log(), torch.log1p(-clamped))
    return -torch.where(mask.bool(), losses, 0).sum() / mask.sum()


# --- Decoders -----------------------------------------------------------------------------------------------


def perceptron(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 1)
    )


class ExprDecoder(nn.Module):
    """Values of tokens from their states (scGPT: ``ExprDecoder``; MLM, MGM, GEP).

    Linear → LeakyReLU → Linear → LeakyReLU → Linear, and with explicit_zero_prob a second such perceptron for
    the probability that a value is not zero.

    d_model: D. use_batch_labels: each state is followed by the embedding of its cell's batch: 2 D columns.
    """

    def __init__(
        self, d_model: int, explicit_zero_prob: bool = False, use_batch_labels: bool = False
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.explicit_zero_prob = explicit_zero_prob
        #: The columns of x.
        self.inputs = 2 * d_model if use_batch_labels else d_model
        self.fc = perceptron(self.inputs, d_model)
        if explicit_zero_prob:
            self.zero_logit = perceptron(self.inputs, d_model)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x: B × L × D, or 2 D columns with batch labels. Returns "pred" and "zero_probs", both B × L."""
        outputs: dict[str, Tensor] = {"pred": self.fc(x).squeeze(-1)}
        if self.explicit_zero_prob:
            outputs["zero_probs"] = torch.sigmoid(self.zero_logit(x).squeeze(-1))
        return outputs

    def loss(
        self,
        x: Tensor,
        target: Tensor,
        mask: Tensor,
        batch_emb: Tensor | None = None,
        batch_labels: Tensor | None = None,
        *,
        mse_weight: float = 1.0,
        nzlp_weight: float = 1.0,
    ) -> DecoderLoss:
        """mse_weight · MSE + nzlp_weight · NLL of the outputs over a mask.

        x: as `forward`; or, with batch labels, B × L × D, and batch_emb, B × D, the embedding of each cell's
            batch. Or batch_emb, K × D, the embeddings of the distinct batches, and batch_labels: B, int64,
            the row of each cell's batch: then every embedding goes through the first layer once.
        target: B × L. mask: B × L, true for selected tokens.

        Raises ArrayError, ShapeError, InvalidParameterError (a weight that is not finite), and the errors of
        ``masked_mse_loss`` and ``criterion_neg_log_bernoulli``.
        """
        check_tensor("x", x)
        check_dimensions("x", x, 3)
        columns = self.inputs
        check_batches(batch_emb, batch_labels, x.shape[0], self.d_model, self.inputs)
        if batch_emb is not None:
            columns = self.d_model
        if x.shape[2] != columns:
            raise ShapeError(
                f"x has the shape {tuple(x.shape)}; expected B × L × {columns}"
                + (f", or B × L × {self.d_model} with batch_emb" if columns > self.d_model else "")
            )
        mask, weights = masked(target, mask, x.shape[:2], "x without its columns", (mse_weight, nzlp_weight))
        parameters = None
        if columns == self.d_model and is_plain_index(batch_labels):
            parameters = perceptron_parameters(self, self.d_model, self.inputs)
        if parameters is not None and takes((x, batch_emb), parameters, target, mask):
            total, terms = expression_loss(x, target, mask, batch_emb, batch_labels, parameters, weights)
            return DecoderLoss(total, terms[0], terms[1] if self.explicit_zero_prob else None)
        selection = Selection(target, mask, weights)
        perceptrons = [self.fc, self.zero_logit] if self.explicit_zero_prob else [self.fc]
        # Both perceptrons read the same states: their first layers are one product.
        first_layers: list[Any] = [each[0] for each in perceptrons]
        x = like(first_layers[0].weight, "x", x)
        if batch_emb is not None:
            batch_emb = like(first_layers[0].weight, "batch_emb", batch_emb)
        weight = torch.cat([layer.weight for layer in first_layers])
        bias = torch.cat([layer.bias for layer in first_layers])
        states = selection.of_tokens(x)
        if batch_emb is None:
            hidden = F.linear(states, weight, bias)
        else:
            of_batches = F.linear(batch_emb, weight[:, columns:], bias)
            if batch_labels is not None:
                of_batches = of_batches.index_select(0, batch_labels)
            hidden = F.linear(states, weight[:, :columns]) + selection.of_cells(of_batches)
        outputs = [
            each[1:](hidden[:, index * self.d_model : (index + 1) * self.d_model]).squeeze(-1)
            for index, each in enumerate(perceptrons)
        ]
        return selection.loss(outputs[0], outputs[1] if self.explicit_zero_prob else None)


def perceptron_parameters(decoder: Any, width: int, columns: int) -> list[Tensor] | None:
    """The parameters of an ExprDecoder, also of scGPT's; None if their layers are not scGPT's.

    columns: of each token's state and the batch's embedding.
    """
    parameters: list[Any] = []
    for each in [decoder.fc, decoder.zero_logit] if decoder.explicit_zero_prob else [decoder.fc]:
        if type(each) is not nn.Sequential or len(each) != 5 or has_hooks(each):
            return None
        # Not unpacked: torch.compile of PyTorch 2.1 does not iterate over modules.
        first, one, second, other, third = each[0], each[1], each[2], each[3], each[4]
        if not (
            is_linear(first, width, columns)
            and is_leaky(one)
            and is_linear(second, width, width)
            and is_leaky(other)
            and is_linear(third, 1, width)
        ):
            return None
        for layer in (first, second, third):
            parameters += [layer.weight, layer.bias]
    return parameters


def is_leaky(module: nn.Module) -> bool:
    """Whether a module is PyTorch's LeakyReLU with its own slope, and nothing else."""
    return type(module) is nn.LeakyReLU and module.negative_slope == 0.01 and not has_hooks(module)


class MVCDecoder(nn.Module):
    """Values of tokens from the cell embedding and the genes (scGPT: ``MVCDecoder``; MVC, GEPC).

    A query q = query_activation(gene2query(gene embedding)) for each gene, c the cell embedding, and by
    arch_style:

    - "inner product": W q · c. With explicit_zero_prob, σ(W₀ q · c) is the probability that a value is not
      zero. "inner product, detach": the same, without gradients of the gene embeddings.
    - "concat query": fc2(hidden_activation(fc1([c; q]))).
    - "sum query": fc2(hidden_activation(fc1(c + q))).

    d_model: D. use_batch_labels: cell_emb is followed by the embedding of the cell's batch: 2 D columns.
    """

    def __init__(
        self,
        d_model: int,
        arch_style: str = "inner product",
        query_activation: Callable[[], nn.Module] = nn.Sigmoid,
        hidden_activation: Callable[[], nn.Module] = nn.PReLU,
        explicit_zero_prob: bool = False,
        use_batch_labels: bool = False,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        inner = arch_style in INNER_PRODUCTS
        #: The columns of cell_emb. scGPT's other styles have no layers for batches.
        self.inputs = inputs = 2 * d_model if use_batch_labels and inner else d_model
        if inner:
            self.gene2query = nn.Linear(d_model, d_model)
            self.query_activation = query_activation()
            self.W = nn.Linear(d_model, inputs, bias=False)
            if explicit_zero_prob:
                self.W_zero_logit = nn.Linear(d_model, inputs)
        elif arch_style in ("concat query", "sum query"):
            queries = 64 if arch_style == "concat query" else d_model
            self.gene2query = nn.Linear(d_model, queries)
            self.query_activation = query_activation()
            self.fc1 = nn.Linear(d_model + 64 if arch_style == "concat query" else d_model, 64)
            self.hidden_activation = hidden_activation()
            self.fc2 = nn.Linear(64, 1)
        else:
            raise ValueError(f"Unknown arch_style: {arch_style}")
        self.arch_style = arch_style
        self.do_detach = arch_style.endswith("detach")
        self.explicit_zero_prob = explicit_zero_prob

    def forward(self, cell_emb: Tensor, gene_embs: Tensor) -> Tensor | dict[str, Tensor]:
        """cell_emb: B × D, or 2 D columns with batch labels. gene_embs: B × L × D; or L × D, if all cells
        have the same genes.

        Returns "pred" and "zero_probs", both B × L; with "concat query" and "sum query" the predictions
        alone.

        Raises NotImplementedError for these with explicit_zero_prob, as scGPT.
        """
        queries = self.queries(gene_embs)
        if self.arch_style not in INNER_PRODUCTS:
            of_cells, of_genes = self.hidden_parts(cell_emb, queries)
            hidden = self.hidden_activation(of_cells.unsqueeze(1) + of_genes)
            predictions: Tensor = self.fc2(hidden).squeeze(-1)
            return predictions
        answers, answers_of_zeros, offsets = self.answers(cell_emb)
        outputs = {"pred": products(answers, queries)}
        if answers_of_zeros is not None and offsets is not None:
            outputs["zero_probs"] = torch.sigmoid(products(answers_of_zeros, queries) + offsets.unsqueeze(1))
        return outputs

    def loss(
        self,
        cell_emb: Tensor,
        gene_embs: Tensor,
        target: Tensor,
        mask: Tensor,
        genes: Tensor | None = None,
        batch_emb: Tensor | None = None,
        batch_labels: Tensor | None = None,
        *,
        mse_weight: float = 1.0,
        nzlp_weight: float = 1.0,
    ) -> DecoderLoss:
        """mse_weight · MSE + nzlp_weight · NLL of the outputs over a mask.

        cell_emb, gene_embs: as `forward`; or gene_embs: G × D, the embeddings of the batch's distinct genes,
            and genes: B × L, int64, the row of each token's gene. Every query is then computed once.
        batch_emb: with batch labels, B × D, the embedding of each cell's batch; cell_emb is then B × D. Or
            K × D, the embeddings of the distinct batches, and batch_labels: B, int64, the row of each cell's
            batch.
        target: B × L. mask: B × L, true for selected tokens.

        Raises ArrayError, ShapeError, InvalidParameterError (a weight that is not finite), and the errors of
        ``masked_mse_loss`` and ``criterion_neg_log_bernoulli``.
        """
        check_tensor("cell_emb", cell_emb)
        check_tensor("gene_embs", gene_embs)
        check_dimensions("cell_emb", cell_emb, 2)
        cells, width = cell_emb.shape[0], self.d_model
        if genes is None:
            check_dimensions("gene_embs", gene_embs, 2, 3)
            shape = torch.Size((cells, gene_embs.shape[-2]))
        else:
            check_tensor("genes", genes)
            check_dimensions("genes", genes, 2)
            if gene_embs.dim() != 2:
                raise ShapeError(
                    f"gene_embs has {gene_embs.dim()} dimensions; expected 2, a row for each gene of genes"
                )
            check_integers("genes", genes)
            shape = genes.shape
        if shape[0] != cells or (gene_embs.dim() == 3 and gene_embs.shape[0] != cells):
            raise ShapeError(
                f"cell_emb has {cells} rows; expected one for each cell, as "
                f"{'genes' if genes is not None else 'gene_embs'}"
            )
        if self.explicit_zero_prob and self.arch_style not in INNER_PRODUCTS:
            raise NotImplementedError(f"scGPT has no explicit_zero_prob with {self.arch_style!r}")
        columns = self.inputs
        check_batches(batch_emb, batch_labels, cells, width, self.inputs)
        if batch_emb is not None:
            columns = width
        for name, value, expected in (("cell_emb", cell_emb, columns), ("gene_embs", gene_embs, width)):
            if value.shape[-1] != expected:
                also = f", or {width} with batch_emb" if expected > width else ""
                raise ShapeError(f"{name} has {value.shape[-1]} columns; expected {expected}{also}")
        origin = "the tokens of gene_embs" if genes is None else "genes"
        mask, weights = masked(target, mask, shape, origin, (mse_weight, nzlp_weight))
        parameters = None
        if gene_embs.dim() == 2 and is_plain_index(genes) and is_plain_index(batch_labels):
            parameters = masked_value_parameters(self, width, self.inputs)
        if parameters is not None:
            present = [parameter for parameter in parameters if parameter is not None]
            if takes((cell_emb, gene_embs, batch_emb), present, target, mask):
                if cell_emb.shape[1] > width:
                    cell_emb, batch_emb = cell_emb[:, :width], cell_emb[:, width:]
                # The style has no gradient of the genes.
                embeddings = gene_embs.detach() if self.do_detach else gene_embs
                total, terms = masked_value_loss(
                    *(cell_emb, embeddings, target, mask, batch_emb, batch_labels, genes),
                    *(self.arch_style, parameters, weights),
                )
                return DecoderLoss(total, terms[0], terms[1] if self.explicit_zero_prob else None)
        layer: Any = self.W if self.arch_style in INNER_PRODUCTS else self.fc1
        cell_emb = like(layer.weight, "cell_emb", cell_emb)
        gene_embs = like(layer.weight, "gene_embs", gene_embs)
        if batch_emb is not None:
            batch_emb = like(layer.weight, "batch_emb", batch_emb)
            if batch_labels is not None:
                batch_emb = batch_emb.index_select(0, batch_labels)
            cell_emb = torch.cat([cell_emb, batch_emb], dim=1)
        selection = Selection(target, mask, weights)
        per_token = gene_embs.dim() == 3
        queries = self.queries(selection.of_tokens(gene_embs) if per_token else gene_embs)
        index = None
        if not per_token:
            if genes is None:
                genes = torch.arange(shape[1], device=gene_embs.device).expand(shape)
            index = selection.of_pairs(genes)
        if self.arch_style not in INNER_PRODUCTS:
            of_cells, of_genes = self.hidden_parts(cell_emb, queries)
            of_genes = of_genes if index is None else of_genes.index_select(0, index)
            hidden = self.hidden_activation(selection.of_cells(of_cells) + of_genes)
            return selection.loss(self.fc2(hidden).squeeze(-1), None)

        def selected(answers: Tensor) -> Tensor:
            if index is None:
                return (selection.of_cells(answers) * queries).sum(dim=1)
            pairs = answers @ queries.t()
            # The row of each token's cell begins at the cell's number times the number of genes.
            cells = torch.arange(shape[0], device=index.device).unsqueeze(1)
            return pairs.reshape(-1).index_select(
                0, selection.of_cells(cells).squeeze(1) * pairs.shape[1] + index
            )

        answers, answers_of_zeros, offsets = self.answers(cell_emb)
        if answers_of_zeros is None or offsets is None:
            return selection.loss(selected(answers), None)
        logits = selected(answers_of_zeros) + selection.of_cells(offsets.unsqueeze(1)).squeeze(1)
        return selection.loss(selected(answers), logits)

    def queries(self, gene_embs: Tensor) -> Tensor:
        if self.explicit_zero_prob and self.arch_style not in INNER_PRODUCTS:
            raise NotImplementedError(f"scGPT has no explicit_zero_prob with {self.arch_style!r}")
        queries: Tensor = self.query_activation(
            self.gene2query(gene_embs.detach() if self.do_detach else gene_embs)
        )
        return queries

    def answers(self, cell_emb: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Wᵀ c, W₀ᵀ c and b₀ · c of each cell.

        W q · c = q · Wᵀ c, and (W₀ q + b₀) · c = q · W₀ᵀ c + b₀ · c.
        """
        answers = cell_emb @ self.W.weight
        if not self.explicit_zero_prob:
            return answers, None, None
        return answers, cell_emb @ self.W_zero_logit.weight, cell_emb @ self.W_zero_logit.bias

    def hidden_parts(self, cell_emb: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of the hidden layer, which is linear, that depend on the cell and on the gene."""
        if self.arch_style == "sum query":
            return F.linear(cell_emb, self.fc1.weight, self.fc1.bias), F.linear(queries, self.fc1.weight)
        width = cell_emb.shape[1]
        return (
            F.linear(cell_emb, self.fc1.weight[:, :width], self.fc1.bias),
            F.linear(queries, self.fc1.weight[:, width:]),
        )


def masked_value_parameters(decoder: Any, width: int, columns: int) -> list[Tensor | None] | None:
    """The parameters of an MVCDecoder, also of scGPT's; None if the layers are not scGPT's.

    In the order of `_heads.MASKED_VALUE`. columns: of the cell embedding and the batch's.
    """
    query = decoder.query_activation
    if type(query) is not nn.Sigmoid or has_hooks(query):
        return None
    if decoder.arch_style in INNER_PRODUCTS:
        if not (is_linear(decoder.gene2query, width, width) and columns in (width, 2 * width)):
            return None
        product = decoder.W
        if type(product) is not nn.Linear or product.bias is not None or has_hooks(product):
            return None
        if product.weight.shape != (columns, width):
            return None
        zeros: list[Tensor | None] = [None, None]
        if decoder.explicit_zero_prob:
            if not is_linear(decoder.W_zero_logit, columns, width):
                return None
            zeros = [decoder.W_zero_logit.weight, decoder.W_zero_logit.bias]
        return [
            decoder.gene2query.weight,
            decoder.gene2query.bias,
            product.weight,
            *zeros,
            *[None] * 5,
        ]
    activation, hidden = decoder.hidden_activation, decoder.fc1.out_features
    if type(activation) is not nn.PReLU or activation.num_parameters != 1 or has_hooks(activation):
        return None
    concat = decoder.arch_style == "concat query"
    if columns != width or not (
        is_linear(decoder.gene2query, hidden if concat else width, width)
        and is_linear(decoder.fc1, hidden, width + hidden if concat else width)
        and is_linear(decoder.fc2, 1, hidden)
    ):
        return None
    return [
        *(decoder.gene2query.weight, decoder.gene2query.bias, None, None, None),
        *(decoder.fc1.weight, decoder.fc1.bias, activation.weight, decoder.fc2.weight, decoder.fc2.bias),
    ]


def products(answers: Tensor, queries: Tensor) -> Tensor:
    """The inner products of each cell's answer with its tokens' queries, or with those of all cells."""
    if queries.dim() == 2:
        return answers @ queries.t()
    return torch.bmm(queries, answers.unsqueeze(2)).squeeze(2)


# --- Classifiers --------------------------------------------------------------------------------------------


class ClsDecoder(nn.Module):
    """Logits of cell types from cell embeddings (scGPT: ``ClsDecoder``; CLS).

    nlayers − 1 times Linear → activation → LayerNorm, then Linear(d_model, n_cls).
    """

    def __init__(
        self,
        d_model: int,
        n_cls: int,
        nlayers: int = 3,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self._decoder = nn.ModuleList()
        for _ in range(nlayers - 1):
            self._decoder.append(nn.Linear(d_model, d_model))
            self._decoder.append(activation())
            self._decoder.append(nn.LayerNorm(d_model))
        self.out_layer = nn.Linear(d_model, n_cls)

    def forward(self, x: Tensor) -> Tensor:
        """x: B × D. Returns B × n_cls."""
        for layer in self._decoder:
            x = layer(x)
        logits: Tensor = self.out_layer(x)
        return logits

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy of the logits; see ``fastloss.torch.cross_entropy``.

        x: B × D. Raises ArrayError and ShapeError, and the errors of ``cross_entropy``.
        """
        check_tensor("x", x)
        reverses = isinstance(self, AdversarialDiscriminator) and self.reverse_grad
        parameters, lambd = self.parameters_of_layers(reverses)
        if parameters is not None:
            width = self.out_layer.in_features
            check_dimensions("x", x, 2)
            if x.shape[1] != width:
                raise ShapeError(f"x has {x.shape[1]} columns; expected {width}")
            loss = classifier_loss(x, labels, parameters, lambd)
            if loss is not None:
                return loss
        return cross_entropy(self(like(self.out_layer.weight, "x", x)), labels)

    def parameters_of_layers(self, reverses: bool) -> tuple[list[Tensor] | None, float | None]:
        """The parameters, and λ for LeakyReLU; no parameters if the layers are not scGPT's."""
        layers, nothing = list(self._decoder), (None, None)
        width, leaky = self.out_layer.in_features, None
        parameters: list[Any] = []
        for index in range(0, len(layers), 3):
            linear, activation, norm = layers[index], layers[index + 1], layers[index + 2]
            if leaky is None:
                leaky = is_leaky(activation)
            if not (
                is_linear(linear, width, width)
                and (is_leaky(activation) if leaky else type(activation) is nn.ReLU)
                and type(norm) is nn.LayerNorm
                and norm.eps == 1e-5
                and norm.bias is not None
                and not has_hooks(activation, norm)
            ):
                return nothing
            parameters += [linear.weight, linear.bias, norm.weight, norm.bias]
        if not is_linear(self.out_layer, self.out_layer.out_features, width) or has_hooks(self):
            return nothing
        if reverses and not leaky:
            return nothing
        parameters += [self.out_layer.weight, self.out_layer.bias]
        # λ = −1 reverses nothing.
        return parameters, (1.0 if reverses else -1.0) if leaky else None


class AdversarialDiscriminator(ClsDecoder):
    """Logits of batches from cell embeddings (scGPT: ``AdversarialDiscriminator``; DAB, DAR).

    As :class:`ClsDecoder`. With reverse_grad, the gradient of x is that of the loss times −1.
    """

    def __init__(
        self,
        d_model: int,
        n_cls: int,
        nlayers: int = 3,
        activation: Callable[[], nn.Module] = nn.LeakyReLU,
        reverse_grad: bool = False,
    ) -> None:
        super().__init__(d_model, n_cls, nlayers, activation)
        self.reverse_grad = reverse_grad

    def forward(self, x: Tensor) -> Tensor:
        """x: B × D. Returns B × n_cls."""
        return super().forward(grad_reverse(x, 1.0) if self.reverse_grad else x)


class BatchLabelEncoder(nn.Module):
    """Embeddings of batch labels: Embedding → LayerNorm (scGPT: ``BatchLabelEncoder``)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, embedding_dim, padding_idx=padding_idx)
        self.enc_norm = nn.LayerNorm(embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: labels. Returns one row of embedding_dim columns for each."""
        embeddings: Tensor = self.enc_norm(self.embedding(x))
        return embeddings
