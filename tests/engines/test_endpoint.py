"""Recipes' engines and evaluated models behind a server on loopback."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from polyglance.engines import EngineConfig, Failure, ModelConfig, Picture, open_captioner, open_model
from polyglance.engines.addresses import ALLOWED_HOSTS, is_private
from polyglance.engines.endpoint import EndpointEngine, EndpointModel
from polyglance.engines.server import ChatServer, NoAnswer

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
ROLES = ["recipe", "evaluation"]


@pytest.fixture(autouse=True)
def _loopback_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_HOSTS, "127.0.0.1")


Answer = tuple[int, bytes]
"""HTTP status and body; at status 0 the server hangs up."""
Answering = Callable[[dict[str, Any], int], Answer | None]
"""Request body and number of requests before -> answer; None: no answer while the server lives."""


class Server:
    """A chat server on loopback."""

    def __init__(self, answer: Answering) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_a_time = 0
        lock, at_work = threading.Lock(), 0
        server, closing = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal at_work
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    at_work += 1
                    server.most_at_a_time = max(server.most_at_a_time, at_work)
                    number = len(server.requests)
                    server.requests.append({"path": self.path, **body})
                    server.keys.append(self.headers["Authorization"])
                answered = answer(body, number)
                with lock:
                    at_work -= 1
                if answered is None:
                    closing.wait()
                elif answered[0]:
                    self.send_response(answered[0])
                    self.send_header("Content-Length", str(len(answered[1])))
                    self.end_headers()
                    self.wfile.write(answered[1])

            def log_message(self, *args: Any) -> None:
                pass

        self._closing = closing
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answering], Server]]:
    """Start servers that are closed at the test's end."""
    servers: list[Server] = []

    def start(answer: Answering) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def completion(text: Any) -> Answer:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def prompt_of(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[1]["text"]


def translator(role: str, server: Server, *, num_parallel: int = 8, prompt: str = "", **settings: Any) -> Any:
    """Return a function that translates into German, without pauses between attempts."""
    settings = {"max_new_tokens": 7, "attempts": 3, "timeout_s": 30.0, **settings}
    chat = ChatServer(server.url, "chatty", first_wait_s=0.0, **settings)
    if role == "recipe":
        engine = EndpointEngine(chat, num_parallel=num_parallel, prompt=prompt)
        return lambda texts: engine.translate(texts, language="de")
    model = EndpointModel(chat, num_parallel=num_parallel)
    picture = Picture(encoded=b"\x89PNG", rgb=Image.new("RGB", (1, 1)))
    return lambda texts: model.write_translations([picture] * len(texts), texts, "de")


@pytest.mark.parametrize("role", ROLES)
def test_requests(role: str, serve: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = serve(lambda body, number: completion(" ein Satz \n"))
    if role == "recipe":
        config = EngineConfig(kind="endpoint", url=server.url, model="chatty", max_new_tokens=7)
        captioner = open_captioner(config)
        assert (captioner.name, captioner.version) == ("endpoint", "chatty")
        captions = captioner.caption(images, style="paragraph")
        assert captions == ["ein Satz", Failure("image: not an image"), "ein Satz", "ein Satz"]
        prompt = "Describe in one paragraph what the image shows. Answer with that paragraph only."
    else:
        model = open_model(ModelConfig(model=f"endpoint:{server.url}#chatty", max_new_tokens=7))
        pictures = [Picture.read(image) for image in images if image != b"no image"]
        assert model.write_captions(pictures, "de") == ["ein Satz"] * 3
        facts = model.facts("caption", "de")
        assert facts["weights"] == f"chatty at {server.url}/chat/completions"
        assert "secret" not in str(facts)
        prompt = facts["prompt"]
    assert server.keys == ["Bearer secret"] * 3
    sent = server.requests[0]
    settings = [sent[name] for name in ("path", "model", "max_tokens", "temperature")]
    assert settings == ["/v1/chat/completions", "chatty", 7, 0]
    assert [prompt_of(request) for request in server.requests] == [prompt] * 3
    urls = [request["messages"][0]["content"][0]["image_url"]["url"] for request in server.requests]
    assert sorted(url.partition(";")[0] for url in urls) == ["data:image/jpeg", "data:image/png", "data:image/png"]
    files = [base64.b64decode(url.partition(",")[2]) for url in urls]
    assert {images[0], images[2]} < set(files), "PNG and JPEG go as they are"
    assert Picture.read(images[3]).rgb.tobytes() in [Picture.read(file).rgb.tobytes() for file in files], "a BMP as PNG"


def test_recipes_have_prompts_of_their_own(serve: Any) -> None:
    server = serve(lambda body, number: completion("so"))
    chat = ChatServer(server.url, "chatty", max_new_tokens=7, attempts=1, timeout_s=30.0)
    EndpointEngine(chat, num_parallel=1).translate(["a {language} dog"], language="zh")
    assert "into simplified Chinese" in prompt_of(server.requests[0])
    assert prompt_of(server.requests[0]).endswith("\n\na {language} dog")
    EndpointEngine(chat, num_parallel=1, prompt="{text} ({language})").alternatives(["a dog"], language="de")
    assert prompt_of(server.requests[1]) == "a dog (German)"
    assert server.requests[1]["temperature"] > 0
    with pytest.raises(ValueError, match="must say where the text goes"):
        translator("recipe", server, prompt="Translate!")(["a dog"])


@pytest.mark.parametrize("role", ROLES)
def test_answers_are_in_order_and_requests_few(role: str, serve: Any) -> None:
    server = serve(lambda body, number: completion(prompt_of(body).rsplit("\n", 1)[1].upper()))
    sources = [f"text {number}" for number in range(24)]
    assert translator(role, server, num_parallel=3)(sources) == [text.upper() for text in sources]
    assert server.most_at_a_time <= 3


@pytest.mark.parametrize("role", ROLES)
def test_busy_servers_are_asked_again(role: str, serve: Any) -> None:
    troubles = {0: (429, b"slow down"), 1: (503, b"loading")}
    server = serve(lambda body, number: troubles.get(number) or completion("da"))
    assert translator(role, server)(["a"]) == ["da"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        ((200, b"<html>welcome</html>"), "the answer is not a chat completion", ": <html>welcome</html>"),
        ((200, b'{"choices": []}'), "the answer is not a chat completion", ': {"choices": []}'),
        ((200, b"\xff\xfe"), "the answer is not a chat completion", ": \ufffd\ufffd"),
        ((200, b"[" * 90_000), "the answer is not a chat completion", ": " + "[" * 200),
        (completion(None), "the answer holds no text", ""),
        (completion("  "), "the answer holds no text", ""),
        (completion([{"type": "text"}]), "the answer holds no text", ""),
        ((400, b'{"error":\n "too large"}'), "HTTP 400", ': {"error": "too large"}'),
    ],
)
def test_requests_without_an_answer_fail_alone(role: str, answer: Answer, reason: str, detail: str, serve: Any) -> None:
    """Recipes count reasons, predictions keep the detail. Such a request is not sent again."""
    server = serve(lambda body, number: answer if "bad" in prompt_of(body) else completion("gut"))
    failure = Failure(f"endpoint: {reason}" if role == "recipe" else f"{reason}{detail}")
    assert translator(role, server)(["bad", "fine"]) == [failure, "gut"]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((429, b"slow down"), "HTTP 429"),
        ((500, b"out of memory"), "HTTP 500"),
        (None, "timed out"),
        ((0, b""), "cannot be reached"),
    ],
)
def test_broken_servers_cost_recipes_a_record_and_evaluations_the_run(
    answer: Answer | None, reason: str, serve: Any
) -> None:
    def answer_some(body: dict[str, Any], number: int) -> Answer | None:
        return answer if "bad" in prompt_of(body) else completion("gut")

    server, timeout_s = serve(answer_some), 0.3 if answer is None else 30.0
    asked = translator("recipe", server, timeout_s=timeout_s)(["bad", "fine"])
    assert asked == [Failure(f"endpoint: {reason}"), "gut"]
    assert len(server.requests) == 3 + 1
    with pytest.raises(ValueError, match=f"no answer in 3 attempts, the last time: {reason}"):
        translator("evaluation", server, timeout_s=timeout_s)(["bad"])
    assert len(server.requests) == 3 + 1 + 3


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("status", [401, 403, 404])
def test_mistakes_of_the_user_end_the_run(role: str, status: int, serve: Any) -> None:
    server = serve(lambda body, number: (status, b"who are you"))
    with pytest.raises(ValueError, match=f"HTTP {status}: who are you"):
        translator(role, server)(["a"])
    assert len(server.requests) == 1


