"""patch_scgpt() on scGPT's own functions and models."""

import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from light_scgpt import light_scgpt
from losses import every_loss
from torch import Tensor

import fastloss
import fastloss.torch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("scgpt") is None, reason="scgpt is not installed")


@pytest.fixture
def scgpt() -> Iterator[types.ModuleType]:
    package = light_scgpt()
    before = {name: getattr(package.loss, name) for name in ("masked_mse_loss", "masked_relative_error")}
    yield package
    for name, function in before.items():
        assert getattr(package.loss, name) is function, "a test left scGPT patched"


def model(scgpt: types.ModuleType, kind: str, dropout: float = 0.2) -> Any:
    torch.manual_seed(0)
    owner = {"TransformerModel": "model", "MultiOmicTransformerModel": "multiomic_model"}[kind]
    return getattr(getattr(scgpt.model, owner), kind)(
        ntoken=40,
        d_model=16,
        nhead=2,
        d_hid=16,
        nlayers=2,
        vocab={"<pad>": 0},
        dropout=dropout,
        do_mvc=True,
        do_dab=True,
        use_batch_labels=True,
        num_batch_labels=3,
        ecs_threshold=0.3,
        explicit_zero_prob=True,
    )


def call(model: Any, seed: int, **switches: bool) -> tuple[dict[str, Tensor], Tensor]:
    """The outputs of one pass with seeded dropout, and the gradient that ECS and CCE send to the encoder."""
    random = torch.Generator().manual_seed(seed)
    source = torch.randint(1, 40, (9, 12), generator=random)
    values = torch.randint(0, 51, (9, 12), generator=random).float()
    torch.manual_seed(seed)
    output = model(source, values, source == 0, batch_labels=torch.arange(9) % 3, **switches)
    losses = [output[name] for name in ("loss_ecs", "loss_cce") if name in output]
    (gradient,) = torch.autograd.grad(sum(losses, output["dab_output"].sum()), model.encoder.embedding.weight)
    return output, gradient


@pytest.mark.parametrize("kind", ["TransformerModel", "MultiOmicTransformerModel"])
@pytest.mark.parametrize(
    "switches", [{"ECS": True}, {"CCE": True}, {"ECS": True, "CCE": True, "MVC": True, "CLS": True}, {}]
)
def test_models(scgpt: types.ModuleType, kind: str, switches: dict[str, bool]) -> None:
    net = model(scgpt, kind).train()
    expected, expected_gradient = call(net, 5, **switches)
    forward = type(net).forward
    with fastloss.patch_scgpt():
        assert type(net).forward is not forward
        found, gradient = call(net, 5, **switches)
        if "ECS" in switches:
            assert type(found["loss_ecs"].grad_fn).__name__ == "FastLossBackward"
    assert type(net).forward is forward
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Dropout drew the same numbers: also the outputs after the second encoding are equal.
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_positional_switches(scgpt: types.ModuleType) -> None:
    net = model(scgpt, "TransformerModel").eval()
    source, values = torch.ones(3, 4, dtype=torch.long), torch.ones(3, 4)
    arguments = (source, values, source == 0, torch.zeros(3, dtype=torch.long), False, False, False, True)
    expected = net(*arguments)["loss_ecs"]
    with fastloss.patch_scgpt():
        torch.testing.assert_close(net(*arguments)["loss_ecs"], expected)


def test_functions(scgpt: types.ModuleType) -> None:
    mse, bernoulli = every_loss.args[1][:2]
    input, target, mask = mse.arguments()
    probabilities = bernoulli.arguments()[0]
    own = scgpt.loss
    for kind in (torch.bool, torch.float32):
        own_results = [
            own.masked_mse_loss(input, target, mask.to(kind)),
            own.criterion_neg_log_bernoulli(probabilities, target, mask.to(kind)),
        ]
        metric = own.masked_relative_error(input, target, mask)
        own_gradients = torch.autograd.grad(sum(own_results), [input, probabilities])
        with fastloss.patch_scgpt():
            assert own.masked_mse_loss is fastloss.torch.masked_mse_loss
            results = [
                own.masked_mse_loss(input, target, mask.to(kind)),
                own.criterion_neg_log_bernoulli(probabilities, target, mask.to(kind)),
            ]
            torch.testing.assert_close(own.masked_relative_error(input, target, mask), metric.detach())
            gradients = torch.autograd.grad(sum(results), [input, probabilities])
        for found, expected in zip([*results, *gradients], [*own_results, *own_gradients], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    # An empty mask: what upstream gives.
    with torch.no_grad():
        assert own.masked_mse_loss(input, target, torch.zeros_like(mask)).isnan()
        assert own.criterion_neg_log_bernoulli(probabilities, target, torch.zeros_like(mask)).isnan()
        with pytest.raises(AssertionError):
            own.masked_relative_error(input, target, torch.zeros_like(mask))
    spoilt = probabilities.detach().clone()
    spoilt[mask] = 2
    # torch.compile, once it has run, leaves PyTorch's own check switched off.
    torch.distributions.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError):
        own.criterion_neg_log_bernoulli(spoilt, target, mask)


def test_modules_that_have_imported_the_functions(scgpt: types.ModuleType) -> None:
    trainer = types.ModuleType("scgpt.trainer")
    trainer.masked_mse_loss = scgpt.loss.masked_mse_loss  # type: ignore[attr-defined]
    trainer.masked_relative_error = lambda *_: None  # type: ignore[attr-defined]
    sys.modules["scgpt.trainer"] = trainer
    own = trainer.masked_relative_error, scgpt.loss.masked_mse_loss
    try:
        patch = fastloss.patch_scgpt()
        assert trainer.masked_mse_loss is fastloss.torch.masked_mse_loss
        # Something else of the same name is not scGPT's function, and stays.
        assert trainer.masked_relative_error is own[0]
        assert set(patch.replaced) == {
            "scgpt.loss.masked_mse_loss",
            "scgpt.loss.criterion_neg_log_bernoulli",
            "scgpt.loss.masked_relative_error",
            "scgpt.trainer.masked_mse_loss",
            "scgpt.model.model.TransformerModel.forward",
            "scgpt.model.multiomic_model.MultiOmicTransformerModel.forward",
        }
        with pytest.raises(RuntimeError, match="already patched"):
            fastloss.patch_scgpt()
        patch.undo()
        assert trainer.masked_mse_loss is own[1] and patch.replaced == []
        patch.undo()
    finally:
        del sys.modules["scgpt.trainer"]


def test_without_scgpt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scgpt", None)
    monkeypatch.delitem(sys.modules, "scgpt.loss", raising=False)
    with pytest.raises(ImportError):
        fastloss.patch_scgpt()
