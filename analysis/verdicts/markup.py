"""HTML from Python values: everything is escaped unless it is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = ("meta", "link", "img", "line", "rect", "circle", "path")


class Markup(str):
    """Text that is HTML already."""


Content = str | Iterable["Content"] | None


def tag(name: str, /, *content: Content, **attributes: str | int | float | bool | None) -> Markup:
    """``<name attributes>content</name>``.

    Attributes: `class_` is class, other underscores are hyphens; None and False leave one out, True gives its name.
    """
    shown = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{shown}>" if name in ("meta", "link", "img") else f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{join(content)}</{name}>")


def join(content: Content) -> Markup:
    """Content in a row."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(html.escape(content))
    return Markup("".join(join(part) for part in content))


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
