"""The chat page: one self-contained document, put together from HTML, CSS and JavaScript at start-up.

Nothing is fetched from elsewhere, and the Content-Security-Policy allows only these very texts (by their
hashes) and this server's own API. What the model writes is inserted as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def _source(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def chat_page() -> tuple[str, dict[str, str]]:
    """The page and the response headers that belong to it."""
    folder = files(__name__)
    html, css, javascript, texts = (
        folder.joinpath(name).read_text(encoding="utf-8")
        for name in ("chat.html", "chat.css", "chat.js", "texts.js")
    )
    script = texts + javascript
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_source(script)}",
            f"style-src {_source(css)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    page = html.replace("/*CSS*/", css).replace("/*JAVASCRIPT*/", script)
    return page, {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
