"""A tiny random model over bytes, and shards of made-up documents, for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from haina.inference import Engine


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, write_byte_model: Callable[..., Path]) -> Path:
    return write_byte_model(tmp_path_factory.mktemp("bf16") / "model", 1, 512)


@pytest.fixture(scope="session")
def other_model_folder(
    tmp_path_factory: pytest.TempPathFactory, write_byte_model: Callable[..., Path]
) -> Path:
    """Stands for the INT4 form: other weights, the same tokenizer."""
    return write_byte_model(tmp_path_factory.mktemp("int4") / "model-int4", 2, 512)


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Engine:
    return Engine.load(model_folder, device="cpu")
