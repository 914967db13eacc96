"""A study in a bucket of S3: moto's server on loopback, read and written by s3fs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from polyglance.config import load
from polyglance.object_store import SilentStoreError, StoreError, check_exclusive, open_store
from polyglance.study import StudyConfig, read_study_status, run_study, study
from polyglance.study.places.schedulers import ThisProcess

from .clusters import write_grid

pytest.importorskip("s3fs", reason="s3fs is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto and flask are not installed")
pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.filterwarnings("default"),  # of the server
]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty bucket."""
    import s3fs

    name = f"test-{uuid4().hex}"  # servers of one process share their buckets
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
    yield f"s3://{name}"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_objects_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"{bucket}/a/study")
    check_exclusive(store)
    assert store.list("marks/") == {}
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda number: store.create("marks/one", str(number).encode()), range(32))) == 1
    store.write("marks/two", b"1")
    store.write("marks/two", b"22")
    assert store.read("marks/two") == b"22"
    assert store.read("marks/three") is None
    assert set(store.list("marks/")) == {"marks/one", "marks/two"}
    (tmp_path / "source").write_bytes(b"3" * 2**20)
    store.upload("files/large", tmp_path / "source")
    assert store.download("files/large", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"3" * 2**20
    assert not store.download("files/none", tmp_path / "target")
    store.remove("marks/two")
    store.remove("marks/two")
    assert set(store.list("marks/")) == {"marks/one"}


def test_a_bucket_that_is_not_there_and_a_server_that_does_not_answer(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = open_store("s3://polyglance-none/study")
    for call in (lambda: missing.write("a", b""), lambda: missing.list("marks/"), lambda: check_exclusive(missing)):
        with pytest.raises(StoreError, match=r"^s3://polyglance-none/study: no such bucket or folder"):
            call()
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SilentStoreError, match=rf"^{bucket}/study: the store does not answer \(Could not"):
        open_store(f"{bucket}/study").read("study.toml")


@pytest.mark.slow
def test_a_study_in_a_bucket_has_the_same_table(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "LocalWorkers", lambda config, num_slots: ThisProcess(config))
    path = write_grid(tmp_path, samples=80)
    options = [f"cluster.store={bucket}/study", f"cluster.scratch={tmp_path / 'scratch'}"]
    config = load(StudyConfig, path, overrides=options)
    stored = run_study(config).table.read_bytes()
    assert open_store(config.cluster.store).read("runs.csv") == stored
    elsewhere = read_study_status(replace(config, out=tmp_path / "elsewhere"))
    assert set(elsewhere.jobs.values()) == {"done"}
    assert run_study(load(StudyConfig, path, overrides=[f"out={tmp_path / 'plain'}"])).table.read_bytes() == stored
