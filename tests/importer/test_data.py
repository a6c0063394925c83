"""Data files and metadata of the master's packages, also from a zip, also two hops away."""

import zipfile

FILES = {
    "app/__init__.py": "",
    "app/data.txt": "text \u00fc\n",
    "app/sub/deep.bin": b"\0\1\2",
    "secret.txt": "secret",
}
GOOD = """
text = "text \\u00fc\\n"
expected = {"names": ["__init__.py", "data.txt", "sub"], "text": text, "deep": b"\\0\\1\\2", "opened": text.encode(),
            "kinds": [True, False, False, True], "folders": [False, True, False], "outside": "refused"}
router.finder.allow("app")
for version in pythons:
    near = router.local(python=alone(pythons[version]))
    far = router.local(via=router.local(via=near, python=alone()), python=alone(pythons[version]))
    for child in near, far:
        if version in ("3.8", "3.9"):  # the files() of 3.9 asks no loader
            assert child.call(probe.old_data_files, "app") == (text, False, True, ["__init__.py", "data.txt", "sub"])
        else:
            assert child.call(probe.data_files, "app") == expected, child.call(probe.data_files, "app")
"""


def test_p_38_data_files_near_and_two_hops_away(master):
    master(FILES, GOOD, "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")


PKGUTIL = """
router.finder.allow("app")
expected = ["text \\u00fc\\n".encode(), b"\\0\\1\\2", b"", *["FileNotFoundError"] * 3]
for version in pythons:
    near = router.local(python=alone(pythons[version]))
    far = router.local(via=router.local(via=near, python=alone()), python=alone(pythons[version]))
    for child in near, far:
        assert child.call(probe.by_pkgutil, "app") == expected, child.call(probe.by_pkgutil, "app")
"""


def test_pkgutil_reads_data_files(master):
    master(FILES, PKGUTIL, "3.6", "3.8", "3.12")


def test_pkgutil_reads_data_files_of_a_zip(master, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    master({}, "sys.path.insert(0, 'all.zip')\n" + PKGUTIL, "3.6", "3.12")


def test_data_files_of_a_zip_on_the_masters_path(master, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    master({}, "sys.path.insert(0, 'all.zip')\n" + GOOD, "3.9", "3.10", "3.12")


def test_metadata_of_distributions_that_are_shared(master):
    files = {
        "app/__init__.py": "",
        "app-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: app\nVersion: 1.5\n",
        "app-1.5.dist-info/top_level.txt": "app\n",
        "hidden/__init__.py": "",
        "hidden-2.dist-info/METADATA": "Metadata-Version: 2.1\nName: hidden\nVersion: 2\n",
        "hidden-2.dist-info/top_level.txt": "hidden\n",
    }
    master(files, """
        router.finder.allow("app")
        near = router.local(python=alone(pythons["3.8"]))
        for child in near, router.local(via=near, python=alone(pythons["3.12"])):
            assert child.call(probe.version_of, "app") == "1.5"
            try:
                child.call(probe.version_of, "hidden")
            except ImportError as error:
                assert type(error).__name__ == "PackageNotFoundError"
            else:
                raise AssertionError
        """, "3.8", "3.12")
