"""Work of each process that torchrun starts for test_several_processes.py: `launched.py INPUTS OUT`."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch._dynamo  # noqa: F401 - imported later, it would keep the process group to the end of the process
import torch.distributed as dist

from polyglance.cli import main
from polyglance.engines import ModelConfig
from polyglance.evaluate.config import PredictConfig
from polyglance.evaluate.predict import predict_benchmark


def work(inputs: Path, out: Path) -> None:
    """Evaluate captions and losses, and caption files, by the verbs of the command line."""
    out.mkdir(exist_ok=True)
    rank = os.environ.get("RANK", "0")
    images = sorted((inputs / "root" / "xm3600" / "images").iterdir())[:9]
    model, root, start = inputs / "model", inputs / "root", inputs / "start"
    verbs = {
        "scores": f"eval caption --model {model} --benchmark xm3600 --root {root} --out {out / 'eval'} --lang fr,zh "
        "--beams 2 --limit 13 --batch-size 2 --max-new-tokens 5 --json",
        "losses": f"eval loss --model {model} --data {inputs / 'data'} --captioned en --translated fr,zh "
        f"--samples-per-cell 5 --initial {start} --json",
        "captions": f"caption {' '.join(map(str, images))} {images[0]} {out / 'none'} --model {model} --lang fr "
        "--batch-size 1",
    }
    for name, verb in verbs.items():
        with (out / f"{name}-{rank}").open("w") as file, redirect_stdout(file):
            if name == "captions" and rank == "0":
                with pytest.raises(SystemExit):  # one of the files is missing
                    main(verb.split())
            else:
                main(verb.split())


def work_apart(inputs: Path, out: Path) -> None:
    """Predict into a folder that the other processes do not see."""
    config = PredictConfig(
        model=ModelConfig(model=str(inputs / "model"), max_new_tokens=5),
        root=inputs / "root",
        out=out / f"apart-{dist.get_rank()}",
        task="caption",
        benchmark="xm3600",
        language="fr",
        limit=4,
    )
    with pytest.raises(ValueError, match="not the same folder for all processes"):
        predict_benchmark(config)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    work(*map(Path, sys.argv[1:]))
    work_apart(*map(Path, sys.argv[1:]))
    dist.destroy_process_group()
