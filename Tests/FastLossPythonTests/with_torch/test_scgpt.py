"""patch_scgpt() on scGPT's own functions and models."""

import contextlib
import importlib.util
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
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
            assert own.masked_mse_loss.__wrapped__ is fastloss.torch.masked_mse_loss
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
        patch = fastloss.patch_scgpt(strict=True)
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


# --- Deferred decoders --------------------------------------------------------------------------------------


def batch(shared: bool, seed: int = 5) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    source = torch.randint(1, 40, (9, 12), generator=random)
    target = torch.randint(0, 3, (9, 12), generator=random).float()
    return {
        "source": source[:1].expand(9, 12).contiguous() if shared else source,
        "target": target,
        "mask": torch.rand(9, 12, generator=random) < 0.4,
    }


def forward(net: Any, data: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(5)
    values = torch.where(data["mask"], -1.0, data["target"])
    output: dict[str, Tensor] = net(
        data["source"], values, data["source"] == 0, torch.arange(9) % 3, MVC=True, CLS=True, ECS=True
    )
    return output


def losses_of(scgpt: types.ModuleType, output: dict[str, Tensor], data: dict[str, Tensor]) -> list[Tensor]:
    own, selection = scgpt.loss, (data["target"], data["mask"])
    return [
        own.masked_mse_loss(output["mlm_output"], *selection),
        own.criterion_neg_log_bernoulli(output["mlm_zero_probs"], *selection),
        own.masked_mse_loss(output["mvc_output"], *selection),
        own.criterion_neg_log_bernoulli(output["mvc_zero_probs"], *selection),
    ]


def step(
    scgpt: types.ModuleType, net: Any, data: dict[str, Tensor], weights: tuple[float, ...]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The values of all terms and the metric, and the gradients, after a step of an optimizer."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.zero_grad()
    output = forward(net, data)
    terms = losses_of(scgpt, output, data)
    total = sum((weight * term for weight, term in zip(weights, terms, strict=True)), output["loss_ecs"])
    (total + output["dab_output"].sum() + output["cls_output"].sum()).backward()
    optimizer.step()
    with torch.no_grad():
        terms.append(scgpt.loss.masked_relative_error(output["mlm_output"], data["target"], data["mask"]))
        # All tokens, with the parameters of the forward pass.
        terms += [output[name].detach().clone() for name in ("mlm_output", "mvc_zero_probs")]
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }
    net.load_state_dict(state)
    return terms, gradients


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 0.5, 3), (1, 0, 1, 0), (0.5, 0.5, 2, 2)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_deferred_decoders(scgpt: types.ModuleType, shared: bool, weights: tuple[float, ...]) -> None:
    net, data = model(scgpt, "TransformerModel").train(), batch(shared)
    terms, gradients = step(scgpt, net, data, weights)
    with fastloss.patch_scgpt(strict=True):
        output = forward(net, data)
        assert type(output["mlm_output"]).__name__ == type(output["mvc_output"]).__name__ == "Deferred"
        found, found_gradients = step(scgpt, net, data, weights)
    for term, expected in zip(found, terms, strict=True):
        torch.testing.assert_close(term, expected, rtol=1e-5, atol=1e-6)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        error = (found_gradients[name] - gradient).norm()
        # The bias of the keys has no effect on the attention: its gradient is rounding.
        assert error <= 1e-5 * gradient.norm() + 1e-6, name


