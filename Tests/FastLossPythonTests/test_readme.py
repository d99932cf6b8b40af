"""The Python examples of README and of the documentation, as they stand there."""

import pathlib
import re
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "Sources/FastLoss/FastLoss.docc").rglob("*.md"))]


def examples() -> list[str]:
    """Every Python block of every page."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def example(word: str) -> str:
    """The one Python example in which the word occurs."""
    (block,) = [block for block in examples() if word in block]
    return block


def test_every_example_is_run_below() -> None:
    words = ("masked_mse(", "training_step", "decoder_step", "cached_step")
    assert sorted(examples()) == sorted(map(example, words))


def test_numpy_example(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(example("masked_mse("), names)
    # Every prediction is off by 1: so is the mean square, and every gradient is 2 / M where the mask is.
    assert names["loss"] == (1.0, names["mask"].sum())
    assert (names["gradient"][names["mask"]] == names["gradient"].max()).all()
    assert names["gradient"].sum() == pytest.approx(2, rel=1e-6)
    assert capsys.readouterr().out.startswith(f"1.0 {names['mask'].sum()} ")


def test_torch_example() -> None:
    torch = pytest.importorskip("torch")
    names: dict[str, Any] = {}
    exec(example("training_step"), names)
    random = torch.Generator().manual_seed(1)
    shapes = {name: (6, 20) for name in ("mlm_output", "mlm_zero_probs", "mvc_output", "mvc_zero_probs")}
    outputs = {
        name: torch.rand(shape, generator=random).requires_grad_()
        for name, shape in (shapes | {"cell_emb": (6, 8), "dab_output": (6, 3)}).items()
    }
    mask = torch.rand(6, 20, generator=random) < 0.5
    logged = names["training_step"](outputs, torch.ones(6, 20), mask, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert list(logged) == ["mse", "nzlp", "mvc", "mvc_nzlp", "ecs", "dab", "mre"]
    assert logged["mse"] == pytest.approx(
        names["masked_mse_loss"](outputs["mlm_output"], torch.ones(6, 20), mask).item()
    )
    assert all(output.grad is not None and output.grad.abs().sum() > 0 for output in outputs.values())


def test_decoder_example() -> None:
    torch = pytest.importorskip("torch")
    names: dict[str, Any] = {}
    exec(example("decoder_step"), names)
    trained = names["ExprDecoder"](8, True, True)
    checkpoint = {f"decoder.{name}": value for name, value in trained.state_dict().items()}
    decoder = names["decoder_of"](checkpoint | {"encoder.weight": torch.ones(1)}, 8)
    random = torch.Generator().manual_seed(1)
    states, batch_emb = (torch.randn(shape, generator=random) for shape in ((3, 7, 8), (3, 8)))
    target, mask = torch.ones(3, 7), torch.rand(3, 7, generator=random) < 0.5
    logged = names["decoder_step"](decoder, states, target, mask, batch_emb)
    output = trained(torch.cat([states, batch_emb.unsqueeze(1).expand(-1, 7, -1)], dim=2))
    assert logged == {
        "mse": pytest.approx(((output["pred"] - 1)[mask] ** 2).mean().item(), rel=1e-5),
        "nzlp": pytest.approx(-output["zero_probs"][mask].log().mean().item(), rel=1e-5),
    }
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())


def test_cached_step_example() -> None:
    torch = pytest.importorskip("torch")
    names: dict[str, Any] = {}
    exec(example("cached_step"), names)
    torch.manual_seed(1)
    model, whole = torch.nn.Linear(9, 4), torch.nn.Linear(9, 4)
    whole.load_state_dict(model.state_dict())
    batch = torch.randn(13, 9)
    expected = names["elastic_cell_similarity"](whole(batch), threshold=0.8)
    expected.backward()
    assert names["cached_step"](model, batch.split([5, 8])).item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(model.weight.grad, whole.weight.grad, rtol=1e-4, atol=1e-7)
