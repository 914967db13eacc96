"""Functions that are compiled where their first argument is on a GPU."""

from typing import Any

import pytest
import torch

from polyglance.model.fusion import fuse_on_gpu


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def double(tensor: Any, factor: int) -> str:
    """Multiply."""
    return f"as it is, times {factor}"


def test_a_function_is_compiled_once_for_all_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compile_function(function: Any, **options: Any) -> Any:
        asked.append(options)
        return lambda tensor, factor: f"compiled, times {factor}"

    monkeypatch.setattr(torch, "compile", compile_function)
    fused = fuse_on_gpu(double)
    assert fused(torch.ones(1), 2) == "as it is, times 2"
    assert [fused(OnGpu(1), 2), fused(OnGpu(1), 3)] == ["compiled, times 2", "compiled, times 3"]
    assert asked == [{"dynamic": True, "fullgraph": True}]


@pytest.mark.parametrize("error", [RuntimeError("no triton\nat all"), OSError("no C compiler"), KeyError()])
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss needs these functions on every GPU, with and without layers that are compiled."""

    def compile_function(function: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(torch, "compile", compile_function)
    fused = fuse_on_gpu(double)
    assert [fused(OnGpu(1), 2), fused(OnGpu(1), 3)] == ["as it is, times 2", "as it is, times 3"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("double is not compiled, which is slower: ")


def test_lack_of_memory_is_no_reason_to_compile_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of samples a pass is halved for it."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)

    def fill_memory(tensor: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    fused = fuse_on_gpu(fill_memory)
    with pytest.raises(torch.OutOfMemoryError):
        fused(OnGpu(1))