def test_reading_a_deferred_output(scgpt: types.ModuleType) -> None:
    """It is the tensor that scGPT's decoder computes, for every operation."""
    net, data = model(scgpt, "TransformerModel").train(), batch(False)
    expected = forward(net, data)
    with fastloss.patch_scgpt(strict=True):
        for name in ("mlm_output", "mlm_zero_probs", "mvc_output", "mvc_zero_probs"):
            output = forward(net, data)[name]
            plain = expected[name]
            assert isinstance(output, Tensor) and output.shape == plain.shape and output.requires_grad
            assert torch.equal(output, plain)
            assert torch.equal(torch.stack([output, output])[1, 2:], plain[2:])
            assert (output.detach().numpy() == plain.detach().numpy()).all()
            assert output.tolist() == plain.tolist() and repr(output) == repr(plain)
            (found,) = torch.autograd.grad(output.sum(), [net.encoder.embedding.weight])
            (own,) = torch.autograd.grad(plain.sum(), [net.encoder.embedding.weight], retain_graph=True)
            torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-6)
        # Read before the loss, the output takes part in it.
        output = forward(net, data)["mlm_output"]
        output.retain_grad()
        scgpt.loss.masked_mse_loss(output, data["target"], data["mask"]).backward()
        assert output.grad is not None and output.grad[data["mask"]].any()
        assert not output.grad[~data["mask"]].any()
        # A second selection, and the fused objective, which reads all tokens.
        output = forward(net, data)
        first = losses_of(scgpt, output, data)
        data["mask"] = ~data["mask"]
        second = losses_of(scgpt, output, data)
        for found, own in zip(second, losses_of(scgpt, expected, data), strict=True):
            torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-6)
        data["mask"] = ~data["mask"]
        fused = fastloss.torch.integration_loss(forward(net, data), data["target"], data["mask"])
        for found, own in zip(list(fused.terms.values())[:4], first, strict=True):
            torch.testing.assert_close(found, own.detach(), rtol=1e-5, atol=1e-6)


def test_second_derivatives_of_deferred_decoders(scgpt: types.ModuleType) -> None:
    net, data = model(scgpt, "TransformerModel").train(), batch(True)
    with fastloss.patch_scgpt(strict=True):
        loss = losses_of(scgpt, forward(net, data), data)[0]
        weight = net.decoder.fc[0].weight
        (gradient,) = torch.autograd.grad(loss, [weight], create_graph=True)
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            gradient.sum().backward()


def test_deferred_decoders_again(scgpt: types.ModuleType) -> None:
    """With retain_graph=True, as often as it is asked; what was handed out stays."""
    net, data = model(scgpt, "TransformerModel").train(), batch(True)
    with fastloss.patch_scgpt(strict=True):
        total = sum(losses_of(scgpt, forward(net, data), data))
        weights = [net.decoder.fc[0].weight, net.encoder.embedding.weight]
        first = torch.autograd.grad(total, weights, retain_graph=True)
        copies = [gradient.clone() for gradient in first]
        second = torch.autograd.grad(2 * total, weights, retain_graph=True)
        third = torch.autograd.grad(total, weights)
        for one, copy, two, three in zip(first, copies, second, third, strict=True):
            assert torch.equal(one, copy)
            torch.testing.assert_close(two, 2 * copy)
            torch.testing.assert_close(three, copy)
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            torch.autograd.grad(total, weights)


def test_a_step_is_freed(scgpt: types.ModuleType) -> None:
    """By reference counting: Python's collector sees no cycle that goes through autograd."""
    net, data = model(scgpt, "TransformerModel").train(), batch(False)
    with fastloss.patch_scgpt(strict=True):
        output = forward(net, data)
        total = sum(losses_of(scgpt, output, data), output["loss_ecs"])
        outputs: list[Any] = [output["mlm_output"], output["mvc_output"]]
        steps = [weakref.ref(each.step) for each in outputs]
        total.backward()
        assert all(step() is not None for step in steps)
        del output, outputs
        assert all(step() is None for step in steps)


def test_compiled_losses_of_a_patched_model(scgpt: types.ModuleType) -> None:
    net, data = model(scgpt, "TransformerModel").train(), batch(False)
    expected = losses_of(scgpt, forward(net, data), data)[0]
    torch.compiler.reset()
    with fastloss.patch_scgpt():
        output = forward(net, data)["mlm_output"]
        found = torch.compile(scgpt.loss.masked_mse_loss)(output, data["target"], data["mask"])
    torch.testing.assert_close(found, expected)
    torch.compiler.reset()


