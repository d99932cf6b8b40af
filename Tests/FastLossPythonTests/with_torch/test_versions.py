"""Which versions of PyTorch `fastloss.torch` accepts, and the scGPT that its users install."""

import importlib.util
import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from fastloss.torch import _compatibility
from fastloss.torch._tensors import native


@pytest.mark.parametrize("version", ["1.13.1", "2.0.1+cpu"])
def test_versions_that_are_too_old(version: str) -> None:
    program = f"""
import torch
torch.__version__ = {version!r}
try:
    import fastloss.torch
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    oldest = ".".join(map(str, _compatibility.OLDEST))
    assert result.stdout == (
        f"PyTorch {version} is too old for fastloss.torch; expected PyTorch {oldest} or newer, for example "
        f"from pip install 'fastloss[torch]'\n"
    ), result.stderr


def test_the_bound_of_the_extra() -> None:
    """The oldest version that the package accepts is the one that it requires."""
    required = [line for line in metadata.requires("fastloss") or [] if line.startswith("torch")]
    oldest = ".".join(map(str, _compatibility.OLDEST))
    assert len(required) == 1 and re.fullmatch(
        rf"torch>={re.escape(oldest)}; extra == ['\"]torch['\"]", required[0]
    )
    assert _compatibility.version_of(torch.__version__) >= _compatibility.OLDEST


def test_version_numbers() -> None:
    assert (
        _compatibility.version_of("2.10.0a0+git123") == (2, 10) > _compatibility.version_of("2.9.1") == (2, 9)
    )


def test_every_layout_is_read_as_it_is() -> None:
    """Address, shape and strides, whether through DLPack or through the attributes of a tensor."""
    random = torch.Generator().manual_seed(1)
    whole = torch.randn(6, 5, generator=random)
    logits = whole[1:5, :3]
    labels = torch.tensor([2, 0, 1, -100])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    arguments = (-100, "mean", "nan", None, 1.0, False)
    for kind in (torch.int64, torch.int32):
        value, _ = native.cross_entropy(None, logits, labels.to(kind), *arguments)
        torch.testing.assert_close(torch.tensor(value, dtype=torch.float32), expected)
    for kind in (torch.int16, torch.float32, torch.bool):
        assert native.cross_entropy(None, logits, labels.to(kind), *arguments) is None
    for tensor in (
        whole.t()[:4],
        whole.double(),
        whole.to("meta"),
        whole.to_sparse(),
        whole[None, None, None],
    ):
        assert native.cross_entropy(None, tensor, labels, *arguments) is None


SCGPT = """
import sys, types, warnings
warnings.simplefilter("ignore")
# Its trainer reports to a service.
sys.modules["wandb"] = types.SimpleNamespace(log=lambda metrics: None)
import numpy as np, torch
import scgpt, scgpt.trainer, scgpt.loss
import fastloss

def epoch(patched):
    from scgpt.loss import masked_mse_loss
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(1)
    model = scgpt.model.MultiOmicTransformerModel(
        ntoken=30, d_model=16, nhead=2, d_hid=16, nlayers=1, vocab={"<pad>": 0}, do_mvc=True, do_dab=True,
        use_batch_labels=True, num_batch_labels=3, ecs_threshold=0.3, explicit_zero_prob=True)
    data = []
    for _ in range(3):
        values = torch.randint(0, 5, (8, 11), generator=random).float()
        masked = torch.rand(8, 11, generator=random) < 0.4
        data.append({
            "gene_ids": torch.randint(1, 30, (8, 11), generator=random), "target_values": values,
            "values": values.masked_fill(masked, -1), "batch_labels": torch.arange(8) % 3})
    config = types.SimpleNamespace(
        log_interval=1, task="integration", pad_token="<pad>", amp=False, use_batch_labels=True, DSBN=False,
        CLS=False, GEP=True, GEPC=True, ESC=True, DAR=True, use_mod=False, mask_value=-1,
        explicit_zero_prob=True, dab_weight=1.0)
    logger = types.SimpleNamespace(info=lambda text: None, warning=lambda text: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scgpt.trainer.train(
        model, data, {"<pad>": 0}, masked_mse_loss, torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(),
        torch.cuda.amp.GradScaler(enabled=False), optimizer, scheduler, "cpu", config, logger, 1)
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])

own = epoch(False)
assert torch.equal(own, epoch(False))
with fastloss.patch_scgpt(strict=True) as patch:
    assert "scgpt.trainer.criterion_neg_log_bernoulli" in patch.replaced, patch.replaced
    found = epoch(True)
assert not torch.equal(own, found)
torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-6)
print(scgpt.__version__)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("torchtext") is None, reason="scGPT is installed without torchtext"
)
def test_scgpt_as_its_users_install_it(tmp_path: pathlib.Path) -> None:
    """`import scgpt` with torchtext, and an epoch of its own trainer with and without the patch."""
    result = subprocess.run(
        [sys.executable, "-c", SCGPT], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("0.2.4\n")
