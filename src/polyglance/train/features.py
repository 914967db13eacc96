"""What a frozen vision tower makes of every image of a data set, computed once and kept for all runs that share it.

The tower does not change while it is frozen, and images are not augmented (official code section 2.5), so its features
are a function of its weights, the image and the size it is resized to. Kept is what comes out of the tower, before the
projector, which may still be trained. Files: `polyglance.mixture.features`.
"""

import hashlib
import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polyglance.config import fingerprint
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.files import locked, replacing, write_atomically
from polyglance.mixture.features import FEATURES_NAME, FeatureStore
from polyglance.mixture.images import ImageStore
from polyglance.model.architecture import Polyglance
from polyglance.model.flops import build_on_meta, count_macs
from polyglance.model.processor import Processor
from polyglance.model.vision import count_channels, normalise_pixels
from polyglance.train.config import TrainConfig

__all__ = ["CachePlan", "cached_features", "make_features", "plan_cache"]

_ROWS_PER_FILE = 4096
_BATCH = 64
_DISK_SHARE = 0.5
"""Share of the free disk that a cache may take."""


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """What a cache of features would cost and save in one run."""

    num_images: int
    size_bytes: int
    """On disk."""
    free_bytes: int
    """On the disk it would be on."""
    tower_gmac: float
    """Forward pass of the tower over one image."""
    num_samples: int
    """Samples of the run: as many forward passes are saved, for one pass over each image of the data."""

    @property
    def saved_gmac(self) -> float:
        """Work saved, less the work of making the cache; negative where it does not pay."""
        return (self.num_samples - self.num_images) * self.tower_gmac

    @property
    def is_worth_it(self) -> bool:
        """Whether it saves work and fits."""
        return self.saved_gmac > 0 and self.size_bytes <= _DISK_SHARE * self.free_bytes

    def __str__(self) -> str:
        return (
            f"vision cache: {self.num_images:,} images, {self.size_bytes / 1e9:.2f} GB on disk "
            f"({self.free_bytes / 1e9:.0f} GB free); the run would save {self.num_samples:,} passes of the tower of "
            f"{self.tower_gmac:.3g} GMAC each for {self.num_images:,}: {self.saved_gmac:,.0f} GMAC in all"
        )


def plan_cache(config: TrainConfig, model: Polyglance, processor: Processor, folder: Path) -> CachePlan:
    """What keeping the tower's features would cost and save."""
    size = processor.config.image_size
    macs = count_macs(build_on_meta(model.config), image_size=size, source_tokens=1, target_tokens=1)
    values = (model.config.num_image_tokens(size) - 1) * count_channels(model.config.vision_config)
    num_images = len(ShardReader(config.data))
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return CachePlan(
        num_images=num_images,
        size_bytes=num_images * values * (4 if _dtype(config) == "float32" else 2),
        free_bytes=shutil.disk_usage(existing).free,
        tower_gmac=macs["vision"] / 1e9,
        num_samples=config.num_steps * config.mixture.batch_size,
    )


