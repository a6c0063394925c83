"""What a module's text says: which modules it imports, and whether a script is guarded.

Only statements are visited, never expressions, since an import is a statement. Nothing is executed. Any
thread; the functions are pure, one remembers.
"""

import ast
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator

DISPLAY = "master:"  # file names that children see begin so; see Record.path

Import = tuple[str, tuple[str, ...]]  # a module's absolute name, and the names taken from it

KNOWN_LIMIT = 20_000  # texts; those of a large program are a few thousand
_KNOWN: dict[tuple[bytes, str], list[Import]] = {}
_BODIES = ("body", "handlers", "cases", "orelse", "finalbody")
_BLOCKS: dict[
    type[ast.AST], tuple[str, ...]
] = {  # which kinds of node hold statements, and where: looked up rather than tried, as most hold none
    kind: tuple(field for field in _BODIES if field in kind._fields)
    for kind in vars(ast).values()
    if isinstance(kind, type)
    and issubclass(kind, (ast.mod, ast.stmt, ast.excepthandler, ast.match_case))
    and not {"body", "cases"}.isdisjoint(kind._fields)
}
_DEEPER = (ast.FunctionDef, ast.AsyncFunctionDef)


def parse(source: str | bytes, path: str = DISPLAY) -> ast.Module | None:
    """Return the tree of ``source``, or None if it is not Python of this version. Warns of nothing."""
    hush()
    try:
        for _ in range(20):
            try:
                return ast.parse(source, path)
            except SystemError:  # by chance, where other threads parse too: python/cpython#106905
                continue
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return None


def hush() -> None:
    """Keep the compiler from warning about files named ``master:...`` (an old escape in somebody's module).

    The master has compiled them before, and warned then. One permanent filter for names that only contextree uses;
    ``warnings.catch_warnings`` would swap the filters of all threads.
    """
    if _FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_FILTER[3].pattern)


_FILTER = ("ignore", None, Warning, re.compile(re.escape(DISPLAY)), 0)


def imports(tree: ast.Module, package: str) -> list[Import]:
    """Return all imports at any depth, in the order of the text, without doubles.

    ``package`` is what relative imports are relative to: the module's own name if it is a package, else its parent's.
    Imports for type checkers alone (``if TYPE_CHECKING:``) never run and are left out.
    """
    return _distinct(_imports(tree, package, functions=True))


def imports_of(source: bytes, package: str, path: str = DISPLAY) -> list[Import]:
    """Return ``imports`` of the text ``source``; none of what is not Python of this version.

    Kept for the life of the process, by what they were read from: parsing is what takes long, a tree with pytest in its
    tests means four hundred files, and each Router has to know anew."""
    key = hashlib.blake2b(source, digest_size=16).digest(), package
    found = _KNOWN.get(key)
    if found is None:
        tree = parse(source, path)
        found = imports(tree, package) if tree is not None else []
        if len(_KNOWN) >= KNOWN_LIMIT:
            _KNOWN.clear()
        _KNOWN[key] = found
    return found


def module_level_imports(tree: ast.Module, package: str) -> list[Import]:
    """Like ``imports``, of what is executed when the module is imported: nothing in functions."""
    return _distinct(_imports(tree, package, functions=False))


def _distinct(found: Iterable[Import]) -> list[Import]:
    return list(dict.fromkeys(found))


def _imports(tree: ast.Module, package: str, functions: bool) -> Iterator[Import]:
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base:
                yield base, tuple(alias.name for alias in node.names if alias.name != "*")
        elif type(node) in _BLOCKS and (functions or not isinstance(node, _DEEPER)):
            stack.extend(reversed(_children(node)))


def _children(node: ast.AST) -> list[ast.AST]:
    """The statements right below ``node`` that can run."""
    fields = _BLOCKS.get(type(node), ())
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        fields = ("orelse",)
    found: list[ast.AST] = []
    for field in fields:
        found += getattr(node, field)
    return found


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _absolute(module: str, level: int, package: str) -> str:
    """The absolute name of a possibly relative one; empty if it reaches beyond the top."""
    if not level:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return ""
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def guarded(source: str | bytes) -> bool:
    """Whether a script does its work only if ``__name__`` is ``"__main__"``, so that importing it is harmless.

    Any spelling counts that asks so at the top level (also inside a top-level ``try``, ``with`` or ``if``): either
    order, ``!=``, ``in``, ``is``, joined by ``and``, ``or``, ``not``, as an expression, or by ``match``.
    """
    tree = parse(source)
    return tree is not None and any(_asks_name(statement) for statement in _top_level(tree))


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (*_DEEPER, ast.ClassDef)):
            stack.extend(_children(node))


def _asks_name(node: ast.AST) -> bool:
    if isinstance(node, (ast.If, ast.While)):
        return _compares_name(node.test)
    if isinstance(node, ast.Expr) and isinstance(node.value, (ast.IfExp, ast.BoolOp)):
        return _compares_name(node.value)
    if isinstance(node, ast.Match):
        values = [each for case in node.cases for each in ast.walk(case.pattern)]
        return _is_name(node.subject) and any(_is_main(each) for each in values)
    return False


def _compares_name(test: ast.expr) -> bool:
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = [each for side in sides for each in (getattr(side, "elts", None) or [side])]
            if any(map(_is_name, sides)) and any(map(_is_main, texts)):
                return True
    return False


def _is_name(node: ast.AST) -> bool:
    """``__name__`` or ``globals()["__name__"]``."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "__name__"
    return isinstance(node, ast.Name) and node.id == "__name__"


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == "__main__"
