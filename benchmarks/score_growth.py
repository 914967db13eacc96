"""Time and memory of `polyglance score` as files grow: CPU seconds and peak memory of each step.

    OMP_NUM_THREADS=1 python benchmarks/score_growth.py [--images 5000,80000,400000] [--form coco] [--bootstrap 1000]

Every run is a process of its own, from files on disk to scores. Captions are made up as those of caption_metrics.py.
`checks` is the share of the time that the checks of form (text_differences.py) take.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caption_metrics import LETTERS, NUM_PHRASES, make_words, write_out, zipf_weights

NUM_REFERENCES = 5
FORMS = ("coco", "jsonl", "lines", "tsv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="5000,80000,400000", help="numbers of images")
    parser.add_argument("--form", choices=FORMS, action="append", help="form of the files")
    parser.add_argument("--metrics", default="cider,bleu")
    parser.add_argument("--bootstrap", type=int, default=0)
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)  # a child process: folder, form
    options = parser.parse_args()
    if options.run:
        run(Path(options.run[0]), options.run[1], options.metrics.split(","), options.bootstrap)
        return
    print(f"{'form':<8}{'images':>10}{'captions':>12}{'CPU s':>9}{'checks s':>10}{'peak MB':>9}  scores")
    for size in map(int, options.images.split(",")):
        for form in options.form or FORMS[:1]:
            with tempfile.TemporaryDirectory() as folder:
                write_files(Path(folder), form, size)
                command = [sys.executable, __file__, "--metrics", options.metrics, "--run", folder, form]
                command += ["--bootstrap", str(options.bootstrap)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{form}, {size}: failed\n{done.stderr[-2000:]}")
            print(f"{form:<8}{size:>10,}{size * (NUM_REFERENCES + 1):>12,}{done.stdout.rstrip()}", flush=True)


def run(folder: Path, form: str, metrics: list[str], bootstrap: int) -> None:
    """Score the files of a folder and print what it took. Runs in a child process."""
    from polyglance.evaluate.score import ScoreConfig, score_files

    scored = sys.modules[score_files.__module__]
    spent, check = [0.0], vars(scored)["find_differences"]

    def timed(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        found = check(*args, **options)
        spent[0] += time.process_time() - start
        return found

    vars(scored)["find_differences"] = timed
    references = sorted(folder.glob("refs*"))
    config = ScoreConfig(lang="en", metrics=tuple(metrics), bootstrap=bootstrap)
    report = score_files(next(folder.glob("hyps*")), references, config)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values = " ".join(f"{one.name} {one.value!r}" for one in report.scores)
    print(f"{usage.ru_utime + usage.ru_stime:>9.1f}{spent[0]:>10.1f}{usage.ru_maxrss / 1024:>9.0f}  {form} {values}")


def write_files(folder: Path, form: str, num_images: int) -> None:
    """Write predictions and references of a form."""
    rows = make_rows(num_images)
    if form == "lines":
        names = ["hyps.txt", *(f"refs{number}.txt" for number in range(NUM_REFERENCES))]
        files = [(folder / name).open("w", encoding="utf-8") for name in names]
        for row in rows:
            for file, text in zip(files, row, strict=True):
                file.write(f"{text}\n")
        for file in files:
            file.close()
        return
    suffix = {"coco": "json", "jsonl": "jsonl", "tsv": "tsv"}[form]
    hyps, refs = (folder / f"{name}.{suffix}" for name in ("hyps", "refs"))
    with hyps.open("w", encoding="utf-8") as out, refs.open("w", encoding="utf-8") as many:
        if form == "coco":
            out.write("[")
            many.write('{"info": {}, "annotations": [')
        for number, (hypothesis, *texts) in enumerate(rows):
            join = ", " if number else ""
            if form == "coco":
                out.write(join + json.dumps({"image_id": number, "caption": hypothesis}))
                records = ({"image_id": number, "id": 5 * number + i, "caption": text} for i, text in enumerate(texts))
                many.write(join + ", ".join(map(json.dumps, records)))
            elif form == "jsonl":
                out.write(json.dumps({"id": number, "text": hypothesis}) + "\n")
                many.write(json.dumps({"id": number, "texts": texts}) + "\n")
            else:
                out.write(f"img{number}.jpg\t{hypothesis}\n")
                many.writelines(f"img{number}.jpg\t{text}\n" for text in texts)
        if form == "coco":
            out.write("]")
            many.write("]}")


def make_rows(num_images: int) -> Iterator[list[str]]:
    """Yield a hypothesis and its references, for each image."""
    rng = random.Random(num_images)
    words = make_words(rng, LETTERS[0])
    phrases = [" ".join(rng.choices(words[:3000], k=rng.randint(2, 4))) for _ in range(NUM_PHRASES)]
    word_weights, phrase_weights = zipf_weights(len(words)), zipf_weights(NUM_PHRASES)
    for _ in range(num_images):
        topic = rng.choices(phrases, cum_weights=phrase_weights, k=6)
        row = []
        for _ in range(NUM_REFERENCES + 1):
            extra = rng.choices(words, cum_weights=word_weights, k=rng.randint(2, 4))
            parts = [*rng.sample(topic, rng.randint(2, 3)), *extra]
            rng.shuffle(parts)
            row.append(write_out(" ".join(parts), rng))
        yield row


if __name__ == "__main__":
    main()
