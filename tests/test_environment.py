"""What env.json says: versions, and the GPUs where there are some."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import polyglance
from polyglance.environment import describe_environment, describe_gpus, read_versions


def test_a_package_that_is_only_on_the_path_has_a_version() -> None:
    """Without site-packages nothing is installed; the package itself is there all the same."""
    code = (
        "import json; from polyglance.environment import read_versions as r; print(json.dumps(r(['polyglance', 'no'])))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(polyglance.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"polyglance": polyglance.__version__, "no": "not installed"}
    assert read_versions(["torch"]) == {"torch": torch.__version__}


def test_gpus_are_named_with_driver_and_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert torch.cuda.is_available() or "gpus" not in describe_environment()
    card = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85_000_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 570.86.15\necho 570.86.15\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = describe_gpus()
    assert found["gpus"] == ["NVIDIA H100 80GB HBM3, 85 GB"] * 2
    assert found["driver"] == "570.86.15"
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_gpus()["driver"] == "unknown"
