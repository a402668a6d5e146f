"""The OpenAI-compatible HTTP API and the chat page over one inference engine.

create_app(engine)          the ASGI application
serve(folder, host, port)   load a model folder and serve it until Ctrl-C
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haina.serve.app import create_app as create_app
    from haina.serve.server import serve as serve

__all__ = ["create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name == "create_app":
        from haina.serve.app import create_app

        return create_app
    if name == "serve":
        from haina.serve.server import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
