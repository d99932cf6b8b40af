"""What differs between the versions of PyTorch that the tests run with."""

from typing import Any

import pytest
import torch

#: Whether a backward pass tells if another may follow. PyTorch 2.1 to 2.3 do not.
HAS_KEEP_GRAPH = hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph")


def opcheck(operator: Any, arguments: tuple[Any, ...]) -> None:
    """PyTorch's own checks of an operator: public since 2.4, in its test tools in 2.2 and 2.3."""
    if hasattr(torch.library, "opcheck"):
        torch.library.opcheck(operator, arguments)
        return
    from torch.testing._internal import optests

    if not hasattr(optests, "opcheck"):
        pytest.skip("this PyTorch has no opcheck")
    optests.opcheck(operator, arguments, {})
