"""The sample: sources tried in turn, packages unpacked, and a folder that is whole or absent."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from haina.corpus import sample_debian, sample_local, sample_wikipedia
from haina.corpus.sample import SOURCES, fetch_sample
from haina.corpus.sample_debian import Apt, check_languages, license_of, unpack
from haina.corpus.sample_files import Collection, Fetched, sample_settings, write_page
from haina.runtime.errors import HainaError
from haina.runtime.progress import Reporter, SilentProgress

PAGE = "<html><body><p>海纳百川。All rivers run into the sea.</p></body></html>".encode()


class Listener(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def good(sample: Path, reporter: Reporter) -> Fetched:
    collections = [Collection("书", "1", "CC0-1.0"), Collection("book", "2", "MPL-2.0")]
    for collection in collections:
        write_page(sample, collection, "a/b.html", PAGE)
    return Fetched(collections, "two pages")


def unreachable(sample: Path, reporter: Reporter) -> Fetched:
    write_page(sample, Collection("half", "1", "x"), "a.html", PAGE)
    raise HainaError("far: no network", "check the cable")


def nothing(sample: Path, reporter: Reporter) -> Fetched:
    return Fetched([], "")


def test_auto_tries_in_order_and_says_why(tmp_path: Path) -> None:
    listener = Listener()
    fetchers = {"far": unreachable, "none": nothing, "here": good}
    report = fetch_sample(tmp_path / "样本", "auto", listener, fetchers)
    assert (report.source, report.files, report.bytes, report.note) == ("here", 2, 2 * len(PAGE), "two pages")
    assert report.fetched
    assert [line.strip() for line in listener.said] == [
        "far: no network; trying the next source",
        "none: gave no pages; trying the next source",
    ]
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == [
        f"样本/{name}"
        for name in ("LICENSES.json", "SAMPLE.json", "SOURCES.json", "book/a/b.html", "书/a/b.html")
    ]
    assert json.loads((tmp_path / "样本/LICENSES.json").read_text("utf-8")) == {
        "book": "MPL-2.0",
        "书": "CC0-1.0",
    }
    sources = json.loads((tmp_path / "样本/SOURCES.json").read_text("utf-8"))
    assert sources["collections"][0] == {
        "name": "book", "version": "2", "license": "MPL-2.0", "files": 1, "bytes": len(PAGE),
    }  # fmt: skip


def test_all_sources_failing_tells_every_reason(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="no sample could be fetched: far: no network; none: gave no pages"):
        fetch_sample(tmp_path / "s", "auto", None, {"far": unreachable, "none": nothing})
    assert list(tmp_path.iterdir()) == []


def test_a_complete_sample_is_not_fetched_again(tmp_path: Path) -> None:
    first = fetch_sample(tmp_path / "s", "here", None, {"here": good})
    again = fetch_sample(tmp_path / "s", "auto", None, {"here": unreachable})
    assert (again.source, again.files, again.bytes, again.note) == (
        first.source,
        first.files,
        first.bytes,
        first.note,
    )
    assert not again.fetched
    with pytest.raises(HainaError, match=r"holds a here sample; delete it or name another folder for far"):
        fetch_sample(tmp_path / "s", "far", None, {"here": good, "far": good})


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("三年的工作")
    with pytest.raises(HainaError, match="holds something else"):
        fetch_sample(tmp_path / "mine", "here", None, {"here": good})
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "三年的工作"
    (tmp_path / "file").write_text("x")
    with pytest.raises(HainaError, match="is a file"):
        fetch_sample(tmp_path / "file", "here", None, {"here": good})
    (tmp_path / "mine" / "SAMPLE.json").write_text("[]")
    with pytest.raises(HainaError, match="not written by"):
        fetch_sample(tmp_path / "mine", "here", None, {"here": good})
    with pytest.raises(HainaError, match="choose one of auto, debian, wikipedia, local"):
        fetch_sample(tmp_path / "new", "moon")


def test_an_empty_folder_and_left_over_pieces_are_taken(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s.partial" / "old").mkdir(parents=True)
    (tmp_path / "s.partial" / "old" / "half.html").write_bytes(b"<ht")
    fetch_sample(tmp_path / "s", "here", None, {"here": good})
    assert not (tmp_path / "s" / "old").exists()
    assert not (tmp_path / "s.partial").exists()


SLOW = """
import sys, time
from pathlib import Path
from haina.corpus.sample import fetch_sample
from haina.corpus.sample_files import Collection, Fetched, write_page
def slow(sample, reporter):
    collection = Collection("pages", "1", "CC0-1.0")
    write_page(sample, collection, "a.html", b"<p>one")
    print("half", flush=True)
    time.sleep(60)
    return Fetched([collection], "")
