"""An encoder that would betray a second fit. The processes of encoders import this file, which takes them no time."""


class Remembers:
    """An encoder that would betray a second fit of one object."""

    def __init__(self, count=3):
        self.config = {"count": count}
        self.fits = []

    def fit(self, train, validation, *, seed):
        assert self.fits == []
        self.fits.append(seed)
        return self

    def encode(self, view):
        return view.weights[:, 0, : self.config["count"]] + self.fits[0]
