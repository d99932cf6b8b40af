"""No loss, alone or across processes, and no head touches memory outside its tensors.

Under each instruction set. PyTorch allocates the gradients, so that inputs and parameters alone lie against
unreadable pages.
"""

import pytest
from guarded_calls import assert_within_bounds


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_no_call_leaves_its_tensors(instruction_set: str) -> None:
    assert_within_bounds(instruction_set, "torch")
