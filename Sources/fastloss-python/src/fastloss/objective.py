"""The total objective on NumPy arrays: all terms and gradients of a training step in one call."""

import functools
from collections.abc import Mapping
from ctypes import addressof, c_float
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from . import _abi
from ._arrays import BOOL, Matrix, labels, matrix, output
from ._library import NAMES, TERM_NAMES, fail, library, sized, workspace
from ._parameters import EMPTY_RULES, chosen, flag, integer, mapping, real, shown
from .errors import FastLossError, InvalidParameterError, ShapeError
from .losses import BoolArray, EmptyRule, FloatArray, LabelArray

__all__ = ["ObjectiveValue", "TotalObjective"]

#: The content of `weights`, for messages.
TERMS = "terms to numbers"
#: The gradients, each with its input.
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
#: The inputs of each term.
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
#: The member with a matrix's number of columns; `genes` for all others.
COLUMNS = {
    "cell_embedding": "width",
    "second_cell_embedding": "width",
    "cell_type_logits": "cell_type_count",
    "batch_logits": "batch_count",
}


class ObjectiveValue(NamedTuple):
    """The total and all values that upstream logs. The dictionaries have the enabled terms."""

    #: Σ weight · value.
    total: float
    #: The terms without their weights.
    values: dict[str, float]
    #: The terms with their weights.
    weighted: dict[str, float]
    #: The terms as upstream logs them: with their weights, except "dab".
    logged: dict[str, float]
    #: The masked relative error of the gene predictions, not in the total; None if "mse" is disabled.
    relative_error: float | None
    #: The number of selected elements.
    selected_count: int


