"""The tests of the ssh program, by paramiko: what is imported here runs with the ``reach`` below."""


import pytest

from tests.ssh.test_login import (  # noqa: F401  they are collected here
    test_a_password_that_nobody_gave_is_asked_of_nobody,
    test_accept_new_stores_the_key,
    test_interpreter_of_the_master_is_not_asked_of_the_host,
    test_key,
    test_key_with_pam_and_an_alias_of_ssh_config,
    test_login_shells,
    test_missing_python_names_it_and_what_to_do,
    test_noisy_bashrc_with_a_megabyte_and_a_false_handshake,
    test_p_51_silent_port_ends_in_time_and_leaves_no_ssh,
    test_p_72_names,
    test_passphrase_of_a_key,
    test_password_on_a_terminal_of_ours,
    test_proxy_jump,
    test_python_2_is_refused_politely,
    test_s_27_a_check_that_is_off_is_logged,
    test_s_27_changed_host_key_is_refused,
    test_s_27_unknown_host_key_is_refused,
    test_unknown_host,
    test_wrong_passphrase,
    test_wrong_password_says_so_and_shows_none,
)


@pytest.fixture
def reach(router, sshd):
    """As in conftest, by paramiko. No ssh program can have a part in it."""
    def go(host="key", **options):
        options.setdefault("ssh_config", sshd.ssh_config)
        return router.ssh(host, transport="paramiko", **options)

    return go