def test_no_server(serve: Callable[..., Server]) -> None:
    server = serve(lambda body, number: completion("da"))
    server.close()
    with pytest.raises(ValueError, match="cannot be reached, after 2 attempts each"):
        translator("recipe", server, attempts=2)(["a", "b"])
    assert translator("recipe", server)([]) == []
    with pytest.raises(ValueError, match=r"no answer in 2 attempts, the last time: .*refused"):
        translator("evaluation", server, attempts=2)(["a"])


@pytest.mark.parametrize("role", ROLES)
def test_a_private_address_needs_permission_in_a_recipe(
    serve: Callable[[Answering], Server], monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """A person who types the address allows it; a recipe, which may be another person's, does not."""
    monkeypatch.delenv(ALLOWED_HOSTS)
    server = serve(lambda body, number: completion("ja"))
    if role == "evaluation":
        model = open_model(ModelConfig(model=f"endpoint:{server.url}#chatty"))
        assert isinstance(model, EndpointModel)
        assert model._server.complete("a") == "ja"
        return
    config = EngineConfig(kind="endpoint", url=server.url, model="chatty", attempts=3)
    translate = EndpointEngine.for_recipe(config).translate
    with pytest.raises(ValueError, match=r"127\.0\.0\.1, a private address, .*set POLYGLANCE_ALLOW_HOSTS=127\.0\.0\.1"):
        translate(["a"], language="de")
    assert server.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve: Callable[[Answering], Server], status: int) -> None:
    other = serve(lambda body, number: completion("stolen"))

    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", f"{other.url}/chat/completions")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        chat = ChatServer(url, "m", max_new_tokens=4, attempts=1, timeout_s=30.0, first_wait_s=0.0)
        with pytest.raises(NoAnswer, match=f"HTTP {status}"):
            chat.complete("a")
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
    assert other.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_does_not_get_round_the_rule(
    serve: Callable[[Answering], Server], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """A proxy of the environment may find a name at any address, so the name has to be allowed; the proxy itself may be
    at a private address."""
    proxy = serve(lambda body, number: completion("through"))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    for name in ("no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def chat(host: str, *, is_trusted: bool = False) -> ChatServer:
        options: Any = {"max_new_tokens": 4, "attempts": 1, "timeout_s": 30.0, "first_wait_s": 0.0}
        return ChatServer(f"{scheme}://{host}/v1", "m", is_trusted=is_trusted, **options)

    for host in ("models.example", "169.254.169.254", "metadata.google.internal:80"):
        with pytest.raises(ValueError, match=r"through the proxy 127\.0\.0\.1:.*nothing was sent.*NO_PROXY="):
            chat(host).complete("a")
    assert proxy.requests == []
    monkeypatch.setenv(ALLOWED_HOSTS, "models.example")
    for chosen in (chat("models.example"), chat("typed.example", is_trusted=True)):
        if scheme == "http":
            assert chosen.complete("a") == "through"
        else:  # this proxy knows no CONNECT
            with pytest.raises(NoAnswer, match="Tunnel connection failed: 501"):
                chosen.complete("a")
    assert [request["path"] for request in proxy.requests] == [
        f"http://{host}/v1/chat/completions" for host in ("models.example", "typed.example") if scheme == "http"
    ]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ValueError, match=r"127\.0\.0\.1, a private address"):
        chat(f"127.0.0.1:{proxy.url.split(':')[2].removesuffix('/v1')}").complete("a")


def test_private_addresses() -> None:
    private = ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1")
    private += ("fe80::1%eth0", "fd00::1", "::ffff:169.254.169.254", "224.0.0.1", "240.0.0.1")
    assert all(map(is_private, private))
    assert not any(map(is_private, ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8")))


def test_a_recipe_names_no_other_secret() -> None:
    with pytest.raises(
        ValueError, match="api_key_env is 'AWS_SECRET_ACCESS_KEY'; expected a name that contains API_KEY"
    ):
        EngineConfig(kind="endpoint", url="http://a/v1", model="m", api_key_env="AWS_SECRET_ACCESS_KEY")
