"""What every function does with arguments that are not what it takes."""

import decimal
import fractions
import pathlib
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import Call, calls

import fastloss

CALLS = calls()
#: What takes no arrays.
WITHOUT_ARRAYS = {"describe", "get_workers", "library_version", "patch_scgpt", "set_workers"}

every_call = pytest.mark.parametrize("call", CALLS, ids=str)
every_input = pytest.mark.parametrize(
    ("call", "name"),
    [pytest.param(call, name, id=f"{call}-{name}") for call in CALLS for name in call.inputs],
)
every_output = pytest.mark.parametrize(
    ("call", "name"),
    [pytest.param(call, name, id=f"{call}-{name}") for call in CALLS for name in call.outputs],
)


def shown(name: str) -> str:
    """An argument as a message names it."""
    gradient = name.removeprefix("gradient_of_")
    return name if gradient == name else f"gradients['{gradient}']"


def refused(call: Call, name: str, value: Any, kind: type[Exception] = fastloss.ArrayError) -> str:
    """The message, after it has been found to begin with the argument's name."""
    with pytest.raises(kind) as caught:
        call.given(name, value).run()
    message = str(caught.value)
    assert message.startswith(f"{shown(name)} "), message
    assert "; expected" in message or "numpy.ascontiguousarray" in message, message
    return message


def test_every_function_is_in_the_list() -> None:
    public = {
        name
        for name in fastloss.__all__
        if isinstance(getattr(fastloss, name), types.FunctionType) and name not in WITHOUT_ARRAYS
    }
    assert {call.name.split("-")[0] for call in CALLS} == public | {"TotalObjective"}


# --- Arrays that are written --------------------------------------------------------------------------------


def immutable(array: Any, gap: int) -> Any:
    """Of the same shape, in memory that Python never changes, with so many elements between its rows."""
    wide = np.zeros((*array.shape[:-1], array.shape[-1] + gap), dtype=array.dtype)
    wide[...] = 7
    buffer = wide.tobytes()
    return np.frombuffer(buffer, dtype=array.dtype).reshape(wide.shape)[..., : array.shape[-1]]


@pytest.mark.parametrize("gap", [0, 3])
@every_output
def test_read_only_arrays_are_not_written(call: Call, name: str, gap: int) -> None:
    array = immutable(call.outputs[name], gap)
    assert not array.flags.writeable and array.flags.c_contiguous == (gap == 0)
    assert "is read-only; expected a writable array" in refused(call, name, array)
    assert (array == 7).all()


@every_output
def test_writable_arrays_with_gaps(call: Call, name: str) -> None:
    """They receive what one without receives, or are refused: no copy of them is filled in their stead."""
    wide = np.full((*call.outputs[name].shape[:-1], call.outputs[name].shape[-1] + 3), 7, dtype=np.float32)
    array = wide[..., :-3]
    try:
        call.given(name, array).run()
    except fastloss.ArrayError as error:
        assert "has gaps" in str(error) and name == "weights_gradient"
        return
    call.run()
    np.testing.assert_array_equal(array, call.outputs[name])
    assert (wide[..., -3:] == 7).all()


@every_output
def test_rows_that_lie_on_each_other_are_not_written(call: Call, name: str) -> None:
    shape = call.outputs[name].shape
    memory = np.full(shape[-1], 7, dtype=np.float32)
    strides = (*[0] * (len(shape) - 1), 4)
    array = np.lib.stride_tricks.as_strided(memory, shape, strides, writeable=True)
    with pytest.raises(fastloss.ArrayError):
        call.given(name, array).run()
    assert (memory == 7).all()


@every_output
def test_outputs_in_a_subclass(call: Call, name: str, tmp_path: pathlib.Path) -> None:
    class Own(np.ndarray[Any, Any]):
        pass

    array = call.outputs[name].copy()
    assert "Own, which may override assignment" in refused(call, name, array.view(Own))
    # A memmap's memory is the file's.
    file = np.memmap(tmp_path / "gradient", dtype=np.float32, mode="w+", shape=array.shape)
    call.given(name, file).run()
    call.run()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "gradient", np.float32), call.outputs[name].ravel())
    file.flags.writeable = False
    assert "is read-only" in refused(call, name, file)


