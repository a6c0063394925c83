"""The benchmark of the Ansible plugin: playbooks under stock Ansible, mitogen and contextree, in turns.

``python -m tests.bench.ansible --help`` tells the arguments, docs/ansible/benchmark.md the method. How it works:

* Hosts are loopback addresses at which a proxy (``proxy``) listens; it delays what passes, counts bytes and turns, and
  hands it to a private sshd (tests/lab/sshd.py).
* ``accounting`` keeps two control groups: ansible-playbook is started in one, sshd lives in the other. Whatever either
  starts is counted there, however it detaches: ssh masters, multiplexers, sudo, modules.
* ``cases`` has the playbooks, ``sides`` the configurations, ``field`` the hosts, ``contest`` one run and the turns,
  ``table`` what is said of them.
"""
