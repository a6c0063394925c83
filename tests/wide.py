"""Which cases of a matrix are `wide`: left out of the ordinary run, and all that `./run_tests.sh wide` runs.

A matrix shows the same for many variants (ways to reach an interpreter, versions of Python, loops, shells). The
ordinary run has some of its variants with all tests, and some of its tests with all variants, so that each variant and
each test is seen at least once; the rest is wide. A single test is marked in its own file: ``@pytest.mark.wide``.
"""

import re

import pytest

# file: (variants that are wide, tests that have them all the same): patterns for the part of the id that is in
# brackets, and for the name of the test
MATRICES = {
    "calls/test_cancel": (r"^(direct|nested)$", "everywhere|what_it_knows"),
    "calls/test_channels": (r"^(exec|fork|direct|3\.8)$", "both_ways_in_order"),
    "calls/test_coroutines": (r"^(direct|3\.8)$", "everything_that_can_be_awaited"),
    "calls/test_errors": (r"^(exec|fork|direct|3\.8)$", "builtin_exceptions"),
    "calls/test_functions": (r"^(exec|fork|direct|3\.8)$", "functions_of_every_shape"),
    "calls/test_streams": (r"^(exec|fork|direct|3\.8)$", "order_and_end"),
    "files/test_failures": (r"^file-forked-nameless|^folder-(local|forked-named$)|^resume-(local|forked-nameless)", ""),
    "files/test_transfer": (r"^(forked|two links away)", "what_is_put_can_be_got|folder_there_and_back"),
    "fork/test_loops": (r"^3\.([789]|1[01])$", ""),
    "gi/test_gevent_children": (r"^check_(?!gi_0).*-plain$", ""),
    "jobs/test_jobs": (r"^(fork|direct|below|oldest)-close$", ""),
    "keepalive/test_hosts": (r"^(killed|down)-beta$", ""),
    "loops/test_every_loop": (r"^(uvloop|guest)\b", "whole_interface|handles_cross|programs_and_files"),
    "loops/test_every_loop_rules": (r"^(uvloop|guest)\b", "a_01|a_02|a_04|a_12"),
    "loops/test_forks": (r"^(uvloop|trio)-blocking$", ""),
    "loops/test_gevent": (r"^check_(?!a_01|a_02|a_06|channels).*-plain$", ""),
    "matrix/test_bundle_matrix": (r"(^|-)3\.([789]|1[0-4])$", "child_boots|login_directory"),
    "matrix/test_first_stage": (r"^[1-9]\d*-3\.([789]|1[0-4])$", ""),
    "matrix/test_odd_pythons": (r"^3\.([789]|1[0-4])$|^(?!no site).*-3\.13$", ""),
    "methods/test_accounts": (r"^(su-su-su|sudo-sudo-sudo|doas-doas-doas)-", ""),
    "methods/test_containers": (r"^3\.([789]|1[0-4])$", ""),
    "methods/test_every_way": (r"^(?!(local|ssh|docker|sudo|lxc)$)",
                               "call_stream|wrong_credentials|missing_|p_51|end_of_the_router"),
    "parent/test_reaper_pythons": (r"^3\.(8|9|12)-options1$", ""),
    "run/test_loops": (r"^(uvloop|guest)$", "results_and_errors|many_at_once"),
    "run/test_parity": (r"^(fork|direct|newest)$", "as_the_caller"),
    "ssh/test_login": (r"^3\.([79]|1[012])$", ""),
    "ssh/test_paramiko": (r"^(zsh|tcsh)$", ""),
}


def mark(items):
    """Mark what is wide. A test that would have no other case keeps its first."""
    tests = {}
    for item in items:
        file, _, rest = item.nodeid.partition("::")
        name, bracket, variant = rest.partition("[")
        variants, names = MATRICES.get(file[len("tests/"):-len(".py")], ("", ""))
        wide = bracket and variants and re.search(variants, variant[:-1]) and not (names and re.search(names, name))
        tests.setdefault((file, name), []).append((item, wide))
    for cases in tests.values():
        if all(wide for _item, wide in cases):
            del cases[0]
        for item, wide in cases:
            if wide:
                item.add_marker(pytest.mark.wide)
