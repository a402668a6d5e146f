"""Files that are whole or absent, and fingerprints."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime import files
from haina.runtime.errors import HainaError, from_os_error

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@settings(max_examples=15, deadline=None)
@given(st.binary())
def test_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("f") / "deep" / "文件.bin"
    files.write_bytes(path, data)
    assert path.read_bytes() == data
    assert names(path.parent) == ["文件.bin"]


@settings(max_examples=15, deadline=None)
@given(JSON)
def test_json_comes_back_with_one_final_newline(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.mktemp("f") / "value.json"
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return
    files.write_json(path, value)
    text = path.read_bytes()
    assert files.read_json(path) == value
    assert text.endswith(b"\n")
    assert not text.endswith(b"\n\n")


def test_json_keeps_chinese_and_the_order_of_keys(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"乙": 1, "甲": 2})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "乙": 1,\n  "甲": 2\n}\n'


def test_line_ends_are_the_same_on_every_system(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "one\r\n二\n")
    assert (tmp_path / "a").read_bytes() == "one\r\n二\n".encode()


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_json_without_a_number_is_refused_and_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": True})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, value)
    assert files.read_json(path) == {"old": True}
    assert names(tmp_path) == ["a.json"]


def test_a_failed_block_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_bytes(path, b"old")

    def fail() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_block_that_writes_nothing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="wanted"), files.atomic_path(tmp_path / "wanted"):
        pass


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.partial").write_bytes(b"longer than what follows")
    files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_partial_folder_is_published_and_an_old_partial_folder_is_replaced(tmp_path: Path) -> None:
    stale = tmp_path / "checkpoint.partial"
    stale.mkdir()
    (stale / "stale").write_bytes(b"")
    with files.atomic_path(tmp_path / "checkpoint") as temporary:
        assert not temporary.exists()
        temporary.mkdir()
        (temporary / "weights").write_bytes(b"1")
    assert names(tmp_path / "checkpoint") == ["weights"]

    def fail() -> None:
        with files.atomic_path(tmp_path / "other") as temporary:
            temporary.mkdir()
            (temporary / "weights").write_bytes(b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
def test_sigkill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom haina.runtime.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    files.write_bytes(path, b"new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "data", [b"", b'{"a": ', b"\xff\xfe\x00", b"[1,]", "{'中': 1}".encode(), b"[" * 100_000]
)
def test_damaged_json_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "损坏.json"
    path.write_bytes(data)
    with pytest.raises(HainaError, match=r"损坏\.json: not valid JSON"):
        files.read_json(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=r"absent\.json: no such file"):
        files.read_json(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EACCES, "not permitted"),
        (errno.EIO, "check the path and the disk"),
    ],
)
def test_system_errors_say_what_to_do(number: int, words: str) -> None:
    error = from_os_error(OSError(number, os.strerror(number), "/数据/a"))
    assert str(error).startswith("/数据/a: ")
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(HainaError, match="b"):
        files.write_bytes(tmp_path / "a" / "b", b"")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_fingerprints_differ_when_parts_differ(left: list[bytes], right: list[bytes]) -> None:
    same = files.fingerprint_bytes(*left) == files.fingerprint_bytes(*right)
    assert same == (left == right)


def test_fingerprints_do_not_change_between_versions() -> None:
    assert files.fingerprint_bytes() == "cae66941d9efbd404e4d88758ea67670"
    assert files.fingerprint_bytes(b"a", b"bc") != files.fingerprint_bytes(b"ab", b"c")


def test_tree_fingerprint_sees_names_and_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for root, order in ((first, ("b", "a", "d/中")), (second, ("d/中", "a", "b"))):
        for name in order:
            files.write_bytes(root / name, name.encode())
    assert files.fingerprint_tree(first) == files.fingerprint_tree(second)
    before = files.fingerprint_tree(first)
    (first / "a").rename(first / "c")
    assert files.fingerprint_tree(first) != before
    (first / "c").rename(first / "a")
    assert files.fingerprint_tree(first) == before
    (first / "a").write_bytes(b"A")
    assert files.fingerprint_tree(first) != before


def test_files_below_are_sorted_by_their_whole_relative_name(tmp_path: Path) -> None:
    for name in ("b/a", "b.txt", "a/z", "a.txt", "中"):
        files.write_bytes(tmp_path / name, b"")
    found = [path.relative_to(tmp_path).as_posix() for path in files.files_below(tmp_path)]
    assert found == sorted(found)
    assert len(found) == 5
    assert files.files_below(tmp_path / "中") == [tmp_path / "中"]


def test_remove_takes_files_folders_and_links_but_not_what_a_link_names(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "kept" / "a", b"")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    files.write_bytes(tmp_path / "tree" / "x" / "y", b"")
    for name in ("link", "tree", "absent"):
        files.remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["a"]


def test_an_error_about_another_file_names_that_file(tmp_path: Path) -> None:
    source = tmp_path / "来源.txt"
    with pytest.raises(HainaError, match=r"来源\.txt: no such file"), files.atomic_path(tmp_path / "out"):
        source.read_bytes()


def test_a_full_disk_names_the_file_that_was_being_written(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match=r"out: no space left"), files.atomic_path(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_damage_that_a_library_reports_as_oserror_is_left_to_its_reader(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Corrupt snappy"), files.atomic_path(tmp_path / "out"):
        raise OSError("Corrupt snappy compressed data.")
    assert names(tmp_path) == []