def test_a_gradient_needs_its_input() -> None:
    (call,) = (call for call in CALLS if call.name == "TotalObjective")
    only = {"targets": call.inputs["targets"], "gene_predictions": call.inputs["gene_predictions"]}
    array = immutable(call.outputs["gradient_of_cell_embedding"], 0)
    with pytest.raises(
        fastloss.FastLossError, match="gradients has the key 'cell_embedding', but cell_embedding is missing"
    ):
        fastloss.TotalObjective.perturbation().evaluate(**only, gradients={"cell_embedding": array})
    with pytest.raises(fastloss.InvalidParameterError, match="gradients is a list; expected a mapping"):
        fastloss.TotalObjective.perturbation().evaluate(**only, gradients=[np.zeros(100)])  # type: ignore[arg-type]


def pooling_call(normalized: bool) -> Call:
    name = "weighted_token_pooling_gradient" + ("-normalized" if normalized else "")
    return next(call for call in CALLS if call.name == name)


@pytest.mark.parametrize("normalized", [False, True])
def test_gradients_of_pooling_do_not_share_memory(normalized: bool) -> None:
    """Each of the two calls of the library has only one of them, and would not see the other."""
    call = pooling_call(normalized)
    states = call.inputs["token_states"].copy()
    with pytest.raises(fastloss.OverlapError, match="states_gradient shares memory with token_states"):
        call.given("token_states", states).given("states_gradient", states).run()
    weights = call.inputs["weights"].copy()
    with pytest.raises(fastloss.OverlapError, match="weights_gradient shares memory with weights"):
        call.given("weights", weights).given("weights_gradient", weights).run()
    memory = np.empty(call.outputs["states_gradient"].size, dtype=np.float32)
    one = memory.reshape(call.outputs["states_gradient"].shape)
    other = memory[: call.outputs["weights_gradient"].size].reshape(call.outputs["weights_gradient"].shape)
    with pytest.raises(fastloss.OverlapError, match="weights_gradient shares memory with states_gradient"):
        call.given("states_gradient", one).given("weights_gradient", other).run()


def test_a_failing_check_comes_before_anything_is_written() -> None:
    call = pooling_call(False)
    states = np.full_like(call.outputs["states_gradient"], 7)
    wrong = immutable(call.outputs["weights_gradient"], 0)
    refused(call.given("states_gradient", states), "weights_gradient", wrong)
    assert (states == 7).all()


def test_normalized_pooling_is_read_where_it_lies() -> None:
    """Not from a copy whose memory is gone before the library looks."""
    call = pooling_call(True)
    normalized = call.parameters["normalized"]
    wide = np.repeat(normalized.norms, 2, axis=1)[:, ::2]
    with pytest.raises(fastloss.ArrayError, match=r"normalized\.norms has gaps"):
        call.given("normalized", fastloss.NormalizedPooling(normalized.embeddings, wide)).run()
    with pytest.raises(fastloss.ShapeError, match=r"normalized\.norms has the shape \(15,\)"):
        call.given(
            "normalized", fastloss.NormalizedPooling(normalized.embeddings, normalized.norms.reshape(-1))
        ).run()
    with pytest.raises(fastloss.ArrayError, match=r"normalized\.norms is a list"):
        call.given(
            "normalized", fastloss.NormalizedPooling(normalized.embeddings, normalized.norms.tolist())
        ).run()
    with pytest.raises(fastloss.InvalidParameterError, match="normalized is a tuple; expected"):
        call.given("normalized", tuple(normalized)).run()


# --- Arrays that are read -----------------------------------------------------------------------------------


