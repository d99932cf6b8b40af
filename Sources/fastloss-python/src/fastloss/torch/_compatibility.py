"""What differs between the versions of PyTorch that FastLoss supports. The other files of this package are
written for the newest."""

import importlib
import re
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

__all__ = ["OLDEST", "autocasts", "define_operator", "is_compiling", "keeps_graph"]

#: The oldest version with everything that FastLoss needs: operators with fake kernels, torch.compile.
OLDEST = (2, 1)


def version_of(text: str) -> tuple[int, ...]:
    """The first two numbers of a version: (2, 3) of "2.3.1+cpu"."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


if version_of(torch.__version__) < OLDEST:
    raise ImportError(
        f"PyTorch {torch.__version__} is too old for fastloss.torch; expected PyTorch "
        f"{'.'.join(map(str, OLDEST))} or newer, for example from pip install 'fastloss[torch]'"
    )

#: Whether torch.compile or torch.export is looking at the caller: a function that they replace by True.
is_compiling: Callable[[], bool] = (
    torch.compiler.is_compiling if hasattr(torch.compiler, "is_compiling") else torch._utils.is_compiling
)


def autocasts() -> bool:
    """Whether autocast is on for the CPU."""
    if hasattr(torch, "get_autocast_dtype"):
        return torch.is_autocast_enabled("cpu")
    return torch.is_autocast_cpu_enabled()


def may_keep_graph() -> bool:
    return True


#: Whether the running backward pass keeps what it has saved, for another pass. Where PyTorch does not say, it
#: may.
keeps_graph: Callable[[], bool] = getattr(
    torch._C._autograd, "_get_current_graph_task_keep_graph", may_keep_graph
)


def define_operator(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Registers the operator `fastloss::name`: its kernel for the CPU, its fake kernel, and its autograd."""
    if hasattr(torch.library, "custom_op"):
        operator = torch.library.custom_op(
            f"fastloss::{name}", kernel, mutates_args=(), device_types="cpu", schema=schema
        )
        operator.register_fake(fake)
        operator.register_autograd(backward, setup_context=setup_context)
        return operator
    return define_by_dispatch_keys(name, schema, kernel, fake, setup_context, backward)


# --- Before PyTorch 2.4 -------------------------------------------------------------------------------------


#: The registrations. Deleting the object would remove them.
registrations: list[torch.library.Library] = []


def define_by_dispatch_keys(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """As `define_operator`, with one kernel for each dispatch key."""
    if not registrations:
        registrations.append(torch.library.Library("fastloss", "FRAGMENT"))  # type: ignore[no-untyped-call]
    library: Any = registrations[0]
    compliant = getattr(torch.Tag, "pt2_compliant_tag", None)
    if compliant is None:
        library.define(name + schema)
    else:
        library.define(name + schema, tags=(compliant,))
    operator: Callable[..., Any] = getattr(torch.ops.fastloss, name).default

    class Dispatched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                output = operator(*inputs)
            setup_context(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return backward(ctx, *gradients)

    def differentiable(*inputs: Any) -> Any:
        if not torch.is_grad_enabled() or forward_ad._current_level >= 0:
            # The kernel refuses tangents, for which the class above has no formula.
            with torch._C._AutoDispatchBelowAutograd():
                return operator(*inputs)
        return Dispatched.apply(*inputs)  # type: ignore[no-untyped-call]

    library.impl(name, kernel, "CPU")
    library.impl(name, differentiable, "Autograd")
    # torch.library has the function since PyTorch 2.2.
    module = "torch.library" if hasattr(torch.library, "impl_abstract") else "torch._custom_ops"
    importlib.import_module(module).impl_abstract(f"fastloss::{name}", func=fake)
    return operator
