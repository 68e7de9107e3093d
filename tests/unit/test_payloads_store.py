"""The artifact store on the local disk: whole or nothing, never overwritten, hashed."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zen_mlmd.payloads.store
from zen_mlmd.errors import ConfigError, MissingExtraError, PayloadError, PayloadMissingError, UsageError
from zen_mlmd.payloads import ArtifactStore, Payload, exists, open_local, payload_hash
from zen_mlmd.payloads.places import Writer

PROJECT = Path(zen_mlmd.payloads.store.__file__).parents[2]
PARTS = st.text(min_size=1, max_size=120)


def files(**contents: bytes) -> Writer:
    def write(directory: Path) -> None:
        for name, content in contents.items():
            (directory / name).write_bytes(content)

    return write


def everything(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_root_is_a_plain_absolute_path_however_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted = str(tmp_path / "s")
    for given_root in ("s", "./x/../s/", f"file://{tmp_path}/s/", f"local://{tmp_path}/s", Path("s"), "~/s"):
        assert ArtifactStore(given_root).root == wanted
    assert repr(ArtifactStore("s")) == f"ArtifactStore({wanted!r})"
    assert not (tmp_path / "s").exists()


def test_file_system_root_as_root() -> None:
    assert ArtifactStore("/").new_uri("a", "b") == "/a/b"
    assert ArtifactStore("file:///").root == "/"


@pytest.mark.parametrize(
    ("root", "error"),
    [
        ("", ConfigError),
        ("file://relative/path", ConfigError),
        ("a\0b", ConfigError),
        ("nonsense://x", ConfigError),
        ("simplecache::memory://x", ConfigError),
        ("ftp://me:hunter2@host/x", ConfigError),
        ("gdrive://x", MissingExtraError),
    ],
)
def test_unusable_roots_are_refused_with_a_hint(root: str, error: type[ConfigError]) -> None:
    with pytest.raises(error) as caught:
        ArtifactStore(root)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_new_uri_joins_parts_and_writes_nothing(store: ArtifactStore) -> None:
    assert store.new_uri("churn", "train", "7") == f"{store.root}/churn/train/7"
    assert store.new_uri("a b", "ä/ö", "50%") == f"{store.root}/a%20b/%C3%A4%2F%C3%B6/50%25"
    assert not Path(store.root).exists()


@pytest.mark.parametrize(
    "part", ["..", ".", "../../etc", "/etc", "a/../../b", "a\0b", "a\nb", "~", "\\", "*?["]
)
def test_new_uri_cannot_leave_the_root(store: ArtifactStore, part: str) -> None:
    uri = store.new_uri("x", part)
    assert Path(os.path.normpath(uri)) == Path(uri)
    assert Path(uri).parent == Path(store.root, "x")
    assert store.write(uri, files(a=b"1")).uri == uri


@given(parts=st.lists(PARTS, min_size=1, max_size=4), others=st.lists(PARTS, min_size=1, max_size=4))
def test_new_uri_is_safe_and_tells_different_parts_apart(parts: list[str], others: list[str]) -> None:
    store = ArtifactStore("/r")
    uri = store.new_uri(*parts)
    names = uri.removeprefix("/r/").split("/")
    assert len(names) == len(parts)
    assert all(name not in ("", ".", "..") and len(name) <= 200 and name.isprintable() for name in names)
    assert uri.isascii()
    assert (uri == store.new_uri(*others)) == (parts == others)


def test_long_parts_are_cut_to_a_name_that_fits_and_stay_apart(store: ArtifactStore) -> None:
    long = "я" * 300
    uris = {
        store.new_uri(long),
        store.new_uri(long + "a"),
        store.new_uri("a" + long),
        store.new_uri("ab" + long),
    }
    assert len(uris) == 4
    for uri in uris:
        name = uri.rpartition("/")[2]
        assert len(name) <= 200
        kept = name.rpartition("~")[0]
        assert "%" not in kept[-2:], "no escape is cut in two"
        store.write(uri, files(a=b"1"))


@pytest.mark.parametrize("parts", [(), ("",), ("a", ""), (7,)])
def test_new_uri_refuses_what_names_nothing(store: ArtifactStore, parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        store.new_uri(*parts)


def test_written_payload_is_there_with_hash_and_size(store: ArtifactStore) -> None:
    uri = store.new_uri("p", "s", "1")

    def writer(directory: Path) -> None:
        assert list(directory.iterdir()) == []
        (directory / "b.txt").write_bytes(b"bee")
        (directory / "sub" / "deep").mkdir(parents=True)
        (directory / "sub" / "deep" / "a").write_bytes(b"")

    payload = store.write(uri, writer)
    by_hand = hashlib.sha256(b"5:b.txt3:bee" + b"10:sub/deep/a0:").hexdigest()
    assert payload == Payload(uri, f"sha256:{by_hand}", 3)
    assert payload_hash(uri) == payload
    assert exists(uri)
    assert everything(Path(uri)) == ["b.txt", "sub", "sub/deep", "sub/deep/a"]
    assert everything(Path(store.root)) == [
        "p",
        "p/s",
        "p/s/1",
        *(f"p/s/1/{n}" for n in everything(Path(uri))),
    ]
    with store.open_local(uri) as directory:
        assert directory == Path(uri)


def test_payload_directory_gets_the_mode_that_the_umask_says(store: ArtifactStore) -> None:
    before = os.umask(0o022)
    try:
        payload = store.write(store.new_uri("a"), files(a=b"1"))
    finally:
        os.umask(before)
    assert Path(payload.uri).stat().st_mode & 0o777 == 0o755


def test_single_file_hashes_as_a_file_without_name(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"abc")
    wanted = f"sha256:{hashlib.sha256(b'0:3:abc').hexdigest()}"
    assert payload_hash(str(path)) == Payload(str(path), wanted, 3)
    assert payload_hash(f"file://{path}") == Payload(str(path), wanted, 3)
    with open_local(str(path)) as local:
        assert local.read_bytes() == b"abc"


@given(
    contents=st.dictionaries(
        st.text("ab1:", min_size=1, max_size=4), st.binary(max_size=6), min_size=1, max_size=4
    ),
    others=st.dictionaries(
        st.text("ab1:", min_size=1, max_size=4), st.binary(max_size=6), min_size=1, max_size=4
    ),
)
@settings(max_examples=40, deadline=None)
def test_hash_is_equal_exactly_for_equal_contents(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], others: dict[str, bytes]
) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("hash"))
    one = store.write(store.new_uri("1"), files(**contents))
    two = store.write(store.new_uri("2"), files(**dict(reversed(others.items()))))
    assert (one.content_hash == two.content_hash) == (contents == others)


def test_hash_order_is_that_of_utf8_bytes_and_odd_names_count(tmp_path: Path) -> None:
    names = ["\uffff", "\U0001f600", os.fsdecode(b"\xff\xfe"), "a b"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    digest = hashlib.sha256()
    for encoded in sorted(name.encode("utf-8", "surrogateescape") for name in names):
        digest.update(str(len(encoded)).encode() + b":" + encoded + b"1:x")
    assert payload_hash(str(tmp_path)).content_hash == f"sha256:{digest.hexdigest()}"


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(5 << 20)
    (tmp_path / "x").write_bytes(content)
    digest = hashlib.sha256(b"1:x%d:" % len(content) + content)
    assert payload_hash(str(tmp_path)).content_hash == f"sha256:{digest.hexdigest()}"


@pytest.mark.parametrize("tamper", ["change", "add", "remove", "rename", "move bytes"])
def test_tampering_changes_the_hash(store: ArtifactStore, tamper: str) -> None:
    payload = store.write(store.new_uri("x"), files(a=b"12", b=b"34"))
    at = Path(payload.uri)
    if tamper == "change":
        (at / "a").write_bytes(b"13")
    elif tamper == "add":
        (at / "c").write_bytes(b"")
    elif tamper == "remove":
        (at / "b").unlink()
    elif tamper == "rename":
        (at / "b").rename(at / "c")
    else:
        (at / "a").write_bytes(b"123")
        (at / "b").write_bytes(b"4")
    assert payload_hash(payload.uri).content_hash != payload.content_hash


def test_same_content_again_is_left_alone(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    first = store.write(uri, files(a=b"1"))
    inode = Path(uri, "a").stat().st_ino
    assert store.write(uri, files(a=b"1")) == first
    assert Path(uri, "a").stat().st_ino == inode
    assert everything(Path(store.root)) == ["x", "x/a"]


def test_other_content_is_refused_and_nothing_is_overwritten(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    store.write(uri, files(a=b"1"))
    with pytest.raises(PayloadError, match="already") as caught:
        store.write(uri, files(a=b"2"))
    assert caught.value.hint
    assert Path(uri, "a").read_bytes() == b"1"
    assert everything(Path(store.root)) == ["x", "x/a"]


def test_a_file_or_foreign_directory_at_the_uri_is_not_overwritten(store: ArtifactStore) -> None:
    Path(store.root).mkdir()
    Path(store.root, "file").write_bytes(b"1")
    with pytest.raises(PayloadError, match="already"):
        store.write(store.new_uri("file"), files(a=b"1"))
    Path(store.root, "dir", "empty").mkdir(parents=True)
    with pytest.raises(PayloadError, match="already"):
        store.write(store.new_uri("dir"), files(a=b"1"))
    assert everything(Path(store.root)) == ["dir", "dir/empty", "file"]


def test_an_empty_directory_made_beforehand_is_filled(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    Path(uri).mkdir(parents=True)
    assert not exists(uri)
    store.write(uri, files(a=b"1"))
    assert everything(Path(store.root)) == ["x", "x/a"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), UsageError("mine")])
def test_failing_writer_leaves_nothing_and_its_error_is_raised(
    store: ArtifactStore, error: BaseException
) -> None:
    def writer(directory: Path) -> None:
        (directory / "half").write_bytes(b"1")
        raise error

    with pytest.raises(type(error)) as caught:
        store.write(store.new_uri("p", "x"), writer)
    assert caught.value is error
    assert everything(Path(store.root)) == ["p"]


def test_a_disk_that_is_full_is_said_with_the_place(store: ArtifactStore) -> None:
    def writer(directory: Path) -> None:
        (directory / "half").write_bytes(b"1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    uri = store.new_uri("p", "x")
    with pytest.raises(PayloadError, match=f"{uri}: cannot be written: No space left") as caught:
        store.write(uri, writer)
    assert "has room" in caught.value.hint
    assert everything(Path(store.root)) == ["p"]


def test_a_payload_is_on_the_disk_before_it_has_its_name(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A power failure cannot be had here: what is brought to the disk, and when, is looked at instead.
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync
    uri = store.new_uri("p", "x")

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), exists(uri)))

    monkeypatch.setattr(os, "fsync", watched)
    store.write(uri, files(a=b"1", b=b"2"))
    before = {Path(path).name for path, there in synced if not there}
    assert {"a", "b"} <= before
    assert len(before) == 3
    assert [path for path, there in synced if there] == [str(Path(uri).parent)]


def test_writer_that_makes_no_file_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(PayloadError, match="nothing was written"):
        store.write(store.new_uri("x"), lambda directory: (directory / "empty").mkdir())
    assert everything(Path(store.root)) == []


@pytest.mark.parametrize("kind", ["link to file", "link to directory", "dangling", "fifo"])
def test_links_and_special_files_are_not_written(store: ArtifactStore, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(b"1")
    targets = {
        "link to file": tmp_path / "secret",
        "link to directory": tmp_path,
        "dangling": tmp_path / "no",
    }

    def writer(directory: Path) -> None:
        (directory / "a").write_bytes(b"1")
        if kind == "fifo":
            os.mkfifo(directory / "b")
        else:
            (directory / "b").symlink_to(targets[kind])

    with pytest.raises(PayloadError, match="plain files"):
        store.write(store.new_uri("x"), writer)
    assert everything(Path(store.root)) == []


def test_links_to_files_read_as_content_and_links_to_directories_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "p"
    place.mkdir()
    (tmp_path / "a").write_bytes(b"1")
    (place / "a").symlink_to(tmp_path / "a")
    assert payload_hash(str(place)).content_hash == f"sha256:{hashlib.sha256(b'1:a1:1').hexdigest()}"
    (place / "up").symlink_to(tmp_path)
    with pytest.raises(PayloadError, match="plain files"):
        payload_hash(str(place))


def test_file_system_refusal_is_a_payload_error_without_remains(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = ArtifactStore(tmp_path / "file" / "below")
    with pytest.raises(PayloadError, match="Not a directory") as caught:
        store.write(store.new_uri("x"), files(a=b"1"))
    assert caught.value.hint
    long_name = ArtifactStore(tmp_path)
    with pytest.raises(PayloadError, match="File name too long"):
        long_name.write(f"{tmp_path}/{'x' * 300}", files(a=b"1"))
    assert everything(tmp_path) == ["file"]


def test_file_that_grows_while_it_is_hashed_is_an_error() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs a file whose size lies")
    with pytest.raises(PayloadError, match="changed while"):
        payload_hash("/proc/self/status")


@pytest.mark.parametrize("ask", [payload_hash, lambda uri: open_local(uri).__enter__()])
def test_nothing_there_is_missing(store: ArtifactStore, ask: object) -> None:
    assert callable(ask)
    for uri in ("", store.new_uri("no"), "memory://nothing-here/x"):
        assert not exists(uri)
        with pytest.raises(PayloadMissingError) as caught:
            ask(uri)
        assert caught.value.hint
    with pytest.raises(PayloadMissingError):
        store.delete(store.new_uri("no"))


def test_vanishing_file_is_missing_and_errors_of_the_caller_pass_through(store: ArtifactStore) -> None:
    payload = store.write(store.new_uri("x"), files(a=b"1"))
    with pytest.raises(FileNotFoundError, match="mine"), store.open_local(payload.uri):
        raise FileNotFoundError("mine")


def test_delete_removes_the_payload_and_nothing_else(store: ArtifactStore, tmp_path: Path) -> None:
    one = store.write(store.new_uri("p", "1"), files(a=b"1"))
    two = store.write(store.new_uri("p", "2"), files(a=b"1"))
    store.delete(one.uri)
    assert not exists(one.uri)
    assert payload_hash(two.uri).content_hash == one.content_hash
    assert everything(Path(store.root)) == ["p", "p/2", "p/2/a"]
    Path(store.root, "file").write_bytes(b"1")
    store.delete(store.new_uri("file"))
    Path(store.root, "link").symlink_to(tmp_path)
    (tmp_path / "kept").write_bytes(b"1")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").write_bytes(b"1")
    Path(store.root, "link").unlink()
    Path(store.root, "link").symlink_to(tmp_path / "target")
    store.delete(store.new_uri("link"))
    assert (tmp_path / "target" / "kept").exists()
    assert everything(Path(store.root)) == ["p", "p/2", "p/2/a"]


@pytest.mark.parametrize("where", ["/etc/x", "{root}", "{root}/", "{root}/../x", "{root}x/y", "memory://x/y"])
def test_writing_and_deleting_stay_below_the_root(store: ArtifactStore, where: str) -> None:
    uri = where.format(root=store.root)
    with pytest.raises(UsageError, match="not below"):
        store.write(uri, files(a=b"1"))
    with pytest.raises(UsageError, match="not below"):
        store.delete(uri)


def test_threads_that_write_one_uri_agree_on_one_content(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    together = threading.Barrier(8)

    def write(content: bytes) -> bytes | None:
        together.wait()
        try:
            store.write(uri, files(a=content * 1000, b=content))
        except PayloadError:
            return None
        return content

    with ThreadPoolExecutor(8) as pool:
        won = set(pool.map(write, [b"1", b"2"] * 4)) - {None}
    assert len(won) == 1
    (content,) = won
    assert content is not None
    assert Path(uri, "a").read_bytes() == content * 1000
    assert everything(Path(store.root)) == ["x", "x/a", "x/b"]


PROGRAM = """
import os, sys, time
from zen_mlmd.errors import PayloadError
from zen_mlmd.payloads import ArtifactStore
def writer(directory):
    (directory / "a").write_text(sys.argv[3] * 100000)
    print("writing", flush=True)
    sys.stdin.readline()
    (directory / "b").write_text(sys.argv[3])
