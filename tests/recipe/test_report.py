"""The run report: whole, partial, damaged and hostile run folders."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.recipe.report import write_report
from haina.recipe.report.charts import label, smoothed
from haina.recipe.report.data import clean
from haina.recipe.report.document import SECTIONS, embed_json
from haina.recipe.report.numbers import count, data_size, duration, short
from haina.recipe.report.river import Step, draw
from haina.recipe.report.text import BYTE_ALPHABET, clip, differences, readable_pieces, recipe_lines, width
from haina.runtime.errors import HainaError

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>\u202etxt.exe'

EDGES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072]
ZH_PREVIEW = (
    "您可以在计算公式中引用单元格。若要引用同一工作表中的单元格，请输入列标和行号；"
    "引用其他工作表时，在前面加上工作表名称。"
)
EN_PREVIEW = (
    "The apt package management tool resolves dependencies before it downloads anything, so that an upgrade "
    "either happens as a whole or does not happen at all."
)
RECIPE = """name: quickstart
seed: 20230615
corpus:
  minimum_characters: {zh: 60, en: 200}
  near_duplicates: {similarity: 0.8, permutations: 128}  # 近似重复
tokenizer:
  vocab_size: 8192
train:
  sequence_length: 256
  micro_batch_size: 16
  learning_rate: 2.0e-3