fetch_sample(Path(sys.argv[1]), "slow", None, {"slow": slow})
"""


def test_a_killed_fetch_leaves_no_sample(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path / "s")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "s").exists()
    assert fetch_sample(tmp_path / "s", "here", None, {"here": good}).files == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_pages_cannot_leave_the_folder(tmp_path: Path) -> None:
    for name in ("../x.html", "/etc/x.html", "a/../../x.html", ""):
        with pytest.raises(HainaError, match="leads out of its folder"):
            write_page(tmp_path, Collection("p", "1", "x"), name, PAGE)
    assert list(tmp_path.iterdir()) == []


# --- Debian


DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: debian/*
License: BSD-3-clause

Files: *
Copyright: 2003 Raphaël
License: GPL-2.0+ or CC-BY-SA-3.0

License: GPL-2.0+
 This program is free software
"""


@pytest.mark.parametrize(
    ("notice", "name"),
    [
        (DEP5, "GPL-2.0-or-later OR CC-BY-SA-3.0"),
        ("Files: *\nLicense: GPL-2+\n text", "GPL-2.0-or-later"),
        ("Files: *\nLicense: LGPL-3 and GFDL-1.3+\n", "LGPL-3.0-only AND GFDL-1.3-or-later"),
        ("Files: *\nLicense: MPL-2.0\n", "MPL-2.0"),
        ("It is\nlicensed under the terms of the GNU\nGPL, version 2.\n", "GPL-2.0-only"),
        ("All rights reserved.", "unknown"),
    ],
)
def test_license_names(notice: str, name: str) -> None:
    assert license_of(notice, sample_settings()["debian"]["license_phrases"]) == name


def build_deb(folder: Path, name: str, files: dict[str, bytes], version: str = "2%3a1.0") -> Path:
    tree = folder / f"{name}-tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: t\n"
    )
    for path, data in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    deb = folder / f"{name}_{version}_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(deb)], check=True, capture_output=True
    )
    return deb


needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian-like system")


@needs_dpkg
def test_unpack_takes_pages_of_the_wanted_folders_only(tmp_path: Path) -> None:
    root = "usr/share/doc/guide/html"
    deb = build_deb(
        tmp_path,
        "guide",
        {
            f"{root}/zh-CN/第一章.html": PAGE,
            f"{root}/en-US/deep/ch1.HTML": PAGE,
            f"{root}/de-DE/ch1.html": PAGE,
            f"{root}/zh-CN/style.css": b"p{}",
            "usr/share/other/zh-CN/x.html": PAGE,
            "usr/share/doc/guide/copyright": DEP5.encode(),
        },
    )
    package = {"name": "guide", "root": root, "folders": ["en-US", "zh-CN"], "languages": ["zh", "en"]}
    collection = unpack(deb, package, tmp_path / "s", sample_settings()["debian"])
    assert collection == Collection("guide", "2:1.0", "GPL-2.0-or-later OR CC-BY-SA-3.0", 2, 2 * len(PAGE))
    names = sorted(
        path.relative_to(tmp_path / "s").as_posix() for path in (tmp_path / "s").rglob("*") if path.is_file()
    )
    assert names == ["guide/copyright", "guide/en-US/deep/ch1.HTML", "guide/zh-CN/第一章.html"]


@needs_dpkg
def test_a_damaged_package_is_an_error(tmp_path: Path) -> None:
    deb = build_deb(tmp_path, "guide", {"usr/share/x/a.html": os.urandom(300_000)})
    deb.write_bytes(deb.read_bytes()[:-100_000])
    package = {"name": "guide", "root": "usr/share/x", "folders": [], "languages": ["zh"]}
    with pytest.raises(HainaError, match=r"guide_.*\.deb: (damaged|dpkg-deb cannot read it)"):
        unpack(deb, package, tmp_path / "s", sample_settings()["debian"])


def fake_apt(folder: Path, script: str) -> Path:
    tool = folder / "apt-get"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return folder


