"""What the tests run against: a private sshd, other Pythons. ``python -m tests.lab`` drives it by hand."""
