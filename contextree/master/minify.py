"""Python source made small without moving a line.

Core is sent to every child, so its comments and docstrings must cost nothing on the wire, yet a traceback from a child
has to point at the right line of the file that a developer reads. So lines are emptied, never removed.

How it works. ``ast`` says where docstrings are (token patterns alone cannot tell a docstring from a string that is
merely the first thing in an ``if``); ``tokenize`` says where everything else is. The text is then written anew, token
by token: comments and docstrings left out, one blank per indentation level, blanks kept only where two tokens would
otherwise run together. A row that ended without a newline token was joined by a backslash, and is joined so again.

Rejected: ``ast.unparse`` (moves lines), regular expressions (strings that hold ``#``), leaving blanks as they are
(2 % more after zlib).
"""

import ast
import io
import itertools
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_WORDS = frozenset((tokenize.NAME, tokenize.NUMBER, tokenize.STRING))
_SILENT = frozenset((tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER))
# Python 3.12 takes f-strings apart (3.14 t-strings too); here they are one word again.
_OPENERS = {
    getattr(tokenize, name + "_START"): getattr(tokenize, name + "_END")
    for name in ("FSTRING", "TSTRING")
    if hasattr(tokenize, name + "_START")
}
_KEPT_COMMENT_ROWS = 2  # a hashbang and a coding line work nowhere else


class _Token(NamedTuple):
    kind: int
    text: str
    start: tuple[int, int]
    end: tuple[int, int]


def minify(source: str, annotations: bool = True) -> str:
    """Return ``source`` without comments and docstrings, with every statement on the line where it was.

    ``annotations=False`` leaves those of parameters and return values out as well, and what is there for type checkers
    only: ``if TYPE_CHECKING:`` (without ``else``), and ``TYPE_CHECKING = False`` where nothing else asks for it.

    The result has as many newlines as ``source``, compiles to the same tree minus docstrings, and every line that still
    holds code begins with the token that it began with; ``pass`` stands where a docstring was a whole body. Comments in
    the first two lines stay. ``SyntaxError`` (or ``ValueError``) if ``source`` is not Python. Any thread.
    """
    text = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    tree = ast.parse(text)
    tokens = list(_tokens(text))
    dropped, replaced = _docstrings(tree, text.split("\n"), tokens)
    if not annotations:
        dropped |= _annotations(tree, text.split("\n"), tokens)
        for first, last, alone in _checked_only(tree, text.split("\n"), tokens):
            dropped.update(range(first, last + 1))
            replaced |= {first} if alone else set()
    writer = _Writer()
    for index, token in enumerate(tokens):
        if index in replaced:
            token = token._replace(kind=tokenize.NAME, text="pass")
        elif (index in dropped and token.kind not in _SILENT) or _is_gone(token):
            continue
        writer.add(token)
    return writer.finish(text.count("\n"))


def _is_gone(token: _Token) -> bool:
    return token.kind == tokenize.COMMENT and token.start[0] > _KEPT_COMMENT_ROWS


def _tokens(text: str) -> Iterator[_Token]:
    """The tokens of ``text``, each f-string as one STRING token with the text that it has in the source."""
    lines = text.split("\n")
    closers: list[int] = []
    start = (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _OPENERS:
            if not closers:
                start = token.start
            closers.append(_OPENERS[token.type])
        elif closers:
            if token.type == closers[-1]:
                closers.pop()
                if not closers:
                    yield _Token(tokenize.STRING, _slice(lines, start, token.end), start, token.end)
        else:
            yield _Token(token.type, token.string, token.start, token.end)


def _slice(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    first, last = lines[start[0] - 1][start[1] :], lines[end[0] - 1][: end[1]]
    return "\n".join([first, *lines[start[0] : end[0] - 1], last])


def _docstrings(tree: ast.Module, lines: list[str], tokens: list[_Token]) -> tuple[set[int], set[int]]:
    """The indices of tokens to leave out, and of those in whose place ``pass`` is to stand.

    Every string statement that begins a body goes, not only the first: the second would become the docstring.
    """
    starts = {token.start: index for index, token in enumerate(tokens) if token.kind not in _SILENT}
    ends = {token.end: index for index, token in enumerate(tokens) if token.kind not in _SILENT}

    def index_of(where: dict[tuple[int, int], int], row: int, offset: int | None) -> int:
        return where[row, len(lines[row - 1].encode()[:offset].decode())]  # ast counts bytes, tokenize characters

    dropped: set[int] = set()
    replaced: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, *_DEFINITIONS)):
            continue
        strings = list(itertools.takewhile(is_string_statement, node.body))
        for statement in strings:
            first = index_of(starts, statement.lineno, statement.col_offset)
            last = index_of(ends, statement.end_lineno or statement.lineno, statement.end_col_offset)
            if tokens[last + 1].text == ";":
                last += 1
            dropped.update(range(first, last + 1))
            if statement is strings[0] and len(strings) == len(node.body) and not isinstance(node, ast.Module):
                replaced.add(first)
    return dropped, replaced


