"""Artifact stores behind fsspec: the same promises, as far as such stores can keep them."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from zen_mlmd.errors import ConfigError, PayloadError, PayloadMissingError, UsageError
from zen_mlmd.payloads import ArtifactStore, exists, open_local, payload_hash
from zen_mlmd.payloads.places import shown


class ShelfFileSystem(LocalFileSystem):  # type: ignore[misc]
    """Real directories and a rename, but no copy: as SFTP has it."""

    protocol = "shelf"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("shelf://").rstrip("/")

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        raise NotImplementedError

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        shutil.copyfile(lpath, rpath)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        shutil.copyfile(rpath, lpath)


class WeakFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A memory store whose operations fail on demand."""

    protocol = "weak"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fails: ClassVar[dict[str, BaseException]] = {}
    spoils: ClassVar[bool] = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        path = path.removeprefix("weak://").strip("/")
        return f"/{path}" if path else ""

    def _meet(self, deed: str, path: str) -> None:
        error = self.fails.get(f"{deed} {path.rpartition('/')[2]}")
        if error is not None:
            raise error

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self._meet("put", rpath)
        super().put_file(lpath, rpath, **kwargs)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._meet("copy", path2)
        super().cp_file(path1, path2, **kwargs)
        if type(self).spoils:
            self.pipe_file(f"{path2}.other", b"another writer's")

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "rb":
            self._meet("open", path)
        return super()._open(path, mode, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._meet("info", path)
        return super().info(path, **kwargs)


def two_files(directory: Path) -> None:
    (directory / "a").write_bytes(b"1")
    (directory / "sub").mkdir()
    (directory / "sub" / "b[1]*?").write_bytes(b"22")


@pytest.fixture
def weak() -> Iterator[type[WeakFileSystem]]:
    fsspec.register_implementation("weak", WeakFileSystem, clobber=True)
    yield WeakFileSystem
    WeakFileSystem.fails.clear()
    WeakFileSystem.spoils = False
    WeakFileSystem.store.clear()
    WeakFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "shelf", "weak"])
def store(request: pytest.FixtureRequest, tmp_path: Path, weak: type[WeakFileSystem]) -> ArtifactStore:
    fsspec.register_implementation("shelf", ShelfFileSystem, clobber=True)
    if request.param == "shelf":
        (tmp_path / "shelf").mkdir()
        return ArtifactStore(f"shelf://{tmp_path}/shelf")
    return ArtifactStore(f"{request.param}://{uuid.uuid4().hex}/artifacts/")


def everything(store: ArtifactStore) -> list[str]:
    fs, path = fsspec.core.url_to_fs(store.root)
    if not fs.exists(path):
        return []
    return sorted(name[len(path) + 1 :] for name in fs.find(path, withdirs=True) if name != path)


def test_root_and_uris_are_urls(store: ArtifactStore) -> None:
    assert not store.root.endswith("/")
    assert store.new_uri("a", "..") == f"{store.root}/a/%2E%2E"
    assert ArtifactStore("memory://").new_uri("a", "b") == "memory://a/b"
    assert ArtifactStore("memory:///").new_uri("a") == "memory:///a"


def test_payload_goes_there_and_back_with_the_hash_of_a_local_one(
    store: ArtifactStore, tmp_path: Path
) -> None:
    local = ArtifactStore(tmp_path / "local")
    there = local.write(local.new_uri("x"), two_files)
    payload = store.write(store.new_uri("p", "x"), two_files)
    assert (payload.content_hash, payload.size_bytes) == (there.content_hash, 3)
    assert payload_hash(payload.uri) == payload
    assert exists(payload.uri)
    with store.open_local(payload.uri) as directory:
        assert (directory / "sub" / "b[1]*?").read_bytes() == b"22"
        assert (directory / "a").read_bytes() == b"1"
    assert not directory.exists()
    assert [name for name in everything(store) if "tmp" in name] == []


