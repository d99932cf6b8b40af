"""The total objective on NumPy arrays: every term of a training step, with all gradients, from one call."""

import functools
from collections.abc import Mapping
from ctypes import addressof, c_float
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from . import _abi
from ._abi import EMPTY_RULES, TERM_NAMES, sized
from ._arrays import BOOL, Matrix, labels, matrix, output
from ._library import fail, library, workspace
from ._parameters import chosen, flag, integer, mapping, real, shown
from .errors import FastLossError, InvalidParameterError, ShapeError
from .losses import BoolArray, EmptyRule, FloatArray, LabelArray

__all__ = ["ObjectiveValue", "TotalObjective"]

#: What weights are a mapping of.
TERMS = "terms to numbers"
#: The gradients that can be had, each with the input whose shape it has.
GRADIENTS = {
    "gene_predictions": "gene_predictions",
    "gene_nonzero": "gene_nonzero",
    "cell_predictions": "cell_predictions",
    "cell_nonzero": "cell_nonzero",
    "generated_predictions": "generated_predictions",
    "cell_embedding": "cell_embedding",
    "second_cell_embedding": "second_cell_embedding",
    "cell_type_logits": "cell_type_logits",
    "batch_logits": "batch_logits",
    "reversed_batch_logits": "batch_logits",
}


#: What each term reads.
INPUTS = {
    "mse": ("gene_predictions", "targets"),
    "nzlp": ("gene_nonzero", "targets"),
    "mvc": ("cell_predictions", "targets"),
    "mvc_nzlp": ("cell_nonzero", "targets"),
    "gen": ("generated_predictions", "targets"),
    "cls": ("cell_type_logits", "cell_type_labels"),
    "cce": ("cell_embedding", "second_cell_embedding"),
    "ecs": ("cell_embedding",),
    "dab": ("batch_logits", "batch_labels"),
}
#: Which number of columns a matrix has; L, the number of genes, if it is not listed.
COLUMNS = {
    "cell_embedding": "width",
    "second_cell_embedding": "width",
    "cell_type_logits": "cell_type_count",
    "batch_logits": "batch_count",
}


class ObjectiveValue(NamedTuple):
    """The total, with everything that upstream logs beside it. The dictionaries have the terms that are
    on."""

    #: Σ weight · value.
    total: float
    #: Every term before its weight.
    values: dict[str, float]
    #: Every term after its weight.
    weighted: dict[str, float]
    #: Every term as upstream logs it: after its weight, but the batch term before.
    logged: dict[str, float]
    #: The masked relative error of the gene predictions where "mse" is on, else None; not in the total.
    relative_error: float | None
    #: How many elements the mask selected.
    selected_count: int


