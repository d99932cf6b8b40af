"""scripts/generate/interface: the committed files are up to date, and the ABI does not change by accident."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
HEADER = "Sources/CFastLoss/include/fastloss/common.h"


def generate(root: pathlib.Path, *arguments: str) -> str:
    """What the generator reports; nothing if it succeeds."""
    script = root / "scripts/generate/interface"
    result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert (result.returncode == 0) == (result.stderr == ""), result
    return result.stderr


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    for folder in (
        "Sources/CFastLoss",
        "Sources/FastLossC",
        "Sources/fastloss-python/src",
        "Sources/fastloss-python/native",
        "scripts/generate",
    ):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("_lib", "*.so"))
    return tmp_path


def change(root: pathlib.Path, old: str, new: str) -> None:
    header = root / HEADER
    text = header.read_text()
    assert text.count(old) == 1
    header.write_text(text.replace(old, new))


def test_the_committed_files_are_current() -> None:
    assert generate(ROOT, "--check") == ""


MEMBER = "    fastloss_update update;  ///< overwrite or accumulate\n"
FUNCTION = "FASTLOSS_API int32_t fastloss_abi_version(void);\n"


@pytest.mark.parametrize(
    ("old", "new", "file", "text"),
    [
        (
            MEMBER,
            MEMBER + "    double next;\n",
            "Sources/CFastLoss/layout.c",
            "fastloss_gradient, next), 40)",
        ),
        (
            MEMBER,
            MEMBER + "    double next;\n",
            "Sources/CFastLoss/layout.c",
            "sizeof(fastloss_gradient), 48)",
        ),
        (
            FUNCTION,
            FUNCTION + "FASTLOSS_API float\nfastloss_new(const bool *mask,\n    double value);\n",
            "Sources/fastloss-python/src/fastloss/_abi.py",
            '"fastloss_new": (c_float, [c_void_p, c_double]),',
        ),
        (
            FUNCTION,
            FUNCTION + "FASTLOSS_API float\nfastloss_new(void);\n",
            "Sources/CFastLoss/packaging/exports.map",
            "fastloss_new;",
        ),
        (
            "    FASTLOSS_ERROR_WORKSPACE_BUSY = 105,\n",
            "    FASTLOSS_ERROR_WORKSPACE_BUSY = 105,\n    FASTLOSS_ERROR_NEW = 106,\n",
            "Sources/FastLossC/Generated.swift",
            'case FASTLOSS_ERROR_NEW: staticText("FASTLOSS_ERROR_NEW")',
        ),
    ],
)
def test_additions_reach_the_files(copy: pathlib.Path, old: str, new: str, file: str, text: str) -> None:
    change(copy, old, new)
    assert "out of date" in generate(copy, "--check")
    assert text not in (copy / file).read_text()
    assert generate(copy) == ""
    assert text in (copy / file).read_text()
    assert generate(copy, "--check") == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    float *data;             ///< the first element\n",
            "",
            "offsetof(fastloss_gradient, data) was 8",
        ),
        (
            "    float scale;  ",
            "    double scale;",
            "offsetof(fastloss_gradient, update) was 36 and is now 40",
        ),
        (
            "    int64_t selected_count;\n",
            "    int64_t selected_count, more;\n",
            "cannot read the declaration",
        ),
        (
            "    int64_t selected_count;\n",
            "    int64_t selected_count;\n    int64_t more;\n",
            "was 16 and is now 24",
        ),
        (
            "FASTLOSS_API const char *fastloss_version(void);\n",
            "",
            "fastloss_version was c_char_p, [] and is now gone",
        ),
        (
            "FASTLOSS_API int64_t fastloss_workspace_workers(const",
            "FASTLOSS_API int64_t fastloss_workspace_workers(int32_t unit, const",
            "was c_int64, [c_void_p] and is now c_int64, [c_int32, c_void_p]",
        ),
        (
            "FASTLOSS_REDUCTION_SUM = 1",
            "FASTLOSS_REDUCTION_SUM = 2",
            "FASTLOSS_REDUCTION_SUM was 1 and is now 2",
        ),
        (
            "FASTLOSS_UPDATE_ACCUMULATE = 1",
            "FASTLOSS_UPDATE_ADD = 1",
            "UPDATE_ACCUMULATE was 1 and is now gone",
        ),
    ],
)
def test_changes_of_the_abi_are_errors(copy: pathlib.Path, old: str, new: str, message: str) -> None:
    change(copy, old, new)
    assert message in generate(copy)
    if "cannot read" not in message:
        change(copy, "FASTLOSS_ABI_VERSION 1", "FASTLOSS_ABI_VERSION 2")
        assert generate(copy) == ""
