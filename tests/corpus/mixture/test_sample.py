"""The draw: independent of order and files, held-out text apart from training text, sizes exact."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus.mixture.domains import Origin, parse_origins, target_weights
from haina.corpus.mixture.leaks import resembles
from haina.corpus.mixture.prepare import Gathering, check_domains, gather_parts
from haina.corpus.mixture.sample import Domain, Part, draw_part, gather
from haina.runtime.errors import HainaError


def write(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def texts_of(domain: int, count: int) -> list[str]:
    return [f"第{domain}域的第{number}篇文章，" + f"内容{number}各不相同。" * 60 for number in range(count)]


def draw(
    folder: Path, files: list[tuple[str, Path]], seed: int = 0, train_bytes: int = 30_000
) -> dict[str, Domain]:
    folder.mkdir(exist_ok=True)
    parts = []
    for number, (domain, path) in enumerate(files):
        parts.append(folder / f"{number}.parquet")
        draw_part(Part(Origin(path, domain, path.name), "", seed, train_bytes), parts[-1])
    return gather(parts, train_bytes)


def test_order_and_files_do_not_matter(tmp_path: Path) -> None:
    texts = texts_of(1, 90)
    whole = write(tmp_path / "whole.parquet", text=texts)
    halves = [
        write(tmp_path / "b.parquet", text=texts[:30][::-1]),
        write(tmp_path / "c.parquet", text=texts[30:]),
    ]
    one = draw(tmp_path / "one", [("x", whole)])
    two = draw(tmp_path / "two", [("x", path) for path in halves])
    assert one == two
    domain = one["x"]
    assert domain.documents == 90
    assert domain.bytes == sum(len(text.encode()) for text in texts)
    held = {item.text for item in (*domain.validation, *domain.test)}
    assert domain.validation
    assert domain.test
    assert not held & {item.text for item in domain.train}
    assert not {item.text for item in domain.validation} & {item.text for item in domain.test}
    other = draw(tmp_path / "other", [("x", whole)], seed=1)["x"]
    assert {item.text for item in (*other.validation, *other.test)} == held
    assert [item.text for item in other.train] != [item.text for item in domain.train]


def test_clusters_stay_on_one_side(tmp_path: Path) -> None:
    texts = texts_of(1, 120)
    clusters = [f"cluster-{number // 4}" for number in range(120)]
    domain = draw(tmp_path / "d", [("x", write(tmp_path / "a.parquet", text=texts, cluster_id=clusters))])[
        "x"
    ]
    of = dict(zip(texts, clusters, strict=True))
    sides = [{of[item.text] for item in side} for side in (domain.train, domain.validation, domain.test)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_blank_documents_are_counted(tmp_path: Path) -> None:
    texts = [*texts_of(1, 60), "", " \n", "\u3000"]
    domain = draw(tmp_path / "d", [("x", write(tmp_path / "a.parquet", text=texts))])["x"]
    assert (domain.documents, domain.without_text) == (60, 3)


def test_many_documents_are_cut_back(tmp_path: Path) -> None:
    """More text than fits the reservoir: the same draw as without cutting, which a larger reservoir shows."""
    texts = texts_of(1, 2500)
    path = write(tmp_path / "a.parquet", text=texts)
    small = draw(tmp_path / "small", [("x", path)], train_bytes=50_000)["x"]
    large = draw(tmp_path / "large", [("x", path)], train_bytes=5_000_000)["x"]
    assert small.validation == large.validation
    assert [item.text for item in small.train] == [item.text for item in large.train][: len(small.train)]
    assert 50_000 <= sum(item.size for item in small.train) < 52_000
    thirds = [write(tmp_path / f"{part}.parquet", text=texts[part::3]) for part in range(3)]
    assert draw(tmp_path / "thirds", [("x", part) for part in thirds], train_bytes=50_000)["x"] == small


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["短"] * 5, r"domain 'x': 5 documents with 15 bytes"),
        ([f"第{number}篇" for number in range(100)], r"domain 'x': 100 documents"),
        (["同一篇" * 400] * 40, "nearly all of its 40 documents are one cluster"),
    ],
)
def test_too_small(tmp_path: Path, texts: list[str], message: str) -> None:
    with pytest.raises(HainaError, match=message):
        draw(tmp_path / "d", [("x", write(tmp_path / "a.parquet", text=texts))])


def test_column_names_the_domain(tmp_path: Path) -> None:
    texts = [*texts_of(1, 60), *texts_of(2, 60)]
    path = write(tmp_path / "a.parquet", text=texts, lang=["zh"] * 60 + ["en"] * 60)
    draw_part(Part(Origin(path, "", path.name), "lang", 0, 30_000), tmp_path / "out.parquet")
    drawn = gather([tmp_path / "out.parquet"], 30_000)
    assert list(drawn) == ["en", "zh"]
    assert drawn["zh"].bytes == sum(len(text.encode()) for text in texts[:60])
    with pytest.raises(HainaError, match="no column 'topic'"):
        draw_part(Part(Origin(path, "", path.name), "topic", 0, 30_000), tmp_path / "no.parquet")
    gap = write(tmp_path / "gap.parquet", text=texts, lang=[None, *["zh"] * 119])
    with pytest.raises(HainaError, match="a document without 'lang'"):
        draw_part(Part(Origin(gap, "", gap.name), "lang", 0, 30_000), tmp_path / "no.parquet")


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_copies_of_held_out_documents_are_found(lang: str) -> None:
    rng = random.Random(lang)
    words = (
        list("江河湖海山川草木日月星辰春夏秋冬")
        if lang == "zh"
        else ["river", "lake", "sea", "hill", "star", "moon"]
    )
    glue = "" if lang == "zh" else " "
    held = [glue.join(rng.choices(words, k=200)) for _ in range(30)]
    copies = [text[:90] + ("改" if lang == "zh" else "changed") + text[90:] for text in held]
    others = [f"{number}。" * 3 + f"另外{number}的内容" * 20 for number in range(200)]
    short = [f"{number}" for number in range(200)] + ["", "。"]
    found = resembles([*copies, *others, *short], held)
    assert found[: len(copies)].all()
    assert not found[len(copies) :].any()
    assert not resembles([], held).size
    assert not resembles(others, []).any()


def test_copies_leave_the_training_side_and_equal_domains_are_noted(tmp_path: Path) -> None:
    texts = texts_of(1, 100)
    one = write(tmp_path / "a.parquet", text=texts)
    two = write(tmp_path / "b.parquet", text=[*texts, *texts_of(3, 3)])
    parts = (tmp_path / "1.parquet", tmp_path / "2.parquet")
    for name, path, part in (("a", one, parts[0]), ("b", two, parts[1])):
        draw_part(Part(Origin(path, name, path.name), "", 0, 200_000), part)
    gather_parts(Gathering(parts, 200_000, ("a", "b"), None, 4.0), tmp_path / "out.parquet")
    facts = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"haina.mixture"])
    assert "domains a and b share" in facts["notes"][0]
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    held = {row["text"] for row in table if row["side"] != "train"}
    assert not held & {row["text"] for row in table if row["side"] == "train"}


def test_what_cannot_be_mixed() -> None:
    with pytest.raises(HainaError, match=r"one domain only \(x\)"):
        check_domains({"x": Domain()}, ["x"])
    with pytest.raises(HainaError, match="domain 'y': there is no document in it"):
        check_domains({"x": Domain(), "z": Domain()}, ["x", "y", "z"])


def test_words(tmp_path: Path, domain_file: Callable[..., Path]) -> None:
    path = domain_file(tmp_path / "a=b 海.parquet", "zh", 1, 3)
    corpus = domain_file(tmp_path / "corpus" / "documents" / "part-00000.parquet", "en", 1, 3)
    domain_file(tmp_path / "corpus" / "dropped" / "part-00000.parquet", "en", 1, 3)
    origins = parse_origins([f"法 律={path}", f"en={tmp_path / 'corpus'}"], None)
    assert origins == [Origin(corpus, "en", "corpus"), Origin(path, "法 律", path.name)]
    assert parse_origins([str(path)], "lang") == [Origin(path, "", path.name)]
    for words, message in (
        ([str(tmp_path / "corpus")], "not of the form DOMAIN=PATH"),
        ([f"={path}"], "not of the form DOMAIN=PATH"),
        (["zh=missing.parquet"], "no such file"),
        ([f"a={path}", f"b={path}"], "named twice"),
        ([], "no input was named"),
    ):
        with pytest.raises(HainaError, match=message):
            parse_origins(words, None)


def test_targets() -> None:
    names = ("a", "b=c")
    assert target_weights([], names) == ({"a": 0.5, "b=c": 0.5}, [])
    assert target_weights(["a=0.25", "b=c=0.75"], names) == ({"a": 0.25, "b=c": 0.75}, [])
    weights, notes = target_weights(["b=c=2"], names)
    assert weights == {"a": 0.0, "b=c": 1.0}
    assert notes == [
        "target weights sum to 2; they were divided by it",
        "no target weight for a: their held-out loss does not count",
    ]
    for words in (["d=1"], ["a"], ["a=-1"], ["a=x"], ["a=nan"], ["a=inf"], ["a=0"], ["a=1", "a=2"]):
        with pytest.raises(HainaError, match="--target"):
            target_weights(words, names)
