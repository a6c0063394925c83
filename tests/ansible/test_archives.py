"""Archives of modules go to a host in parts, each part once."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_plugin.target import archives


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@given(st.dictionaries(st.text("abc/é", min_size=1), st.binary(max_size=2000), max_size=8),
       st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]))
def test_an_archive_comes_out_byte_by_byte_as_it_went_in(files: dict[str, bytes], compression: int) -> None:
    data = zipped(files, compression)
    store = archives.Store()
    store.add("digest", *archives.take_apart(data))
    assert store.get("digest") == data


def test_what_two_archives_have_in_common_is_one_part() -> None:
    common = bytes(range(256)) * 20
    first, second = zipped({"a.py": common, "x.py": b"x" * 999}), zipped({"a.py": common, "y.py": b"y" * 777})
    _, parts = archives.take_apart(first)
    recipe, more = archives.take_apart(second)
    assert len(parts.keys() & more.keys()) == 1
    store = archives.Store()
    store.add("first", *archives.take_apart(first))
    store.add("second", recipe, {key: part for key, part in more.items() if key not in parts})
    assert store.get("second") == second


def test_an_archive_with_a_part_that_did_not_come_or_is_wrong_is_none() -> None:
    data = zipped({"a.py": bytes(range(256)) * 20, "b.py": b"b" * 3000})
    recipe, parts = archives.take_apart(data)
    store = archives.Store()
    assert store.get("digest") is None
    store.add("digest", recipe, {})
    assert store.get("digest") is None
    store.add("digest", recipe, {key: part[::-1] for key, part in parts.items()})
    assert store.get("digest") is None
    store.add("digest", recipe, parts)
    assert store.get("digest") == data


def test_a_store_that_is_full_begins_again() -> None:
    store = archives.Store()
    recipe, parts = archives.take_apart(zipped({"a.py": b"a" * 5000}))
    for number in range(archives.RECIPES + 2):
        store.add(str(number), recipe, parts)
    assert store.get("0") is None
    assert len(store.recipes) <= archives.RECIPES


def test_what_is_no_zip_is_refused() -> None:
    with pytest.raises(zipfile.BadZipFile):
        archives.take_apart(b"PK\3\4 not at all")
