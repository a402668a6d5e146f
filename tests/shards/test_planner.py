"""Plans: every token but the first of a document is predicted once, nothing is cut that fits, and a plan of something
else or a damaged one is refused.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_tree
from haina.shards import LoaderSection, ShardSet, open_loader
from haina.shards.packing import best_fit
from haina.shards.plan import PACKS_FILE, PIECES_FILE, PLAN_FILE, PackPlan, read_plan
from haina.shards.planner import token_positions, write_plan

WriteLengths = Callable[..., Path]
LENGTHS = [0, 1, 2, 3, 40, 17, 16, 15, 33, 32, 31, 200, 5, 9, 2, 1, 64, 65, 66] * 9


def plan_of(
    folder: Path, packing: str, length: int, group: int = 1 << 18, domains: np.ndarray | None = None
) -> PackPlan:
    identity = {"packing": packing, "sequence_length": length}
    names = ("",) if domains is None else tuple(str(name) for name in range(int(domains.max()) + 1))
    with tempfile.TemporaryDirectory() as work:
        write_plan(Path(work), ShardSet.open(folder, "train"), domains, names, identity, group)
        return read_plan(Path(work), identity, keep=True)


def packs_of(plan: PackPlan) -> list[list[tuple[int, int, int, int]]]:
    borders = plan.pack_first.tolist()
    pieces = plan.pieces.tolist()
    return [pieces[start:stop] for start, stop in itertools.pairwise(borders)]


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=120),
    length=st.integers(1, 80),
    group=st.sampled_from([3, 16, 1000]),
)
def test_every_token_but_the_first_is_a_target_once_and_nothing_is_cut_that_fits(
    write_lengths: WriteLengths, lengths: list[int], length: int, group: int
) -> None:
    with tempfile.TemporaryDirectory() as work:
        plan = plan_of(write_lengths(Path(work) / "s", lengths), "best_fit", length, group)
    starts = np.cumsum([0, *lengths])
    predicted: dict[int, list[int]] = {number: [] for number in range(len(lengths))}
    pieces: dict[int, int] = dict.fromkeys(predicted, 0)
    for pack in packs_of(plan):
        assert 0 < sum(size for *_, size in pack) <= length
        for document, position, first, size in pack:
            assert position == starts[document] + first
            predicted[document] += range(first + 1, first + size + 1)
            pieces[document] += 1
    for document, size in enumerate(lengths):
        assert sorted(predicted[document]) == list(range(1, size))
        assert pieces[document] == -(-max(0, size - 1) // length)
    assert plan.cut == sum(size - 1 > length for size in lengths)
    assert plan.empty == sum(size < 2 for size in lengths)
    assert sum(domain.targets for domain in plan.domains) == sum(max(0, size - 1) for size in lengths)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=120),
    length=st.integers(1, 80),
    group=st.sampled_from([3, 16, 1000]),
)
def test_concatenation_is_the_stream_cut_into_windows_that_overlap_by_one(
    write_lengths: WriteLengths, lengths: list[int], length: int, group: int
) -> None:
    with tempfile.TemporaryDirectory() as work:
        plan = plan_of(write_lengths(Path(work) / "s", lengths), "concatenate", length, group)
    assert plan.packs == max(0, (sum(lengths) - 1) // length)
    for row, pack in enumerate(packs_of(plan)):
        stream = [position + offset for _, position, _, size in pack for offset in range(size)]
        assert stream == list(range(row * length, (row + 1) * length + 1))


def test_domains_are_packed_apart_and_small_ones_as_tightly(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 200, 6000)
    domains = np.where(np.arange(6000) % 50 == 0, 1, 0)
    plan = plan_of(
        write_lengths(tmp_path / "s", lengths, documents_a_shard=900), "best_fit", 256, 500, domains
    )
    for domain, place in zip(plan.domains, (0, 1), strict=True):
        stop = domain.first_pack + domain.packs
        pieces = plan.pieces[plan.pack_first[domain.first_pack] : plan.pack_first[stop]]
        assert (domains[pieces["document"]] == place).all()
        assert domain.pieces == len(pieces)
        # Ten documents of the small domain come with each group: alone they would leave a fifth of their rows empty.
        assert domain.targets / (domain.packs * 256) > 0.97
    assert plan.padding < 0.01


def test_documents_that_cannot_share_a_row_do_not_pile_up(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    lengths = [61] * 500
    plan = plan_of(write_lengths(tmp_path / "s", lengths), "best_fit", 100, 40)
    assert plan.packs == 500
    assert plan.padding == pytest.approx(0.4)


def test_positions_are_those_of_the_shards(write_lengths: WriteLengths, tmp_path: Path) -> None:
    shards = ShardSet.open(write_lengths(tmp_path / "s", LENGTHS, documents_a_shard=10), "train")
    documents = np.random.default_rng(0).permutation(len(LENGTHS))[:50]
    expected = np.cumsum([0, *LENGTHS])[documents]
    assert token_positions(shards, documents).tolist() == expected.tolist()


def test_a_plan_depends_on_the_documents_and_not_on_the_files(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    one = plan_of(write_lengths(tmp_path / "a", LENGTHS, documents_a_shard=1000), "best_fit", 32, 50)
    many = plan_of(write_lengths(tmp_path / "b", LENGTHS, documents_a_shard=7), "best_fit", 32, 50)
    assert one.pieces.tolist() == many.pieces.tolist()
    assert one.pack_first.tolist() == many.pack_first.tolist()


def test_the_cache_is_made_once_and_gives_the_plan_that_memory_gives(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    folder = write_lengths(tmp_path / "s", LENGTHS)
    settings_ = LoaderSection().with_sizes(32, 4, 0)
    first = open_loader(folder, settings_, tmp_path / "cache")
    before = fingerprint_tree(tmp_path / "cache")
    again = open_loader(folder, settings_, tmp_path / "cache")
    held = open_loader(folder, settings_)
    assert fingerprint_tree(tmp_path / "cache") == before
    for loader in (again, held):
        assert loader.plan.pieces.tolist() == first.plan.pieces.tolist()
        assert np.array_equal(loader.batch(3).inputs, first.batch(3).inputs)
    # Another seed reads the same plan, another length has its own.
    open_loader(folder, LoaderSection().with_sizes(32, 8, 5), tmp_path / "cache")
    open_loader(folder, LoaderSection().with_sizes(16, 4, 0), tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("pack-*"))) == 2


def _open(folder: Path, cache: Path, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    loader = open_loader(folder, LoaderSection().with_sizes(32, 4, 0), cache)
    results.put(loader.batch(7).inputs.tolist())


def test_processes_that_come_together_share_one_plan(write_lengths: WriteLengths, tmp_path: Path) -> None:
    folder = write_lengths(tmp_path / "s", LENGTHS)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_open, args=(folder, tmp_path / "cache", results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    assert all(batch == found[0] for batch in found)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the plan and the lock


@pytest.mark.parametrize("name", [PIECES_FILE, PACKS_FILE])
@pytest.mark.parametrize("harm", ["cut", "bit"])
def test_a_damaged_plan_is_named(write_lengths: WriteLengths, tmp_path: Path, name: str, harm: str) -> None:
    folder, cache = write_lengths(tmp_path / "s", LENGTHS), tmp_path / "cache"
    settings_ = LoaderSection().with_sizes(32, 4, 0)
    open_loader(folder, settings_, cache)
    path = next(cache.glob("pack-*")) / name
    data = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(data[:-5])
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    message = rf"{name}: at byte {len(data) - 5}:" if harm == "cut" else rf"{name}: its content is not"
    with pytest.raises(HainaError, match=message):
        open_loader(folder, settings_, cache)


def test_a_plan_of_other_shards_is_refused(write_lengths: WriteLengths, tmp_path: Path) -> None:
    settings_ = LoaderSection().with_sizes(32, 4, 0)
    one = write_lengths(tmp_path / "a", LENGTHS)
    two = write_lengths(tmp_path / "b", LENGTHS[1:])
    open_loader(one, settings_, tmp_path / "cache-a")
    open_loader(two, settings_, tmp_path / "cache-b")
    mine, other = (next((tmp_path / name).glob("pack-*")) for name in ("cache-a", "cache-b"))
    (mine / PLAN_FILE).write_bytes((other / PLAN_FILE).read_bytes())
    with pytest.raises(HainaError, match="a packing plan of another shards"):
        open_loader(one, settings_, tmp_path / "cache-a")
    (mine / PLAN_FILE).write_text("{}")
    with pytest.raises(HainaError, match=r"plan\.json: not a packing plan"):
        open_loader(one, settings_, tmp_path / "cache-a")


def test_a_plan_that_points_beyond_the_tokens_reads_nothing(
    write_lengths: WriteLengths, tmp_path: Path
) -> None:
    loader = open_loader(write_lengths(tmp_path / "s", LENGTHS), LoaderSection().with_sizes(32, 400, 0))
    for field, value in (("position", 1 << 40), ("position", -1), ("length", 1 << 20), ("length", 0)):
        kept = loader.plan.pieces[5].copy()
        loader.plan.pieces[5][field] = value
        with pytest.raises(HainaError, match=r"piece 5 .* reaches beyond its file or its row"):
            loader.batch(0)
        loader.plan.pieces[5] = kept
    loader.batch(0)


def test_a_shard_cut_short_is_named(write_lengths: WriteLengths, tmp_path: Path) -> None:
    folder = write_lengths(tmp_path / "s", LENGTHS)
    settings_ = LoaderSection().with_sizes(32, 4, 0)
    open_loader(folder, settings_, tmp_path / "cache")
    path = folder / "train-00001.bin"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(HainaError, match=rf"train-00001\.bin: at byte {size - 4}: "):
        open_loader(folder, settings_, tmp_path / "cache")
    content = json.loads((folder / "shards.json").read_text())
    del content["splits"]["train"]["files"][0]["tokens"]
    (folder / "shards.json").write_text(json.dumps(content))
    with pytest.raises(HainaError, match=r"shards\.json: split 'train' is not described"):
        open_loader(folder, settings_, tmp_path / "cache")


TEXT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "text"


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["zh_wikipedia", "en_wikipedia", "zh_laws", "zh_tang_poems"])
def test_real_documents_leave_under_a_hundredth_empty_and_none_is_cut_that_fits(name: str) -> None:
    """Lengths of about a token for four bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = TEXT / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    column = pq.read_table(path, columns=["text"])["text"]
    lengths = pc.binary_length(column.cast(pa.binary())).to_numpy() // 4 + 2
    for length in (4096, 2048):
        rests = (lengths - 1) % length
        rows, left = best_fit(rests[rests > 0].astype(np.int32), length)
        whole = int(((lengths - 1) // length).sum())
        assert left.sum() / ((len(left) + whole) * length) < 0.01
        assert len(rows) == (rests > 0).sum()
