"""The total objective on NumPy arrays: all terms and gradients of a training step in one call."""

import functools
from collections.abc import Mapping
from ctypes import addressof, c_float
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from . import _abi, _native
from ._arrays import BOOL, FLOAT, Matrix, checked_labels, checked_matrix, checked_output, matrix, model_type
from ._library import TERM_NAMES, call, fail, library, sized
from ._parameters import EMPTY_RULES, chosen, flag, integer, mapping, real, shown
from .errors import ArrayError, FastLossError, InvalidParameterError, ShapeError
from .losses import BoolArray, EmptyRule, FloatArray, LabelArray, ModelArray

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
NO_GRADIENTS = (None,) * len(GRADIENTS)
#: The inputs in the order of the C interface.
ARGUMENTS = (
    "targets",
    "mask",
    "gene_predictions",
    "gene_nonzero",
    "cell_predictions",
    "cell_nonzero",
    "generated_predictions",
    "cell_embedding",
    "second_cell_embedding",
    "cell_type_logits",
    "batch_logits",
    "cell_type_labels",
    "batch_labels",
)
#: The matrices among them, in the order in which their shapes are compared.
MATRICES = (*ARGUMENTS[2:7], "targets", *ARGUMENTS[7:11], "mask")
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
    #: How many of the B² pairs of cells "ecs" summed in closed form.
    certified_pairs: int


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
    #: Whether "ecs" sums pairs in closed form; see :func:`fastloss.elastic_cell_similarity`.
    certifies: bool = True

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
    def struct(self) -> bytes:
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
        struct = sized(
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
            elastic_certificate=(
                _abi.CERTIFICATE_AUTOMATIC if flag("certifies", self.certifies) else _abi.CERTIFICATE_NEVER
            ),
        )
        return bytes(struct)

    @functools.cached_property
    def required(self) -> list[int]:
        """The inputs of the enabled terms, by their places in `ARGUMENTS`."""
        return [ARGUMENTS.index(name) for term in self.weights for name in INPUTS[term]]

    @functools.cached_property
    def terms(self) -> list[tuple[int, str]]:
        """The enabled terms, by their number in the C interface."""
        return [(index, name) for index, name in enumerate(TERM_NAMES) if name in self.weights]

    def evaluate(
        self,
        *,
        targets: FloatArray | None = None,
        mask: BoolArray | None = None,
        gene_predictions: ModelArray | None = None,
        gene_nonzero: ModelArray | None = None,
        cell_predictions: ModelArray | None = None,
        cell_nonzero: ModelArray | None = None,
        generated_predictions: ModelArray | None = None,
        cell_embedding: ModelArray | None = None,
        second_cell_embedding: ModelArray | None = None,
        cell_type_logits: ModelArray | None = None,
        cell_type_labels: LabelArray | None = None,
        batch_logits: ModelArray | None = None,
        batch_labels: LabelArray | None = None,
        gradients: Mapping[str, ModelArray] | None = None,
        gradient_scale: float = 1.0,
        accumulate: bool = False,
    ) -> ObjectiveValue:
        """Computes the total, every term, and the gradients of the total that ``gradients`` names.

        The value terms run in one fused pass over targets and mask. Each enabled term requires its inputs.
        ``gradients`` maps names of inputs to arrays of the same shape, which receive the gradients.
        "reversed_batch_logits" receives −``lambd`` times the gradient of "batch_logits".

        targets, mask, predictions: B × L; embeddings: B × D; logits: B × C; labels: B, int32. Predictions,
        embeddings and logits are float32, float16 or bfloat16 of ml_dtypes, each of its own type, which its
        gradient has, too. 16-bit inputs are read as they are, and a gradient is rounded once.

        Raises FastLossError for a missing input, InvalidParameterError, and the errors of the terms' losses.
        """
        inputs = (
            targets,
            mask,
            gene_predictions,
            gene_nonzero,
            cell_predictions,
            cell_nonzero,
            generated_predictions,
            cell_embedding,
            second_cell_embedding,
            cell_type_logits,
            batch_logits,
            cell_type_labels,
            batch_labels,
        )
        places = NO_GRADIENTS
        if gradients is not None:
            get = mapping("gradients", gradients, "names to arrays").get
            places = tuple([get(name) for name in GRADIENTS])
            if len(gradients) != [place is None for place in places].count(False):
                refuse_keys(gradients)
        struct = self.struct
        if True in [inputs[index] is None for index in self.required]:
            self.refuse_missing(inputs)
        value = call(
            _native.total_objective, checked_step, struct, inputs, places, gradient_scale, accumulate
        )
        total, relative_error, selected_count, values, weighted, logged, certified_pairs = value
        terms = self.terms
        return ObjectiveValue(
            total=total,
            values={name: values[index] for index, name in terms},
            weighted={name: weighted[index] for index, name in terms},
            logged={name: logged[index] for index, name in terms},
            relative_error=relative_error if "mse" in self.weights else None,
            selected_count=selected_count,
            certified_pairs=certified_pairs,
        )

    def refuse_missing(self, inputs: tuple[Any, ...]) -> None:
        for term in self.weights:
            for name in INPUTS[term]:
                if inputs[ARGUMENTS.index(name)] is None:
                    raise FastLossError(f"the term {term!r} is enabled, but {name} is missing")


# --- Checks -------------------------------------------------------------------------------------------------


def checked_step(
    struct: bytes, inputs: tuple[Any, ...], gradients: tuple[Any, ...], scale: float, accumulate: bool
) -> tuple[Any, ...]:
    """The arguments of a call."""
    given = dict(zip(ARGUMENTS, inputs, strict=True))
    kinds = {name: model_type(array) for name, array in given.items()} | {"mask": BOOL, "targets": FLOAT}
    matrices = {name: matrix(name, given[name], kinds[name]) for name in MATRICES if given[name] is not None}
    rows = shapes_agree(matrices)
    for name, array in given.items():
        if name in matrices:
            given[name] = checked_matrix(name, array, kinds[name])
        elif array is not None:
            given[name] = checked_labels(name, array, rows)
    places = [
        None if array is None else checked_place(name, array, matrices, kinds)
        for name, array in zip(GRADIENTS, gradients, strict=True)
    ]
    numbers = real("gradient_scale", scale), flag("accumulate", accumulate)
    return struct, tuple(given.values()), tuple(places), *numbers


def checked_place(
    name: str, array: object, matrices: Mapping[str, Matrix], kinds: Mapping[str, np.dtype[Any]]
) -> ModelArray:
    """The memory of a gradient."""
    like = matrices.get(GRADIENTS[name])
    if like is None:
        raise FastLossError(f"gradients has the key {name!r}, but {GRADIENTS[name]} is missing")
    return checked_output(f"gradients[{name!r}]", array, like, kinds[GRADIENTS[name]])


def refuse_keys(gradients: Mapping[Any, Any]) -> None:
    """Raises for a key that is no gradient, and for a key without an array."""
    for name, array in gradients.items():
        if name not in GRADIENTS:
            raise InvalidParameterError(
                f"gradients has the key {shown(name)}; expected {', '.join(map(repr, GRADIENTS))}"
            )
        if array is None:
            raise ArrayError(f"gradients[{name!r}] is None; expected a numpy.ndarray of float32")


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