WRONG: list[tuple[str, Callable[[Any], Any], str]] = [
    ("list", lambda array: array.tolist(), "is a list; expected a numpy.ndarray of"),
    ("str", lambda array: "array", "is a str"),
    ("scalar", lambda array: array.flat[0], "is a numpy."),
    ("complex", lambda array: array.astype(np.complex128), "has elements of complex128; expected"),
    ("objects", lambda array: array.astype(object), "has elements of object"),
    ("structured", lambda array: array.view([("x", array.dtype)]), "has elements of [('x'"),
    ("masked", lambda array: np.ma.MaskedArray(array), "is a numpy.ma.MaskedArray"),
    ("hidden", lambda array: np.ma.masked, "is a numpy.ma.MaskedConstant"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
@every_input
def test_what_is_no_plain_array(call: Call, name: str, change: Callable[[Any], Any], message: str) -> None:
    assert message in refused(call, name, change(call.inputs[name]))


@every_input
def test_other_byte_orders_and_alignments(call: Call, name: str) -> None:
    array = call.inputs[name]
    if array.dtype.itemsize == 1:
        return
    assert "has elements of >" in refused(call, name, array.astype(array.dtype.newbyteorder(">")))
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
    odd = memory[1:].view(array.dtype).reshape(array.shape)
    assert not odd.flags.aligned
    # The library's own sentence.
    with pytest.raises(fastloss.ArrayError, match="multiple of"):
        call.given(name, odd).run()


@every_input
def test_arrays_without_dimensions(call: Call, name: str) -> None:
    refused(call, name, np.zeros((), dtype=call.inputs[name].dtype), fastloss.ShapeError)


@every_input
def test_masked_arrays_say_what_to_pass_instead(call: Call, name: str) -> None:
    message = refused(call, name, np.ma.MaskedArray(call.inputs[name], mask=False))
    assert "mask=" in message and ".data" in message


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@every_input
def test_inputs_in_a_subclass(call: Call, name: str, tmp_path: pathlib.Path) -> None:
    """Are read as the plain arrays that they hold."""
    expected = call.digest()
    array = call.inputs[name]

    class Own(np.ndarray[Any, Any]):
        def __getattribute__(self, attribute: str) -> Any:
            if attribute in ("shape", "strides", "reshape"):
                raise AssertionError("a subclass's own idea of its shape counts")
            return super().__getattribute__(attribute)

    assert call.given(name, array.view(Own)).digest() == expected
    array.tofile(tmp_path / "array")
    file = np.memmap(tmp_path / "array", dtype=array.dtype, mode="r", shape=array.shape)
    assert call.given(name, file).digest() == expected
    if array.ndim == 2:
        # What a sparse matrix's todense() gives.
        assert call.given(name, np.asmatrix(array)).digest() == expected


def test_none_is_no_array_unless_it_may_be() -> None:
    for call in CALLS:
        for name in call.inputs:
            if call.name == "TotalObjective" or name == "mask":
                continue
            assert "is None; expected a numpy.ndarray" in refused(call, name, None)


# --- Numbers, words and truth values ------------------------------------------------------------------------


NUMBERS = [
    (call, name)
    for call, names in (
        ("masked_mse", ["gradient_scale"]),
        ("masked_mse_per_cell", ["gradient_scale"]),
        ("bernoulli_nll", ["gradient_scale"]),
        ("cross_entropy", ["gradient_scale"]),
        ("domain_adversarial", ["gradient_scale", "lambd"]),
        ("gradient_reversal", ["lambd"]),
        ("elastic_cell_similarity", ["gradient_scale", "threshold"]),
        ("contrastive_cell_embedding", ["gradient_scale", "temperature"]),
        ("masked_reductions_gradient", ["gradient_scale"]),
        ("token_pooling_gradient-cls", ["gradient_scale"]),
        ("weighted_token_pooling_gradient", ["gradient_scale"]),
        ("TotalObjective", ["gradient_scale"]),
    )
    for name in names
]


def named(name: str) -> Call:
    return next(call for call in CALLS if call.name == name)


def objective_with(**parameters: Any) -> Any:
    return fastloss.TotalObjective({"mse": 1.0}, **parameters).struct


@pytest.mark.parametrize(
    "value",
    [1e300, -1e39, 10**400, float("inf"), float("nan"), "1", None, True, 1j, [1.0], np.ones(1)],
    ids=str,
)
def test_numbers(value: Any) -> None:
    """float32 makes infinity of 1e300; it is not to do so without a word."""
    for name, parameter in NUMBERS:
        with pytest.raises(fastloss.InvalidParameterError, match=f"^{parameter} is .*; expected a"):
            named(name).given(parameter, value).run()
    for parameter in ("elastic_threshold", "contrastive_temperature", "lambd"):
        with pytest.raises(fastloss.InvalidParameterError, match=f"^{parameter} is .*; expected a"):
            objective_with(**{parameter: value})
    with pytest.raises(fastloss.InvalidParameterError, match=r"^weights\['ecs'\] is .*; expected a"):
        _ = fastloss.TotalObjective({"ecs": value}).struct
    with pytest.raises(fastloss.InvalidParameterError, match=r"^ecs_threshold is .*; expected a"):
        fastloss.TotalObjective.integration(ecs_threshold=value)


def test_without_a_gradient_its_arguments_are_checked_too() -> None:
    call = named("masked_mse")
    for name, value in (("gradient_scale", 1e300), ("accumulate", "no")):
        with pytest.raises(fastloss.InvalidParameterError, match=name):
            fastloss.masked_mse(**call.inputs, **{name: value})


@pytest.mark.parametrize(
    "value", [2, np.int64(2), np.float32(2), np.float64(2), fractions.Fraction(2)], ids=repr
)
def test_numbers_of_other_types(value: Any) -> None:
    for name, parameter in NUMBERS:
        if parameter == "threshold":
            continue
        assert named(name).given(parameter, value).digest() == named(name).given(parameter, 2.0).digest()


@pytest.mark.parametrize("value", [2**31, 2**64 + 1, -(2**31) - 1, 10**5000, 1.0, "1", None, True], ids=type)
def test_integers(value: Any) -> None:
    for name in ("cross_entropy", "domain_adversarial"):
        with pytest.raises(fastloss.InvalidParameterError, match=r"^ignored_label is .*; expected an? "):
            named(name).given("ignored_label", value).run()
    with pytest.raises(fastloss.InvalidParameterError, match=r"^ignored_label is .*; expected an? "):
        objective_with(ignored_label=value)


@pytest.mark.parametrize("value", [0, 1, 2, 0.5, "no", None, np.ones(3, dtype=bool)], ids=str)
def test_truth_values(value: Any) -> None:
    """What merely counts as true or false is no answer to a question."""
    for call in CALLS:
        if call.outputs and call.name not in ("cosine_similarity",):
            with pytest.raises(fastloss.InvalidParameterError, match=r"^accumulate is .*; expected True or"):
                call.given("accumulate", value).run()
    with pytest.raises(fastloss.InvalidParameterError, match=r"^logits is .*; expected True or"):
        named("bernoulli_nll").given("logits", value).run()
    with pytest.raises(fastloss.InvalidParameterError, match=r"^nonzero_logits is .*; expected True or"):
        objective_with(nonzero_logits=value)
    for preset, parameter in (
        ("integration", "gepc"),
        ("integration", "explicit_zero_prob"),
        ("generative_pretraining", "from_cell_embedding"),
        ("scformer", "cell_types"),
        ("scformer", "contrastive"),
    ):
        with pytest.raises(fastloss.InvalidParameterError, match=f"^{parameter} is .*; expected True or"):
            getattr(fastloss.TotalObjective, preset)(**{parameter: value})
    assert named("masked_mse").given("accumulate", np.True_).run() == named("masked_mse").run()


@pytest.mark.parametrize("value", ["median", None, 0, ["mean"], b"mean", decimal.Decimal(0)], ids=str)
def test_words(value: Any) -> None:
    for call in CALLS:
        for parameter in ("reduction", "when_empty", "pooling"):
            try:
                call.given(parameter, value).run()
            except TypeError as error:
                assert "unexpected keyword argument" in str(error)
            except fastloss.InvalidParameterError as error:
                assert str(error).startswith(f"{parameter} is ") and "; expected one of" in str(error)
            else:
                raise AssertionError(f"{call}: {parameter}")
    with pytest.raises(
        fastloss.InvalidParameterError, match=r"weights is \[.*\]; expected a mapping of terms"
    ):
        fastloss.TotalObjective([("mse", 1.0)])  # type: ignore[arg-type]