def test_same_content_is_left_alone_and_other_content_refused(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    first = store.write(uri, two_files)
    before = everything(store)
    assert store.write(uri, two_files) == first

    def other(directory: Path) -> None:
        (directory / "a").write_bytes(b"2")

    with pytest.raises(PayloadError, match="already"):
        store.write(uri, other)
    assert payload_hash(uri) == first
    assert everything(store) == before


def test_failing_writer_leaves_nothing(store: ArtifactStore) -> None:
    def writer(directory: Path) -> None:
        two_files(directory)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        store.write(store.new_uri("x"), writer)
    assert everything(store) == []


def test_delete_removes_files_and_directories(store: ArtifactStore) -> None:
    one = store.write(store.new_uri("p", "1"), two_files)
    two = store.write(store.new_uri("p", "2"), two_files)
    store.delete(one.uri)
    assert not exists(one.uri)
    assert payload_hash(two.uri) == two
    assert [name for name in everything(store) if name.startswith("p/1")] == []
    with pytest.raises(PayloadMissingError):
        store.delete(one.uri)


@pytest.mark.parametrize(
    "where", ["{root}", "{root}/../x", "{root}/a/../../x", "{root}x/y", "/etc/x", "{root}//x"]
)
def test_writing_and_deleting_stay_below_the_root(store: ArtifactStore, where: str) -> None:
    uri = where.format(root=store.root)
    with pytest.raises(UsageError, match="not below"):
        store.write(uri, two_files)
    with pytest.raises(UsageError, match="not below"):
        store.delete(uri)


def test_single_object_is_one_file_without_name(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(f"{root}/model.bin", b"abc")
    (tmp_path / "model.bin").write_bytes(b"abc")
    assert (
        payload_hash(f"{root}/model.bin").content_hash
        == payload_hash(str(tmp_path / "model.bin")).content_hash
    )
    with open_local(f"{root}/model.bin") as local:
        assert local.read_bytes() == b"abc"


def test_directory_markers_of_object_stores_are_no_files() -> None:
    root = f"memory://{uuid.uuid4().hex}/x"
    memory = fsspec.filesystem("memory")
    path = memory._strip_protocol(root)
    store = ArtifactStore(root.removesuffix("/x"))
    payload = store.write(root, two_files)
    memory.store[f"{path}/sub/"] = memory.store[f"{path}/a"]
    try:
        assert payload_hash(root) == payload
    finally:
        del memory.store[f"{path}/sub/"]


def test_object_keys_cannot_lead_out_of_the_local_copy() -> None:
    root = f"memory://{uuid.uuid4().hex}/x"
    fsspec.filesystem("memory").pipe_file(f"{root}/sub/../../../evil", b"1")
    with pytest.raises(PayloadError, match="leads elsewhere"), open_local(root):
        pass


@pytest.mark.parametrize("deed", ["put a", "put b[1]*?", "copy a", "copy b[1]*?"])
@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), KeyboardInterrupt(), ValueError("https://k:s@x")]
)
def test_failing_upload_leaves_nothing(weak: type[WeakFileSystem], deed: str, error: BaseException) -> None:
    store = ArtifactStore("weak://bucket/artifacts")
    weak.fails[deed] = error
    wanted = PayloadError if isinstance(error, Exception) else type(error)
    with pytest.raises(wanted) as caught:
        store.write(store.new_uri("x"), two_files)
    assert "k:s@x" not in str(caught.value)
    assert weak.store == {}
    assert everything(store) == []
    weak.fails.clear()
    assert payload_hash(store.write(store.new_uri("x"), two_files).uri).size_bytes == 3


def test_another_process_writing_at_the_same_time_is_noticed(weak: type[WeakFileSystem]) -> None:
    store = ArtifactStore("weak://bucket/artifacts")
    weak.spoils = True
    with pytest.raises(PayloadError, match="at the same time"):
        store.write(store.new_uri("x"), two_files)


def test_store_that_cannot_be_asked_is_an_error_and_not_absence(weak: type[WeakFileSystem]) -> None:
    weak.fails["info x"] = PermissionError(13, "Permission denied")
    with pytest.raises(PayloadError, match="cannot be listed: Permission denied"):
        exists("weak://bucket/x")
    weak.fails["info x"] = RuntimeError("token=abc")
    with pytest.raises(PayloadError, match="cannot be read: RuntimeError") as caught:
        payload_hash("weak://bucket/x")
    assert "token" not in str(caught.value)


def test_file_that_vanishes_while_it_is_read_is_missing(weak: type[WeakFileSystem]) -> None:
    store = ArtifactStore("weak://bucket/artifacts")
    payload = store.write(store.new_uri("x"), two_files)
    weak.fails["open a"] = FileNotFoundError(2, "No such file")
    with pytest.raises(PayloadMissingError):
        payload_hash(payload.uri)
    with pytest.raises(PayloadMissingError), open_local(payload.uri):
        pass


def test_threads_that_write_and_read_one_uri_agree(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    together = threading.Barrier(6)

    def write(content: bytes) -> bytes | None:
        def writer(directory: Path) -> None:
            (directory / "a").write_bytes(content * 3_000_000)
            (directory / "b").write_bytes(content)

        together.wait()
        try:
            payload = store.write(uri, writer)
        except PayloadError:
            return None
        assert payload_hash(uri) == payload
        with open_local(uri) as directory:
            assert (directory / "a").read_bytes() == content * 3_000_000
        return content

    with ThreadPoolExecutor(6) as pool:
        won = set(pool.map(write, [b"1", b"2"] * 3)) - {None}
    assert len(won) == 1


def test_messages_show_no_secret_of_a_url() -> None:
    assert shown("s3://bucket/key") == "s3://bucket/key"
    assert shown("https://me:pw@host/a/b?X-Signature=1") == "https://host/a/b"
    assert shown("/a/b@c?d") == "/a/b@c?d"
    with pytest.raises(ConfigError) as caught:
        exists("ftp://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)
