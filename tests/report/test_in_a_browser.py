"""The pages in a real browser, with captions, titles and sources that try to run scripts and to send requests."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.report.synthetic_study import grid, write_study

from polyglance.data.shard import ShardWriter, read_records
from polyglance.records import Annotation, Drops, ImageRecord
from polyglance.report import write_report
from polyglance.report.audit import AuditConfig, write_audit

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback: its address, and the paths that were asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", paths
    server.shutdown()
    thread.join()
    server.server_close()


def evil(url: str) -> str:
    script = f"document.documentElement.id='ran';fetch('{url}/script')"
    return (
        f'"\'></title></style></td></svg></textarea></script><script>{script}</script><img src="{url}/img" '
        f'onerror="{script}"><svg onload="{script}"><a href="javascript:{script}">x</a><iframe src="{url}/frame">'
        f'</iframe><link rel="stylesheet" href="{url}/css"><meta http-equiv="refresh" content="0;url={url}/meta">'
    )


def open_page(page: Path | str, profile: Path, *more: str, shortest: int = 1000) -> str:
    """Return the document as the browser has it after loading a file or an address."""
    if BROWSER is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", *more]
    address = page if isinstance(page, str) else page.resolve().as_uri()
    command = [BROWSER, *options, f"--user-data-dir={profile}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert len(done.stdout) > shortest
    return done.stdout


def test_the_browser_runs_what_is_not_escaped(requests: tuple[str, list[str]], tmp_path: Path) -> None:
    """Otherwise the other tests would prove nothing."""
    url, paths = requests
    page = tmp_path / "page.html"
    page.write_text(f"<title>{evil(url)}{'x' * 1000}")
    document = open_page(page, tmp_path / "profile")
    assert 'id="ran"' in document
    assert {"/script", "/img"} <= set(paths)


def test_the_report_runs_nothing_and_asks_for_nothing(requests: tuple[str, list[str]], tmp_path: Path) -> None:
    url, paths = requests
    text = evil(url)
    rows = [{**row, "size": f"<i>{row['size']}", "start": text} for row in grid(seeds=1, frozen=False)]
    page = write_report(write_study(tmp_path / "study", rows, title=text, caption_suffix=text)).page
    document = open_page(page, tmp_path / "profile")
    assert 'id="ran"' not in document
    assert "&lt;script&gt;" in document
    assert paths == []


def test_the_audit_runs_nothing_and_asks_for_nothing(
    requests: tuple[str, list[str]], world: Path, tmp_path: Path
) -> None:
    url, paths = requests
    text = evil(url)
    drops = Drops()
    drops.add(text, text)
    with ShardWriter(tmp_path / "data", source=text, licence=text, drops=drops) as writer:
        for record in list(read_records(world / "train"))[:8]:
            annotation = Annotation(task="translation", language="fr", text=text, source=text, origin=text)
            writer.write(ImageRecord(key=record.key + text, image=record.image, annotations=(annotation,)))
    write_audit(tmp_path / "data", AuditConfig(images=5), tmp_path / "audit.html")
    document = open_page(tmp_path / "audit.html", tmp_path / "profile")
    assert 'id="ran"' not in document
    assert "&lt;script&gt;" in document
    assert paths == []
