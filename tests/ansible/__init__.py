"""Playbooks under stock Ansible and under ours, with the results compared key by key."""
