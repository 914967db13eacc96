"""Trunks: runs at a constant learning rate, whose last checkpoint is kept so that other runs can go on from it.

    train(replace(config, num_samples=16_000, optim=constant), "out/trunk")           # optim.cooldown_share = 0
    train(replace(config, num_samples=20_000, optim=cooled, trunk=Path("out/trunk")), "out/branch")

A branch has the weights, bit for bit, that it would have without its trunk: what comes before the cooldown does not
depend on the length of a run. So a trunk saves time and changes no result. A longer trunk goes on from a shorter one.
"""

import tomllib
from dataclasses import replace

from polyglance.distributed import Runtime
from polyglance.files import read_text
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.config import TrainConfig
from polyglance.train.folder import RunFolder
from polyglance.train.identity import identify_run

__all__ = ["open_trunk"]


def open_trunk(config: TrainConfig, runtime: Runtime) -> Checkpoints | None:
    """Return the checkpoints of the run that this one goes on from; None if it has no trunk.

    Raises:
        ValueError: the trunk is no such run, is not finished, has other settings, or is too long for this run's budget.
    """
    path = config.trunk
    if path is None:
        return None
    try:
        samples = int(tomllib.loads(read_text(path / "config.toml"))["num_samples"])
    except (KeyError, TypeError, ValueError) as error:  # a TOML error is one, too
        raise ValueError(f"trunk {path}: there is no run to go on from ({error})") from None
    if samples < config.mixture.batch_size:
        raise ValueError(f"trunk {path}: its num_samples, {samples}, are less than one batch of this run")
    constant = replace(config.optim, cooldown_share=0.0, final_share=0.0)
    there = replace(config, trunk=None, num_samples=samples, optim=constant)
    identity = identify_run(there)
    folder = RunFolder(path, there, identity)
    folder.check_settings()
    if not folder.is_trained():
        raise ValueError(f"trunk {path}: the run is not finished; `polyglance train` with its settings goes on with it")
    first = config.optim.first_cooldown_step(config.num_steps)
    if there.num_steps > first:
        raise ValueError(
            f"trunk {path}: it has seen {there.num_steps * config.mixture.batch_size} samples, but the cooldown of a "
            f"run of {config.num_samples} begins after {first * config.mixture.batch_size}; give a shorter trunk"
        )
    return Checkpoints(path, runtime, identity=identity)
