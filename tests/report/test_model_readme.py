"""README.md of a trained model, and its way to the hub."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from polyglance.coverage import Cell
from polyglance.laws.constants.published import load_law
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.report.model_readme import write_model_readme
from polyglance.run_records import CellLoss, CellRecord, LossRecord


def loss_of(mean: float) -> CellLoss:
    return CellLoss(samples=1, tokens=4, bytes=9, nats=4 * mean, mean_nats=mean, first_nats=mean)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of captions in English and translations into English and Norwegian, measured, with a law."""
    run = tmp_path_factory.mktemp("study") / "run | 7"
    torch.manual_seed(0)
    Polyglance(MicroConfig(decoder="bart", width=32, layers=1, max_tokens=64).build(13)).save_pretrained(
        run / "a/final"
    )
    (run / "samples.json").write_text(json.dumps({"caption-en": 1500, "translation-en": 20, "translation-no": 30}))
    cells = {Cell("caption", "no"): CellRecord(split="UC", losses={"plain": loss_of(1.25), "prefix": loss_of(0.5)})}
    LossRecord(run="run", cells=cells).write(run / "losses.json")
    load_law("chinchilla").save(run / "law.json")
    return run / "a/final"


def test_languages_samples_losses_and_laws_are_those_of_the_records(folder: Path) -> None:
    law = folder.parents[1] / "law.json"
    text = write_model_readme(folder, laws=[law], licence="cc-by-4.0").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert 'language: ["en", "no"]\nlicense: "cc-by-4.0"\n---\n' in text  # a bare no is false in YAML
    assert "# run \\| 7\n" in text
    assert "captions in\nEnglish and on translations; on translations alone in Norwegian." in text
    assert "| en | 1,500 | 20 |\n| no | 0 | 30 |\n" in text
    assert "| caption-no | UC | 1.250 | 0.500 | - |" in text
    assert re.search(r"^\| E \| 1\.69", text, re.MULTILINE)
    parameters = sum(p.numel() for p in Polyglance.from_pretrained(folder).parameters())
    assert f"A model of {parameters:,} parameters" in text
    assert write_model_readme(folder).read_text() != text  # its own text is replaced
    best = shutil.copytree(folder, folder.with_name("best"))  # the run's losses are those of the final model
    assert "caption-no" not in write_model_readme(best).read_text()
    (folder / "README.md").write_text("written by hand")
    with pytest.raises(ValueError, match="not written by this command"):
        write_model_readme(folder)
    (folder / "README.md").unlink()


def test_a_model_outside_a_run_needs_the_run_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the run with --run"):
        write_model_readme(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """The part of the hub that a push needs: files arrive in commits, and the card can be read."""

    files: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.endswith("/create"):
            self.answer({"url": "http://127.0.0.1/me/model", "id": "me/model"})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        else:
            lines = map(json.loads, body.splitlines())
            values = [line["value"] for line in lines if line["key"] == "file"]
            self.files.update({value["path"]: base64.b64decode(value["content"]) for value in values})
            self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": "http://127.0.0.1/me/model/commit/0"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self.path.endswith("/README.md"):
            self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})
        elif "README.md" not in self.files:
            self.send(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40})
        else:
            self.send(self.files["README.md"], 200, {"ETag": "1", "X-Repo-Commit": "0" * 40})

    def answer(self, values: object) -> None:
        self.send(json.dumps(values).encode(), 200, {"Content-Type": "application/json"})

    def send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    Hub.files = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Hub.files
        server.shutdown()


@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_push_to_hub_sends_the_readme_as_the_models_card(
    folder: Path, hub: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    address, files = hub
    card = write_model_readme(folder, name="Seven").read_text()
    push = f"Polyglance.from_pretrained({str(folder)!r}).push_to_hub('me/model')"
    settings = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", f"from polyglance.model import Polyglance; {push}"]
    subprocess.run(command, env={**os.environ, **settings}, check=True)
    assert {"README.md", "config.json", "model.safetensors", "modeling_polyglance.py"} <= files.keys()
    header, text = files["README.md"].decode().split("\n---\n", 1)  # the library writes the header anew
    assert text.strip() == card.split("\n---\n", 1)[1].strip()
    assert "- en\n- 'no'" in header
