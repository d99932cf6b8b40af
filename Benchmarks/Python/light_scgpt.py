"""Imports scGPT's losses and model without scGPT's heavy dependencies.

`import scgpt` runs its `__init__`, which imports scanpy, torchtext and more that neither the losses nor the
model need. Here the packages `scgpt` and `scgpt.model` are entered with their folders alone, so that their
modules are found, and scGPT's own, unchanged `scgpt.loss`, `scgpt.model.model` and
`scgpt.model.multiomic_model` are imported as they are. They need PyTorch, NumPy and tqdm.

For benchmarks and tests; a user of scGPT has its dependencies and imports it as it is.
"""

import importlib
import importlib.util
import pathlib
import sys
import types
import warnings

__all__ = ["light_scgpt"]


def enter(name: str, folder: pathlib.Path) -> types.ModuleType:
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return package


def light_scgpt() -> types.ModuleType:
    """scGPT with its submodules `loss`, `model.model` and `model.multiomic_model`.

    Raises ImportError if it is not installed: `pip install --no-deps scgpt`.
    """
    if "scgpt.model.model" not in sys.modules:
        spec = importlib.util.find_spec("scgpt")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("scgpt is not installed; pip install --no-deps scgpt")
        folder = pathlib.Path(spec.submodule_search_locations[0])
        package = enter("scgpt", folder)
        package.model = enter("scgpt.model", folder / "model")
        with warnings.catch_warnings():
            # "flash_attn is not installed": it is for GPUs.
            warnings.simplefilter("ignore")
            for name in ("loss", "model.model", "model.multiomic_model"):
                importlib.import_module(f"scgpt.{name}")
    return sys.modules["scgpt"]
