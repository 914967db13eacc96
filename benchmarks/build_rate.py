"""Records per second of every step of `polyglance data build`; the last writing compared with a plain loop; overhead.

    OMP_NUM_THREADS=1 python benchmarks/build_rate.py [--images 2000] [--pairs 20000]

The images are generated JPEGs (blocks of colour under noise, ellipses, 256 to 500 pixels per side), each with the
built-in world's caption of a scene; the bitext is the world's too. Engines: the world's translator, and for vectors a
tiny random CLIP with images of 224 pixels, so that its time is that of decoding and tokenising. All in one process.

1. Every step: records per second of wall time and of CPU time, and seconds inside the engine.
2. Sharding: the last writing compared with the usual script, a loop that decodes each image, encodes it again
   (quality 95) and adds it to a tar beside a JSON of its texts. The loop has the texts in memory. Asked: 2 times.
3. Overhead: translations by a stand-in that computes for a set time per record. Seconds outside of it over seconds
   inside. Asked: under 5 %. Then the CPU time of a whole build per image outside its engines.
"""

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time, thread_time

import numpy as np
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from polyglance.config import load
from polyglance.data.build.build import do_step, make_steps
from polyglance.data.build.describe import TranslateStep
from polyglance.data.build.executors import InProcess
from polyglance.data.build.finish import AnnotateStep, OutputConfig, write_data_sets
from polyglance.data.build.parts import PartId, PartReport
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.step import Step, order_steps
from polyglance.data.shard import read_records
from polyglance.data.world import describe, sample_scene
from polyglance.data.world.translator import WorldTranslator
from polyglance.engines import Failure, Translator
from polyglance.records import Drops

_SIDES = (256, 500)
_BITEXT = ("fr", "zh")
_QUALITY = 95
_RECIPE = """
    out = "{folder}/out"
    images_per_part = 250
    pairs_per_part = 10_000
    [[images]]
    path = "{folder}/images"
    texts = "captions"
    text_style = "detailed"
    [[bitext]]
    path = "{folder}/en-fr.tsv"
    language = "fr"
    [[bitext]]
    path = "{folder}/en-zh.tsv"
    language = "zh"
    [translate]
    languages = ["de"]
    engine = {{ kind = "world" }}
    [match]
    engine = {{ kind = "clip", path = "{folder}/clip", batch_size = 64 }}
    align = {{ top_n = 2, hubs = {{ max_per_sentence = 5000 }} }}
"""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Time of a piece of work."""

    wall: float
    cpu: float
    engine: float = 0.0
    """Wall time inside an engine."""

    @property
    def cpu_outside(self) -> float:
        """CPU time outside engines, by their share of the wall time."""
        return self.cpu * (1 - self.engine / self.wall)


def measure_time(work: Callable[[], object]) -> Seconds:
    """Do some work in this process and measure its time."""
    wall, cpu = perf_counter(), process_time()
    work()
    return Seconds(wall=perf_counter() - wall, cpu=process_time() - cpu)


def make_picture(number: int) -> bytes:
    """Generate a JPEG; a pure function of its number."""
    random = np.random.default_rng(number)
    width, height = (int(side) for side in random.integers(_SIDES[0], _SIDES[1] + 1, 2))
    blocks = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image = blocks.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, across, down = random.integers((0, 0, 40, 40), (width - 50, height - 50, 200, 200)).tolist()
        draw.ellipse((x, y, x + across, y + down), fill=tuple(random.integers(0, 256, 3).tolist()))
    noisy = np.asarray(image).astype(np.int16) + random.integers(-12, 13, (height, width, 3), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def prepare(folder: Path, *, num_images: int, num_pairs: int) -> Recipe:
    """Write images, bitext, the CLIP and the recipe."""
    (folder / "images").mkdir()
    num_bytes = 0
    for number in range(num_images):
        image = make_picture(number)
        num_bytes += len(image)
        (folder / "images" / f"{number:06d}.jpg").write_bytes(image)
        text = describe(sample_scene("full", 0, number, "train"), "en", "detailed")
        (folder / "images" / f"{number:06d}.txt").write_text(text + "\n")
    for code in _BITEXT:
        with (folder / f"en-{code}.tsv").open("w", encoding="utf-8") as file:
            for number in range(num_pairs):
                scene = sample_scene("full", 1, number, "train")
                file.write(f"{describe(scene, 'en')}\t{describe(scene, code)}\n")
    save_clip(folder / "clip", (folder / "en-fr.tsv").read_text(encoding="utf-8"))
    (folder / "recipe.toml").write_text(_RECIPE.format(folder=folder))
    print(f"{num_images:,} images of {num_bytes / num_images:,.0f} bytes, {num_pairs:,} pairs in each of {_BITEXT}")
    return load(Recipe, folder / "recipe.toml")


def save_clip(folder: Path, text: str) -> None:
    """Save a tiny random CLIP whose tokenizer has the text's words."""
    specials = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*specials.values(), *text.split()]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, vocabulary[name]) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": vocabulary["<s>"], "pad_token_id": vocabulary["<pad>"], "eos_token_id": vocabulary["</s>"]}
    config = CLIPConfig(
        text_config={**tower, **ids, "vocab_size": len(vocabulary), "max_position_embeddings": 77},
        vision_config={**tower, "image_size": 224, "patch_size": 32},
        projection_dim=64,
    )
    CLIPModel(config).save_pretrained(folder)
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)
    CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": 224}), words).save_pretrained(folder)


