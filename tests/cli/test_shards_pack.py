"""`haina shards pack`: a plan that a run finds, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from haina.cli.shards_pack import pack
from haina.runtime.errors import HainaError
from haina.shards import LoaderSection, open_loader, write_arrays

TOKENIZER = {"fingerprint": "made-up", "vocab_size": 999, "bos_id": 0, "eos_id": 1}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 999, size) for size in rng.integers(2, 200, 300)]
    write_arrays(tmp_path / "shards", {"train": documents}, TOKENIZER, np.dtype("<u2"))
    return tmp_path / "shards"


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(pack)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_run_maps_the_plan_that_was_made(shards: Path, tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    said = run(str(shards), "--sequence-length", "128", "--out", str(plans))
    (folder,) = plans.glob("pack-*")
    before = folder.stat().st_mtime_ns
    loader = open_loader(shards, LoaderSection().with_sizes(128, 4, 3), plans)
    assert folder.stat().st_mtime_ns == before
    assert f"{loader.rows_per_epoch:,}" in said
    assert "padding" in said
    facts = json.loads(run(str(shards), "-n", "128", "-o", str(plans), "--json"))
    assert facts["rows"] == loader.rows_per_epoch
    assert facts["padding"] == loader.plan.padding
    assert facts["domains"][0]["documents"] == 300


def test_wrong_settings_are_named(shards: Path, tmp_path: Path) -> None:
    plans = str(tmp_path / "plans")
    with pytest.raises(HainaError, match="packing"):
        run(str(shards), "-n", "128", "-o", plans, "--set", "packing=worst")
    with pytest.raises(HainaError, match="a row takes"):
        run(str(shards), "-n", "1000000", "-o", plans)
