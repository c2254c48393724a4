"""HTML and SVG whose text is escaped unless it was made here: class and file names are data, and data is no markup."""

import html
import json
from typing import Any


class Markup(str):
    """Text that is HTML already. Everything else is escaped where it is put into an element."""


_EMPTY = frozenset({"meta", "input", "img", "br"})


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """`<name attributes>children</name>`; `class_` and `data_kind` become `class` and `data-kind`.

    Attributes that are None or False are left out, True is an attribute without a value; children that are None, too.
    """
    parts = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{html.escape(text(value))}"')
    head = f"<{' '.join(parts)}>"
    return Markup(head if name in _EMPTY else f"{head}{join(children)}</{name}>")


def join(children: Any) -> Markup:
    """The children one after the other; lists in them are opened."""
    found = []
    for child in children:
        if isinstance(child, list | tuple):
            found.append(join(child))
        elif child is not None:
            found.append(child if isinstance(child, Markup) else html.escape(text(child)))
    return Markup("".join(found))


def text(value: Any) -> str:
    """As it may stand in a page: half surrogates of odd file names and control characters are marked."""
    shown = str(value).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in shown)


def data_island(name: str, value: Any) -> Markup:
    """Numbers and names for the page's script, in a block that the browser doesn't run and no text in it can end."""
    content = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{html.escape(name)}">{content}</script>')
