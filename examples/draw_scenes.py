"""Draw scenes of the built-in world as a folder of pictures with an English caption beside each, for build-small.toml.

python examples/draw_scenes.py out/scenes
"""

import sys
import tempfile
from pathlib import Path

from polyglance.data.shard import read_records
from polyglance.data.world import WorldConfig, generate


def draw_scenes(folder: Path, num_scenes: int = 200) -> None:
    """Write NAME.png and NAME.txt for each scene."""
    config = WorldConfig(languages=("en",), num_train_images=num_scenes, num_test_images=1)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        generate(config, Path(scratch))
        for record in read_records(Path(scratch) / "train"):
            caption = next(text for text in record.annotations if text.task == "caption")
            (folder / f"{record.key}.png").write_bytes(record.image)
            (folder / f"{record.key}.txt").write_text(caption.text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    draw_scenes(Path(sys.argv[1]))
