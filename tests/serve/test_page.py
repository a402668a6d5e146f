from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from haina.serve.card import kind_of
from haina.serve.page import chat_page


def test_the_page_is_whole_and_its_policy_allows_only_itself(url: str) -> None:
    response = httpx.get(url)
    page = response.text
    assert response.status_code == 200
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", page)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "@import" not in page
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[rule] == f"'sha256-{digest}'"
    # The policy forbids inline handlers and styles: none may be relied upon.
    assert not re.search(r"<[^>]+\s(?:on\w+|style)=", page.split("<script>")[0])


def test_text_never_becomes_markup() -> None:
    page, _ = chat_page()
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
    ):
        assert sink not in page


def test_both_languages_say_everything() -> None:
    page, _ = chat_page()
    zh, en = (
        set(
            re.findall(
                r"(?:^|[{,])\s*(\w+):", re.sub(r'"(?:[^"\\]|\\.)*"|`[^`]*`', '""', block), re.MULTILINE
            )
        )
        for block in re.findall(r"\n  (?:zh|en): \{(.*?)\n  \},", page, re.DOTALL)
    )
    assert len(zh) > 40
    assert zh == en
    used = set(re.findall(r'data-t="(\w+)"', page)) | set(re.findall(r'say\("(\w+)"', page))
    assert used <= zh


def test_kind_of_model(tmp_path: Path) -> None:
    assert kind_of(tmp_path) == "base"
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert kind_of(tmp_path) == "chat"
    (tmp_path / "config.json").write_text(json.dumps({"haina_kind": "base"}))
    assert kind_of(tmp_path) == "base"
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"haina_kind": "chat"}))
    assert kind_of(tmp_path) == "chat"


class Browser:
    """A headless Chromium, by the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

    def __init__(self, driver: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        options = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        self.wait(lambda: self.http.get("/status").json()["value"]["ready"])
        self.session = "/session"
        self.session = "/session/" + self.call("", capabilities={"alwaysMatch": options})["sessionId"]

    def call(self, path: str, **body: Any) -> Any:
        response = self.http.post(self.session + path, json=body)
        assert response.status_code == 200, response.text
        return response.json()["value"]

    def script(self, source: str) -> Any:
        return self.call("/execute/sync", script=f"return {source}", args=[])

    def keys(self, text: str) -> None:
        element = self.call("/element", using="css selector", value="#input")
        self.call(f"/element/{next(iter(element.values()))}/value", text=text)

    @staticmethod
    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while True:
            with suppress(httpx.TransportError):
                if condition():
                    return
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def close(self) -> None:
        with suppress(httpx.TransportError):
            self.http.delete(self.session)
        self.process.terminate()
        self.process.wait(10)


@pytest.mark.slow
def test_exchanges_in_a_browser(scripted: Callable[..., Any], tmp_path: Path) -> None:
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("no chromedriver on this machine")
    said = "海<b>纳</b><img src=x onerror=alert(1)>"
    engine, url, _ = scripted(said, pause=0.05)
    browser = Browser(driver, tmp_path)
    enter, escape = "\ue007", "\ue00c"
    try:
        browser.call("/url", url=url)
        browser.wait(lambda: browser.script("document.querySelector('#dot').className") == "dot on")
        assert browser.script("document.querySelector('#model-name').textContent") == "scripted"
        assert browser.script("document.querySelector('#notice').hidden") is False
        browser.keys("百川<i>" + enter)
        browser.wait(lambda: browser.script("document.querySelectorAll('.foot').length") == 1)
        assert browser.script("document.querySelector('.text').textContent") == "百川<i>" + said
        assert browser.script("document.querySelectorAll('main :is(img, b, i)').length") == 0
        # Escape stops the next one, on the page and in the engine.
        engine.text, engine.given = "x" * 200, 0
        browser.keys("再来" + enter)
        browser.wait(
            lambda: browser.script("document.querySelectorAll('.written')[1]?.textContent.length > 2")
        )
        browser.keys(escape)
        browser.wait(lambda: browser.script("document.querySelectorAll('.foot').length") == 2)
        browser.wait(lambda: engine.running == 0)
        assert engine.given < 200
        # Chat keeps the conversation.
        engine.text = "好"
        browser.script("document.querySelector('input[value=chat]').click()")
        for number, text in enumerate(("你好", "再见"), start=1):
            browser.keys(text + enter)
            browser.wait(
                lambda number=number: browser.script("document.querySelectorAll('.foot').length") == number
            )
        prompt = "".join(map(chr, engine.asked[-1][0]))
        assert prompt == "user: 你好\nassistant: 好\nuser: 再见"
        complaints = browser.call("/se/log", type="browser")
        assert complaints == []
    finally:
        browser.close()
