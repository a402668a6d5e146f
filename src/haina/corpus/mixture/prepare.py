"""From files to token pools: what has to be done once before any proxy runs.

Comes in: origins and sizes. Goes out: the pools on disk and what is known about each domain. Every step is a task
with a durable output below the work folder, so a killed run goes on from there; the folder is named after everything
that it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.mixture.domains import Origin
from haina.corpus.mixture.leaks import resembles
from haina.corpus.mixture.pools import EncodeTask, Pools, encode_domain, read_pools, train_bpe
from haina.corpus.mixture.proxy import SLICES
from haina.corpus.mixture.sample import Domain, Part, draw_part, gather
from haina.runtime.errors import HainaError
from haina.runtime.files import fingerprint_bytes, fingerprint_tree

# No text of ordinary length has more UTF-8 bytes a token than this; only how much is drawn depends on it.
BYTES_A_TOKEN = 6.0
SAME_SHARE = 0.5
FACTS = b"haina.mixture"
_SCHEMA = pa.schema([("side", pa.string()), ("text", pa.string())])


@dataclass(frozen=True)
class Facts:
    """What is known of a domain.

    Attributes:
        documents, bytes: of the whole domain, UTF-8.
        without_text: documents that hold only space; not counted above.
        copies: drawn training documents that were left out because they resemble a held-out one.
    """

    name: str
    documents: int
    bytes: int
    without_text: int
    copies: int


@dataclass(frozen=True)
class Prepared:
    """What the proxies work on.

    Attributes:
        domains: in the order of the pools, which is that of their names.
        pools, files: token pools, and where each lies.
        notes: for the reader.
    """

    domains: tuple[Facts, ...]
    pools: Pools
    files: tuple[Path, ...]
    notes: list[str]


@dataclass(frozen=True)
class Gathering:
    """Task: bring the draws of all files together.

    Attributes:
        parts: the draws.
        needed: bytes of training text that any domain can be asked for.
        named: domains that the user named; each must have documents.
        budget_bytes: text that the planned training reads, None for as much as there is.
        max_epochs: how often it reads a domain at most.
    """

    parts: tuple[Path, ...]
    needed: int
    named: tuple[str, ...]
    budget_bytes: float | None
    max_epochs: float


def work_folder(out: Path, origins: Sequence[Origin], facts: Sequence[Any], tokenizer: Path | None) -> Path:
    """`OUT/work/NAME`: the name changes with the files, the facts and the tokenizer."""
    parts = [repr(fact) for fact in facts]
    for origin in origins:
        status = origin.path.stat()
        parts += [origin.domain, str(origin.path.resolve()), str(status.st_size), str(status.st_mtime_ns)]
    parts.append(fingerprint_tree(tokenizer) if tokenizer else "")
    return out / "work" / fingerprint_bytes(*(part.encode() for part in parts))[:16]


def prepare(
    work: Path,
    origins: Sequence[Origin],
    executor: Any,
    *,
    by: str | None,
    seed: int,
    tokens: int,
    budget: float | None,
    max_epochs: float,
    tokenizer: Path | None,
) -> Prepared:
    """Draw, part held-out from training text, encode.

    Args:
        work: folder of this run's pieces.
        tokens: tokens a proxy reads.
        budget: tokens that the planned training reads, None for as many as there are.
        max_epochs: how often it reads a domain at most.

    Raises:
        HainaError: fewer than two domains, a domain that is empty or too small, an unreadable file.
    """
    needed = int(SLICES * BYTES_A_TOKEN * tokens)
    parts = tuple(work / "draw" / f"{number:05d}.parquet" for number in range(len(origins)))
    executor.map(
        draw_part,
        [Part(origin, by or "", seed, needed) for origin in origins],
        parts,
        description="drawing documents",
        unit="files",
    )
    documents = work / "documents.parquet"
    named = tuple(sorted({origin.domain for origin in origins if origin.domain}))
    gathering = Gathering(parts, needed, named, budget and budget * BYTES_A_TOKEN, max_epochs)
    executor.map(gather_parts, [gathering], [documents], description="parting held-out text", unit="tables")
    facts = json.loads(pq.read_schema(documents).metadata[FACTS])
    domains = tuple(Facts(**domain) for domain in facts["domains"])
    place = tokenizer
    if place is None:
        place = work / "bpe.json"
        executor.map(train_bpe, [documents], [place], description="learning tokens", unit="vocabularies")
    files = tuple(work / "pools" / f"{number:04d}.npz" for number in range(len(domains)))
    executor.map(
        encode_domain,
        [EncodeTask(documents, number, place) for number in range(len(domains))],
        files,
        description="encoding documents",
        unit="domains",
    )
    pools = read_pools([domain.name for domain in domains], files)
    return Prepared(domains, pools, files, list(facts["notes"]))


def gather_parts(gathering: Gathering, output: Path) -> None:
    """Write `side` (train, validation, test) and `text` of every document, one row group a domain, and the facts.

    Raises:
        HainaError: fewer than two domains, or one that is empty or too small.
    """
    domains = gather(gathering.parts, gathering.needed)
    check_domains(domains, gathering.named)
    notes = _overlaps(domains)
    copies = _part_copies(domains)
    total = sum(domain.bytes for domain in domains.values())
    budget = min(float(total), gathering.budget_bytes or total)
    facts = [
        Facts(name, domain.documents, domain.bytes, domain.without_text, copies[name])
        for name, domain in domains.items()
    ]
    told = json.dumps({"domains": [vars(fact) for fact in facts], "notes": notes}, ensure_ascii=False)
    with pq.ParquetWriter(output, _SCHEMA.with_metadata({FACTS: told}), compression="zstd") as writer:
        for domain in domains.values():
            # No more than any mixture within the bounds can read, in `SLICES` slices.
            left = int(gathering.needed * min(1.0, gathering.max_epochs * domain.bytes / budget))
            rows = [("validation", item.text) for item in domain.validation]
            rows += [("test", item.text) for item in domain.test]
            for item in domain.train:
                if left <= 0:
                    break
                rows.append(("train", item.text))
                left -= item.size
            sides, texts = zip(*rows, strict=True)
            table = pa.table([sides, texts], schema=_SCHEMA)
            writer.write_table(table, row_group_size=len(table))


def check_domains(domains: Mapping[str, Domain], named: Sequence[str]) -> None:
    """Refuse what cannot be mixed.

    Raises:
        HainaError: a domain without documents, or only one domain.
    """
    for name in named:
        if name not in domains:
            raise HainaError(f"domain {name!r}: there is no document in it", "name a file with documents")
    if len(domains) < 2:
        raise HainaError(
            f"one domain only ({', '.join(domains) or 'none'}): there is nothing to mix",
            "give two domains or more",
        )


def _part_copies(domains: Mapping[str, Domain]) -> dict[str, int]:
    """Take training documents that resemble any held-out one out of `train`; how many, by domain.

    Raises:
        HainaError: nothing is left of a domain.
    """
    held = [item.text for domain in domains.values() for item in (*domain.validation, *domain.test)]
    left_out = {}
    for name, domain in domains.items():
        copies = resembles([item.text for item in domain.train], held)
        left_out[name] = int(copies.sum())
        domain.train = [item for item, copy in zip(domain.train, copies, strict=True) if not copy]
        if not domain.train:
            raise HainaError(
                f"domain {name!r}: every training document resembles a held-out one",
                "merge it with another domain or leave it out",
            )
    return left_out


def _overlaps(domains: Mapping[str, Domain]) -> list[str]:
    """A note for each pair of domains that are largely the same documents."""
    texts = {name: {item.order for item in domain.train} for name, domain in domains.items()}
    notes = []
    names = list(domains)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            same = len(texts[name] & texts[other]) / max(1, min(len(texts[name]), len(texts[other])))
            if same > SAME_SHARE:
                notes.append(
                    f"domains {name} and {other} share {same:.0%} of their drawn documents: "
                    "what one has of the weight the other could have as well"
                )
    return notes
