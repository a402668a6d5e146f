"""C sources become functions once, again when they change, and an error in words where they cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from haina.runtime import c_kernels
from haina.runtime.c_kernels import SWITCH, CKernelError

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

# Without the memory of a process, in which a source never changes.
load = c_kernels.load_c_kernels.__wrapped__


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that includes another, in a folder of their own; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.delenv("CC", raising=False)
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.c").write_text('#include "number.c"\nint answer(void) { return NUMBER; }\n')
    (folder / "number.c").write_text("#ifndef NUMBER\n#define NUMBER 41\n#endif\n")
    return folder / "answer.c"


def libraries(source: Path) -> set[Path]:
    return set((source.parents[1] / "cache/haina/c-kernels").iterdir())


def test_compiled_once_and_again_when_a_part_or_a_macro_changes(source: Path) -> None:
    assert load(source).answer() == 41
    (first,) = libraries(source)
    written = first.stat().st_mtime_ns
    assert load(source).answer() == 41
    assert first.stat().st_mtime_ns == written
    source.with_name("number.c").write_text("#define NUMBER 42\n")
    assert load(source).answer() == 42
    source.with_name("number.c").write_text("#ifndef NUMBER\n#define NUMBER 41\n#endif\n")
    assert load(source, ("NUMBER=7",)).answer() == 7
    # Nothing but finished libraries is left.
    assert len(libraries(source)) == 3
    assert {path.suffix for path in libraries(source)} == {".so"}


def test_an_error_of_the_compiler_is_one_line_that_says_it(source: Path) -> None:
    source.write_text("int answer(void) { int *x = 1.5; return y; }\n")
    with pytest.raises(CKernelError, match=r"gcc: .*answer\.c:1:.* error: ") as caught:
        load(source)
    assert "\n" not in str(caught.value)
    assert not libraries(source)


def test_a_wrapper_of_the_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "env gcc")
    assert load(source).answer() == 41
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert load(source).answer() == 41


@pytest.mark.parametrize("command", ["false", 'gcc "'])
def test_a_compiler_that_does_not_work(source: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("CC", command)
    with pytest.raises(CKernelError):
        load(source)


def test_no_compiler_at_all(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(source.parent))
    with pytest.raises(CKernelError, match="no C compiler found; install gcc"):
        load(source)


def test_switched_off(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    with pytest.raises(CKernelError, match=f"{SWITCH}=0"):
        load(source)


def test_a_cache_that_cannot_be_written(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(source))
    with pytest.raises(CKernelError, match="Not a directory"):
        load(source)


def test_a_damaged_library_is_an_error_and_no_crash(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(source)
    (library,) = libraries(source)
    # In another cache: this one is in the process already.
    other = source.parent / "haina/c-kernels"
    other.mkdir(parents=True)
    (other / library.name).write_bytes(b"not a library")
    monkeypatch.setenv("XDG_CACHE_HOME", str(source.parent))
    with pytest.raises(CKernelError, match="cannot be used"):
        load(source)
