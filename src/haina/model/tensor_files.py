"""safetensors files, read and written a slice at a time: a model is never in memory twice.

The format is small: 8 bytes with the length of a JSON header, the header (name -> dtype, shape, byte range), then
the tensors, row-major and little-endian (github.com/huggingface/safetensors, "Format"). The safetensors library
checks a file; the bytes are read here, straight into the memory of the final parameter, because its mapped pages
would count as a second copy of the model for as long as the file is open.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from haina.runtime.errors import HainaError, os_errors_about

# Elements converted at once between dtypes or devices: 4 MiB of float32.
SLICE_ELEMENTS = 1 << 20
# torch counts in int64; a tensor without elements may claim to be larger along another axis.
LARGEST_SIZE = (1 << 63) - 1

# In the order in which the library writes them: wider ones first, so that all are aligned.
_DTYPES = {
    "I64": torch.int64,
    "F64": torch.float64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_RANK = {dtype: rank for rank, dtype in enumerate(_NAMES)}


def shown(name: str) -> str:
    """A name out of a file, fit for one line of a terminal."""
    return name if name.isprintable() else ascii(name)


def new_scratch() -> Tensor:
    """Room for one slice of float32, or for half of one of float64."""
    return torch.empty(-(-SLICE_ELEMENTS // 2), dtype=torch.float64)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    return memoryview(tensor.detach().view(-1).view(torch.uint8).numpy())


@dataclass(frozen=True)
class StoredTensor:
    """A tensor, or some whole rows of one, in a file.

    Attributes:
        path, name: where it is.
        dtype, shape: what it is.
        offset: of its first byte, from the start of the file.
    """

    path: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    def rows(self, name: str, first: int, last: int) -> StoredTensor:
        """Rows `first` to `last` (not included), under a name of their own."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        return replace(
            self, name=name, shape=(last - first, *self.shape[1:]), offset=self.offset + first * row_bytes
        )

    def read_into(self, target: Tensor, scratch: Tensor | None = None) -> None:
        """Fill a contiguous tensor of the same shape, of any dtype, on any device.

        Args:
            target: what to fill.
            scratch: of `new_scratch`, for what has to be converted; one for many tensors keeps the heap whole.

        Raises:
            HainaError: the file has become shorter than it was when it was opened, or cannot be read.
        """
        flat = target.detach().view(-1)
        direct = target.device.type == "cpu" and target.dtype == self.dtype
        buffer = flat if direct else (new_scratch() if scratch is None else scratch).view(self.dtype)
        with os_errors_about(self.path), self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            for start in range(0, len(flat), max(1, len(buffer))):
                part = buffer[: len(flat) - start]
                self._fill(file.readinto, bytes_of(part))
                if not direct:
                    flat[start : start + len(part)].copy_(part)

    def _fill(self, readinto: Callable[[memoryview], int | None], room: memoryview) -> None:
        while room:
            count = readinto(room)
            if not count:
                raise HainaError(
                    f"{self.path}: ends inside tensor {shown(self.name)}", "fetch or copy the model again"
                )
            room = room[count:]

    def read(self) -> Tensor:
        """The tensor, on the CPU."""
        tensor = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(tensor)
        return tensor


def stored_tensors(path: Path) -> Iterator[StoredTensor]:
    """What is in a file, by name; no weight is read.

    Raises:
        HainaError: the file is no safetensors file, is cut or otherwise damaged, or has numbers of an unknown type.
    """
    with os_errors_about(path), path.open("rb") as file:
        try:
            with safe_open(path, framework="pt", device="cpu"):
                pass
        except (SafetensorError, OSError) as error:
            raise HainaError(
                f"{path}: damaged safetensors file ({error})", "fetch or copy the model again"
            ) from error
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items()):
        if entry["dtype"] not in _DTYPES:
            raise HainaError(
                f"{path}: tensor {shown(name)} has numbers of type {entry['dtype']}",
                "open this model with transformers or vLLM",
            )
        if max(entry["shape"], default=0) > LARGEST_SIZE:
            raise HainaError(
                f"{path}: tensor {shown(name)} has an impossible shape", "fetch or copy the model again"
            )
        start = 8 + length + entry["data_offsets"][0]
        yield StoredTensor(path, name, _DTYPES[entry["dtype"]], tuple(entry["shape"]), start)


@dataclass(frozen=True)
class Outgoing:
    """A tensor to be written.

    Attributes:
        tensor: on any device.
        dtype: to store it in.
        of_rows: applied to some whole rows at a time, before conversion; None: nothing.
    """

    tensor: Tensor
    dtype: torch.dtype
    of_rows: Callable[[Tensor], Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.tensor.numel() * self.dtype.itemsize

    def slices(self) -> Iterable[memoryview]:
        """The bytes to store, a bounded number at a time."""
        tensor = self.tensor.detach()
        if not tensor.numel():
            return
        rows = tensor.view(1) if tensor.dim() == 0 else tensor
        for part in rows.split(max(1, SLICE_ELEMENTS * len(rows) // rows.numel())):
            changed = part if self.of_rows is None else self.of_rows(part)
            yield bytes_of(changed.to("cpu", self.dtype).contiguous())


def write_tensors(path: Path, tensors: Mapping[str, Outgoing]) -> None:
    """Write a file, byte for byte as the safetensors library does: wider types first, then by name.

    Raises:
        HainaError: the file cannot be written.
    """
    ordered = sorted(tensors.items(), key=lambda item: (_RANK[item[1].dtype], item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, outgoing in ordered:
        start, end = end, end + outgoing.nbytes
        header[name] = {
            "dtype": _NAMES[outgoing.dtype],
            "shape": list(outgoing.tensor.shape),
            "data_offsets": [start, end],
        }
    packed = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    packed += b" " * (-len(packed) % 8)
    with os_errors_about(path), path.open("wb") as file:
        file.write(len(packed).to_bytes(8, "little") + packed)
        for _, outgoing in ordered:
            for part in outgoing.slices():
                file.write(part)
