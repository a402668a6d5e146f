"""Chat templates are Jinja; this is the one place that compiles them, so that a template gives the same text here
as in transformers and llama.cpp."""

from __future__ import annotations

from typing import NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from haina.runtime.errors import HainaError


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def compile_template(source: str, origin: str) -> jinja2.Template:
    """The template, in a sandbox: it comes with a model, and models come from anywhere.

    Args:
        source: of the template.
        origin: the file it was read from, for errors.

    Raises:
        HainaError: it is not valid Jinja.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = _raise_exception
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise HainaError(f"{origin}: not a valid template ({error})", "correct the template") from error
