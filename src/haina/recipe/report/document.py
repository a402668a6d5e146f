"""The report put together: sections, figures, styles and scripts in one HTML file.

In: a run folder. Out: one file that opens without a network. A section whose stage has not run says so; one
whose file has another form than expected says that; the rest of the page is not touched by either.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from haina.recipe.report import conduct, corpus, learning, text
from haina.recipe.report.data import PartMissingError, RunData, read_run
from haina.recipe.report.numbers import FILTERS
from haina.runtime.errors import HainaError
from haina.runtime.files import write_text

Builder = Callable[[RunData], dict[str, Any]]

# Anchor and template name, English title, Chinese title, what fills it.
SECTIONS: tuple[tuple[str, str, str, Builder], ...] = (
    ("funnel", "From pages to documents", "从网页到文档", corpus.funnel),
    ("languages", "Languages and lengths", "语言与长度", corpus.languages),
    ("duplicates", "Duplicates", "重复内容", corpus.duplicates),
    ("edits", "Cut out of documents", "文内删除", corpus.edits),
    ("quarantine", "Quarantine", "隔离的文件", corpus.quarantine),
    ("signals", "Quality signals", "质量信号", corpus.signals),
    ("tokenizer", "Tokenizer", "分词器", learning.tokenizer),
    ("training", "Training", "训练", learning.training),
    ("perplexity", "Perplexity", "困惑度", learning.perplexity),
    ("suites", "Question suites", "选择题评测", learning.suites),
    ("samples", "Samples", "生成样例", learning.samples),
    ("cost", "Time and memory", "时间与内存", conduct.cost),
    ("recipe", "Recipe", "配方", conduct.recipe),
    ("conditions", "Conditions", "运行条件", conduct.conditions),
)


@dataclass(frozen=True)
class Section:
    """One section: its values and the `body` made of them, or the stage that is `missing`, or the `problem` that keeps
    it empty."""

    name: str
    title: str
    title_zh: str
    values: dict[str, Any] = field(default_factory=dict)
    missing: str = ""
    problem: str = ""
    body: str = ""

    @property
    def ready(self) -> bool:
        return not self.missing and not self.problem


def build_section(run: RunData, name: str, title: str, title_zh: str, builder: Builder) -> Section:
    """Fill one section. What a damaged summary raises ends here: one bad file costs one section."""
    try:
        return Section(name, title, title_zh, values=builder(run))
    except PartMissingError as error:
        return Section(name, title, title_zh, missing=str(error))
    except HainaError as error:
        return Section(name, title, title_zh, problem=error.message)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        found = f"missing {error}" if isinstance(error, KeyError) else str(error)
        return Section(
            name, title, title_zh, problem=f"the summary does not have the expected form ({found})"
        )


def _headline(run: RunData) -> dict[str, Any]:
    try:
        return conduct.headline(run)
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"name": run.name, "figures": [], "stages": 0}


def embed_json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it that HTML could read as a tag."""
    data = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return data


def _resource(name: str) -> str:
    return (files("haina.recipe.report") / "page" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """plotly.js as the plotly package carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("\r\n", "\n").replace("</script", "<\\/script")


def _script_hash(script: str) -> str:
    """Source expression of the Content Security Policy (level 3) that lets exactly this inline script run."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode() + "'"


def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.filters.update(
        language_name=text.language_name,
        language_class=text.language_class,
        html_language=text.html_language,
        clip=text.clip,
    )
    return environment


def _with_body(environment: Any, section: Section) -> Section:
    """The section with its HTML; values of another kind than expected end here too."""
    from jinja2 import UndefinedError
    from markupsafe import Markup

    if not section.ready:
        return section
    try:
        embed_json(section.values.get("figures", {}))
        template = environment.get_template(f"sections/{section.name}.html.jinja")
        return replace(section, body=Markup(template.render(values=section.values)))
    except (UndefinedError, TypeError, ValueError, AttributeError, OverflowError) as error:
        problem = f"the summary does not have the expected form ({error})"
        return Section(section.name, section.title, section.title_zh, problem=problem)


def render_report(run: RunData) -> str:
    """The page as text."""
    from markupsafe import Markup

    environment = _environment()
    sections = [_with_body(environment, build_section(run, *section)) for section in SECTIONS]
    figures = {
        name: figure for section in sections for name, figure in section.values.get("figures", {}).items()
    }
    scripts = [plotly_script(), _resource("page.js")] if figures else []
    return str(
        environment.get_template("page.html.jinja").render(
            head=_headline(run),
            sections=sections,
            # Our own files and escaped JSON: the only values that are not escaped by the templates.
            style=Markup(_resource("page.css")),
            scripts=[Markup(script) for script in scripts],
            script_hashes=[_script_hash(script) for script in scripts],
            figures=Markup(embed_json(figures)),
        )
    )


def write_report(run_folder: Path, target: Path) -> None:
    """Write the report of a run as one self-contained HTML file.

    Args:
        run_folder: the run folder; parts that do not exist yet are named in the report as not run.
        target: the file to write, atomically.

    Raises:
        HainaError: there is no such folder, or the file cannot be written.
    """
    if not run_folder.is_dir():
        raise HainaError(f"{run_folder}: no such run folder", "name a folder made by `haina run`")
    write_text(target, render_report(read_run(run_folder)))
