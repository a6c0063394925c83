WHOSE = "deeper"