@dataclass(frozen=True)
class TotalObjective:
    """The weighted sum of the terms that a task trains on: total = Σ weight · value.

    Terms go by the names under which scGPT logs them, and a term without a weight is off:

    ========== ============================ ======================================================
    term       reads                        is
    ========== ============================ ======================================================
    mse        gene_predictions             masked MSE of the decoder's output (MLM, MGM, GEP)
    nzlp       gene_nonzero                 Bernoulli NLL of the decoder's probability of non-zero
    mvc        cell_predictions             masked MSE predicted from the cell embedding (GEPC)
    mvc_nzlp   cell_nonzero                 Bernoulli NLL predicted from the cell embedding
    gen        generated_predictions        masked MSE generated from the detached cell embedding
    cls        cell_type_logits, _labels    cross-entropy of cell types (CLS)
    cce        cell_embedding, second_…     contrastive cell embedding (CCE)
    ecs        cell_embedding               elastic cell similarity (ECS)
    dab        batch_logits, _labels        domain-adversarial loss of batch labels (DAB)
    ========== ============================ ======================================================
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    elastic_threshold: float = 0.8
    contrastive_temperature: float = 0.5
    #: Whether gene_nonzero and cell_nonzero are logits; upstream's are probabilities.
    nonzero_logits: bool = False
    #: What happens where nothing is selected, for every term.
    when_empty: EmptyRule = "error"
    ignored_label: int = -100
    #: The factor of the gradient reversal.
    lambd: float = 1.0

    def __post_init__(self) -> None:
        # A copy that nobody changes: what is made of it for the library is made once.
        object.__setattr__(self, "weights", MappingProxyType(dict(mapping("weights", self.weights, TERMS))))

    @classmethod
    def integration(
        cls,
        *,
        explicit_zero_prob: bool = True,
        gepc: bool = True,
        ecs_threshold: float = 0.8,
        dab_weight: float = 1.0,
        **parameters: Any,
    ) -> "TotalObjective":
        """scGPT's integration: MSE + [zero] NLL + [GEPC] MSE + [both] NLL + 10 ECS + DAB.

        A threshold of 0 or less switches ECS off, as upstream's ``ecs_thres``.
        """
        zero, cell = flag("explicit_zero_prob", explicit_zero_prob), flag("gepc", gepc)
        weights = {"mse": 1.0}
        if zero:
            weights["nzlp"] = 1.0
        if cell:
            weights["mvc"] = 1.0
        if zero and cell:
            weights["mvc_nzlp"] = 1.0
        if real("ecs_threshold", ecs_threshold) > 0:
            weights["ecs"] = 10.0
            parameters["elastic_threshold"] = ecs_threshold
        weights["dab"] = dab_weight
        return cls(weights, **parameters)

    @classmethod
    def annotation(cls, **parameters: Any) -> "TotalObjective":
        """Cell-type annotation: CLS alone."""
        return cls({"cls": 1.0}, **parameters)

    @classmethod
    def perturbation(cls, **parameters: Any) -> "TotalObjective":
        """Perturbation: MSE alone; upstream's mask is all ones, so give none."""
        return cls({"mse": 1.0}, **parameters)

    @classmethod
    def multi_omics(cls, **parameters: Any) -> "TotalObjective":
        """Multi-omics: MSE + MVC + DAB."""
        return cls({"mse": 1.0, "mvc": 1.0, "dab": 1.0}, **parameters)

    @classmethod
    def generative_pretraining(
        cls, *, from_cell_embedding: bool = True, **parameters: Any
    ) -> "TotalObjective":
        """Generative pretraining: MSE + MVC, and the MSE of what is generated from the cell embedding."""
        weights = {"mse": 1.0, "mvc": 1.0}
        if flag("from_cell_embedding", from_cell_embedding):
            weights["gen"] = 1.0
        return cls(weights, **parameters)

    @classmethod
    def masked_pretraining(cls, **parameters: Any) -> "TotalObjective":
        """Pretraining on masked values with cell types: MSE + CLS + 10 CCE + MVC."""
        return cls({"mse": 1.0, "mvc": 1.0, "cls": 1.0, "cce": 10.0}, **parameters)

    @classmethod
    def scformer(
        cls, *, cell_types: bool = False, contrastive: bool = False, **parameters: Any
    ) -> "TotalObjective":
        """scFormer's integration: as :meth:`integration` with β = 0.5, optionally with CLS and 10 CCE."""
        objective = cls.integration(ecs_threshold=0.5, **parameters)
        weights = dict(objective.weights)
        if flag("cell_types", cell_types):
            weights["cls"] = 1.0
        if flag("contrastive", contrastive):
            weights["cce"] = 10.0
        return replace(objective, weights=weights)

    @functools.cached_property
    def struct(self) -> _abi.Objective:
        """The objective in the terms of the C interface."""
        ignored = integer("ignored_label", self.ignored_label)
        rule = chosen("when_empty", self.when_empty, EMPTY_RULES)
        weights = (c_float * _abi.TERM_CAPACITY)()
        terms = 0
        for name, weight in self.weights.items():
            if name not in TERM_NAMES:
                raise InvalidParameterError(
                    f"weights has the term {shown(name)}; expected some of {', '.join(map(repr, TERM_NAMES))}"
                )
            index = TERM_NAMES.index(name)
            terms |= 1 << index
            weights[index] = real(f"weights[{name!r}]", weight)
        return sized(
            _abi.Objective,
            terms,
            flag("nonzero_logits", self.nonzero_logits),
            weights,
            rule,
            real("elastic_threshold", self.elastic_threshold),
            rule,
            real("contrastive_temperature", self.contrastive_temperature),
            rule,
            0,
            rule,
            ignored,
            0,
            rule,
            ignored,
            real("lambd", self.lambd),
        )

    def evaluate(
        self,
        *,
        targets: FloatArray | None = None,
        mask: BoolArray | None = None,
        gene_predictions: FloatArray | None = None,
        gene_nonzero: FloatArray | None = None,
        cell_predictions: FloatArray | None = None,
        cell_nonzero: FloatArray | None = None,
        generated_predictions: FloatArray | None = None,
        cell_embedding: FloatArray | None = None,
        second_cell_embedding: FloatArray | None = None,
        cell_type_logits: FloatArray | None = None,
        cell_type_labels: LabelArray | None = None,
        batch_logits: FloatArray | None = None,
        batch_labels: LabelArray | None = None,
        gradients: Mapping[str, FloatArray] | None = None,
        gradient_scale: float = 1.0,
        accumulate: bool = False,
    ) -> ObjectiveValue:
        """The total, every term, and the total's gradient with respect to every input named in ``gradients``.

        The value terms run in one fused pass over targets and mask. An input is needed if a term that reads
        it is on. ``gradients`` maps names of inputs to arrays of their shape, which receive the gradients;
        "reversed_batch_logits" receives −``lambd`` times that of "batch_logits".

        targets, mask, predictions: B × L; embeddings: B × D; logits: B × C; labels: B, int32.

        Raises InvalidParameterError and FastLossError for a missing input, and what the single losses raise.
        """
        given = {
            "gene_predictions": gene_predictions,
            "gene_nonzero": gene_nonzero,
            "cell_predictions": cell_predictions,
            "cell_nonzero": cell_nonzero,
            "generated_predictions": generated_predictions,
            "targets": targets,
            "cell_embedding": cell_embedding,
            "second_cell_embedding": second_cell_embedding,
            "cell_type_logits": cell_type_logits,
            "batch_logits": batch_logits,
        }
        matrices = {name: matrix(name, value) for name, value in given.items() if value is not None}
        if mask is not None:
            matrices["mask"] = matrix("mask", mask, BOOL)
        rows = shapes_agree(matrices)
        addresses = {
            name: labels(name, value, rows)
            for name, value in (("cell_type_labels", cell_type_labels), ("batch_labels", batch_labels))
            if value is not None
        }
        for term in self.weights:
            for name in INPUTS.get(term, ()):
                if name not in matrices and name not in addresses:
                    raise FastLossError(f"the term {term!r} is on, but {name} was not given")
        places: dict[str, Matrix] = {}
        given_gradients = {} if gradients is None else mapping("gradients", gradients, "names to arrays")
        for name, array in given_gradients.items():
            if name not in GRADIENTS:
                raise InvalidParameterError(
                    f"gradients has the key {shown(name)}; expected some of {', '.join(map(repr, GRADIENTS))}"
                )
            like = matrices.get(GRADIENTS[name])
            if like is None:
                raise FastLossError(f"gradients has the key {name!r}, but {GRADIENTS[name]} was not given")
            places[name] = output(f"gradients[{name!r}]", array, like)
        scale, adds = real("gradient_scale", gradient_scale), flag("accumulate", accumulate)
        return read(run(self.struct, matrices, addresses, places, scale, adds))


