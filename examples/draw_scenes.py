"""Draw scenes of the built-in world as files of one's own: pictures with captions beside them, and sentence pairs.

python examples/draw_scenes.py out/scenes           # 200 pictures with English captions, for build-small.toml
python examples/draw_scenes.py out/my --languages   # for docs/languages.md, "A walk-through": captions in English and
                                                    # German, some in Ukrainian and Swahili, and two bitexts
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polyglance.data.shard import read_records
from polyglance.data.world import WorldConfig, generate
from polyglance.records import ImageRecord


def draw_scenes(folder: Path, num_scenes: int = 200) -> None:
    """Write NAME.png and NAME.txt for each scene."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in _draw(num_scenes, ("en",)):
        (folder / f"{record.key}.png").write_bytes(record.image)
        _write(folder / f"{record.key}.txt", _captions(record)["en"])


def draw_languages(folder: Path, num_scenes: int = 4000, num_described: int = 300, num_pairs: int = 8000) -> None:
    """Write photos/NAME.png with NAME.en.txt and NAME.de.txt, and for `num_described` more, whose scenes are nowhere
    else, NAME.uk.txt and NAME.sw.txt too; and en-uk.tsv and en-sw.tsv, whose sentences are about other pictures."""
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    for split, codes in (("train", ("en", "de")), ("test", ("en", "de", "uk", "sw"))):
        for record in _draw(num_scenes if split == "train" else num_described, codes, split=split):
            (photos / f"{record.key}.png").write_bytes(record.image)
            for code, text in _captions(record).items():
                _write(photos / f"{record.key}.{code}.txt", text)
    for seed, code in enumerate(("uk", "sw"), 1):
        texts = map(_captions, _draw(num_pairs, ("en", code), seed=seed))
        _write(folder / f"en-{code}.tsv", *(f"{text['en']}\t{text[code]}" for text in texts))


def _draw(number: int, languages: Sequence[str], *, split: str = "train", seed: int = 0) -> list[ImageRecord]:
    numbers = {f"num_{name}_images": number if name == split else 1 for name in ("train", "test")}
    with tempfile.TemporaryDirectory() as scratch:
        generate(WorldConfig(languages=tuple(languages), seed=seed, **numbers), Path(scratch))
        return list(read_records(Path(scratch) / split))


def _captions(record: ImageRecord) -> dict[str, str]:
    """Return the first caption in each language."""
    captions: dict[str, str] = {}
    for text in record.annotations:
        if text.task == "caption":
            captions.setdefault(text.language, text.text)
    return captions


def _write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder]:
            draw_scenes(Path(folder))
        case [folder, "--languages"]:
            draw_languages(Path(folder))
        case _:
            sys.exit(__doc__)