"""


def byte_level(*pieces: str | bytes) -> list[str]:
    """Pieces in the alphabet of a byte-level vocabulary, as tokenizers gives them."""
    letters = {byte: letter for letter, byte in BYTE_ALPHABET.items()}
    return [
        "".join(letters[byte] for byte in (piece.encode() if isinstance(piece, str) else piece))
        for piece in pieces
    ]


def bell(center: float, scale: float, total: int) -> list[int]:
    return [
        round(total * math.exp(-(((math.log2(edge) - center) / scale) ** 2)) / (scale * 1.77))
        for edge in EDGES[:-1]
    ]


def corpus_summary() -> dict[str, Any]:
    reasons = [
        ("read", "truncated gzip member", 7),
        ("read", "undecodable bytes", 3),
        ("extract", "no main text", 214),
        ("extract", "navigation page", 88),
        ("language", "other language", 131),
        ("signals", "too short", 402),
        ("signals", "repeated lines", 97),
        ("signals", "symbol ratio", 41),
        ("signals", "alphabetic share", 22),
        ("signals", "bullet lines", 9),
        ("exact_duplicate", "same text", 318),
        ("near_duplicate", "Jaccard >= 0.8", 566),
    ]
    dropped = sum(row[2] for row in reasons)
    pages, remaining = 9412, 9412
    funnel = [{"step": "pages", "remaining": pages}, {"step": "read", "remaining": pages - 10}]
    for step in ("extract", "language", "signals", "exact_duplicate", "near_duplicate"):
        remaining = funnel[-1]["remaining"] - sum(row[2] for row in reasons if row[0] == step)
        funnel.append({"step": step, "remaining": remaining})
    quantiles = {
        "signal.characters": {
            "zh-Hans": [92, 310, 880, 2100, 9300],
            "zh-Hant": [88, 300, 760, 1900, 7200],
            "en": [240, 900, 2400, 6100, 24000],
        },
        "signal.compression_ratio": {
            "zh-Hans": [0.31, 0.42, 0.49, 0.56, 0.68],
            "zh-Hant": [0.33, 0.43, 0.5, 0.57, 0.7],
            "en": [0.28, 0.36, 0.42, 0.48, 0.6],
        },
        "signal.mean_sentence_length": {
            "zh-Hans": [9, 17, 24, 33, 60],
            "zh-Hant": [9, 16, 23, 31, 58],
            "en": [30, 62, 88, 121, 210],
        },
        "signal.punctuation_share": {
            "zh-Hans": [0.03, 0.06, 0.09, 0.11, 0.16],
            "zh-Hant": [0.03, 0.06, 0.08, 0.11, 0.15],
            "en": [0.01, 0.025, 0.034, 0.045, 0.08],
        },
        "signal.repeated_line_share": {
            "zh-Hans": [0, 0, 0.01, 0.05, 0.2],
            "zh-Hant": [0, 0, 0.01, 0.05, 0.22],
            "en": [0, 0, 0.02, 0.07, 0.25],
        },
        "signal.han_share": {
            "zh-Hans": [0.51, 0.7, 0.79, 0.85, 0.91],
            "zh-Hant": [0.5, 0.68, 0.78, 0.84, 0.9],
            "en": [0, 0, 0, 0, 0.002],
        },
    }
    root = "/usr/share/libreoffice/help"
    examples = [
        {
            "similarity": 0.914,
            "kept": {
                "id": "5f0c",
                "url": f"{root}/zh-CN/text/scalc/guide/cellreferences.html",
                "preview": ZH_PREVIEW,
            },
            "removed": {
                "id": "a1d2",
                "url": f"{root}/zh-CN/text/scalc/guide/cellreferences_url.html",
                "preview": ZH_PREVIEW.replace("行号", "行编号").replace("请输入", "键入"),
            },
        },
        {
            "similarity": 0.872,
            "kept": {
                "id": "77ae",
                "url": "/usr/share/doc/debian-handbook/html/en-US/sect.apt-get.html",
                "preview": EN_PREVIEW,
            },
            "removed": {
                "id": "c3b4",
                "url": "/usr/share/doc/debian-reference/ch02.en.html",
                "preview": EN_PREVIEW.replace("either happens", "is either done").replace(
                    "package management tool", "tool"
                ),
            },
        },
    ]
    return {
        "pages": pages,
        "documents": pages - dropped,
        "dropped": dropped,
        "by_reason": [
            {"stage": stage, "reason": reason, "count": number} for stage, reason, number in reasons
        ],
        "by_language": {
            "zh-Hans": {"documents": 2988, "bytes": 11_900_000, "characters": 4_500_000},
            "zh-Hant": {"documents": 1405, "bytes": 5_100_000, "characters": 1_960_000},
            "en": {"documents": 3121, "bytes": 17_300_000, "characters": 17_100_000},
        },
        "length_histogram": {
            "edges": EDGES,
            "counts": {
                "zh-Hans": bell(9.6, 2, 2988),
                "zh-Hant": bell(9.4, 1.9, 1405),
                "en": bell(11.2, 1.8, 3121),
            },
        },
        "duplicates": {"exact": 318, "near": 566, "clusters": 411, "examples": examples},
        "funnel": funnel,
        "text_bytes": 34_300_000,
        "edits": [
            {"reason": "advertisement", "unit": "sentence", "count": 1843, "bytes": 120_400},
            {"reason": "email", "unit": "span", "count": 212, "bytes": 4_411},
        ],
        "quarantine": [
            {
                "source": "warc/CC-MAIN-20240412-00017.warc.gz",
                "reason": "truncated gzip member",
                "evidence": "offset 18,442,113: unexpected end of stream",
            },
            {
                "source": "pages/繁體/目錄.html",
                "reason": "undecodable bytes",
                "evidence": "no encoding of UTF-8, GB18030, Big5, UTF-16 fits (best: Big5, 12 % errors)",
            },
        ],
        "signal_quantiles": quantiles,
        "bytes_read": 182_000_000,
        "ignored_files": 37,
    }


def tokenizer_summary() -> dict[str, Any]:
    examples = [
        {
            "lang": "zh",
            "text": "海纳百川，有容乃大。",
            "pieces": ["海", "纳", "百", "川", "，", "有", "容", "乃", "大", "。"],
        },
        {
            "lang": "zh",
            "text": "计算机科学的发展",
            "pieces": byte_level("计算", "机", "科", "学的", "发", b"\xe5\xb1", b"\x95"),
        },
        {
            "lang": "en",
            "text": "The package manager resolves 12 dependencies.",
            "pieces": [
                "The",
                " package",
                " manager",
                " resol",
                "ves",
                " ",
                "1",
                "2",
                " depend",
                "encies",
                ".",
            ],
        },
    ]
    return {
        "vocab_size": 8192,
        "trained_on": {
            "zh": {"documents": 4393, "bytes": 17_000_000},
            "en": {"documents": 3121, "bytes": 17_300_000},
        },
        "compression": {
            "zh": {
                "bytes_per_token": 4.02,
                "tokens_per_character": 0.667,
                "bytes": 17_000_000,
                "tokens": 4_228_855,
            },
            "en": {
                "bytes_per_token": 3.84,
                "tokens_per_character": 0.264,
                "bytes": 17_300_000,
                "tokens": 4_505_208,
            },
        },
        "examples": examples,
        "longest_pieces": {
            "zh": ["对话框", "電子試算表", "应用程序"],
            "en": [" configuration", " administrator"],
        },
        "byte_tokens_share": {"zh": 0.0041, "en": 0.0002},
    }


def metrics() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(2, 602, 2):
        rate = 2e-3 * min(1, step / 60) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 600)))
        noise = 0.14 * math.sin(step * 12.9898) * math.cos(step * 4.1414)
        loss = 3.35 + 5.6 * math.exp(-step / 95) + noise
        norm = 0.4 + 3.2 * math.exp(-step / 40) + 0.1 * math.sin(step * 7.3) ** 2
        rows.append(
            {"step": step, "tokens": step * 4096, "loss": loss, "learning_rate": rate, "gradient_norm": norm}
        )
        if step % 100 == 0:
            rows.append({"step": step, "validation": {"zh": loss - noise + 0.21, "en": loss - noise + 0.02}})
    return rows


def evaluate_summary() -> dict[str, Any]:
    def row(bits: float, loss: float, unigram: float) -> dict[str, Any]:
        measured = {
            "documents": 46,
            "tokens": 45_310,
            "bytes": 182_406,
            "loss": loss,
            "perplexity": math.exp(loss),
        }
        return {
            **measured,
            "bits_per_byte": bits,
            "unigram_bits_per_byte": unigram,
            "below_unigram": 1 - bits / unigram,
        }

    suite = {
        "shots": 5,
        "questions": 1400,
        "answer_histogram": {"A": 402, "B": 377, "C": 350, "D": 271},
        "skipped": 0,
    }
    constant = {"A": 0.221, "B": 0.262, "C": 0.264, "D": 0.253}
    prompts = [
        (
            "zh",
            "如果要打印当前工作表，",
            "请选择“文件 - 打印”，然后选择打印范围。您也可以单击工具栏上的图标，打开该文档的打印预览。",
            "bf16",
        ),
        (
            "en",
            "To install a package, ",
            "run the apt command with the name of the package. The system resolves "
            "its dependencies and asks before it changes anything.",
            "bf16",
        ),
        ("zh", "在单元格中输入公式时，", "公式会显示在编辑栏中，按下回车键确认输入的内容。", "int4"),
        (
            "en",
            "The Debian project ",
            "is an association of individuals who have made common cause to create a free operating system.",
            "int4",
        ),
    ]
    return {
        "perplexity": {
            "bf16": {"zh": row(1.2874, 3.591, 2.4133), "en": row(1.2301, 3.274, 2.2087)},
            "int4": {"zh": row(1.2969, 3.617, 2.4133), "en": row(1.2412, 3.303, 2.2087)},
        },
        "int4_over_bf16": {"zh": 1.0074, "en": 1.009},
        "suites": [
            {
                "suite": "CMMLU",
                "accuracy": 0.268,
                "standard_error": 0.0118,
                "constant_answer": constant,
                **suite,
            },
            {
                "suite": "MMLU",
                "accuracy": 0.251,
                "standard_error": 0.0115,
                "constant_answer": constant,
                **suite,
            },
        ],
        "samples": [
            {"lang": lang, "prompt": prompt, "text": text, "model": model}
            for lang, prompt, text, model in prompts
        ],
    }


def manifest() -> dict[str, Any]:
    def stage(
        order: int, seconds: float, memory: int, records: tuple[int, int, str], outputs: list[str]
    ) -> dict[str, Any]:
        taken, given_out, unit = records
        counted = {"in": taken, "out": given_out, "dropped": taken - given_out, "unit": unit}
        return {
            "fingerprint": f"{order:02d}9f3b6c1d7e48a2b5c0d1e2f3a4b5c6",
            "outputs": {
                name: {"files": 3, "bytes": 12_400_000 + order, "fingerprint": "ab" * 16} for name in outputs
            },
            "records": counted,
            "metrics": {},
            "seconds": seconds,
            "peak_memory_bytes": memory,
            "finished": f"2026-11-23T18:{order + 10}:05Z",
        }

    return {
        "haina": "0.1.0",
        "name": "quickstart",
        "stages": {
            "corpus": stage(1, 94.2, 1_320_000_000, (9412, 7514, "pages"), ["corpus"]),
            "tokenizer": stage(2, 21.7, 890_000_000, (7514, 7514, "documents"), ["tokenizer"]),
            "shards": stage(3, 14.9, 610_000_000, (7514, 7514, "documents"), ["shards"]),
            "train": stage(4, 462.0, 3_420_000_000, (600, 600, "steps"), ["train", "model"]),
            "quantize": stage(5, 4.1, 700_000_000, (57, 57, "tensors"), ["model-int4"]),
            "evaluate": stage(6, 71.3, 1_900_000_000, (92, 92, "documents"), ["evaluate"]),
        },
        "machine": {
            "cpu": "AMD EPYC",
            "physical_cores": 2,
            "memory_total": 25_276_063_744,
            "instruction_sets": ["avx2", "fma"],
            "gpus": [],
            "os": "Debian GNU/Linux 12 (bookworm), Linux 6.18",
            "python": "CPython 3.11.7",
            "torch": "2.13.0",
            "packages": {"numpy": "2.4.6", "pyarrow": "26.0.1"},
        },
    }


def run_parts() -> dict[str, Any]:
    tensors = [{"name": "model.layers.0.mlp.down_proj.weight", "shape": [256, 688], "relative_error": 0.0871}]
    split = {
        "documents": 7422,
        "tokens": 8_640_221,
        "bytes": 33_900_000,
        "sha256": "0" * 64,
        "dtype": "uint16",
    }
    return {
        "manifest.json": manifest(),
        "recipe.yaml": RECIPE,
        "corpus/summary.json": corpus_summary(),
        "tokenizer/summary.json": tokenizer_summary(),
        "shards/shards.json": {
            "version": 1,
            "splits": {
                "train": split,
                "validation-zh": {**split, "documents": 46, "tokens": 45_310, "bytes": 182_406},
                "validation-en": {**split, "documents": 46, "tokens": 47_002, "bytes": 191_177},
            },
            "mixture_weights": {"zh": 0.484, "en": 0.516},
        },
        "train/summary.json": {
            "parameters": 9_437_184,
            "tokens": 2_457_600,
            "steps": 600,
            "final_loss": 3.3518,
            "validation": {"zh": {"loss": 3.591}, "en": {"loss": 3.274}},
            "precision": "bf16",
            "device": "cpu",
            "flops_per_token": 61_000_000,
        },
        "train/metrics.jsonl": metrics(),
        "model-int4/quantize.json": {
            "bits_per_weight": 4.25,
            "group_size": 64,
            "method": "round to nearest",
            "tensors": tensors,
            "bytes_before": 18_900_000,
            "bytes_after": 8_100_000,
        },
        "evaluate/summary.json": evaluate_summary(),
    }


def write_run(folder: Path, parts: dict[str, Any]) -> Path:
    for name, value in parts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in value), encoding="utf-8")
        else:
            path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


def report(folder: Path, parts: dict[str, Any]) -> str:
    target = folder / "report.html"
    write_report(write_run(folder, parts), target)
    return target.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements, attributes and visible text of a page; unbalanced elements are a mistake."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def test_every_section_shows_what_the_run_folder_holds(tmp_path: Path) -> None:
    text = Page(report(tmp_path, run_parts())).text
    for shown in (
        "7,514", "of 9,412 pages", "8.64 M", "9.44 M", "1.287", "1.230", "46.7 %", "44.3 %", "+0.74 %",
        "電子試算表", "37 files of the input are no pages",
        "no main text", "−571", "2,055", "0.36 %", "advertisement", "Traditional Chinese", "0.914", "truncated gzip member", "compression ratio",
        "8,192", "⟨E5 B1⟩", "validation-zh", "2.4133", "round to nearest", "CMMLU", "26.4 %",
        "如果要打印当前工作表，", "+0.90 %",
        "The Debian project", "7 min 42 s", "3.19 GiB", "micro_batch_size:", "AMD EPYC", "packages.numpy",
        "2026-11-23 18:16:05 UTC",
    ):  # fmt: skip
        assert shown in text, shown
    assert "Cannot be shown" not in text
    assert "has not run" not in text


def test_the_page_is_one_file_and_fetches_nothing(tmp_path: Path) -> None:
    source = report(tmp_path, run_parts())
    page = Page(source)
    assert not [row for row in page.attributes if row[1] in ("src", "srcset", "action", "formaction")]
    links = [value for tag, name, value in page.attributes if name == "href"]
    assert links
    assert all(value and value.startswith("#") for value in links)
    assert {link[1:] for link in links if link} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    policy = next(
        value for _, name, value in page.attributes if name == "content" and value and "default-src" in value
    )
    assert "default-src 'none'" in policy
    assert "unsafe-inline'; img-src" in policy  # styles only
    assert policy.count("'sha256-") == source.count("<script>") == 2


def test_figures_use_only_colours_that_the_stylesheet_has_in_both_schemes(tmp_path: Path) -> None:
    source = report(tmp_path, run_parts())
    data = re.search(r'<script type="application/json" id="figures-data">(.*?)</script>', source, re.DOTALL)
    assert data
    figures = json.loads(data[1])
    assert sorted(figures) == ["gradient-norm", "learning-rate", "lengths", "loss", "suites"]
    used = set(re.findall(r'\{"var":"(--[\w-]+)"\}', json.dumps(figures, separators=(",", ":"))))
    style = source[source.index("<style>") : source.index("</style>")]
    light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
    assert used
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark[: dark.index("* {")]


def test_two_writes_are_the_same_bytes_and_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    first = report(tmp_path / "one" / "quickstart", run_parts())
    second = report(tmp_path / "two" / "quickstart", run_parts())
    assert first == second
    assert str(tmp_path) not in first


@pytest.mark.parametrize("absent", [name for name in run_parts() if name != "shards/shards.json"])
def test_a_missing_part_costs_only_its_own_sections(tmp_path: Path, absent: str) -> None:
    parts = run_parts()
    del parts[absent]
    text = Page(report(tmp_path, parts)).text
    whole = Page(report(tmp_path / "whole", run_parts())).text
    assert text != whole
    folder = absent.partition("/")[0]
    stage = {"model-int4": "", "manifest.json": "run", "recipe.yaml": "run"}.get(folder, folder)
    if stage == "run":
        assert "Not recorded" in text
    elif absent == "train/summary.json":
        assert "Training has not finished" in text
    elif stage:
        assert f"The stage {stage} has not run yet" in text
    assert "Cannot be shown" not in text


def test_an_empty_run_folder_names_every_stage(tmp_path: Path) -> None:
    source = report(tmp_path, {})
    text = Page(source).text
    for stage in ("corpus", "tokenizer", "train", "evaluate"):
        assert f"The stage {stage} has not run yet" in text
    assert "No stage has finished yet" in text
    assert len(source) < 100_000  # no figure, so no plotly


@pytest.mark.parametrize(
    "damage", ['{"pages": 12', "[1, 2]", "", "\x00\x01", "[" * 100_000, '{"pages": "x", "metrics": 3}']
)
@pytest.mark.parametrize("name", ["manifest.json", "corpus/summary.json", "evaluate/summary.json"])
def test_a_damaged_file_is_named_and_the_rest_stays(tmp_path: Path, name: str, damage: str) -> None:
    text = Page(report(tmp_path, {**run_parts(), name: damage})).text
    assert "Cannot be shown" in text or '"pages"' in damage
    assert "micro_batch_size:" in text
    assert str(tmp_path) not in text


def _each_place(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in _each_place(item, (*path, key)))]


SMALL = {name: part for name, part in run_parts().items() if name.endswith(".json")}
PLACES = [(name, place) for name, part in SMALL.items() for place in _each_place(part) if place]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PLACES),
    st.sampled_from([None, "text", -1, 1e308, [], {}, [[]], True, "\ud800", {"a": [None]}]),
)
def test_any_value_of_another_type_leaves_a_page(
    tmp_path_factory: pytest.TempPathFactory, place: Any, value: Any
) -> None:
    name, path = place
    parts = copy.deepcopy(run_parts())
    parts["train/metrics.jsonl"] = parts["train/metrics.jsonl"][:3]
    holder = parts[name]
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    text = Page(report(tmp_path_factory.mktemp("run"), parts)).text
    assert "Conditions" in text
    assert "micro_batch_size:" in text


def poison(value: Any) -> Any:
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, dict):
        return {key: poison(item) for key, item in value.items()}
    return [poison(item) for item in value] if isinstance(value, list) else value


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    parts = {name: value if name == "recipe.yaml" else poison(value) for name, value in run_parts().items()}
    parts["recipe.yaml"] = RECIPE + "note: " + HOSTILE
    parts["evaluate/summary.json"]["suites"][0]["suite"] = '<a href="javascript:alert(1)">x</a>'
    source = report(tmp_path, parts)
    page = Page(source)
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"img", "iframe", "object", "embed", "link", "form", "base"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert source.count("<script") == 3 + len(re.findall("<script", _plotly()))
    assert "\u202e" not in source
    assert '<script>alert("x")</script>' in page.text


def _plotly() -> str:
    from haina.recipe.report.document import plotly_script

    return plotly_script()


def test_every_section_has_a_template_a_link_and_both_titles(tmp_path: Path) -> None:
    page = Page(report(tmp_path, {}))
    for name, title, title_zh, _ in SECTIONS:
        assert name in page.ids
        assert page.text.count(f"{title} {title_zh}") == 2


def test_half_a_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in metrics()[:4]) + '{"step": 99, "lo'
    folder = write_run(tmp_path, {"train/summary.json": {}})
    (folder / "train" / "metrics.jsonl").write_text(lines, encoding="utf-8")
    write_report(folder, tmp_path / "r.html")
    assert '"x":[2.0,4.0,6.0,8.0]' in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_no_such_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="no such run folder"):
        write_report(tmp_path / "absent", tmp_path / "report.html")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.integers(0, 5000)), max_size=8), st.integers(0, 10**6))
def test_the_river_keeps_within_its_picture(losses: list[tuple[str, int]], extra: int) -> None:
    pages = sum(records for _, records in losses) + extra
    river = draw(pages, [Step(name, "步", [(name, records)]) for name, records in losses])
    numbers = [float(found) for found in re.findall(r"-?\d+\.?\d*", river.stem)]
    assert all(0 <= value <= river.width for value in numbers)
    assert len(river.runoffs) == sum(records > 0 for _, records in losses)
    assert sum(runoff.dropped for runoff in river.runoffs) == pages - extra
    for runoff in river.runoffs:
        assert all(0 <= float(found) <= river.width for found in re.findall(r"-?\d+\.?\d*", runoff.path))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_differences_put_both_texts_together_again(left: str, right: str) -> None:
    ours, theirs = differences(left, right)
    assert "".join(piece for piece, _ in ours) == left
    assert "".join(piece for piece, _ in theirs) == right
    same = ["".join(piece for piece, differs in side if not differs) for side in (ours, theirs)]
    assert same[0] == same[1]


def test_differences_mark_words_in_english_and_characters_in_chinese() -> None:
    assert [p for p, d in differences("保留中文网页", "保留英文网页")[0] if d] == ["中"]
    assert [p for p, d in differences("keep these pages", "keep those pages")[1] if d] == ["those"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.integers(2, 30))
def test_clip_never_takes_more_columns(text: str, columns: int) -> None:
    clipped = clip(text, columns)
    assert width(clipped) <= columns
    assert clipped == text or clipped.endswith("…")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=8))
def test_pieces_in_the_byte_alphabet_become_text_again(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert readable_pieces(text, byte_level(*pieces)) == pieces
    assert readable_pieces(text, pieces) == pieces


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), max_size=60), st.integers(0, 9))
def test_moving_average_against_its_definition(values: list[float], span: int) -> None:
    expected = []
    for place in range(len(values)):
        near = min(span, place, len(values) - 1 - place)
        window = values[place - near : place + near + 1]
        expected.append(sum(window) / len(window))
    assert smoothed(values, span) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_cleaned_values_can_be_embedded_in_a_script(value: Any) -> None:
    cleaned = clean(value)
    data = embed_json(cleaned)
    assert not set(data) & set("<>&\u2028\u2029")
    assert json.loads(data) == cleaned
    data.encode("utf-8")


def test_labels_cannot_carry_markup() -> None:
    assert label('<a href="x">甲</a>') == '&lt;a href="x"&gt;甲&lt;/a&gt;'


def test_recipe_lines_lose_nothing() -> None:
    lines = recipe_lines(RECIPE)
    assert "\n".join("".join(line) for line in lines) == RECIPE.rstrip("\n")
    assert ("  ", "near_duplicates:", " {similarity: 0.8, permutations: 128}  # 近似重复") in lines


def test_numbers_for_people() -> None:
    assert [short(9_437_184), short(999), short(None), short(True)] == ["9.44 M", "999", "–", "–"]
    assert [data_size(512), data_size(1536), data_size(3_420_000_000)] == ["512 B", "1.5 KiB", "3.19 GiB"]
    assert [duration(4.14), duration(462.0), duration(7384)] == ["4.1 s", "7 min 42 s", "2 h 03 min"]
    assert count("12") == "–"
