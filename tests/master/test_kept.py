"""What is kept from one run to the next: used only for the very same input, and never in the way."""

import pytest

from contextree.master import kept as keeper
from contextree.master.kept import kept


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A ``__pycache__`` of our own, and a Python that writes there."""
    monkeypatch.setattr(keeper, "__file__", str(tmp_path / "kept.py"))
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    monkeypatch.setattr("sys.pycache_prefix", None)
    (tmp_path / "__pycache__").mkdir()
    return tmp_path / "__pycache__"


def make(value):
    return lambda: value


def refuse():
    raise AssertionError("made again")


def test_kept_is_made_once_for_the_same_input(place):
    assert kept("thing", ["a", b"b"], make(b"made")) == b"made"
    assert kept("thing", ["a", b"b"], refuse) == b"made"
    assert [path.name for path in place.iterdir()] == ["thing"]


def test_kept_is_made_anew_for_another_input(place):
    kept("thing", ["a", "bc"], make(b"old"))
    assert kept("thing", ["ab", "c"], make(b"new")) == b"new"
    assert kept("thing", ["ab", "c"], refuse) == b"new"


@pytest.mark.parametrize("there", [b"", b"x", b"x" * 100])
def test_kept_does_not_use_what_it_did_not_write(place, there):
    (place / "thing").write_bytes(there)
    assert kept("thing", ["a"], make(b"made")) == b"made"


def test_kept_writes_nothing_where_python_does_not(place, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert kept("thing", ["a"], make(b"made")) == b"made"
    assert list(place.iterdir()) == []


def test_kept_works_without_a_place(place):
    place.rmdir()
    assert kept("thing", ["a"], make(b"made")) == b"made"
    place.write_text("a file where the folder should be")
    assert kept("thing", ["a"], make(b"made")) == b"made"