def run_step(step: Step, files: Mapping[str, Mapping[PartId, str]]) -> tuple[Seconds, dict[PartId, PartReport]]:
    """Do a step, as a build does it."""
    reports: dict[PartId, PartReport] = {}
    took = measure_time(lambda: reports.update(do_step(step, files, InProcess())))
    return replace(took, engine=sum(report.engine_s for report in reports.values())), reports


def run_steps(steps: Sequence[Step]) -> tuple[dict[str, Seconds], dict[str, dict[PartId, str]]]:
    """Do all steps and print their rates; return the time of each, and its files with their digests."""
    times: dict[str, Seconds] = {}
    files: dict[str, dict[PartId, str]] = {}
    for step in steps:
        times[step.name], reports = run_step(step, files)
        files[step.name] = step.folder.digests(reports.values())
        num_in, num_out = (sum(getattr(r, name) for r in reports.values()) for name in ("num_in", "num_out"))
        print_rates(step.name, step.unit, num_in, times[step.name], f"{num_out:>7,} out, {len(reports)} parts")
    return times, files


def print_rates(name: str, unit: str, number: int, took: Seconds, more: str) -> None:
    print(
        f"{name:<14}{number:>8,} {unit:<13}{number / took.wall:>9,.0f}/s {number / took.cpu:>9,.0f}/CPU s"
        f"{took.wall:>8.2f} s wall{took.cpu:>8.2f} s CPU{took.engine:>8.2f} s in engines  {more}",
        flush=True,
    )


def write_sets(step: AnnotateStep, out: Path) -> None:
    """Write the data sets, as a build does it."""
    write_data_sets(step, out, output=OutputConfig(), source="benchmark", licence="", drops=Drops())