def _annotations(tree: ast.Module, lines: list[str], tokens: list[_Token]) -> set[int]:
    """The indices of the tokens of annotations, with the ``:`` or ``->`` before them."""
    starts = {token.start: index for index, token in enumerate(tokens) if token.kind not in _SILENT}
    ends = {token.end: index for index, token in enumerate(tokens) if token.kind not in _SILENT}
    dropped: set[int] = set()
    for node in ast.walk(tree):
        note = node.annotation if isinstance(node, ast.arg) else getattr(node, "returns", None)
        if note is not None:
            end = note.end_lineno or note.lineno
            row, end_row = lines[note.lineno - 1], lines[end - 1]
            first = starts[note.lineno, len(row.encode()[: note.col_offset].decode())]
            last = ends[end, len(end_row.encode()[: note.end_col_offset].decode())]
            dropped.update(range(first - 1, last + 1))
    return dropped


def _checked_only(tree: ast.Module, lines: list[str], tokens: list[_Token]) -> Iterator[tuple[int, int, bool]]:
    """What only a type checker reads: its first and last token, and whether it is a whole body."""
    blocks = [(node, len(body) == 1) for body in _bodies(tree) for node in body
              if isinstance(node, ast.If) and _is_flag(node.test) and not node.orelse]
    asked = sum(isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and _is_flag(node)
                for node in ast.walk(tree))
    flags = [(node, False) for node in tree.body if isinstance(node, ast.Assign) and _is_flag(node.targets[0])]
    starts = {token.start: index for index, token in enumerate(tokens) if token.kind not in _SILENT}
    ends = {token.end: index for index, token in enumerate(tokens) if token.kind not in _SILENT}
    for node, alone in [*blocks, *(flags if asked == len(blocks) else [])]:
        row, end_row = lines[node.lineno - 1], lines[(node.end_lineno or node.lineno) - 1]
        first = starts[node.lineno, len(row.encode()[: node.col_offset].decode())]
        yield first, ends[node.end_lineno or node.lineno, len(end_row.encode()[: node.end_col_offset].decode())], alone


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """Every list of statements."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                yield body


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"


def is_string_statement(node: ast.stmt) -> bool:
    """Whether ``node`` is a statement that is nothing but a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class _Writer:
    """Writes tokens with as few blanks as the language allows, each on its own row."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._row = 1
        self._depth = 0
        self._brackets = 0
        self._fresh = True  # at the start of a logical line
        self._last: _Token | None = None

    def add(self, token: _Token) -> None:
        if token.kind == tokenize.INDENT:
            self._depth += 1
        elif token.kind == tokenize.DEDENT:
            self._depth -= 1
        elif token.kind == tokenize.NEWLINE:
            self._fresh = True
        elif token.kind not in _SILENT:
            self._write(token)

    def _write(self, token: _Token) -> None:
        comment = token.kind == tokenize.COMMENT
        joined = not self._fresh and not self._brackets
        if token.start[0] > self._row:
            self._out.append(("\\\n" if joined else "\n") * (token.start[0] - self._row))
            self._last = None
        elif self._last is not None and _touch(self._last, token):
            self._out.append(" ")
        if self._fresh and not comment:
            self._out.append(" " * self._depth if self._last is None else "")
            self._fresh = False
        if token.text in ("(", "[", "{"):
            self._brackets += 1
        elif token.text in (")", "]", "}"):
            self._brackets -= 1
        self._out.append(token.text)
        self._row, self._last = token.start[0] + token.text.count("\n"), token

    def finish(self, newlines: int) -> str:
        """The whole text, filled up to ``newlines`` line ends."""
        self._out.append("\n" * (newlines + 1 - self._row))
        return "".join(self._out)


def _touch(left: _Token, right: _Token) -> bool:
    """Whether two tokens must be kept apart: words, and a number before an attribute's dot."""
    if right.kind == tokenize.COMMENT:
        return True
    if left.kind == tokenize.NUMBER and right.text.startswith("."):
        return True
    return left.kind in _WORDS and right.kind in _WORDS