NOT_DEFERRED: dict[str, Callable[[Any], Any]] = {
    "evaluation": lambda net: net.eval(),
    "a hook": lambda net: net.decoder.fc[0].register_forward_hook(lambda *_: None),
    "another activation": lambda net: net.decoder.fc.__setitem__(1, torch.nn.GELU()),
    "another query": lambda net: setattr(net.mvc_decoder, "query_activation", torch.nn.Tanh()),
}


@pytest.mark.parametrize("other", NOT_DEFERRED)
def test_decoders_that_are_not_deferred(scgpt: types.ModuleType, other: str) -> None:
    net, data = model(scgpt, "TransformerModel").train(), batch(True)
    NOT_DEFERRED[other](net)
    expected = forward(net, data)
    with fastloss.patch_scgpt(strict=True):
        found = forward(net, data)
        with torch.no_grad():
            assert type(forward(net, data)["mlm_output"]) is Tensor
    for name in ("mlm_output", "mlm_zero_probs", "mvc_output", "mvc_zero_probs", "cls_output"):
        assert type(found[name]) is Tensor and torch.equal(found[name], expected[name])


def test_another_version_of_the_model(scgpt: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = scgpt.model.model.TransformerModel
    before = kind.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return before(self, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", forward)
    with pytest.raises(RuntimeError, match=r"is not that of scGPT 0\.2\.4"):
        fastloss.patch_scgpt(strict=True)
    with pytest.warns(UserWarning, match=r"is not that of scGPT 0\.2\.4"):
        patch = fastloss.patch_scgpt()
    assert type(kind.forward) is type(forward)
    patch.undo()
    assert kind.forward is forward


# --- What FastLoss does not take ----------------------------------------------------------------------------


@contextlib.contextmanager
def counted_warnings(expected: int) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(warning.message) for warning in caught]
    found = [message for message in messages if "runs scGPT's own operations" in message]
    assert len(found) == expected, messages
    for message in found:
        assert "patch_scgpt(strict=True)" in message


#: Changes of a model, and the switches that make its calls fall back.
OTHER_MODELS: dict[str, Callable[[Any], Any]] = {
    "float64": lambda net: net.double(),
    "meta": lambda net: net.to("meta"),
}


@pytest.mark.parametrize("other", OTHER_MODELS)
def test_other_models_compute_as_before(scgpt: types.ModuleType, other: str) -> None:
    net = OTHER_MODELS[other](model(scgpt, "TransformerModel")).train()
    parameter = next(net.parameters())

    def run() -> list[Tensor]:
        random = torch.Generator().manual_seed(3)
        source = torch.randint(1, 40, (9, 12), generator=random).to(parameter.device)
        values = torch.rand(9, 12, generator=random).to(parameter)
        torch.manual_seed(3)
        # The padding mask is an input of the encoder, which asks for a value of it.
        output = net(source, values, source == 0, torch.arange(9).to(source) % 3, ECS=True, CCE=True)
        mask = values < 0.5
        losses = [
            output["loss_ecs"],
            output["loss_cce"],
            scgpt.loss.masked_mse_loss(output["mlm_output"], values, mask),
            scgpt.loss.criterion_neg_log_bernoulli(output["mlm_zero_probs"], values, mask),
        ]
        return [*losses, *torch.autograd.grad(sum(losses), [net.encoder.embedding.weight])]

    if other == "meta":
        # PyTorch's encoder and its Bernoulli look at values, which a meta tensor has none of.
        embeddings = torch.ones(4, 3, device="meta")
        with counted_warnings(1), fastloss.patch_scgpt():
            value = scgpt.loss.masked_mse_loss(embeddings, embeddings, embeddings > 0)
            assert value.device.type == "meta" and value.shape == ()
        return
    expected = run()
    with counted_warnings(1), fastloss.patch_scgpt():
        found = run()
    for one, another in zip(found, expected, strict=True):
        assert one.dtype == another.dtype and torch.equal(one, another)
    with fastloss.patch_scgpt(strict=True), pytest.raises(fastloss.ArrayError, match=f"torch.{other} tensor"):
        run()
    # A later patch warns again.
    with counted_warnings(1), fastloss.patch_scgpt():
        run()


def test_a_model_in_bfloat16(scgpt: types.ModuleType) -> None:
    """FastLoss takes its outputs as they are, without a warning; losses are float32."""
    net = model(scgpt, "TransformerModel").bfloat16().train()
    source = torch.randint(1, 40, (9, 12), generator=torch.Generator().manual_seed(3))

    def run() -> list[Tensor]:
        torch.manual_seed(3)
        values = torch.rand(9, 12).bfloat16()
        output = net(source, values, source == 0, torch.arange(9) % 3, ECS=True, CCE=True)
        mask = values < 0.5
        return [
            output["loss_ecs"],
            output["loss_cce"],
            scgpt.loss.masked_mse_loss(output["mlm_output"], values, mask),
            scgpt.loss.criterion_neg_log_bernoulli(output["mlm_zero_probs"], values, mask),
        ]

    expected = run()
    with counted_warnings(0), fastloss.patch_scgpt(strict=True):
        found = run()
    for one, another in zip(found, expected, strict=True):
        # PyTorch computes in bfloat16.
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, another.float(), rtol=3e-2, atol=1e-2)
    (gradient,) = torch.autograd.grad(sum(found), [net.encoder.embedding.weight])
    assert gradient.dtype == torch.bfloat16 and gradient.isfinite().all() and gradient.any()