@needs_dpkg
def test_the_whole_debian_source_with_another_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt-get is played by a script that knows two of the packages and refuses lists that are not private."""
    debs = tmp_path / "debs"
    debs.mkdir()
    build_deb(debs, "debian-reference-en", {"usr/share/debian-reference/ch01.en.html": PAGE})
    build_deb(debs, "debian-reference-zh-cn", {"usr/share/debian-reference/ch01.zh-cn.html": PAGE})
    script = f"""
lists=; names=; action=
for word in "$@"; do case $word in
  -oDir::State::Lists=*) lists=${{word#*=}};;
  -*) ;;
  update|download) action=$word;;
  *) names="$names $word";;
esac; done
case "$*" in *--print-uris*) action=uris;; esac
[ -d "$lists/partial" ] || exit 100
if [ $action = update ]; then touch "$lists/somewhere_Packages"; exit 0; fi
for name in $names; do
  case $name in debian-reference-*) ;; *) echo "E: Unable to locate package $name" >&2; exit 100;; esac
  if [ $action = uris ]; then echo "'http://x/$name.deb' ${{name}}_2%3a1.0_all.deb 4000 SHA256:0"
  else cp {debs}/${{name}}_* .; fi
done
"""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{fake_apt(tmp_path / 'bin', script)}:{os.environ['PATH']}")
    report = fetch_sample(tmp_path / "s", "debian")
    assert (report.source, report.files) == ("debian", 2)
    assert report.note.startswith("documentation of 2 Debian packages; not found: libreoffice-help-zh-cn, ")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "LICENSES.json", "SAMPLE.json", "SOURCES.json", "debian-reference-en", "debian-reference-zh-cn",
    ]  # fmt: skip


def test_debian_failures_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_debian.shutil, "which", lambda name: None)
    with pytest.raises(HainaError, match="no apt-get on this system"):
        fetch_sample(tmp_path / "s", "debian")
    monkeypatch.undo()
    settings = {**sample_settings()["debian"], "update_limit_seconds": 0.4}
    message = (
        "Err:1 http://x InRelease\\n  Could not connect\\nW: Failed to fetch http://x  Could not connect"
    )
    failing = fake_apt(tmp_path, f"printf '{message}' >&2")
    monkeypatch.setenv("PATH", f"{failing}:{os.environ['PATH']}")
    with pytest.raises(HainaError, match=r"no package lists could be fetched \(Err:1 http://x InRelease\)"):
        Apt(tmp_path / "apt", settings).update()
    fake_apt(tmp_path, "exec sleep 30")
    start = time.monotonic()
    with pytest.raises(HainaError, match=r"apt-get update gave no result in 0 s"):
        Apt(tmp_path / "apt", settings).update()
    assert time.monotonic() - start < 10
    with pytest.raises(HainaError, match="no Chinese pages"):
        check_languages([{"name": "a", "languages": ["en"]}])
    with pytest.raises(HainaError, match="no English pages"):
        check_languages([{"name": "a", "languages": ["zh"]}])


# --- Wikipedia


class Folder:
    """A folder that answers as the hub's file system does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def glob(self, pattern: str) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]

    def open(self, path: str, mode: str) -> object:
        return (self.root / path).open(mode)


@pytest.fixture
def hub(tmp_path: Path) -> Folder:
    settings = sample_settings()["wikipedia"]
    for language, text in (("zh", "维基百科，自由的百科全书"), ("en", "the free encyclopedia")):
        folder = tmp_path / "hub" / "datasets" / settings["dataset"] / f"{settings['snapshot']}.{language}"
        folder.mkdir(parents=True)
        for number in range(2):
            count = settings["articles"] * 2 // 3
            table = pa.table(
                {
                    "id": [str(row) for row in range(count)],
                    "url": [f"https://{language}.wikipedia.org/{number}/{row}" for row in range(count)],
                    "title": [f"{text} {row}" for row in range(count)],
                    "text": [f"{text}\n{number} {row}" for row in range(count)],
                }
            )
            pq.write_table(table, folder / f"train-{number:05d}.parquet", row_group_size=300)
    return Folder(tmp_path / "hub")