def shapes_agree(matrices: Mapping[str, Matrix]) -> int:
    """The number of cells, after every matrix has been found to have as many rows, and its siblings'
    columns."""
    rows: tuple[str, int] | None = None
    columns: dict[str, tuple[str, int]] = {}
    for name, value in matrices.items():
        first = columns.setdefault(COLUMNS.get(name, "genes"), (name, value.columns))
        rows = rows or (name, value.rows)
        if value.rows != rows[1]:
            raise ShapeError(f"{name} has {value.rows} rows; expected {rows[1]}, as {rows[0]}")
        if value.columns != first[1]:
            raise ShapeError(f"{name} has {value.columns} columns; expected {first[1]}, as {first[0]}")
    return rows[1] if rows else 0


# --- The call -----------------------------------------------------------------------------------------------


def run(
    objective: _abi.Objective,
    matrices: Mapping[str, Matrix],
    label_addresses: Mapping[str, int],
    gradients: Mapping[str, Matrix],
    scale: float,
    accumulate: bool,
) -> _abi.ObjectiveValue:
    """Fills the structs and calls the library."""
    inputs = sized(_abi.ObjectiveInputs)
    for name, given in matrices.items():
        view = getattr(inputs, name)
        view.data, view.stride = given.address, given.stride
        inputs.cells = given.rows
        setattr(inputs, COLUMNS.get(name, "genes"), given.columns)
    for name, address in label_addresses.items():
        setattr(inputs, name, address)
    places = None
    if gradients:
        places = sized(_abi.ObjectiveGradients, scale, accumulate)
        for name, place in gradients.items():
            view = getattr(places, name)
            view.data, view.stride = place.address, place.stride
    return evaluate(objective, inputs, places)


def evaluate(
    objective: _abi.Objective, inputs: _abi.ObjectiveInputs, gradients: _abi.ObjectiveGradients | None
) -> _abi.ObjectiveValue:
    """The call itself, which fastloss.torch shares."""
    value = sized(_abi.ObjectiveValue)
    status = library.fastloss_total_objective(
        addressof(objective),
        addressof(inputs),
        None if gradients is None else addressof(gradients),
        workspace(),
        addressof(value),
    )
    if status:
        fail(status)
    return value


def read(value: _abi.ObjectiveValue) -> ObjectiveValue:
    """What the library wrote, by name."""
    on = [(index, name) for index, name in enumerate(TERM_NAMES) if value.terms >> index & 1]
    return ObjectiveValue(
        total=value.total,
        values={name: value.values[index] for index, name in on},
        weighted={name: value.weighted[index] for index, name in on},
        logged={name: value.logged[index] for index, name in on},
        relative_error=value.relative_error if value.terms & 1 else None,
        selected_count=value.selected_count,
    )
