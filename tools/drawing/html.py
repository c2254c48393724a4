"""Pages from Jinja templates: class and file names are data, so they are always escaped."""

import base64
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


def render(template: Path, values: Mapping[str, Any]) -> str:
    """Render a page: templates may extend `page.html.jinja`, the base of all pages, and import `parts.html.jinja`."""
    return _environment(template.parent).get_template(template.name).render(values)


@lru_cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, _HERE]), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: value if isinstance(value, Markup) else clean(value),
    )  # fmt: skip
    environment.globals["asset"] = lambda name: Markup((_HERE / name).read_text(encoding="utf-8"))
    return environment


def clean(value: Any) -> str:
    """Text that is valid in a page: lone surrogates of odd file names and control characters are replaced."""
    shown = str(value).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in shown)


def data_uri(picture: bytes, *, kind: str) -> str:
    """A picture's file (`kind` jpeg or png) as a data URI for the page."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
