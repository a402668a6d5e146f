"""Claim: the quality model ranks good text above bad at AUC >= 0.95 in Chinese and in English on domains that it was
never trained on, at 50 MB/s or more on one core.

Trains on the encyclopaedia, laws and histories of ../shared/data/text and on any --train file (Parquet with `text`;
its name begins with zh_ or en_); tests on domains that are not among them: articles and forum posts of real pages,
reading passages of examinations, and any --test file. The shipped models have seen the articles (see decision 8), not
the others. Bad text is made from the tested documents, and is the real boilerplate of those pages. Beside it stands
scikit-learn's HashingVectorizer (character 1-4-grams) with LogisticRegression, trained on the very same sets. With
--leave-out each corruption is also left out of training in turn.

With --prepare DIR it only writes these domains as Parquet files, and each folder of HTML pages below --manuals as one
more: that is how the files that the shipped models were trained on were made (docs/decisions/0008-quality-model.md).

Run: python benchmarks/quality.py [--data ../shared/data] [--train FILE]... [--test FILE]... [--documents 4000]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.language import identify_language
from haina.corpus.quality import FitOptions, LinearModel, Scorer, fit_batches
from haina.corpus.quality.calibration import auc
from haina.corpus.quality.corruptions import WAYS, Pool
from haina.corpus.quality.sets import SetOptions, batch_of, examples, is_usable
from haina.corpus.utf8 import pack

TRAIN = {
    "zh": ("zh_wikipedia", "zh_laws", "zh_histories_modern"),
    "en": ("en_wikipedia",),
}
LONGEST = {"zh": 2500, "en": 6000}
PER_DOMAIN = 200
ROUNDS = 7
# Sentences or clauses in another order are good sentences still: shown, not counted.
NOT_COUNTED = ("shuffled_sentences", "shuffled_clauses", "truncated")
Score = Callable[[Sequence[str]], npt.NDArray[np.floating]]


def group_of(language: str) -> str:
    """`zh`, `en` or the language itself."""
    return "zh" if language.startswith("zh") else language


def web_texts(data: Path) -> Iterator[tuple[str, str, str]]:
    """Domain, main text and left-over lines of the real pages."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    for kind in ("article", "forum"):
        for row in pq.read_table(data / "web" / f"magic_html_{kind}.parquet").to_pylist():
            language = group_of(identify_language(row["gold"]).language)
            html = row["html"] if isinstance(row["html"], bytes) else row["html"].encode()
            page = extract_plain_text(HTMLTree.parse_from_bytes(html, "utf-8"), main_content=False)
            gold = re.sub(r"\s", "", row["gold"])
            rest = [line.strip() for line in page.split("\n") if re.sub(r"\s", "", line) not in gold]
            yield f"{language}_web_{kind}", row["gold"], "\n".join(line for line in rest if line)


def examination_texts(data: Path) -> Iterator[tuple[str, str]]:
    """Domain and text of reading passages."""
    with zipfile.ZipFile(data / "benchmarks" / "gaokao_bench.zip") as archive:
        for domain, parts in (
            ("zh_gaokao_reading", ("Chinese_Modern_Lit", "Literary_Text_Reading", "Practical_Text_Reading")),
            ("en_gaokao_reading", ("English_Reading_Comp",)),
        ):
            for name in archive.namelist():
                if any(part in name for part in parts):
                    for item in json.loads(archive.read(name))["example"]:
                        yield domain, item["question"]
    with zipfile.ZipFile(data / "benchmarks" / "agieval.zip") as archive:
        for domain, name in (("en_sat_reading", "sat-en"), ("en_lsat_reading", "lsat-rc")):
            lines = archive.read(f"data/v1/{name}.jsonl").decode().splitlines()
            for passage in sorted({json.loads(line)["passage"] or "" for line in lines}):
                yield domain, passage


