"""Which source files a measurement stands on, and their hash.

Imports are followed by reading the source, without running it: `import`, `from ... import`, relative forms,
imports inside functions, and strings that name a module of the project (lazy exports and registries). What is
hashed is the parsed code without its docstrings, so a change of comments or layout leaves results valid.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from analysis import paths, storage

PACKAGES = ("redvtp", "analysis")

PLUMBING = frozenset(
    f"analysis.{name}"
    for name in (
        "agreement", "command", "execution", "notebooks", "paths", "plots", "profiles", "provenance",
        "registry", "reproduce", "results", "sources", "spread", "storage",
    )
)
"""Modules that decide where numbers are kept and how they are drawn, never what they are. The size and the
models of a profile are in the keys by value."""


def module_file(module: str) -> Path | None:
    """The source file of a dotted module name inside the project, or None."""
    parts = module.split(".")
    if parts[0] not in PACKAGES or not all(part.isidentifier() for part in parts):
        return None
    base = paths.ROOT.joinpath(*parts)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def closure(modules: Iterable[str], without: frozenset[str] = frozenset()) -> dict[str, Path]:
    """All modules of the project that `modules` import, themselves included, by name in alphabetical order.

    `without` are left out, with what only they import. Raises ValueError for a start that has no file.
    """
    found: dict[str, Path] = {}
    waiting = []
    for module in modules:
        if module_file(module) is None:
            raise ValueError(f"no source file for module {module!r} in {' or '.join(PACKAGES)}")
        waiting.append(module)
    while waiting:
        module = waiting.pop()
        path = module_file(module)
        if module in found or module in without or path is None:
            continue
        found[module] = path
        parent = module.rpartition(".")[0]
        if parent:
            waiting.append(parent)  # importing a.b runs a/__init__.py first
        package = module if path.name == "__init__.py" else parent
        waiting += sorted(imported(_tree(path, *_state(path)), package))
    return dict(sorted(found.items()))


def imported(tree: ast.AST, package: str = "") -> set[str]:
    """Names of the project's modules that the code imports; `package` resolves relative imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        names.update(_candidates(node, package))
    return {name for name in names if module_file(name) is not None}


def _candidates(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute("." * node.level + (node.module or ""), package)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
        yield _absolute(node.value, package)


def _absolute(name: str, package: str) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name[level:]])])


@functools.lru_cache(maxsize=512)
def _tree(path: Path, modified: int, size: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


@functools.lru_cache(maxsize=512)
def _code_hash(path: Path, modified: int, size: int) -> str:
    """A hash of the code without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            if isinstance(first.value.value, str):
                node.body = node.body[1:]
    return storage.digest(ast.dump(tree))


def sources_hash(modules: Iterable[str], without: frozenset[str] = PLUMBING) -> str:
    """A short hash of the code that `modules` stand on, by module name and contents."""
    files = closure(modules, without)
    return storage.digest([[name, _code_hash(path, *_state(path))] for name, path in files.items()])


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file is edited: the key of the caches."""
    return path.stat().st_mtime_ns, path.stat().st_size
