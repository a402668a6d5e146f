"""Bilingual HTML pages out of Debian documentation packages, fetched as any user.

In: the package sources of this system. Out: the Chinese and English pages of the packages in `sample.yaml`.
apt-get gets package lists and a cache of its own, so it needs no root and changes nothing on the system; it
also checks signatures and checksums. Packages are read as a stream and only pages are written.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from haina.corpus.sample_files import (
    COPYRIGHT_FILE,
    Collection,
    Fetched,
    sample_settings,
    write_beside,
    write_page,
)
from haina.runtime.errors import HainaError
from haina.runtime.files import remove
from haina.runtime.progress import Reporter

DOWNLOADS = ".apt"
POLL_SECONDS = 0.25


def fetch_debian(sample: Path, reporter: Reporter) -> Fetched:
    """Download the packages, write their pages below `sample` and forget the downloads.

    Raises:
        HainaError: no apt-get here, its servers cannot be reached, or no page of a language came.
    """
    settings = sample_settings()["debian"]
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise HainaError(f"debian: no {tool} on this system", "choose another source")
    apt = Apt(sample.resolve() / DOWNLOADS, settings)
    try:
        reporter.say("  fetching package lists (the system's own stay as they are)")
        apt.update()
        sizes = apt.sizes([package["name"] for package in settings["packages"]])
        wanted = [package for package in settings["packages"] if package["name"] in sizes]
        check_languages(wanted)
        apt.download(sizes, reporter)
        collections = []
        with reporter.task("unpacking pages", len(wanted), "packages") as task:
            for package in wanted:
                collections.append(unpack(apt.deb(package["name"]), package, sample, settings))
                task.advance()
    finally:
        remove(apt.folder)
    empty = {collection.name for collection in collections if not collection.files}
    check_languages([package for package in wanted if package["name"] not in empty])
    missing = [
        package["name"] for package in settings["packages"] if package["name"] not in sizes.keys() - empty
    ]
    note = f"documentation of {len(collections) - len(empty)} Debian packages"
    return Fetched(
        [collection for collection in collections if collection.files],
        note + (f"; not found: {', '.join(missing)}" if missing else ""),
    )


def check_languages(packages: Sequence[dict[str, Any]]) -> None:
    """Raise a `HainaError` unless the packages hold both Chinese and English."""
    for code, language in (("zh", "Chinese"), ("en", "English")):
        if not any(code in package["languages"] for package in packages):
            raise HainaError(
                f"debian: the package sources of this system have no {language} pages",
                "choose another source",
            )


class Apt:
    """apt-get with lists, cache and downloads below `folder`.

    Args:
        folder: made here; the caller removes it.
        settings: the `debian` section of `sample.yaml`.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.debs = folder / "debs"
        for path in (folder / "lists" / "partial", folder / "cache" / "archives" / "partial", self.debs):
            path.mkdir(parents=True, exist_ok=True)  # apt-get makes none of them for an ordinary user
        seconds = settings["network_timeout_seconds"]
        options = {
            "Dir::State::Lists": str(folder / "lists"),
            "Dir::Cache": str(folder / "cache"),
            "Debug::NoLocking": "1",
            "Acquire::Languages": "none",
            "Acquire::Retries": "1",
            "Acquire::http::Timeout": str(seconds),
            "Acquire::https::Timeout": str(seconds),
            "APT::Get::List-Cleanup": "0",
        }
        if os.geteuid() == 0:
            options["APT::Sandbox::User"] = "root"  # the unprivileged download user may not enter our folder
        self.command = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        self.environment = {**os.environ, "LC_ALL": "C"}

    def _run(self, arguments: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self.command, *arguments],
                cwd=self.debs,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HainaError(
                f"debian: apt-get {arguments[0]} gave no result in {limit:.0f} s", "check the network"
            ) from None

    def update(self) -> None:
        """Fetch package lists. One unreachable source among several is no error; none reachable is."""
        done = self._run(["update"], self.settings["update_limit_seconds"])
        if not any("_Packages" in path.name for path in (self.folder / "lists").iterdir()):
            raise HainaError(
                f"debian: no package lists could be fetched ({reason(done)})", "check the network"
            )

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Download size in bytes of each package that the sources have."""
        limit = self.settings["update_limit_seconds"]
        listed = self._run(["download", "--print-uris", *names], limit)
        outputs = [listed.stdout]
        if listed.returncode != 0:  # one unknown package fails them all
            outputs = [self._run(["download", "--print-uris", name], limit).stdout for name in names]
        found = re.findall(r"^'\S+' (\S+?)_\S+\.deb (\d+) ", "\n".join(outputs), re.MULTILINE)
        sizes = {name: int(size) for name, size in found}
        return {name: sizes[name] for name in names if name in sizes}

    def download(self, sizes: dict[str, int], reporter: Reporter) -> None:
        """Download packages into `debs`; apt-get verifies their checksums."""
        total = sum(sizes.values()) / 1e6
        deadline = time.monotonic() + self.settings["download_limit_seconds"]
        log = self.folder / "log"
        with log.open("wb") as output, reporter.task("downloading packages", round(total), "MB") as task:
            process = subprocess.Popen(
                [*self.command, "download", *sizes],
                cwd=self.debs,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                shown = 0.0
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(POLL_SECONDS)
                    here = sum(path.stat().st_size for path in self.debs.glob("*.deb")) / 1e6
                    task.advance(max(0.0, here - shown))
                    shown = max(shown, here)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
        if process.returncode != 0:
            text = log.read_text(errors="replace")
            done = subprocess.CompletedProcess([], process.returncode, text, "")
            raise HainaError(
                f"debian: the packages could not be downloaded ({reason(done)})", "run the same command again"
            )

    def deb(self, name: str) -> Path:
        """The downloaded file of a package."""
        return next(self.debs.glob(f"{name}_*.deb"))


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line in which apt-get says what went wrong."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines()]
    told = [line for line in lines if line.startswith(("E:", "W:", "Err:"))]
    return " ".join((told or [f"exit code {done.returncode}"])[0].split())[:200]


def unpack(deb: Path, package: dict[str, Any], sample: Path, settings: dict[str, Any]) -> Collection:
    """Write the wanted pages and the copyright notice of one package.

    Raises:
        HainaError: the package is damaged.
    """
    name = package["name"]
    version = deb.name.split("_")[1].replace("%3a", ":")
    collection = Collection(name, version, "unknown")
    folders = tuple(f"{folder}/" for folder in package["folders"]) or ("",)
    process = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        with process.stdout, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                path = PurePosixPath(member.name).as_posix().removeprefix("./")
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    continue
                relative = path.removeprefix(package["root"] + "/")
                if path == f"usr/share/doc/{name}/copyright":
                    notice = content.read()
                    collection.license = license_of(
                        notice.decode("utf-8", "replace"), settings["license_phrases"]
                    )
                    write_beside(sample, collection, COPYRIGHT_FILE, notice)
                elif (
                    relative != path
                    and relative.startswith(folders)
                    and relative.lower().endswith(tuple(settings["page_suffixes"]))
                ):
                    write_page(sample, collection, relative, content.read())
    except tarfile.TarError as error:
        raise HainaError(f"debian: {deb.name}: damaged ({error})", "run the same command again") from error
    finally:
        process.stdout.close()
        process.wait()
    if process.returncode != 0:
        raise HainaError(f"debian: {deb.name}: dpkg-deb cannot read it", "run the same command again")
    return collection


def license_of(notice: str, phrases: Sequence[Sequence[str]]) -> str:
    """The licence that covers a package, as an SPDX expression where its name allows it.

    Reads the `Files: *` paragraph of a machine-readable copyright file (DEP-5,
    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/), else looks for the phrases; `unknown`
    when neither helps.
    """
    for paragraph in re.split(r"\n\s*\n", notice):
        if re.search(r"^Files:\s*\*\s*$", paragraph, re.MULTILINE):
            named = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
            if named:
                return spdx(named.group(1).strip())
    prose = " ".join(notice.split())
    return next((license_name for phrase, license_name in phrases if phrase in prose), "unknown")


def spdx(debian_name: str) -> str:
    """Debian's `GPL-2+ or CC-BY-SA-3.0` as SPDX's `GPL-2.0-or-later OR CC-BY-SA-3.0`."""

    def gnu(match: re.Match[str]) -> str:
        family, version, later = match.groups()
        return f"{family}-{version if '.' in version else version + '.0'}-{'or-later' if later else 'only'}"

    joined = re.sub(r"\s+(or|and)\s+", lambda match: f" {match.group(1).upper()} ", debian_name)
    return re.sub(r"\b(A?GPL|LGPL|GFDL)-(\d+(?:\.\d+)?)(\+?)(?![\w.-])", gnu, joined)
