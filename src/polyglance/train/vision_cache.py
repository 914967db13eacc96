"""Decision to train on cached features of a frozen vision tower, and their computation (`mixture.features`)."""

import hashlib
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from polyglance.config import fingerprint
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.files import DamagedError
from polyglance.mixture.features import FeatureStore, FeatureType, UnusableImagesError, write_features
from polyglance.mixture.images import ImageStore
from polyglance.model.architecture import Polyglance
from polyglance.model.flops import build_on_meta, count_macs
from polyglance.model.processor import Processor
from polyglance.model.vision import count_channels, normalise_pixels
from polyglance.train.config import TrainConfig

__all__ = ["CachePlan", "open_features"]

_DISK_SHARE = 0.5
"""Largest share of the free disk that a cache may take."""


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """Costs and savings of a cache of features: it saves a pass of the tower for each sample of the run, or of all runs
    that share it, and costs one for each image of the data set."""

    num_images: int
    num_samples: int
    tower_gmac: float
    """Forward pass of the tower over one image, in GMAC."""
    size_bytes: int
    """Size of the cache on disk."""
    free_bytes: int
    """Free space on that disk."""

    @property
    def saved_gmac(self) -> float:
        """Work saved, less the work of making the cache, in GMAC; negative if it does not pay."""
        return (self.num_samples - self.num_images) * self.tower_gmac

    @property
    def is_worth_it(self) -> bool:
        """Whether the cache saves work and fits on the disk."""
        return self.saved_gmac > 0 and self.size_bytes <= _DISK_SHARE * self.free_bytes

    def __str__(self) -> str:
        return (
            f"vision cache: {self.num_images:,} images, {self.size_bytes / 1e9:.2f} GB on disk "
            f"({self.free_bytes / 1e9:.0f} GB free); training would save {self.num_samples:,} passes of the tower of "
            f"{self.tower_gmac:.3g} GMAC each for {self.num_images:,}: {self.saved_gmac:,.0f} GMAC in all"
        )


def open_features(
    config: TrainConfig, model: Polyglance, processor: Processor, runtime: Runtime
) -> FeatureStore | None:
    """Open the features that the run trains on, and compute them first if that pays; None: the run uses the tower.

    Raises:
        ValueError: `vision_cache.use` is `always` and the tower is trained, or an image cannot be used.
    """
    use = config.vision_cache.use
    if use == "never" or any(p.requires_grad for p in model.vision_tower.parameters()):
        if use == "always":
            raise ValueError("vision_cache.use is 'always', but this run trains the vision tower")
        return None
    images = ImageStore(
        ShardReader(config.data),
        processor.config.image_size,
        decode=config.mixture.decode,
        memory_bytes=config.mixture.image_memory_bytes,
    )
    dtype = config.vision_cache.dtype or ("float32" if config.engine.precision == "fp32" else "bfloat16")
    key = _fingerprint_features(model, images, dtype, runtime)
    folder = (config.vision_cache.folder or config.data / "features") / key
    if runtime.is_main:
        _forget_damaged(folder)
    if not runtime.from_main(FeatureStore.is_there(folder)):
        plan = _plan_cache(config, model, folder, images, dtype)
        is_made = runtime.from_main(plan.is_worth_it or use == "always")
        if runtime.is_main and (is_made or plan.saved_gmac > 0):
            print(f"{plan}; {'made now' if is_made else 'not made'}", file=sys.stderr, flush=True)
        if not is_made:
            return None
        tower = partial(_run_tower, model, runtime)
        try:
            write_features(folder, tower, images, fingerprint=key, dtype=dtype, runtime=runtime)
        except UnusableImagesError as error:
            if use == "always":
                raise
            if runtime.is_main:
                print(f"no vision cache: {error}", file=sys.stderr, flush=True)
            return None
    return FeatureStore(folder, fingerprint=key)


def _forget_damaged(folder: Path) -> None:
    """Remove the record of features that are damaged, so that they are computed anew."""
    if not FeatureStore.is_there(folder):
        return
    try:
        FeatureStore(folder)
    except DamagedError as error:
        print(f"{error}; they are computed anew", file=sys.stderr, flush=True)
        FeatureStore.forget(folder)


def _plan_cache(
    config: TrainConfig, model: Polyglance, folder: Path, images: ImageStore, dtype: FeatureType
) -> CachePlan:
    macs = count_macs(build_on_meta(model.config), image_size=images.size, source_tokens=1, target_tokens=1)
    numbers_per_image = (model.config.num_image_tokens(images.size) - 1) * count_channels(model.config.vision_config)
    num_images = len(images.reader)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return CachePlan(
        num_images=num_images,
        size_bytes=num_images * numbers_per_image * (4 if dtype == "float32" else 2),
        free_bytes=shutil.disk_usage(existing).free,
        tower_gmac=macs["vision"] / 1e9,
        num_samples=config.vision_cache.shared_samples or config.num_steps * config.mixture.batch_size,
    )


@torch.no_grad()
def _run_tower(model: Polyglance, runtime: Runtime, pixels: UInt8[np.ndarray, "B H W 3"]) -> Float[Tensor, "B I E"]:
    with runtime.autocast():
        grid = model.vision_tower.eval()(normalise_pixels(torch.from_numpy(pixels).to(runtime.device)))
    return grid.flatten(2).transpose(1, 2).cpu()


def _fingerprint_features(model: Polyglance, images: ImageStore, dtype: FeatureType, runtime: Runtime) -> str:
    """Return the fingerprint of all that the features depend on: weights, data, transform, precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.vision_tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    shards = [shard.sha256 for shard in images.reader.manifest.shards]
    return fingerprint(digest.hexdigest(), shards, images.size, images.decode, dtype, runtime.precision)