def tests_of(data: Path, language: str, extra: Sequence[Path]) -> tuple[dict[str, list[str]], list[str]]:
    """Good documents by domain, and real boilerplate, of a language."""
    good: dict[str, list[str]] = {}
    furniture: list[str] = []
    for domain, text, rest in web_texts(data):
        if domain.startswith(language):
            good.setdefault(domain, []).append(text)
            lines = rest.split("\n")
            furniture += ["\n".join(lines[start : start + 40]) for start in range(0, len(lines), 40)]
    for domain, text in examination_texts(data):
        if domain.startswith(language):
            good.setdefault(domain, []).append(text)
    for path in extra:
        if path.name.startswith(language):
            good[path.stem] = pq.read_table(path, columns=["text"])["text"].to_pylist()
    for domain, texts in good.items():
        usable = [text[: LONGEST[language]] for text in texts if is_usable(text, language)]
        step = max(1, len(usable) // PER_DOMAIN)
        good[domain] = usable[::step][:PER_DOMAIN]
    return {name: texts for name, texts in good.items() if texts}, [
        text for text in furniture if len(text) > 100
    ]


def prepare(data: Path, manuals: Path | None, out: Path) -> None:
    """Write every domain as OUT/DOMAIN.parquet with `text`."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    found: dict[str, list[str]] = {}
    for domain, text, _ in web_texts(data):
        found.setdefault(domain, []).append(text)
    for domain, text in examination_texts(data):
        found.setdefault(domain, []).append(text)
    for folder in sorted(path for path in manuals.iterdir() if path.is_dir()) if manuals else ():
        for path in sorted(folder.rglob("*.html")):
            tree = HTMLTree.parse_from_bytes(path.read_bytes(), "utf-8")
            found.setdefault(folder.name, []).append(
                extract_plain_text(tree, main_content=True, list_bullets=False)
            )
    out.mkdir(parents=True, exist_ok=True)
    for domain, texts in found.items():
        pq.write_table(pa.table({"text": texts}), out / f"{domain}.parquet")
        print(f"{out / domain}.parquet: {len(texts):,} texts")


def pairs_of(files: Sequence[Path], options: SetOptions) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Training pairs of all files, mixed."""
    pairs = [pair for path in files for pair in examples(path, options)]
    random.Random(options.seed).shuffle(pairs)
    return pairs


def ours(pairs: Sequence[tuple[dict[str, str], dict[str, str]]]) -> LinearModel:
    """Our model on the pairs."""
    batches = [batch_of(pairs[start : start + 2000]) for start in range(0, len(pairs), 2000)]
    return fit_batches(lambda: batches, FitOptions())


def peer(pairs: Sequence[tuple[dict[str, str], dict[str, str]]]) -> Score:
    """HashingVectorizer and LogisticRegression on the same pairs."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = HashingVectorizer(analyzer="char", ngram_range=(1, 4), n_features=1 << 18)
    texts = [pair[side]["text"] for side in (0, 1) for pair in pairs]
    model = LogisticRegression(max_iter=200).fit(vectorizer.transform(texts), np.repeat([1, 0], len(pairs)))
    return lambda texts: model.predict_proba(vectorizer.transform(texts))[:, 1]


def bad_of(texts: Sequence[str], name: str, language: str) -> list[str]:
    """The documents with one corruption."""
    rng = random.Random(f"test:{name}")
    pool = Pool(texts, language)
    return [WAYS[name].make(text, rng, pool) for text in texts]


def area(good: npt.NDArray[np.floating], bad: npt.NDArray[np.floating]) -> float:
    """AUC of good scores against bad ones."""
    return auc(np.concatenate([good, bad]), np.repeat([1, 0], [len(good), len(bad)]))


def table(
    language: str, tested: dict[str, list[str]], furniture: list[str], scores: dict[str, Score]
) -> None:
    """Print AUC by domain and by corruption for each scorer."""
    counted = [name for name in WAYS if name not in NOT_COUNTED]
    bad = {name: {domain: bad_of(texts, name, language) for domain, texts in tested.items()} for name in WAYS}
    good_scores = {
        who: {domain: score(texts) for domain, texts in tested.items()} for who, score in scores.items()
    }
    bad_scores = {
        who: {name: {domain: score(texts) for domain, texts in by.items()} for name, by in bad.items()}
        for who, score in scores.items()
    }
    print(f"\n{language}: AUC against all counted corruptions, by domain never trained on")
    print(f"{'domain':28}{'documents':>10}" + "".join(f"{who:>10}" for who in scores))
    means: dict[str, list[float]] = {who: [] for who in scores}
    for domain, texts in tested.items():
        for who in scores:
            all_bad = np.concatenate([bad_scores[who][name][domain] for name in counted])
            means[who].append(area(good_scores[who][domain], all_bad))
        print(f"{domain:28}{len(texts):>10}" + "".join(f"{means[who][-1]:>10.4f}" for who in scores))
    print(
        f"{'mean of domains':28}{'':>10}" + "".join(f"{statistics.mean(means[who]):>10.4f}" for who in scores)
    )
    print(f"\n{language}: AUC by corruption, mean of domains")
    for name in WAYS:
        values = {
            who: statistics.mean(
                area(good_scores[who][domain], bad_scores[who][name][domain]) for domain in tested
            )
            for who in scores
        }
        note = " (not counted)" if name in NOT_COUNTED else ""
        print(f"{name:28}{'':>10}" + "".join(f"{values[who]:>10.4f}" for who in scores) + note)
    values = {
        who: area(np.concatenate(list(good_scores[who].values())), score(furniture))
        for who, score in scores.items()
    }
    print(f"{'real boilerplate':28}{len(furniture):>10}" + "".join(f"{values[who]:>10.4f}" for who in scores))


def speed(language: str, model: LinearModel, path: Path) -> None:
    """Print MB/s of scoring whole documents of 3 to 4 KB."""
    texts: list[str] = []
    for batch in pq.ParquetFile(path).iter_batches(columns=["text"]):
        texts += [text for text in batch.column(0).to_pylist() if 2000 < len(text.encode()) < 5000]
        if len(texts) > 5000:
            break
    data, offsets = pack(texts)
    model.score_packed(data, offsets)
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        model.score_packed(data, offsets)
        rates.append(len(data) / 1e6 / (time.perf_counter() - start))
    print(
        f"\n{language}: scoring {len(texts):,} documents of {len(data) / len(texts):,.0f} bytes: "
        f"median {statistics.median(rates):.1f} MB/s ({min(rates):.1f} to {max(rates):.1f}), one thread"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--train", type=Path, action="append", default=[])
    parser.add_argument("--test", type=Path, action="append", default=[])
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--language", choices=("zh", "en"), action="append")
    parser.add_argument("--prepare", type=Path)
    parser.add_argument("--manuals", type=Path)
    options = parser.parse_args()
    if not (options.data / "text").is_dir():
        print(f"{options.data}: no folder text; name the data with --data", file=sys.stderr)
        sys.exit(2)
    if options.prepare:
        prepare(options.data, options.manuals, options.prepare)
        return
    import sklearn

    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"pyarrow {pa.__version__}, scikit-learn {sklearn.__version__}"
    )
    for language in options.language or ("zh", "en"):
        files = [options.data / "text" / f"{name}.parquet" for name in TRAIN[language]]
        files += [path for path in options.train if path.name.startswith(language)]
        chosen = SetOptions(language, options.documents)
        pairs = pairs_of(files, chosen)
        start = time.perf_counter()
        model = ours(pairs)
        print(f"\n{language}: {len(pairs):,} pairs, fitted in {time.perf_counter() - start:.0f} s")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.npz"
            model.save(path)
            print(f"{language}: model file {path.stat().st_size:,} bytes")
        tested, furniture = tests_of(options.data, language, options.test)
        shipped = Scorer.default().models[language]
        table(
            language, tested, furniture, {"haina": model.score, "shipped": shipped.score, "peer": peer(pairs)}
        )
        if options.leave_out:
            print(f"\n{language}: AUC of a corruption that training left out, mean of domains")
            for name in WAYS:
                if name in NOT_COUNTED:
                    continue
                blind = ours(
                    pairs_of(files, SetOptions(language, options.documents, without=frozenset([name])))
                )
                values = [
                    area(blind.score(texts), blind.score(bad_of(texts, name, language)))
                    for texts in tested.values()
                ]
                print(f"{name:28}{statistics.mean(values):>10.4f}")
        speed(language, shipped, files[0])


if __name__ == "__main__":
    main()