store = ArtifactStore(sys.argv[1])
try:
    store.write(sys.argv[2], writer)
    print("won")
except PayloadError:
    print("lost")
"""


def start(store: ArtifactStore, uri: str, content: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, store.root, uri, content],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_processes_that_write_one_uri_leave_the_first_whole(store: ArtifactStore) -> None:
    uri = store.new_uri("p", "x")
    processes = [start(store, uri, content) for content in ("1", "2", "1")]
    assert not exists(uri), "nothing is seen before it is whole"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    content = Path(uri, "b").read_text()
    assert said == [("won" if wrote == content else "lost") for wrote in ("1", "2", "1")]
    assert Path(uri, "a").read_text() == content * 100000
    assert everything(Path(store.root)) == ["p", "p/x", "p/x/a", "p/x/b"]


def test_killed_writer_leaves_no_payload_and_the_uri_free(store: ArtifactStore) -> None:
    uri = store.new_uri("x")
    process = start(store, uri, "1")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not exists(uri)
    store.write(uri, files(a=b"1"))
    left = [name for name in everything(Path(store.root)) if "/" not in name and name != "x"]
    assert len(left) == 1
    assert left[0].startswith(".zen_mlmd-")
    assert left[0].endswith(".tmp")


def test_importing_the_layer_is_cheap() -> None:
    program = (
        "import sys, zen_mlmd.payloads as p\n"
        "s = p.ArtifactStore('/tmp/none')\n"
        "p.default_registry().for_value([1]); p.exists(s.new_uri('x'))\n"
        "heavy = ['numpy', 'pandas', 'polars', 'pyarrow', 'fsspec', 'cloudpickle', 'pydantic',"
        " 'google.protobuf', 'ml_metadata']\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert done.stdout == "[]\n"