def cached_features(
    config: TrainConfig, model: Polyglance, processor: Processor, runtime: Runtime
) -> FeatureStore | None:
    """The features that the run trains on, made now where that pays; None: it runs the tower.

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
    mark = _fingerprint(model, images, _dtype(config), runtime)
    folder = (config.vision_cache.folder or config.data / "features") / mark
    if not runtime.from_main((folder / FEATURES_NAME).exists()):
        plan = plan_cache(config, model, processor, folder)
        is_made = runtime.from_main(plan.is_worth_it or use == "always")
        if runtime.is_main and (is_made or plan.saved_gmac > 0):
            print(f"{plan}; {'made now' if is_made else 'not made'}", file=sys.stderr, flush=True)
        if not is_made:
            return None
        try:
            make_features(folder, model, images, mark, dtype=_dtype(config), runtime=runtime)
        except _BadImages as error:
            if use == "always":
                raise ValueError(str(error)) from None
            if runtime.is_main:
                print(f"no vision cache: {error}", file=sys.stderr, flush=True)
            return None
    return FeatureStore(folder, fingerprint=mark)


class _BadImages(ValueError):
    """Images that cannot be used: features have no way to say so, batches of pixels have."""


def make_features(
    folder: Path, model: Polyglance, images: ImageStore, mark: str, *, dtype: str, runtime: Runtime
) -> None:
    """Run the tower over every image, the processes sharing the files between them; features.json is written last.

    Raises:
        ValueError: images that cannot be used.
    """
    num_images = len(images.reader)
    starts = range(0, num_images, _ROWS_PER_FILE)
    own: list[tuple[int, dict[str, object]]] = []
    problem = None
    with locked(folder, "polyglance train", wait=True) if runtime.is_main else nullcontext():
        runtime.barrier()  # one run at a time makes features in a folder; its processes enter together
        if runtime.from_main((folder / FEATURES_NAME).exists()):
            return  # another run has made them while this one waited
        for number, first in list(enumerate(starts))[runtime.rank :: runtime.world_size]:
            rows = range(first, min(first + _ROWS_PER_FILE, num_images))
            try:
                own.append((number, _write_file(folder, f"{number:05d}.bin", model, images, rows, dtype, runtime)))
            except _BadImages as error:
                problem = str(error)
                break
        if problems := [p for p in runtime.gather(problem) if p is not None]:
            raise _BadImages(problems[0])
        files = [entry for _, entry in sorted((e for found in runtime.gather(own) for e in found), key=lambda e: e[0])]
        if runtime.is_main:
            width, side = count_channels(model.config.vision_config), model.config.num_image_tokens(images.size) - 1
            info = {
                "format": 1,
                "fingerprint": mark,
                "num_images": num_images,
                "image_tokens": side,
                "width": width,
                "dtype": dtype,
                "files": files,
            }
            write_atomically(folder / FEATURES_NAME, json.dumps(info, indent=1) + "\n")
        runtime.barrier()


def _write_file(
    folder: Path, name: str, model: Polyglance, images: ImageStore, rows: range, dtype: str, runtime: Runtime
) -> dict[str, object]:
    digest = hashlib.sha256()
    with replacing(folder / name) as partial, partial.open("wb") as file:
        for first in range(rows.start, rows.stop, _BATCH):
            chosen = range(first, min(first + _BATCH, rows.stop))
            pixels, problems = images.load(chosen)
            for position, (reason, detail) in problems.items():
                raise _BadImages(f"{images.reader.directory}: row {chosen[position]}: {reason} ({detail})")
            content = _stored(_tower(model, pixels, runtime), dtype)
            digest.update(content)
            file.write(content)
    return {"name": name, "rows": len(rows), "sha256": digest.hexdigest()}


@torch.no_grad()
def _tower(model: Polyglance, pixels: np.ndarray, runtime: Runtime) -> Float[Tensor, "B I E"]:
    with runtime.autocast():
        grid = model.vision_tower.eval()(normalise_pixels(torch.from_numpy(pixels).to(runtime.device)))
    return grid.flatten(2).transpose(1, 2).cpu()


def _stored(features: Float[Tensor, "B I E"], dtype: str) -> bytes:
    if dtype == "float32":
        return features.float().numpy().astype("<f4").tobytes()
    return features.bfloat16().contiguous().view(torch.uint16).numpy().astype("<u2").tobytes()


def _dtype(config: TrainConfig) -> str:
    return config.vision_cache.dtype or ("float32" if config.engine.precision == "fp32" else "bfloat16")


def _fingerprint(model: Polyglance, images: ImageStore, dtype: str, runtime: Runtime) -> str:
    """Of all that the features depend on: weights, data, transform, precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.vision_tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    shards = [shard.sha256 for shard in images.reader.manifest.shards]
    return fingerprint(digest.hexdigest(), shards, images.size, images.decode, dtype, runtime.precision)
