"""The folder of compiled kernels follows the state of their sources."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from haina.runtime.kernel_cache import VARIABLE, kernels_key, use_kernel_cache


def test_the_key_follows_kernels_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("@nb.njit\ndef f(): return 1")
    (tmp_path / "b.py").write_text("x = 1")
    first = kernels_key(tmp_path)
    (tmp_path / "b.py").write_text("x = 2")
    assert kernels_key(tmp_path) == first
    (tmp_path / "a.py").write_text("@nb.njit\ndef f(): return 2")
    assert kernels_key(tmp_path) != first


def test_the_folder_is_used_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    old, young = (tmp_path / "haina" / "kernels" / name for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    month_ago = time.time() - 30 * 86400
    os.utime(old, (month_ago, month_ago))
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    use_kernel_cache()
    folder = tmp_path / "haina" / "kernels" / kernels_key()
    assert os.environ[VARIABLE] == str(folder) == numba.config.CACHE_DIR
    assert folder.is_dir()
    assert young.is_dir()
    assert not old.exists()


def test_a_choice_of_the_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    use_kernel_cache()
    assert os.environ[VARIABLE] == str(tmp_path)


def test_without_a_place_to_write_numba_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "haina").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    use_kernel_cache()
    assert VARIABLE not in os.environ
