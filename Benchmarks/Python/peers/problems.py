"""The problems of the comparison: losses and heads at the sizes that scGPT trains at, and at large ones."""

from dataclasses import dataclass, replace

from . import head_inputs, inputs
from .inputs import Array

THRESHOLD = 0.8
TEMPERATURE = 0.5
ECS_WEIGHT = 10.0
#: The value that the Bernoulli loss keeps its probabilities from 0 and 1: float32's epsilon, part of the
#: loss.
CLAMP = 2.0**-23
#: B × L × D of the heads that are compared with float64.
CHECKED_HEAD = (3, 40, 16)
#: B × D of the similarities that are compared with float64 in the place of larger ones, whose matrices of
#: pairs would take tens of GiB.
CHECKED_PAIRS = (4096, 512)
#: As written, a call takes seconds.
HEAD_ROUNDS = 3

VALUE_INPUTS = ("gene", "gene_nonzero", "cell", "cell_nonzero")


@dataclass(frozen=True)
class Problem:
    """One row of the comparison."""

    #: Which loss, and of which inputs if there are several.
    loss: str
    #: The shape as people write it, e.g. 64×1201×512.
    shape: tuple[int, ...]
    #: Whether the gradient is computed.
    gradient: bool = True
    #: The name of the same row in the Swift benchmarks, if it has one.
    swift: str | None = None
    #: Left out with --quick.
    large: bool = False
    #: The least number of rounds that are timed.
    rounds: int = 5

    @property
    def title(self) -> str:
        return TITLES[self.loss]

    @property
    def function(self) -> str:
        """The name of its function in every provider."""
        return self.loss.removesuffix("_cone")

    @property
    def shape_text(self) -> str:
        return "×".join(map(str, self.shape))

    @property
    def name(self) -> str:
        mode = "value and gradient" if self.gradient else "value"
        return f"{self.title}, {mode}, {self.shape_text}"

    @property
    def differentiated(self) -> tuple[str, ...]:
        """The inputs whose gradients are computed, in the order in which providers return them."""
        return DIFFERENTIATED[self.loss] if self.gradient else ()

    def inputs(self) -> dict[str, Array]:
        """The inputs by name: float32 arrays, a bool mask, int64 labels. The same ones in every call."""
        return MAKERS[self.loss](*self.shape)

    @property
    def is_head(self) -> bool:
        """Whether this is a task head, forward and backward with its losses."""
        return self.loss in head_inputs.MAKERS

    @property
    def checked(self) -> "Problem":
        """The problem that is compared with float64: a smaller one for a head, which would take minutes, and
        for the pairs of a large batch."""
        if self.is_head:
            return replace(self, shape=CHECKED_HEAD)
        pairs = self.function in ("elastic", "contrastive")
        return replace(self, shape=CHECKED_PAIRS) if pairs and self.shape[0] > CHECKED_PAIRS[0] else self


TITLES = {
    "mse": "masked MSE",
    "value_terms": "four value terms, relative error",
    "elastic": "ECS",
    "elastic_cone": "ECS in a cone",
    "contrastive": "CCE",
    "cross_entropy": "cross-entropy",
    "integration": "integration objective",
    "expression_decoder": "heads: expression decoder",
    "masked_value_shared": "heads: masked values, shared genes",
    "masked_value_lists": "heads: masked values, gene lists",
    "integration_heads": "heads: integration",
}
MAKERS = inputs.MAKERS | head_inputs.MAKERS
DIFFERENTIATED = {
    "mse": ("gene",),
    "value_terms": VALUE_INPUTS,
    "elastic": ("embedding",),
    "elastic_cone": ("embedding",),
    "contrastive": ("embedding", "second"),
    "cross_entropy": ("logits",),
    "integration": (*VALUE_INPUTS, "embedding", "logits"),
    **head_inputs.DIFFERENTIATED,
}


def swift_name(kernel: str, mode: str, *shape: int) -> str:
    return f"{kernel}/{mode}/{'x'.join(map(str, shape))}"


def heads(width: int) -> list[Problem]:
    """The task heads at scGPT's B and L: the pretrained model's width is 512."""
    kernels = {
        "expression_decoder": "ExpressionDecoder",
        "masked_value_shared": "MaskedValueDecoder(shared-genes)",
        "masked_value_lists": "MaskedValueDecoder(gene-lists)",
        "integration_heads": "IntegrationHeads",
    }
    shape = (64, 1201, width)
    return [
        Problem(loss, shape, swift=swift_name(kernel, "valueAndGradient", *shape), rounds=HEAD_ROUNDS)
        for loss, kernel in kernels.items()
    ]


def problems(quick: bool = False) -> list[Problem]:
    """All rows, the headline first."""
    both = "valueAndGradient"
    total = "TotalObjective(integration)"
    ecs, cce = "ElasticCellSimilarity", "ContrastiveCellEmbedding"
    rows = [
        Problem("integration", (64, 1201, 512), swift=swift_name(total, both, 64, 1201, 512)),
        Problem("integration", (64, 1201, 512), False, swift=swift_name(total, "value", 64, 1201, 512)),
        Problem("integration", (512, 1200, 512), swift=swift_name(total, both, 512, 1200, 512), large=True),
        Problem("mse", (64, 1201), swift=swift_name("MaskedMSE", both, 64, 1201)),
        Problem("value_terms", (64, 1201)),
        Problem("value_terms", (4096, 1201), large=True),
        *[
            Problem("elastic", (rows, 512), swift=swift_name(ecs, both, rows, rows, 512), large=rows > 256)
            for rows in (64, 256, 1024, 4096)
        ],
        *[
            Problem(
                "elastic_cone",
                (rows, depth),
                swift=swift_name(f"{ecs}(cone)", both, rows, rows, depth),
                large=rows > 2048,
            )
            for rows, depth in ((2048, 128), (4096, 512), (16384, 512))
        ],
        *[
            Problem(
                "contrastive", (rows, 512), swift=swift_name(cce, both, rows, rows, 512), large=rows > 256
            )
            for rows in (64, 256, 1024, 4096)
        ],
        Problem("cross_entropy", (32, 50), swift=swift_name("CrossEntropy", both, 32, 50)),
        Problem(
            "cross_entropy", (4096, 1000), swift=swift_name("CrossEntropy", both, 4096, 1000), large=True
        ),
        *heads(64 if quick else 512),
    ]
    return [row for row in rows if not (quick and row.large)]