@dataclass(frozen=True)
class TotalObjective:
    """The weighted sum of a task's terms: total = Σ weight · value.

    ``weights`` enables terms by the names under which scGPT logs them:

    ========== ============================ ======================================================
    term       inputs                       loss
    ========== ============================ ======================================================
    mse        gene_predictions             masked MSE of the decoder's output (MLM, MGM, GEP)
    nzlp       gene_nonzero                 Bernoulli NLL of the decoder's nonzero probability
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
    #: Whether gene_nonzero and cell_nonzero are logits. Upstream's are probabilities.
    nonzero_logits: bool = False
    #: The result of a term without selected elements.
    when_empty: EmptyRule = "error"
    ignored_label: int = -100
    #: The factor of the gradient reversal.
    lambd: float = 1.0

    def __post_init__(self) -> None:
        # An immutable copy, because `struct` is computed from it once.
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

        A threshold of 0 or less disables ECS, as upstream's ``ecs_thres``.
        """
        weights, _ = preset(
            "integration",
            flag("explicit_zero_prob", explicit_zero_prob),
            flag("gepc", gepc),
            real("ecs_threshold", ecs_threshold),
            real("dab_weight", dab_weight),
        )
        # The caller's own numbers instead of their float32 values.
        weights["dab"] = dab_weight
        if "ecs" in weights:
            parameters["elastic_threshold"] = ecs_threshold
        return cls(weights, **parameters)

    @classmethod
    def annotation(cls, **parameters: Any) -> "TotalObjective":
        """Cell-type annotation: CLS."""
        return cls(preset("annotation")[0], **parameters)

    @classmethod
    def perturbation(cls, **parameters: Any) -> "TotalObjective":
        """Perturbation: MSE. Upstream's mask is all ones, so pass no mask."""
        return cls(preset("perturbation")[0], **parameters)

    @classmethod
    def multi_omics(cls, **parameters: Any) -> "TotalObjective":
        """Multi-omics: MSE + MVC + DAB."""
        return cls(preset("multi_omics")[0], **parameters)

    @classmethod
    def generative_pretraining(
        cls, *, from_cell_embedding: bool = True, **parameters: Any
    ) -> "TotalObjective":
        """Generative pretraining: MSE + MVC, and GEN with ``from_cell_embedding``."""
        flagged = flag("from_cell_embedding", from_cell_embedding)
        return cls(preset("generative_pretraining", flagged)[0], **parameters)

    @classmethod
    def masked_pretraining(cls, **parameters: Any) -> "TotalObjective":
        """Masked pretraining with cell types: MSE + CLS + 10 CCE + MVC."""
        return cls(preset("masked_pretraining")[0], **parameters)

    @classmethod
    def scformer(
        cls, *, cell_types: bool = False, contrastive: bool = False, **parameters: Any
    ) -> "TotalObjective":
        """scFormer's integration: :meth:`integration` with β = 0.5, and optionally CLS and 10 CCE.

        ``parameters`` are those of :meth:`integration` and of the class.
        """
        weights, threshold = preset(
            "scformer", flag("cell_types", cell_types), flag("contrastive", contrastive)
        )
        objective = cls.integration(ecs_threshold=threshold, **parameters)
        added = {name: weight for name, weight in weights.items() if name in ("cls", "cce")}
        return replace(objective, weights={**objective.weights, **added})

    @functools.cached_property
    def struct(self) -> _abi.Objective:
        """The objective as a struct of the C interface."""
        ignored = integer("ignored_label", self.ignored_label)
        rule = chosen("when_empty", self.when_empty, EMPTY_RULES)
        weights = (c_float * _abi.TERM_CAPACITY)()
        terms = 0
        for name, weight in self.weights.items():
            if name not in TERM_NAMES:
                raise InvalidParameterError(
                    f"weights has the term {shown(name)}; expected {', '.join(map(repr, TERM_NAMES))}"
                )
            index = TERM_NAMES.index(name)
            terms |= 1 << index
            weights[index] = real(f"weights[{name!r}]", weight)
        return sized(
            _abi.Objective,
            terms=terms,
            nonzero_form=flag("nonzero_logits", self.nonzero_logits),
            weights=weights,
            mask_when_empty=rule,
            elastic_threshold=real("elastic_threshold", self.elastic_threshold),
            elastic_when_empty=rule,
            contrastive_temperature=real("contrastive_temperature", self.contrastive_temperature),
            contrastive_when_empty=rule,
            cell_type_when_empty=rule,
            cell_type_ignored_label=ignored,
            batch_when_empty=rule,
            batch_ignored_label=ignored,
            batch_lambda=real("lambd", self.lambd),
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
        """Computes the total, every term, and the gradients of the total that ``gradients`` names.

        The value terms run in one fused pass over targets and mask. Each enabled term requires its inputs.
        ``gradients`` maps names of inputs to arrays of the same shape, which receive the gradients.
        "reversed_batch_logits" receives −``lambd`` times the gradient of "batch_logits".

        targets, mask, predictions: B × L; embeddings: B × D; logits: B × C; labels: B, int32.

        Raises FastLossError for a missing input, InvalidParameterError, and the errors of the terms' losses.
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
                    raise FastLossError(f"the term {term!r} is enabled, but {name} is missing")
        places: dict[str, Matrix] = {}
        given_gradients = {} if gradients is None else mapping("gradients", gradients, "names to arrays")
        for name, array in given_gradients.items():
            if name not in GRADIENTS:
                raise InvalidParameterError(
                    f"gradients has the key {shown(name)}; expected {', '.join(map(repr, GRADIENTS))}"
                )
            like = matrices.get(GRADIENTS[name])
            if like is None:
                raise FastLossError(f"gradients has the key {name!r}, but {GRADIENTS[name]} is missing")
            places[name] = output(f"gradients[{name!r}]", array, like)
        scale, adds = real("gradient_scale", gradient_scale), flag("accumulate", accumulate)
        return read(run(self.struct, matrices, addresses, places, scale, adds))


def shapes_agree(matrices: Mapping[str, Matrix]) -> int:
    """The number of cells. Raises ShapeError unless rows and columns agree."""
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


# --- Presets ------------------------------------------------------------------------------------------------


def preset(name: str, *arguments: Any) -> tuple[dict[str, float], float]:
    """The weights, and the threshold of ECS, of a preset of the C interface."""
    struct = sized(_abi.Objective)
    status = getattr(library, f"fastloss_objective_{name}")(addressof(struct), *arguments)
    if status:
        fail(status)
    on = [(index, term) for index, term in enumerate(TERM_NAMES) if struct.terms >> index & 1]
    return {term: struct.weights[index] for index, term in on}, struct.elastic_threshold


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
    objective: _abi.Objective,
    inputs: _abi.ObjectiveInputs,
    gradients: _abi.ObjectiveGradients | None,
    names: Mapping[str, str] = NAMES,
) -> _abi.ObjectiveValue:
    """Calls the library, for NumPy and for fastloss.torch. `names` are for messages."""
    value = sized(_abi.ObjectiveValue)
    status = library.fastloss_total_objective(
        addressof(objective),
        addressof(inputs),
        None if gradients is None else addressof(gradients),
        workspace(),
        addressof(value),
    )
    if status:
        fail(status, names)
    return value


def read(value: _abi.ObjectiveValue) -> ObjectiveValue:
    """The result, by the names of the terms."""
    on = [(index, name) for index, name in enumerate(TERM_NAMES) if value.terms >> index & 1]
    return ObjectiveValue(
        total=value.total,
        values={name: value.values[index] for index, name in on},
        weighted={name: value.weighted[index] for index, name in on},
        logged={name: value.logged[index] for index, name in on},
        relative_error=value.relative_error if value.terms & 1 else None,
        selected_count=value.selected_count,
    )
