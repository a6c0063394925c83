"""Rows P-39 and P-40, and that minified source means what the source means."""

import ast
import io
import pathlib
import sysconfig
import tokenize
import warnings

import pytest

from contextree.master.minify import is_string_statement, minify

SAMPLES = {
    "empty": "",
    "blank": "\n\n",
    "no newline at the end": "x = 1",
    "comment at the end": "x = 1\n# end",
    "docstring alone": '"""doc"""',
    "docstring and comment": '"""doc"""  # why\n\n\n"""doc two"""  # why\nx = 1\n',
    "coding line": "#!/usr/bin/python3\n# -*- coding: utf-8 -*-\n# gone\nx = 1\n",
    "second string is no docstring": '"""doc"""\n"""second"""\nx = 1\n',
    "empty body": 'class A:\n    """doc"""\n\n\ndef f():\n    "doc"\n    # why\nx = A\n',
    "dots": 'class A:\n    """doc"""\n    ...\n\ndef f(): ...\n',
    "one line": 'def f(): "doc"\nclass B: "doc"; x = 1\ndef g(): "a"; "b"\n',
    "one line, long docstring": 'def f(): """doc\nmore"""; x = 1; return x\nclass A: """a\n\nb"""\n',
    "in parentheses": 'def f():\n    ("doc"\n     "more")\n    return 1\ndef g():\n    (  # why\n    ("doc"))\n',
    "joined": 'def f():\n    "a" "b" \\\n    "c"\n    return 1\n',
    "after a semicolon": 'def f():\n    """doc\n    more"""; return 1\n',
    "nested": 'def f():\n\t"""doc"""\n\tdef g():\n\t\t"""doc"""\n\t\treturn 1\n\n\t# why\n\treturn g\n',
    "decorators": '@a  # why\n@b(1,\n   2)\nclass A:\n    """doc"""\n    @c\n    def x(self):\n        """doc"""\n',
    "continuation": "x = 1 + \\\n    2\nif x and \\\n   \\\n   x:\n    y = [  # why\n        1,\n\n        2]\n",
    "strings that look like comments": "x = '# no' '''\n# no\n   '''  # yes\ny = b'#'\n",
    "f-strings": "x = 1\ny = f'{x!r:>{x}} # no {{}}' f\"{x}\"\nz = f'''\n  {x}\n # no {{ '''  # yes\nw = f'{x = }'\n",
    "not a docstring": 'if 1:\n    "text"\nfor x in ():\n    "text"\nelse:\n    f"text"\ndef f():\n    b"text"\n',
    "numbers and attributes": "a = 1 .real\nb = 1..real\nc = 0x1 if 1 else 2\nd = -1 - -1 ** - 1\ne = 1 if a else.5\n",
    "words": "x = not - 1\nassert x in(1,)or x\nfrom . import a\nfrom ... import c\nlambda : (yield)\n",
    "carriage returns": 'x = 1\r\n# gone\r\ny = """a\r\nb"""\r\n',
    "not ascii": 'def é(ü="ö"): "döc"; return ü\nß = "ä"  # ö\n',
    "form feed": "x = 1\n\f\ny = 2\n",
    "async": 'async def f():\n    """doc"""\n    async with a as b, c: await b\n',
}


