"""safetensors files: byte for byte what the library writes, and read back slice by slice into any type."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from haina.model import tensor_files
from haina.model.tensor_files import Outgoing, stored_tensors, write_tensors
from haina.runtime.errors import HainaError

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = st.lists(st.integers(0, 7), max_size=3).map(tuple)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda name: name != "__metadata__"
)


def _random(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(
    st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(FLOATS)), max_size=6),
    st.sampled_from([1, 3, 1 << 22]),
)
def test_files_are_those_of_the_library(
    tmp_path_factory: pytest.TempPathFactory,
    entries: dict[str, tuple[tuple[int, ...], torch.dtype]],
    slice_elements: int,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    tensors = {name: _random(*entry, seed) for seed, (name, entry) in enumerate(entries.items())}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_files, "SLICE_ELEMENTS", slice_elements)
        write_tensors(
            folder / "ours", {name: Outgoing(tensor, tensor.dtype) for name, tensor in tensors.items()}
        )
        save_file(tensors, folder / "theirs", metadata={"format": "pt"})
        assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()
        read = {stored.name: stored.read() for stored in stored_tensors(folder / "ours")}
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype
            assert torch.equal(read[name], tensor)


@pytest.mark.parametrize("wanted", FLOATS)
@pytest.mark.parametrize("kept", FLOATS)
@pytest.mark.parametrize("slice_elements", [1, 5, 64, 1 << 22])
def test_conversion_by_slices_is_conversion(
    kept: torch.dtype,
    wanted: torch.dtype,
    slice_elements: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensor_files, "SLICE_ELEMENTS", slice_elements)
    tensor = _random((9, 7), torch.float64, 0)
    # A view with strides of its own, as a parameter may be.
    write_tensors(tmp_path / "file", {"weight": Outgoing(tensor.t(), kept)})
    assert torch.equal(load_file(tmp_path / "file")["weight"], tensor.t().to(kept))
    (stored,) = stored_tensors(tmp_path / "file")
    target = torch.empty(7, 9, dtype=wanted)
    stored.read_into(target)
    assert torch.equal(target, tensor.t().to(kept).to(wanted))
    some = torch.empty(3, 9, dtype=wanted)
    stored.rows("some", 2, 5).read_into(some)
    assert torch.equal(some, target[2:5])


def test_rows_are_changed_by_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "SLICE_ELEMENTS", 16)
    tensor = _random((11, 8), torch.float32, 1)
    seen: list[int] = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows * 2

    write_tensors(tmp_path / "file", {"weight": Outgoing(tensor, torch.float32, double)})
    assert torch.equal(load_file(tmp_path / "file")["weight"], tensor * 2)
    assert seen == [2, 2, 2, 2, 2, 1]


def test_numbers_of_other_types(tmp_path: Path) -> None:
    save_file({"a": torch.arange(5), "b": torch.ones(3, dtype=torch.bool)}, tmp_path / "file")
    read = {stored.name: stored.read() for stored in stored_tensors(tmp_path / "file")}
    assert read["a"].tolist() == [0, 1, 2, 3, 4]
    assert read["b"].tolist() == [True] * 3
    data = (tmp_path / "file").read_bytes().replace(b'"BOOL"', b'"C64" ')
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(HainaError, match="file"):
        list(stored_tensors(tmp_path / "file"))


def test_a_shape_that_nothing_can_have(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(HainaError, match="file: tensor a has an impossible shape"):
        list(stored_tensors(tmp_path / "file"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="file: no such file"):
        list(stored_tensors(tmp_path / "file"))


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"weight": Outgoing(torch.ones(100, 100), torch.float32)})
    (stored,) = stored_tensors(tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(data[:20_000])
    with pytest.raises(HainaError, match="file: ends inside tensor weight"):
        stored.read()


@given(st.data())
def test_no_damage_is_anything_but_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "file"
    write_tensors(
        path,
        {
            "first": Outgoing(torch.ones(4, 3), torch.float32),
            "second": Outgoing(torch.ones(2), torch.float32),
        },
    )
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(
        data.draw(st.sampled_from([whole[:cut], whole[:place] + bytes([byte]) + whole[place + 1 :]]))
    )
    with suppress(HainaError):
        for stored in stored_tensors(path):
            stored.read()
