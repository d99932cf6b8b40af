"""The tests of this folder need PyTorch; without it they are not collected."""

import pathlib

import pytest

pytest.importorskip("torch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """torch.compile and scGPT warn about their own affairs: here warnings are no errors."""
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
