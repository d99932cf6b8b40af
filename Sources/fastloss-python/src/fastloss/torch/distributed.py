"""Losses of a batch whose rows are spread over the processes of a `torch.distributed` group.

    from fastloss.torch.distributed import elastic_cell_similarity

    loss = elastic_cell_similarity(model(rows), threshold=0.8)  # every process, with rows of its own
    loss.backward()

Every process of the group calls the same functions in the same order. The batch is the rows of all processes,
which may have different numbers of them, or none. Every process gets the same value.

`gradients` says what the training loop does with the gradients of the parameters:

- "mean": it averages them over the processes, as ``DistributedDataParallel`` does. A process's gradients are
  multiplied by the number of processes, so that the average is the gradient of the whole batch's loss.
- "sum": it adds them up.

The group has a backend for CPU tensors that is gloo. Options, and whether a tensor requires gradients, must
agree in all processes. If they do not, or if a call fails in one process, every process raises an error that
names a rank: a :class:`~fastloss.RanksDisagreeError`, its own error, or a :class:`~fastloss.RankFailedError`
within `timeout` seconds. After a process has ended or was late, the group is not used again.

Outputs may be bfloat16 or float16, as in :mod:`fastloss.torch`. The functions work in eager mode. Bytes
travel while the library computes; nothing is gathered on one process.
"""

import ctypes
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, is_grad_enabled
from torch.distributed import distributed_c10d

from .. import _abi
from .._library import NAMES, fail, library, sized, workspace
from .._parameters import mapping, real
from ..errors import FastLossError, InvalidParameterError
from . import REASONS, IntegrationLoss, Terms, _losses
from ._operators import attach, is_eager, scalar

__all__ = ["contrastive_cell_embedding", "elastic_cell_similarity", "integration_loss"]

#: The tag of FastLoss's messages, which no other messages of the group should have.
TAG = 0x464C

EMBEDDING_NAMES = {**NAMES, "embeddings": "cell_emb", "first": "cell1", "second": "cell2"}

Gradients = Literal["mean", "sum"]


def elastic_cell_similarity(
    cell_emb: Tensor,
    threshold: float,
    group: Any = None,
    *,
    gradients: Gradients = "mean",
    timeout: float = 600.0,
) -> Tensor:
    """ECS of the rows of all processes: the mean over all pairs of 1 − (C − threshold)².

    cell_emb: this process's rows × D. group: None is the default group. See
    :func:`fastloss.torch.elastic_cell_similarity`.
    """
    with Communicator(group, timeout) as communicator:
        scale = communicator.scale(gradients)
        threshold = real("threshold", threshold)
        rows = _losses.model_matrix("cell_emb", cell_emb)
        options = sized(_abi.ElasticOptions, threshold, _abi.EMPTY_NAN, embeddings=element_type(rows))
        gradient = gradient_of(cell_emb, rows)
        loss = _abi.LossValue()
        communicator.call(
            library.fastloss_ranks_elastic_cell_similarity,
            *rows.shape,
            *view(rows),
            ctypes.addressof(options),
            *described([gradient], scale),
            communicator.address,
            workspace(),
            ctypes.addressof(loss),
        )
    return differentiable(loss.value, [cell_emb], [gradient])


def contrastive_cell_embedding(
    cell1: Tensor,
    cell2: Tensor,
    temperature: float = 0.5,
    group: Any = None,
    *,
    gradients: Gradients = "mean",
    timeout: float = 600.0,
) -> Tensor:
    """CCE of the cells of all processes: each cell is compared with the second encodings of all processes.

    cell1, cell2: two encodings of this process's cells × D. group: None is the default group. See
    :func:`fastloss.torch.contrastive_cell_embedding`.
    """
    with Communicator(group, timeout) as communicator:
        scale = communicator.scale(gradients)
        temperature = real("temperature", temperature)
        first, second = _losses.matching_pair(cell1, cell2)
        options = sized(_abi.ContrastiveOptions, temperature, _abi.EMPTY_NAN, embeddings=element_type(first))
        outputs = [gradient_of(cell1, first), gradient_of(cell2, second)]
        loss = _abi.LossValue()
        communicator.call(
            library.fastloss_ranks_contrastive_cell_embedding,
            *first.shape,
            *view(first),
            *view(second),
            ctypes.addressof(options),
            *described(outputs, scale),
            communicator.address,
            workspace(),
            ctypes.addressof(loss),
        )
    return differentiable(loss.value, [cell1, cell2], outputs)