def test_wikipedia_is_read_in_order_up_to_the_articles_wanted(tmp_path: Path, hub: Folder) -> None:
    fetchers = {"wikipedia": lambda sample, reporter: sample_wikipedia.fetch_wikipedia(sample, reporter, hub)}
    report = fetch_sample(tmp_path / "s", "wikipedia", None, fetchers)
    wanted = sample_settings()["wikipedia"]["articles"]
    for language in ("zh", "en"):
        path = tmp_path / "s" / "wikipedia" / language / "articles.jsonl.gz"
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        assert len(rows) == wanted
        assert set(rows[0]) == {"url", "title", "text"}
        assert rows[0]["url"] == f"https://{language}.wikipedia.org/0/0"
        assert rows[-1]["url"] == f"https://{language}.wikipedia.org/1/{wanted - wanted * 2 // 3 - 1}"
    assert report.files == 2
    licenses = json.loads((tmp_path / "s" / "LICENSES.json").read_text())
    assert licenses == {
        f"wikipedia/{language}": sample_settings()["wikipedia"]["license"] for language in ("en", "zh")
    }
    second = fetch_sample(tmp_path / "t", "wikipedia", None, fetchers)
    assert second == report
    packed = [(tmp_path / name / "wikipedia/zh/articles.jsonl.gz").read_bytes() for name in "st"]
    assert packed[0] == packed[1]


def test_wikipedia_failures_are_one_line(tmp_path: Path, hub: Folder) -> None:
    def fetch(filesystem: object) -> None:
        sample_wikipedia.fetch_wikipedia(tmp_path / "s", SilentProgress(), filesystem)  # type: ignore[arg-type]

    with pytest.raises(HainaError, match="the hub holds no zh articles"):
        fetch(Folder(tmp_path / "nowhere"))
    part = next((tmp_path / "hub").rglob("*.zh/train-00000.parquet"))
    part.write_bytes(b"cut")
    with pytest.raises(HainaError, match=r"^wikipedia: datasets/wikimedia/wikipedia/20231101\.zh/"):
        fetch(hub)


def test_a_hub_that_does_not_answer_is_noticed_soon() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(HainaError, match="cannot be reached"):
            sample_wikipedia.probe(f"http://127.0.0.1:{silent.getsockname()[1]}/api", 0.3)
        assert time.monotonic() - start < 5
        port = silent.getsockname()[1]
    with pytest.raises(HainaError, match="cannot be reached"):
        sample_wikipedia.probe(f"http://127.0.0.1:{port}/api", 5)
    with pytest.raises(HainaError, match="cannot be reached"):
        sample_wikipedia.probe("no address", 5)


# --- what is here


def test_local_texts_are_real_and_carry_licences(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "docs" / "guide").mkdir(parents=True)
    for name in (
        "pyproject.toml",
        "README.md",
        "README.zh-CN.md",
        "docs/guide/corpus.md",
        "docs/notes.txt",
        "LICENSE",
    ):
        (checkout / name).write_text("海纳 Haina")
    fetchers = {"local": lambda sample, reporter: sample_local.fetch_local(sample, reporter, checkout)}
    report = fetch_sample(tmp_path / "s", "local", None, fetchers)
    assert "small" in report.note
    assert "mostly English" in report.note
    assert report.bytes > 500_000
    names = {
        path.relative_to(tmp_path / "s").as_posix() for path in (tmp_path / "s").rglob("*") if path.is_file()
    }
    own = {name for name in names if name.startswith("haina/")}
    assert own == {
        "haina/README.md",
        "haina/README.zh-CN.md",
        "haina/docs/guide/corpus.md",
        "haina/copyright",
    }
    assert "python/while.txt" in names
    assert "while_stmt" in (tmp_path / "s" / "python" / "while.txt").read_text("utf-8")
    assert {"packages/numpy/README.md", "packages/numpy/copyright"} <= names
    licenses = json.loads((tmp_path / "s" / "LICENSES.json").read_text())
    assert licenses["python"] == "PSF-2.0"
    pages = [name for name in names if name.endswith((".md", ".txt", ".html"))]
    assert len(pages) == report.files
    assert all(
        any(name.startswith(prefix + "/") and value for prefix, value in licenses.items()) for name in pages
    )
    installed = Path(sample_local.__file__).parent / "no-checkout"
    assert sample_local.own_documentation(tmp_path / "x", installed).files == 0


def test_the_sources_are_those_of_the_command_line() -> None:
    assert SOURCES == ("auto", "debian", "wikipedia", "local")
