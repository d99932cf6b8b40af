"""The extension module: what it reads, what it declines, and that it declines before it writes."""

import ast
import inspect
import pathlib
import pydoc
from typing import Any

import numpy as np
import pytest

import fastloss
from fastloss import _native

ROWS, COLUMNS = 5, 8
#: What the package calls once, before any computation.
PREPARATIONS = ("open_library", "for_torch", "use_openmp")
FUNCTIONS = [name for name in dir(_native) if not name.startswith("_") and name not in PREPARATIONS]


@pytest.fixture
def arguments() -> dict[str, Any]:
    """The arguments of `masked_mse` in their order."""
    random = np.random.default_rng(1)
    return {
        "workspace": None,
        "predictions": random.standard_normal((ROWS, COLUMNS)).astype(np.float32),
        "targets": random.standard_normal((ROWS, COLUMNS)).astype(np.float32),
        "mask": random.random((ROWS, COLUMNS)) < 0.5,
        "reduction": "mean",
        "when_empty": "error",
        "gradient": np.full((ROWS, COLUMNS), 7, dtype=np.float32),
        "scale": 1.0,
        "accumulate": False,
    }


def test_a_call(arguments: dict[str, Any]) -> None:
    value, count = _native.masked_mse(*arguments.values())
    assert count == arguments["mask"].sum()
    difference = (arguments["predictions"] - arguments["targets"]).astype(np.float64)
    assert value == pytest.approx((difference**2)[arguments["mask"]].mean())
    expected = np.where(arguments["mask"], 2 * difference / count, 0)
    np.testing.assert_allclose(arguments["gradient"], expected, rtol=1e-6)


FLOATS = np.zeros((ROWS, COLUMNS), dtype=np.float32)


class Own(np.ndarray[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workspace", 0),
        ("workspace", "1"),
        ("predictions", None),
        ("predictions", FLOATS.tolist()),
        ("predictions", FLOATS.astype(np.float64)),
        ("predictions", FLOATS.astype(">f4")),
        ("predictions", FLOATS.view(np.int32)),
        ("predictions", FLOATS.view(Own)),
        ("predictions", FLOATS.T.copy().T),
        ("predictions", FLOATS[::-1]),
        ("predictions", np.zeros((ROWS, 2 * COLUMNS), dtype=np.float32)[:, ::2]),
        ("predictions", np.broadcast_to(FLOATS[0], FLOATS.shape)),
        ("predictions", FLOATS.reshape(1, ROWS, COLUMNS)),
        ("predictions", FLOATS.reshape(1, 1, 1, ROWS, COLUMNS)),
        ("predictions", np.float32(1)),
        ("targets", FLOATS[1:]),
        ("targets", FLOATS[:, 1:]),
        ("mask", FLOATS),
        ("mask", FLOATS[:, :2].astype(np.bool_)),
        ("reduction", "median"),
        ("reduction", 0),
        ("when_empty", None),
        ("gradient", FLOATS[1:].copy()),
        ("gradient", FLOATS.astype(np.float64)),
        ("gradient", np.frombuffer(FLOATS.tobytes(), dtype=np.float32).reshape(FLOATS.shape)),
        ("scale", 1),
        ("scale", 1e39),
        ("scale", float("nan")),
        ("scale", np.float64(1)),
        ("accumulate", 0),
        ("accumulate", np.False_),
    ],
    ids=str,
)
def test_what_a_call_declines(arguments: dict[str, Any], name: str, value: Any) -> None:
    gradient = arguments["gradient"]
    arguments[name] = value
    assert _native.masked_mse(*arguments.values()) is None
    assert (gradient == 7).all()


def test_a_failing_call_returns_its_status(arguments: dict[str, Any]) -> None:
    arguments["mask"] = np.zeros_like(arguments["mask"])
    assert _native.masked_mse(*arguments.values()) == 5
    arguments["gradient"] = arguments["targets"]
    assert _native.masked_mse(*arguments.values()) == 8


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_number_of_arguments(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} takes .* arguments, not 20"):
        getattr(_native, name)(*range(20))
    with pytest.raises(TypeError, match=f"{name} takes .* arguments, not 0"):
        getattr(_native, name)()


def test_tuples_and_bytes_of_the_objective() -> None:
    """Each of another length is declined, and not read beyond its end."""
    struct = fastloss.TotalObjective({"mse": 1.0}).struct
    inputs = (FLOATS, None, FLOATS, *[None] * 10)
    good = (None, struct, inputs, (None,) * 10, 1.0, False)
    assert _native.total_objective(*good)[0] == 0
    for index, value in (
        (1, struct[:-1]),
        (1, struct + b"\0"),
        (1, None),
        (2, inputs[:-1]),
        (2, [*inputs]),
        (3, (None,) * 9),
        (3, None),
        (3, (None,) * 5 + (FLOATS,) + (None,) * 4),
    ):
        assert _native.total_objective(*good[:index], value, *good[index + 1 :]) is None
    log = np.full(2, 7, dtype=np.float32)
    assert _native.logged_objective(*good, log) == 0 and (log == 0).all()
    for wrong in (log[:1], np.zeros(3, dtype=np.float32), log.astype(np.float64), None):
        assert _native.logged_objective(*good, wrong) is None


def test_the_module_is_of_the_stable_abi() -> None:
    """One file for every version of Python."""
    assert pathlib.Path(_native.__file__).name == "_native.abi3.so"


# --- Documentation ------------------------------------------------------------------------------------------


def stubs() -> dict[str, list[str]]:
    """The parameters of every function in `_native.pyi`."""
    text = pathlib.Path(fastloss.__file__).with_name("_native.pyi").read_text()
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {node.name: [argument.arg for argument in node.args.posonlyargs] for node in functions}


def test_the_stubs_are_those_of_the_module() -> None:
    found = stubs()
    assert set(found) == {*FUNCTIONS, *PREPARATIONS}
    for name, parameters in found.items():
        function = getattr(_native, name)
        assert list(inspect.signature(function).parameters) == parameters, name
        assert function.__doc__ and function.__doc__.endswith(".")
        with pytest.raises(TypeError):
            function(*[None] * (len(parameters) + 1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_call_with_the_parameters_of_the_stub_is_declined_for_none(name: str) -> None:
    """Not refused for their number."""
    function = getattr(_native, name)
    assert not function(*[None] * len(stubs()[name]))


def test_help() -> None:
    for name in fastloss.__all__:
        value = getattr(fastloss, name)
        assert inspect.getdoc(value), f"fastloss.{name} has no documentation"
    text = pydoc.render_doc(fastloss, renderer=pydoc.plaintext)
    assert "masked_mse(" in text and "patch_scgpt(" in text and fastloss.__version__ in text
    text = pydoc.render_doc(_native, renderer=pydoc.plaintext)
    # Python 3.13 breaks long signatures into lines.
    assert "masked_mse(workspace,predictions,targets,mask," in "".join(text.split())