def integration_loss(
    outputs: Mapping[str, Tensor],
    target_values: Tensor,
    masked_positions: Tensor,
    batch_labels: Tensor | None = None,
    *,
    cell_type_labels: Tensor | None = None,
    explicit_zero_prob: bool = True,
    gepc: bool = True,
    ecs_threshold: float = 0.8,
    ecs_weight: float = 10.0,
    dab_weight: float = 1.0,
    cls_weight: float = 1.0,
    group: Any = None,
    gradients: Gradients = "mean",
    timeout: float = 600.0,
) -> IntegrationLoss:
    """scGPT's objective for integration over the cells of all processes.

    Every mean runs over all processes: those of the value terms over all selected elements, those of the
    classifications over all labels that count. See :func:`fastloss.torch.integration_loss`.
    """
    with Communicator(group, timeout) as communicator:
        scale = communicator.scale(gradients)
        step = _losses.integration_step(
            explicit_zero_prob,
            gepc,
            ecs_threshold,
            ecs_weight,
            cls_weight,
            dab_weight,
            cell_type_labels is not None,
            batch_labels is not None,
        )
        if type(outputs) is not dict:
            mapping("outputs", outputs, "names to tensors")
        for name in step.names:
            if name is not None and outputs.get(name) is None:
                raise FastLossError(
                    f"outputs has no {name!r}, which is required {REASONS[name]}; it has {sorted(outputs)}"
                )
        given = [None if name is None else outputs[name] for name in step.names]
        *read, target, mask, types, batches, _, _ = _losses.checked_integration(
            *given,
            target_values,
            masked_positions,
            cell_type_labels,
            batch_labels,
            step.weights,
            step.threshold,
        )
        gene, gene_nonzero, cell, cell_nonzero, embedding, type_logits, batch_logits = map(view, read)
        inputs = sized(
            _abi.ObjectiveInputs,
            *target.shape,
            width=read[4].shape[1] if read[4] is not None else 0,
            cell_type_count=read[5].shape[1] if read[5] is not None else 0,
            batch_count=read[6].shape[1] if read[6] is not None else 0,
            targets=_abi.View(*view(target)),
            mask=_abi.MaskView(*view(mask)),
            gene_predictions=_abi.View(*gene),
            gene_nonzero=_abi.View(*gene_nonzero),
            cell_predictions=_abi.View(*cell),
            cell_nonzero=_abi.View(*cell_nonzero),
            cell_embedding=_abi.View(*embedding),
            cell_type_logits=_abi.View(*type_logits),
            batch_logits=_abi.View(*batch_logits),
            cell_type_labels=None if types is None else address(types),
            batch_labels=None if batches is None else address(batches),
            gene_predictions_type=element_type(read[0]),
            gene_nonzero_type=element_type(read[1]),
            cell_predictions_type=element_type(read[2]),
            cell_nonzero_type=element_type(read[3]),
            cell_embedding_type=element_type(read[4]),
            cell_type_logits_type=element_type(read[5]),
            batch_logits_type=element_type(read[6]),
        )
        memory = [
            None if output is None else gradient_of(output, matrix)
            for output, matrix in zip(given, read, strict=True)
        ]
        places = [_abi.MutableView(*view(gradient)) for gradient in memory]
        written = sized(
            _abi.ObjectiveGradients,
            scale,
            _abi.UPDATE_OVERWRITE,
            gene_predictions=places[0],
            gene_nonzero=places[1],
            cell_predictions=places[2],
            cell_nonzero=places[3],
            cell_embedding=places[4],
            cell_type_logits=places[5],
            batch_logits=places[6],
        )
        value = sized(_abi.ObjectiveValue)
        communicator.call(
            library.fastloss_ranks_total_objective,
            step.struct,
            ctypes.addressof(inputs),
            ctypes.addressof(written),
            communicator.address,
            workspace(),
            ctypes.addressof(value),
        )
    found = [value.logged[term] for term in range(_abi.TERM_COUNT) if value.terms >> term & 1]
    terms = torch.tensor([*found, value.relative_error], dtype=torch.float32, device="cpu")
    total = differentiable(value.total, given, memory)
    return IntegrationLoss(total, Terms(step.terms, terms))