def write_plainly(sources: Sequence[tuple[Path, bytes]], path: Path) -> None:
    """Decode each image, encode it again, add it and its texts to a tar."""
    with tarfile.open(path, "w") as tar:
        for source, texts in sources:
            with Image.open(source) as image:
                file = io.BytesIO()
                image.convert("RGB").save(file, "JPEG", quality=_QUALITY)
            for name, content in ((source.name, file.getvalue()), (f"{source.stem}.json", texts)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def compare_sharding(step: AnnotateStep, out: Path, images: Path) -> Seconds:
    """Write the same images and texts in both ways; return the time of ours."""
    ours = measure_time(lambda: write_sets(step, out))
    texts = [[asdict(annotation) for annotation in record.annotations] for record in read_records(out / "train")]
    print_rates("data sets", "images", len(texts), ours, f"{sum(map(len, texts)):>7,} annotations")
    paths = sorted(images.glob("*.jpg"))[: len(texts)]
    sources = [(path, json.dumps(annotations).encode()) for path, annotations in zip(paths, texts, strict=True)]
    plain = measure_time(lambda: write_plainly(sources, out / "plain.tar"))
    print_rates("plain loop", "images", len(texts), plain, "")
    faster = f"wall {plain.wall / ours.wall:.1f}, CPU {plain.cpu / ours.cpu:.1f}"
    print(f"sharding: times as fast as the plain loop: {faster} (asked 2)")
    return ours


class ComputingTranslator:
    """The world's translator, which computes for `record_s` of CPU time for each text, as a model would."""

    name = "computing"
    version = "1"

    def __init__(self, record_s: float) -> None:
        self._record_s, self._world = record_s, WorldTranslator()
        self._matrix = np.random.default_rng(0).standard_normal((64, 64))
        self.wall_s = self.cpu_s = 0.0

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        wall, cpu = perf_counter(), process_time()
        translations = [self._translate_one(text, language) for text in texts]
        self.wall_s, self.cpu_s = self.wall_s + perf_counter() - wall, self.cpu_s + process_time() - cpu
        return translations

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return self.translate(texts, language=language)

    def _translate_one(self, text: str, language: str) -> str | Failure:
        until_s = thread_time() + self._record_s
        (translation,) = self._world.translate([text], language=language)
        while thread_time() < until_s:
            self._matrix @ self._matrix
        return translation


def measure_overhead(
    step: TranslateStep, files: Mapping[str, Mapping[PartId, str]], num_parts: int, record_s: float, others_s: float
) -> None:
    """Print the time of a build outside its engines.

    Args:
        files: files of the finished steps, with their digests.
        num_parts: parts that the stand-in translates.
        others_s: CPU time per image of all steps but the translations.
    """
    engine = ComputingTranslator(record_s)

    class SlowTranslateStep(TranslateStep):
        """Some parts, translated by the stand-in."""

        name = "slow-translations"

        def parts(self) -> Sequence[PartId]:
            return super().parts()[:num_parts]

        def load_engine(self) -> Translator:
            return engine

    took, reports = run_step(
        SlowTranslateStep(work_dir=step.work_dir, describe=step.describe, config=step.config), files
    )
    num_records = sum(report.num_in for report in reports.values())
    outside_s = took.cpu - engine.cpu_s
    shares = f"wall {took.wall / engine.wall_s - 1:.2%}, CPU {outside_s / engine.cpu_s:.2%}"
    print(f"overhead: {num_records:,} translations at {1e3 * engine.cpu_s / num_records:.1f} ms of CPU time each")
    print(f"seconds outside the engine over those inside, step of translations: {shares} (asked under 5 %)")
    whole_ms = 1e3 * (others_s + outside_s / num_records * len(step.config.languages))
    print(f"whole build: {whole_ms:.1f} ms of CPU time per image outside engines, ", end="")
    print(f"under 5 % where all engines together take {whole_ms / 0.05:.0f} ms per image or more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000, help="images (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=20_000, help="bitext pairs of each language (default %(default)s)")
    parser.add_argument("--record-ms", type=float, default=20.0, help="the stand-in's time (default %(default)s)")
    parser.add_argument("--slow-parts", type=int, default=2, help="parts of 250 images for it (default %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = prepare(folder, num_images=arguments.images, num_pairs=arguments.pairs)
        last = make_steps(recipe)
        assert last.translate is not None
        times, files = run_steps(order_steps(last))
        sets = compare_sharding(last, recipe.out, folder / "images")
        others_s = sets.cpu + sum(took.cpu_outside for name, took in times.items() if name != last.translate.name)
        per_image_s = others_s / arguments.images
        measure_overhead(last.translate, files, arguments.slow_parts, arguments.record_ms / 1e3, per_image_s)


if __name__ == "__main__":
    main()
