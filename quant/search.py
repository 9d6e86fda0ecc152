"""What the search for formats does: named steps, each of which can be switched off."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["FORMATS", "STEPS", "Search", "SearchError"]

#: How fractional lengths are chosen.  ``greedy``: the neighbour of the no-overflow length with the least
#: sum of squared errors; ``absolute``: of absolute errors, as in the paper; ``max``: no overflow.
FORMATS = ("greedy", "absolute", "max")


class SearchError(ValueError):
    """A step or a way to choose formats does not exist; the message lists those that do."""


@dataclass(frozen=True)
class Search:
    """The steps of a calibration.

    Attributes
    ----------
    formats : str
        One of `FORMATS`.
    input : bool
        A factor on the network's input, so that it fills its format (`quant.input_gain`).
    channels : bool
        A fractional length for each output channel of the weights, not one for each layer.
    rounding : bool
        Error-aware rounding of weights (`quant.rounding`).
    biases : bool
        Biases make up for the mean error of their layer (`quant.bias_correction`).
    scores : bool
        A classifier's output takes the format that changes its softmax least, clipping included; without
        it, the one that changes its values least and clips none, for networks that compute values.

    Raises
    ------
    SearchError
    """

    formats: str = "greedy"
    input: bool = True
    channels: bool = True
    rounding: bool = True
    biases: bool = True
    scores: bool = True

    def __post_init__(self) -> None:
        if self.formats not in FORMATS:
            raise SearchError(f"formats are chosen by {' or '.join(FORMATS)}, not {self.formats}")

    @classmethod
    def without(cls, *steps: str, formats: str = "greedy") -> Search:
        """All steps but these.

        Raises
        ------
        SearchError
            If a step is unknown.
        """
        for step in steps:
            if step not in STEPS:
                raise SearchError(f"there is no step {step!r}; the steps are {', '.join(STEPS)}")
        return cls(formats, **dict.fromkeys(steps, False))

    @classmethod
    def paper(cls, formats: str = "greedy") -> Search:
        """Qiu's two phases and nothing else: the plain greedy pass."""
        return cls.without(*STEPS, formats=formats)

    @property
    def on(self) -> tuple[str, ...]:
        """Names of the steps that are on."""
        return tuple(step for step in STEPS if getattr(self, step))

    def __str__(self) -> str:
        return " + ".join((self.formats, *self.on))


#: Names of the steps that can be switched off, in the order in which they are taken.
STEPS = tuple(field.name for field in fields(Search) if field.name != "formats")