def test_other_arguments_compute_as_before(scgpt: types.ModuleType) -> None:
    own = scgpt.loss
    input, target, mask = every_loss.args[1][0].arguments()
    weights = mask * 0.5
    calls: dict[str, Callable[[], Tensor]] = {
        "weights": lambda: own.masked_mse_loss(input, target, weights),
        "gradient of the mask": lambda: own.masked_mse_loss(input, target, weights.requires_grad_()),
        "broadcast": lambda: own.masked_mse_loss(input, target[:1], mask),
        "float64 target": lambda: own.masked_mse_loss(input, target.double(), mask),
        "keywords": lambda: own.masked_mse_loss(input=input, mask=weights, target=target),
    }
    for name, call in calls.items():
        expected = call()
        with counted_warnings(1), fastloss.patch_scgpt():
            assert torch.equal(call(), expected), name
            call()
        with fastloss.patch_scgpt(strict=True), pytest.raises(fastloss.FastLossError):
            call()
    # What scGPT refuses stays an error, its own, and nothing is said about it.
    with counted_warnings(0), fastloss.patch_scgpt():
        with pytest.raises(AssertionError):
            own.masked_relative_error(input, target, mask & False)
        with pytest.raises(RuntimeError):
            own.masked_mse_loss(input, target[:, :3], mask)
        with pytest.raises(TypeError):
            own.masked_mse_loss([1.0], target, mask)


def test_compiled_functions(scgpt: types.ModuleType) -> None:
    own = scgpt.loss
    input, target, mask = every_loss.args[1][0].arguments()

    def objective(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return 2 * own.masked_mse_loss(input * 1.0, target, mask)

    for kind, count in ((torch.float32, 0), (torch.float64, 1)):
        torch.compiler.reset()
        arguments = (input.detach().to(kind), target.to(kind), mask)
        expected = objective(*arguments)
        with counted_warnings(count), fastloss.patch_scgpt():
            found = torch.compile(objective, fullgraph=True)(*arguments)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected)
    torch.compiler.reset()


def test_own_elastic_is_scgpts(scgpt: types.ModuleType) -> None:
    from fastloss.torch._upstream import own_elastic

    net = model(scgpt, "TransformerModel").eval()
    output, _ = call(net, 5, ECS=True)
    assert torch.equal(own_elastic(output["cell_emb"], net.ecs_threshold), output["loss_ecs"])


def test_without_scgpt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scgpt", None)
    monkeypatch.delitem(sys.modules, "scgpt.loss", raising=False)
    with pytest.raises(ImportError):
        fastloss.patch_scgpt()