# --- Tensors ------------------------------------------------------------------------------------------------

#: The address of a tensor without elements, which has none of its own: it marks an argument as present.
NOTHING = ctypes.create_string_buffer(64)


def address(tensor: Tensor) -> int:
    return tensor.data_ptr() or ctypes.addressof(NOTHING)


def view(tensor: Tensor | None) -> tuple[int | None, int]:
    """The address and the row stride of a matrix."""
    if tensor is None:
        return None, 0
    return address(tensor), max(tensor.stride(0), tensor.shape[1])


def element_type(read: Tensor | None) -> int:
    """The type of a matrix that the library reads."""
    is_narrow = read is not None and read.dtype is torch.bfloat16
    return _abi.ELEMENT_BFLOAT16 if is_narrow else _abi.ELEMENT_FLOAT32


def gradient_of(tensor: Tensor, read: Tensor) -> Tensor | None:
    """Contiguous memory for a tensor's gradient, of the type that is read; None if it needs none."""
    if not (is_grad_enabled() and tensor.requires_grad):
        return None
    return torch.empty(tensor.shape, dtype=read.dtype, device="cpu")


def described(gradients: Sequence[Tensor | None], scale: float) -> list[Any]:
    """The structs of gradients, as arguments."""
    return [
        None
        if gradient is None
        else ctypes.byref(sized(_abi.Gradient, *view(gradient), 0, scale, _abi.UPDATE_OVERWRITE))
        for gradient in gradients
    ]


def differentiable(
    value: float, inputs: Sequence[Tensor | None], gradients: Sequence[Tensor | None]
) -> Tensor:
    pairs = [
        (input, gradient)
        for input, gradient in zip(inputs, gradients, strict=True)
        if input is not None and gradient is not None
    ]
    loss = scalar(value)
    if not pairs:
        return loss
    return attach((loss,), [gradient for _, gradient in pairs], *[input for input, _ in pairs])


# --- Communication ------------------------------------------------------------------------------------------

START = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int32,
)
FINISH = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
GATHER = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def memory_at(place: int, count: int) -> Tensor:
    """Bytes at an address, as a tensor that does not own them."""
    return torch.frombuffer((ctypes.c_uint8 * count).from_address(place), dtype=torch.uint8)


