TEXT = "\d"
