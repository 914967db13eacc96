"""A build whose captioner, a server on loopback, refuses, thinks, loops and stops: all is kept or counted by reason."""

import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polyglance.config import load
from polyglance.data.build.build import build
from polyglance.data.build.recipe import Recipe
from polyglance.data.shard import read_records
from polyglance.engines.addresses import ALLOWED_HOSTS
from polyglance.report.audit import AuditConfig, write_audit

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
GOOD = "A brown dog runs across a wet meadow. Two children watch it from a wooden bench."
REJECTED = "description rejected, "
ANSWERS: list[tuple[str, str, str]] = [
    (GOOD, "stop", ""),
    (f"<think>The user wants a caption. Is it a dog?</think>\n\n{GOOD}", "stop", ""),
    (f"Here is the caption:\n\n**{GOOD}**", "stop", ""),
    (f'"{GOOD}"', "stop", ""),
    ("I'm sorry, but I cannot describe people in images.", "stop", REJECTED + "refusal"),
    ("<think>Let me look at this picture in detail", "stop", REJECTED + "reasoning without an end"),
    (
        "A brown dog runs. A brown dog runs. A brown dog runs. A brown dog runs.",
        "stop",
        REJECTED + "repetition",
    ),
    (
        "Ein brauner Hund läuft über eine nasse Wiese. Zwei Kinder sehen ihm von einer Bank aus zu.",
        "stop",
        REJECTED + "another language",
    ),
    (
        "Собака бежит по мокрой траве. Двое детей смотрят на неё со скамейки.",
        "stop",
        REJECTED + "wrong script",
    ),
    ("| part | what |\n|---|---|\n| left | a dog |", "stop", REJECTED + "a table"),
    ("A brown dog runs across a wet meadow. Two children watch it from a", "stop", REJECTED + "cut off"),
    (
        "A brown dog runs across a wet meadow. Two children watch it from a",
        "length",
        "endpoint: cut off at max_new_tokens",
    ),
    ("", "content_filter", "endpoint: held back by the content filter"),
    ("   ", "stop", "endpoint: the answer holds no text"),
]
"""Answer, finish_reason and the reason by which it is counted; empty: kept as `GOOD`."""
NUM_IMAGES = 3 * len(ANSWERS)
LUCKY = 4
"""Image whose second answer is right, though the first was a refusal."""


SOURCE = "A brown dog runs past the gate with the number {}."
GERMAN = "Ein brauner Hund rennt am Tor mit der Nummer {} vorbei."
TRANSLATIONS: list[tuple[str, str, str]] = [
    (GERMAN, "stop", ""),
    ("<think>Tor or Gatter? ### Tor.</think>\n\n" + GERMAN, "stop", ""),
    (f"Translation: {GERMAN}", "stop", ""),
    (f"\u201e{GERMAN}\u201c", "stop", ""),
    ("I'm sorry, but I can't translate this.", "stop", "refusal"),
    ("<think>It is about a dog", "stop", "reasoning without an end"),
    ("Ein Hund. Ein Hund. Ein Hund. Ein Hund. Ein Hund.", "stop", "repetition"),
    (SOURCE, "stop", "English words copied"),
    ("Коричневый пёс бежит мимо ворот с номером {}.", "stop", "wrong script"),
    ("Ein brauner Hund rennt am Tor mit", "length", "endpoint: cut off at max_new_tokens"),
    ("", "content_filter", "endpoint: held back by the content filter"),
]
"""Translation of `SOURCE`, finish_reason and a word of the reason by which it is counted; empty: kept as `GERMAN`."""