def meaning(source: str) -> str:
    """The tree of ``source``, with the line of every statement, without docstrings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            while node.body and is_string_statement(node.body[0]):
                del node.body[0]
            if not node.body or isinstance(node.body[0], ast.Pass):
                node.body[:1] = [ast.Pass()]  # where `pass` stands is of no matter
        for unimportant in ("col_offset", "end_col_offset", "end_lineno"):
            if hasattr(node, unimportant):
                setattr(node, unimportant, 0)
        if getattr(node, "kind", None) is None and isinstance(node, ast.Pass):
            node.lineno = 0
    return ast.dump(tree, include_attributes=True)


def first_tokens(source: str) -> dict[int, str]:
    """The first token of each line of ``source`` that begins one, by line."""
    found: dict[int, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.string.strip():
                found.setdefault(token.start[0], token.string)
    return found


def check(source: str) -> str:
    small = minify(source)
    assert small.count("\n") == source.count("\n")
    assert meaning(small) == meaning(source)
    assert minify(small) == small
    return small


@pytest.mark.parametrize("source", SAMPLES.values(), ids=SAMPLES.keys())
def test_p_39_lines_and_meaning_stay(source):
    source = source.replace("\r\n", "\n")
    small = check(source)
    before = first_tokens(source)
    for line, token in first_tokens(small).items():
        after_docstring = token == "pass" or before[line] == ";" or before[line].startswith(('"', "("))
        if not after_docstring:
            assert token == before[line], (line, small)


def test_p_39_carriage_returns_become_newlines():
    assert minify("x = 1\r\ny = 2\r") == "x=1\ny=2\n"


def test_p_39_comments_and_docstrings_are_gone():
    small = minify('"""Gone."""\n\n\ndef f(a, b):  # gone\n    """Gone,\n    too."""\n    # gone\n    return a + b\n')
    assert small == "\n\n\ndef f(a,b):\n\n\n\n return a+b\n"


def test_p_39_pass_stands_for_a_body_that_was_a_docstring():
    small = minify('class Gone(Exception):\n    """Doc."""\n')
    assert small == "class Gone(Exception):\n pass\n"


def test_p_39_traceback_names_the_same_line():
    source = (
        '"""Doc\nof three\nlines."""\n\ndef f():\n    """Doc."""\n    # why\n    return (1 +\n            unknown)\n'
    )
    names: dict = {}
    exec(compile(minify(source), "<minified>", "exec"), names)
    with pytest.raises(NameError) as caught:
        names["f"]()
    assert caught.traceback[-1].lineno + 1 == 9


def test_p_40_hashbang_and_coding_line_survive():
    source = "#!/usr/bin/env python3\n# -*- coding: latin-1 -*-\n# third\nx = 'a'  # fourth\n"
    assert minify(source) == "#!/usr/bin/env python3\n# -*- coding: latin-1 -*-\n\nx='a'\n"


def test_p_40_byte_order_mark_goes():
    assert minify("\ufeffx = 1\n") == "x=1\n"


@pytest.mark.parametrize("source", ["def f(:\n", "x = (\n", "if x:\npass\n"])
def test_minify_refuses_what_is_not_python(source):
    with pytest.raises(SyntaxError):
        minify(source)


def stdlib_files() -> list[pathlib.Path]:
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    folders = (root, root / "asyncio", root / "importlib", root / "unittest", root / "email", root / "json")
    return sorted(path for folder in folders for path in folder.glob("*.py"))[::7]


def test_p_39_over_the_standard_library():
    files = stdlib_files()
    assert len(files) > 25
    for path in files:
        with tokenize.open(path) as handle:
            source = handle.read()
        try:
            check(source)
        except AssertionError as error:
            raise AssertionError(path) from error


def test_annotations_go_where_asked():
    source = ("def f(a: int, *b: 'x', c: dict[str,\n int] = 1, **d: 'y') -> 'z':\n"
              "    e: int = 2\n    return lambda q=3: q\n")
    small = minify(source, annotations=False)
    assert small == "def f(a,*b,c\n=1,**d):\n e:int=2\n return lambda q=3:q\n"


CHECKED = '''"""Doc."""
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    class Options(dict):
        """Doc."""

        port: "int | None"

x = 1
class A:
    if TYPE_CHECKING:
        y = 0  # type: int
def f(a: "Any", *b: "dict[str, Any]", c: "int" = 1) -> "Any":
    if TYPE_CHECKING: return None
    return a, c
'''


def test_what_is_for_type_checkers_goes():
    small = minify(CHECKED, annotations=False)
    assert small == "\n" * 10 + "x=1\nclass A:\n pass\n\ndef f(a,*b,c=1):\n\n return a,c\n"
    assert minify(small, annotations=False) == small
    assert "TYPE_CHECKING" in minify(CHECKED)


@pytest.mark.parametrize("rest", ["else:\n    T = None\n", "y = TYPE_CHECKING\n"])
def test_what_runs_without_a_type_checker_stays(rest):
    names: dict = {}
    exec(minify("TYPE_CHECKING = False\nif TYPE_CHECKING:\n    T = int\n" + rest, annotations=False), names)
    assert names.get("T") is None
    assert names["TYPE_CHECKING"] is False
