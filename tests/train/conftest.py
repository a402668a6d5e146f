import importlib.util
from pathlib import Path

import pytest

TINY_RUN = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(scope="session")
def tiny():
    """The module `tiny_run.py` beside this file."""
    spec = importlib.util.spec_from_file_location("haina_tests_tiny_run", TINY_RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def inputs(tiny, tmp_path_factory):
    """Folder with a tokenizer and shards."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.make_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(tiny, inputs, tmp_path_factory):
    """Work folder of a run that nothing happened to."""
    work = tmp_path_factory.mktemp("undisturbed")
    tiny.run(tiny.configuration(), tiny.context(inputs, work))
    return work
