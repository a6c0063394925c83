class FilterModule:
    def filters(self):
        return {"later_filter": lambda text: "<%s>" % text}
