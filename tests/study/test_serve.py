"""The live page over HTTP, asked by a real client: fixed routes, strict headers, the token, mistakes in one line."""

import html
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.watching import serve
from polyglance.study.watching.serve import StudyServer, open_server
from polyglance.study.watching.serve_config import ServeConfig
from tests.report.test_in_a_browser import evil, open_page
from tests.study.progress_study import SMALL, TOML, begin, load_study, write_config

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1", "0.0.0.0", "::1", "localhost"])]
TOKEN_LENGTH = 32


@contextmanager
def serving(config: StudyConfig, **options: object) -> Iterator[StudyServer]:
    with open_server(config, ServeConfig(port=0, **options)) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: StudyServer, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def test_the_page_follows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_MAX_AGE_S", 0.0)
    config = load_study(tmp_path)
    with serving(config) as server:
        status, headers, page = ask(server)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "0 of 4 runs are done, 4 to do" in page
        begin(config, SMALL, (25, 3.0, 100.0))
        assert "0 of 4 runs are done, 1 at work, 3 to do" in ask(server)[2]
        values = json.loads(ask(server, "/status.json")[2])
        assert values["spent_s"] == pytest.approx(2.0)
        assert {job["id"]: job["state"] for job in values["jobs"]}[SMALL] == "at work"
    assert not (config.out / ".lock").exists()  # read-only


def test_nothing_but_the_routes_is_served(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_text("secret")
    paths = ("/secret", "/../secret", "/%2e%2e/secret", "//secret", "/./", "/status.json/", "/index.html", "/?a=1&" * 9)
    with serving(load_study(tmp_path)) as server:
        for path in paths:
            status, headers, text = ask(server, path)
            assert status in (400, 404), path
            assert text.count("\n") == 1
            assert "secret" not in text
            assert headers["Content-Type"].startswith("text/plain")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"):
            status, headers, text = ask(server, "/", method)
            assert (status, text.count("\n")) == (501, 1)
            assert "Access-Control-Allow-Origin" not in headers
        status, headers, text = ask(server, "/", "HEAD")
        assert (status, text) == (200, "")
        assert int(headers["Content-Length"]) > 1000
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        expected = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        assert expected.items() <= headers.items()
        assert "Python" not in headers["Server"]


def test_a_name_of_another_site_is_refused(tmp_path: Path) -> None:
    with serving(load_study(tmp_path)) as server:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", "[", "0.0.0.0"):
            assert ask(server, Host=host)[0] == 403, host
        for host in ("localhost", f"127.0.0.1:{server.server_port}", "[::1]:9", "LOCALHOST:80", "127.9.9.9"):
            assert ask(server, Host=host)[0] == 200, host


@pytest.mark.parametrize("options", [{"with_token": True}, {"host": "0.0.0.0"}])
def test_the_token_is_asked_for(tmp_path: Path, options: dict[str, object]) -> None:
    with serving(load_study(tmp_path), **options) as server:
        token = server.token
        assert len(token) == TOKEN_LENGTH
        assert server.address.endswith(f":{server.server_port}/?token={token}")
        for path in (
            "/",
            "/status.json",
            "/?token=",
            f"/?token={token}x",
            f"/?token={token[:-1]}",
            "/?token=%ff",
            "/no",
        ):
            status, headers, text = ask(server, path)
            assert (status, text.count("\n")) == (401, 1), path
            assert "Set-Cookie" not in headers
        for wrong in (f"{server.cookie}=x", "polyglance=1; ;;=", f"other={token}"):
            assert ask(server, Cookie=wrong)[0] == 401
        assert ask(server, Authorization="Bearer é")[0] == 401
        assert ask(server, Authorization=f"Bearer {token}")[0] == 200
        status, headers, _ = ask(server, f"/?token={token}")
        assert status == 200
        assert headers["Set-Cookie"] == f"{server.cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
        own = headers["Set-Cookie"].partition(";")[0]
        assert ask(server, Cookie=own, Host="any.example")[0] == 200
        for others in ('prefs={"a":1,"b":2}', "a@b=1", "x", f"{server.cookie}=old", 'q="a', "=", "é=é"):
            assert ask(server, Cookie=f"{others}; {own}")[0] == 200, others
            assert ask(server, Cookie=f"{own};{others}")[0] == 200, others


@pytest.mark.parametrize("error", [ValueError("runs.csv: no\ntable"), OSError(5, "Input/output error", "runs.csv")])
def test_a_study_that_cannot_be_read_is_said_on_the_page(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> tuple[str, bytes]:
        raise error

    with serving(load_study(tmp_path)) as server:
        answer, answers = server.answer, list[str]()
        monkeypatch.setattr(server, "answer", fail)
        status, _, text = ask(server)
        assert (status, text.count("\n")) == (503, 1)
        assert "runs.csv" in text

        def answer_once(route: str) -> tuple[str, bytes]:
            answers.append(route)
            return answer(route) if len(answers) == 1 else fail(route)

        monkeypatch.setattr(server, "answer", answer_once)
        document = open_page(server.address, tmp_path / "profile", "--virtual-time-budget=12000")
    assert len(answers) > 1
    assert f"The server says: {text.strip()}" in html.unescape(document)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        for options, message in (
            (["--port", taken], f"--port {taken} of 127.0.0.1: Address already in use; port 0 takes a free one"),
            (["--port", "65536"], "--port is 65536; expected 0 to 65535"),
            (["--host", "nowhere.invalid"], "'nowhere.invalid'"),
            (["--host", "a" * 300], "this machine alone"),
            (["--host", "192.0.2.7", "--port", "0"], "Cannot assign requested address"),
            (["--set", "data.path='x'"], "exactly one of world, table and path"),
        ):
            with pytest.raises(SystemExit) as caught:
                main(["study", "serve", str(path), *options])
            error = capsys.readouterr().err
            assert caught.value.code == 2
            assert message in error
            assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["study", "serve", str(tmp_path / "none.toml")])
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "polyglance", "study", "serve", str(write_config(tmp_path)), "--port", "0"]
    heeds_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores them
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_the_browser_runs_nothing_of_the_study_and_takes_the_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_MAX_AGE_S", 0.0)
    path = write_config(tmp_path, TOML)
    with serving(load(StudyConfig, path)) as other:
        address = f"http://127.0.0.1:{other.server_port}"
        title = json.dumps(evil(address))
        config = load(StudyConfig, path, overrides=[f"title={title}"])
    answers = []
    with serving(config, with_token=True) as server:
        answer = server.answer

        def answer_and_go_on(route: str) -> tuple[str, bytes]:
            answers.append(route)
            if len(answers) == 2:
                begin(config, SMALL, (25, 3.0, 100.0))
            return answer(route)

        monkeypatch.setattr(server, "answer", answer_and_go_on)
        document = open_page(server.address, tmp_path / "profile", "--virtual-time-budget=12000")
    assert 'id="ran"' not in document
    assert "&lt;script&gt;" in document
    assert len(answers) > 1  # it asked again, with the cookie
    assert set(answers) == {"/"}
    assert "0 of 4 runs are done, 1 at work, 3 to do" in document
