"""Training sets without labels: good text by path, and bad text made from the same documents.

Comes in: files of text that is good by where it comes from (an encyclopaedia, laws, manuals). Goes out:
`positive.parquet` and `negative.parquet` with `text`, `domain`, `key`, `head`, `corruption`, `lang`. Every bad text is
made from a good one of the same domain and of about the same length: neither source, subject nor length tells the
classes apart. Passages of all lengths, from a sentence to some pages, are drawn, so that a model learns to judge both.
Deterministic: what is drawn depends on the seed, the domain and the row alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.characters import HAN_CLASS
from haina.corpus.quality.corruptions import WAYS, Pool, sentences
from haina.corpus.quality.forms import restyled
from haina.corpus.quality.linear import Batch
from haina.corpus.quality.rows import count_rows, domain_of, iterate, text_files
from haina.corpus.records import clean_text
from haina.runtime.errors import HainaError, os_errors_about

SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("text", "domain", "key", "head", "corruption", "lang")]
)
LANGUAGES = ("zh", "en")
_BLOCK = 256
_HAN = re.compile(f"[{HAN_CLASS}]")
_LATIN = re.compile(r"[A-Za-z]")
_MARKS = {"zh": re.compile(r"[。！？；，]"), "en": re.compile(r"[.!?,;](?=\s|$)")}
# Characters of a document that is long enough to be good for certain, and of the passages drawn from it.
_SHORTEST = {"zh": 60, "en": 200}
_PASSAGE = {"zh": (16, 30, 60, 120, 250, 500, 1000, 2000), "en": (50, 100, 200, 400, 800, 1600, 3200, 6000)}


@dataclass(frozen=True)
class SetOptions:
    """What to draw.

    Attributes:
        language: `zh` or `en`; documents of another script are passed over.
        documents: most documents from one file, spread evenly over it.
        passages: passages from one document.
        without: corruptions to leave out, for a test on corruptions never seen.
        only: corruptions to use alone; empty for all.
        seed: of every choice.
    """

    language: str = "zh"
    documents: int = 4000
    passages: int = 2
    without: frozenset[str] = field(default_factory=frozenset)
    only: frozenset[str] = field(default_factory=frozenset)
    seed: int = 0

    def ways(self) -> dict[str, float]:
        """Weight of each corruption that is drawn.

        Raises:
            HainaError: an unknown language or corruption, or none left.
        """
        if self.language not in LANGUAGES:
            raise HainaError(f"quality sets: language {self.language!r}", f"one of {', '.join(LANGUAGES)}")
        unknown = (self.without | self.only) - WAYS.keys()
        if unknown:
            raise HainaError(
                f"quality sets: no corruption {sorted(unknown)[0]!r}", f"one of {', '.join(WAYS)}"
            )
        chosen = self.only or WAYS.keys()
        # A way that is only measured by default has weight 0 and is drawn when asked for by name.
        weights = {
            name: way.weight or float(name in self.only)
            for name, way in WAYS.items()
            if name in chosen and name not in self.without
        }
        weights = {name: weight for name, weight in weights.items() if weight}
        if not weights:
            raise HainaError("quality sets: no corruption is left", "name fewer in --without")
        return weights


def is_usable(text: str, language: str) -> bool:
    """Whether a document is long enough, in the script of the language, and has sentences."""
    if len(text) < _SHORTEST[language]:
        return False
    head = text[:4000]
    letters = len((_HAN if language == "zh" else _LATIN).findall(head))
    share = letters / len(head)
    marks = len(_MARKS[language].findall(head))
    return share > 0.5 and marks * (60 if language == "zh" else 160) > len(head)


def passage(text: str, language: str, rng: random.Random) -> str:
    """Consecutive sentences, at least one, about as many characters as a drawn length."""
    pieces = sentences(text, language)
    size = rng.choice(_PASSAGE[language])
    first = 0 if rng.random() < 0.4 else rng.randrange(len(pieces))
    # Long passages need a start that leaves room.
    room = 0
    for index in range(len(pieces) - 1, -1, -1):
        room += len(pieces[index])
        if room >= size:
            first = min(first, index)
            break
    else:
        first = 0
    out, length = [], 0
    for piece in pieces[first:]:
        out.append(piece)
        length += len(piece)
        if length >= size:
            break
    return "".join(out).strip()


def _documents(path: Path, options: SetOptions) -> Iterator[tuple[str, str]]:
    """Key and text of the documents drawn from a file."""
    rows = count_rows(path)
    # Some rows will not be usable: draw twice as many and stop when there are enough.
    step = max(1, rows // max(1, 2 * options.documents))
    used = 0
    for number, row in enumerate(iterate(path, ("text",))):
        if number % step:
            continue
        text = clean_text(row["text"]).strip()
        if is_usable(text, options.language):
            yield f"{domain_of(path)}:{number}", text
            used += 1
            if used >= options.documents:
                return


Example = dict[str, str]


def examples(path: Path, options: SetOptions) -> Iterator[tuple[Example, Example]]:
    """Pairs of a good passage and a bad text made from it."""
    ways = options.ways()
    names, weights = list(ways), list(ways.values())
    domain = domain_of(path)
    block: list[tuple[str, str]] = []

    def pairs() -> Iterator[tuple[Example, Example]]:
        for key, text in block:
            rng = random.Random(f"{options.seed}:{key}")
            # Other documents of the block, by turns: what is drawn does not grow with the block.
            pool = Pool(
                [other[:3000] for other_key, other in rng.sample(block, min(6, len(block)))], options.language
            )
            for _ in range(options.passages):
                good = restyled(passage(text, options.language, rng), options.language, rng)
                name = rng.choices(names, weights)[0]
                bad = WAYS[name].make(good, rng, pool).strip()
                if WAYS[name].fresh:
                    bad = restyled(bad, options.language, rng)
                common = {"domain": domain, "key": key, "lang": options.language}
                if good and bad and bad != good:
                    yield (
                        {**common, "text": good, "head": "", "corruption": ""},
                        {**common, "text": clean_text(bad), "head": WAYS[name].head, "corruption": name},
                    )

    for document in _documents(path, options):
        block.append(document)
        if len(block) == _BLOCK:
            yield from pairs()
            block.clear()
    yield from pairs()


def write_sets(
    inputs: Sequence[Path], out: Path, options: SetOptions, say: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Write `positive.parquet` and `negative.parquet`; how many pairs came from each domain.

    Raises:
        HainaError: no usable document, an unreadable input, or an option out of range.
    """
    files = text_files(inputs)
    options.ways()
    counts: dict[str, int] = {}
    with os_errors_about(out):
        out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, os_errors_about(out):
        writers = [
            stack.enter_context(pq.ParquetWriter(out / f"{name}.parquet", SCHEMA, compression="zstd"))
            for name in ("positive", "negative")
        ]
        for path in files:
            say(f"{path.name}")
            pending: list[tuple[Example, Example]] = []
            domain = domain_of(path)
            for pair in examples(path, options):
                pending.append(pair)
                counts[domain] = counts.get(domain, 0) + 1
                if len(pending) == 1024:
                    _write(writers, pending)
                    pending.clear()
            _write(writers, pending)
    if not counts:
        raise HainaError(
            f"quality sets: no usable {options.language} document in {len(files)} files",
            f"a document needs {_SHORTEST[options.language]} characters, sentences, and the script of --lang",
        )
    return counts


def _write(writers: Sequence[pq.ParquetWriter], pairs: Sequence[tuple[Example, Example]]) -> None:
    if pairs:
        for side, writer in enumerate(writers):
            writer.write_table(pa.Table.from_pylist([pair[side] for pair in pairs], schema=SCHEMA))


def batch_of(pairs: Sequence[tuple[Example, Example]]) -> Batch:
    """Pairs as one training batch."""
    rows = [(1, good) for good, _ in pairs] + [(0, bad) for _, bad in pairs]
    return Batch(
        [row["text"] for _, row in rows],
        [label for label, _ in rows],
        [row["domain"] for _, row in rows],
        [row["key"] for _, row in rows],
        [row["head"] for _, row in rows],
    )