class Communicator:
    """The group of one call, as callbacks for the library: `fastloss_communicator` in `fastloss/ranks.h`.

    If the call raises before the library has compared the arguments of all processes, the others are told.
    """

    def __init__(self, group: Any, timeout: float) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise FastLossError("torch.distributed is not initialised; call init_process_group first")
        if not is_eager():
            raise FastLossError("fastloss.torch.distributed works in eager mode only")
        self.group = distributed_c10d._get_default_group() if group is None else group
        self.rank = dist.get_rank(self.group)
        self.size = dist.get_world_size(self.group)
        if self.rank < 0:
            raise FastLossError("this process is not in the group")
        if "gloo" not in dist.get_backend_config(self.group):
            raise FastLossError(
                f"the group's backend is {dist.get_backend(self.group)}; expected gloo, for CPU tensors"
            )
        self.timeout = timeout
        #: The exchanges that were started: each the operations that wait for a rank.
        self.started: list[list[tuple[int, Any]]] = []
        self.gathered = 0
        self.failed = 0
        self.bytes_sent = 0
        self.called = False
        functions = START(self.start), FINISH(self.finish), GATHER(self.gather)
        self.functions = functions
        pointers = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
        self.struct = sized(_abi.Communicator, None, self.rank, self.size, *pointers)
        self.address = ctypes.addressof(self.struct)

    def __enter__(self) -> "Communicator":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and not self.called:
            # Without a place for the loss, the library fails and tells the other processes.
            library.fastloss_ranks_elastic_cell_similarity(
                0, 0, None, 0, None, None, self.address, workspace(), None
            )
        # The callbacks refer to this object.
        del self.functions

    def scale(self, gradients: str) -> float:
        """The factor of the gradients."""
        if gradients not in ("mean", "sum"):
            raise InvalidParameterError(f'gradients is {gradients!r}; expected "mean" or "sum"')
        return float(self.size) if gradients == "mean" else 1.0

    def call(self, function: Callable[..., int], *arguments: Any) -> None:
        self.called = True
        status = function(*arguments)
        if status:
            fail(status, EMBEDDING_NAMES)

    def peer(self, rank: int) -> int:
        return int(dist.get_global_rank(self.group, rank))

    def limit(self, thirds: int) -> datetime.timedelta:
        return datetime.timedelta(seconds=self.timeout * thirds / 3)

    # An exception cannot cross the library, so each callback turns it into a rank.

    def start(
        self,
        _: int,
        sent: int,
        sent_count: int,
        receiver: int,
        received: int,
        received_count: int,
        sender: int,
    ) -> int:
        if self.failed:
            return self.failed
        peer = sender
        pending = []
        try:
            if received_count:
                buffer = memory_at(received, received_count)
                operation = dist.irecv(buffer, src=self.peer(sender), group=self.group, tag=TAG)
                pending.append((sender, operation))
            peer = receiver
            if sent_count:
                bytes_ = memory_at(sent, sent_count)
                operation = dist.isend(bytes_, dst=self.peer(receiver), group=self.group, tag=TAG)
                pending.append((receiver, operation))
                self.bytes_sent += sent_count
        except Exception:
            self.failed = 1 + peer
            return self.failed
        self.started.append(pending)
        return 0

    def finish(self, _: int) -> int:
        if self.failed:
            return self.failed
        for peer, operation in self.started.pop(0):
            try:
                operation.wait(self.limit(1))
            except Exception:
                self.failed = 1 + peer
                return self.failed
        return 0

    def gather(self, _: int, own: int, count: int, all_: int) -> int:
        self.gathered += 1
        try:
            deadline = time.monotonic() + self.timeout * (2 if self.failed else 3) / 3
            part = memory_at(own, count)
            parts = [memory_at(all_ + rank * count, count) for rank in range(self.size)]
            if not self.failed:
                try:
                    dist.all_gather(parts, part, group=self.group, async_op=True).wait(self.limit(2))
                    return 0
                except Exception:
                    # Which rank is missing is found out below.
                    self.failed = 1 + self.rank
            return self.gather_through_store(part, parts, deadline)
        except Exception:
            # The store is gone, and with it the process that serves it.
            return 1

    def gather_through_store(self, part: Tensor, parts: list[Tensor], deadline: float) -> int:
        """Gathers when the connections of the group are broken, which they are after a time-out."""
        store = distributed_c10d._world.pg_map[self.group][1]
        key = f"fastloss/{self.gathered}"
        store.set(f"{key}/{self.rank}", bytes(part.tolist()).hex())
        # Counters, because the stores of PyTorch 2.1 cannot tell whether a key exists.
        store.add(f"{key}/{self.rank}/is set", 1)
        waiting = list(range(self.size))
        while True:
            for rank in list(waiting):
                if store.add(f"{key}/{rank}/is set", 0):
                    found = bytes.fromhex(store.get(f"{key}/{rank}").decode())
                    parts[rank].copy_(torch.frombuffer(bytearray(found), dtype=torch.uint8))
                    waiting.remove(rank)
            if not waiting:
                return 0
            if time.monotonic() > deadline:
                return 1 + waiting[0]
            time.sleep(0.02)
