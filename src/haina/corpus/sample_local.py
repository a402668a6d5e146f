"""The reference texts that are on this disk already, for a machine without any network.

In: this project's own documentation, Python's language topics, and what installed packages say of themselves.
Out: text and Markdown files. It is small and mostly English, and the sample says so.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from haina import __version__
from haina.corpus.sample_files import (
    COPYRIGHT_FILE,
    Collection,
    Fetched,
    sample_settings,
    write_beside,
    write_page,
)
from haina.runtime.progress import Reporter

CHECKOUT = Path(__file__).resolve().parents[3]
LICENSE_NAME = re.compile(r"(^|/)(LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)
LONGEST_LICENSE_NAME = 80


def fetch_local(sample: Path, reporter: Reporter, checkout: Path = CHECKOUT) -> Fetched:
    """Copy the texts below `sample`."""
    found = [
        own_documentation(sample, checkout),
        python_topics(sample),
        *installed_packages(sample, reporter),
    ]
    collections = [collection for collection in found if collection.files]
    size = sum(collection.bytes for collection in collections) / 1e6
    return Fetched(
        collections,
        f"what is on this disk: small ({size:.1f} MB) and mostly English; "
        "it shows that every stage works, not how good a model gets",
    )


def own_documentation(sample: Path, checkout: Path) -> Collection:
    """README and docs of this project, when it runs from a checkout."""
    collection = Collection("haina", __version__, "Apache-2.0")
    if (checkout / "pyproject.toml").is_file():
        for path in sorted([*checkout.glob("*.md"), *checkout.glob("docs/**/*.md")]):
            write_page(sample, collection, path.relative_to(checkout).as_posix(), path.read_bytes())
        if (checkout / "LICENSE").is_file():
            write_beside(sample, collection, COPYRIGHT_FILE, (checkout / "LICENSE").read_bytes())
    return collection


def python_topics(sample: Path) -> Collection:
    """The chapters of the language reference that `help()` shows."""
    collection = Collection("python", platform.python_version(), "PSF-2.0")
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions keep them in a package of their own
        return collection
    for name, text in sorted(topics.items()):
        write_page(sample, collection, re.sub(r"[^\w.-]", "_", name) + ".txt", text.encode("utf-8"))
    for path in (Path(sysconfig.get_path("stdlib")) / "LICENSE.txt",):
        if path.is_file():
            write_beside(sample, collection, COPYRIGHT_FILE, path.read_bytes())
    return collection


def installed_packages(sample: Path, reporter: Reporter) -> Iterator[Collection]:
    """Long descriptions and documentation folders of installed packages that name a licence."""
    settings = sample_settings()["local"]
    by_name: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        by_name.setdefault(re.sub(r"[-_.]+", "-", distribution.name).lower(), distribution)
    by_name.pop("haina", None)
    with reporter.task("reading installed packages", len(by_name), "packages") as task:
        for name, distribution in sorted(by_name.items()):
            task.advance()
            license_name = license_of_package(distribution)
            if not license_name:
                continue
            collection = Collection(f"packages/{name}", distribution.version, license_name)
            description = str(distribution.metadata.json.get("description", ""))
            if len(description) >= settings["smallest_characters"]:
                write_page(sample, collection, "README.md", description.encode("utf-8", "replace"))
            for relative, path in documentation(distribution, settings):
                write_page(sample, collection, relative, path.read_bytes())
            if collection.files:
                notices = [path.read_bytes() for path in license_files(distribution)]
                write_beside(
                    sample, collection, COPYRIGHT_FILE, b"\n".join(notices) or license_name.encode("utf-8")
                )
            yield collection


def license_of_package(distribution: importlib.metadata.Distribution) -> str:
    """The licence a package names: SPDX expression, short field or classifier; empty when it names none."""
    metadata = distribution.metadata.json
    for field in ("license_expression", "license"):
        value = metadata.get(field, "")
        if value and value != "UNKNOWN" and "\n" not in value and len(value) <= LONGEST_LICENSE_NAME:
            return str(value)
    named = [value for value in metadata.get("classifier", []) if value.startswith("License ::")]
    return named[-1].rsplit(" :: ", 1)[-1] if named else ""


def license_files(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """Licence texts in a package's metadata folder."""
    for file in sorted(distribution.files or [], key=str):
        name = file.as_posix()
        if ".dist-info/" in name and LICENSE_NAME.search(name):
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                yield path


def documentation(
    distribution: importlib.metadata.Distribution, settings: dict[str, list[str]]
) -> Iterator[tuple[str, Path]]:
    """(name, file) of pages below a package's documentation folders; reStructuredText as plain text."""
    folders, suffixes = set(settings["documentation_folders"]), tuple(settings["page_suffixes"])
    for file in sorted(distribution.files or [], key=str):
        name = file.as_posix()
        if name.endswith(suffixes) and folders & set(file.parts[:-1]) and ".." not in file.parts:
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                yield (f"{name}.txt" if name.endswith(".rst") else name), path
