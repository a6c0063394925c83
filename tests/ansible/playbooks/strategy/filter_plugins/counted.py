"""Tells how often it has run in its process."""

count = 0


def counted(value):
    global count
    count += 1
    return value + count


class FilterModule:
    def filters(self):
        return {"counted": counted}
