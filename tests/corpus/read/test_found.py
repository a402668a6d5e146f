"""What the fuzzer found (`tests/fuzz_corpus.py`), each once a crash, an endless loop or bytes without an account."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOUND = Path(__file__).with_name("found")
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); import fuzz_corpus as f; f.check_reader(sys.argv[2], open(sys.argv[3], 'rb').read())"


@pytest.mark.parametrize("path", sorted(FOUND.iterdir()), ids=lambda path: path.name)
def test_found_by_the_fuzzer(path: Path) -> None:
    # In a process of its own: some of these ended the interpreter.
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parents[2]), path.name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