def answer_about_image(body: dict[str, Any]) -> tuple[str, str]:
    """Answer by the red of the image: text and finish_reason."""
    encoded = body["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    number = Image.open(BytesIO(base64.b64decode(encoded))).getpixel((0, 0))[0]
    text, finish, _ = ANSWERS[number % len(ANSWERS)]
    return GOOD if number == LUCKY and body["temperature"] else text, finish


def answer_in_german(body: dict[str, Any]) -> tuple[str, str]:
    """Translate by the number in the text: text and finish_reason."""
    number = int(re.findall(r"number (\d+)", body["messages"][0]["content"])[-1])
    text, finish, _ = TRANSLATIONS[number % len(TRANSLATIONS)]
    return (GERMAN if number == LUCKY and body["temperature"] else text).format(number), finish


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server that describes images and translates."""
    monkeypatch.setenv(ALLOWED_HOSTS, "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_text = isinstance(body["messages"][0]["content"], str)
            text, finish = answer_in_german(body) if is_text else answer_about_image(body)
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
            answer = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def write_images(folder: Path, number: int) -> Path:
    """Write pictures of noise whose first pixel has their number as its red."""
    folder.mkdir()
    for n in range(number):
        pixels = np.random.default_rng(n).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        pixels[0, 0, 0] = n
        Image.fromarray(pixels).save(folder / f"{n:03d}.png")
    return folder


def test_every_answer_is_kept_as_a_caption_or_counted_by_its_reason(tmp_path: Path, url: str) -> None:
    images = write_images(tmp_path / "images", NUM_IMAGES)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        out = "{tmp_path / "out"}"
        images_per_part = 16
        [[images]]
        path = "{images}"
        licence = "Apache-2.0"
        [recaption]
        style = "paragraph"
        engine = {{ kind = "endpoint", url = "{url}", model = "tester", attempts = 1 }}
        [annotate]
        captions = ["en"]
        [output]
        test_fraction = 0.0
        """
    )
    built = build(load(Recipe, recipe))

    step = next(step for step in built.steps if step.name == "descriptions")
    expected = Counter(ANSWERS[number % len(ANSWERS)][2] for number in range(NUM_IMAGES) if number != LUCKY)
    num_kept = expected.pop("") + 1
    assert {reason: entry["count"] for reason, entry in step.drops.items()} == expected
    assert (step.num_in, step.num_out) == (NUM_IMAGES, num_kept), "kept + left out = asked"
    captions = Counter(
        annotation.text
        for record in read_records(built.out / "train")
        for annotation in record.annotations
        if annotation.task == "caption"
    )
    assert captions == {GOOD: num_kept, GOOD[: GOOD.index(".") + 1]: num_kept}, "whole, and its first sentence"

    write_audit(built.out / "train", AuditConfig(), tmp_path / "audit.html")
    audit = json.loads((tmp_path / "audit.json").read_text())
    page = (tmp_path / "audit.html").read_text()
    for reason, count in expected.items():
        assert audit["drops"][reason]["count"] == count
        assert reason in page
    assert "Hund" in json.dumps(audit["drops"][REJECTED + "another language"], ensure_ascii=False)


@pytest.mark.parametrize("mode", ["none", "checked"])
def test_every_translation_is_kept_or_counted_by_its_reason(tmp_path: Path, url: str, mode: str) -> None:
    number = 2 * len(TRANSLATIONS)
    images = write_images(tmp_path / "images", number)
    for n in range(number):
        (images / f"{n:03d}.txt").write_text(SOURCE.format(n))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        out = "{tmp_path / "out"}"
        [[images]]
        path = "{images}"
        texts = "captions"
        [translate]
        languages = ["de"]
        engine = {{ kind = "endpoint", url = "{url}", model = "tester", attempts = 1 }}
        context = {{ mode = "{mode}" }}
        [annotate]
        captions = ["en", "de"]
        """
    )
    built = build(load(Recipe, recipe))
    kept = {n for n in range(number) if not TRANSLATIONS[n % len(TRANSLATIONS)][2] or n == LUCKY}
    found = {
        annotation.text
        for record in read_records(built.out / "train")
        for annotation in record.annotations
        if annotation.language == "de"
    }
    assert found == {GERMAN.format(n) for n in kept}
    step = next(step for step in built.steps if step.name == "translations")
    counts = {reason: entry["count"] for reason, entry in step.drops.items()}
    for _, _, word in TRANSLATIONS:
        assert not word or any(word in reason for reason in counts), (word, counts)
    lost = sum(n for reason, n in counts.items() if reason.endswith("good enough") or reason.startswith("de: endpoint"))
    assert lost == number - len(kept)
