"""Numbers as text. The page writes them by the same rules (``assets/figures.js``)."""

import math
from decimal import ROUND_HALF_UP, Decimal

from csd_lab.compare.statistics import Estimate

MOST_DECIMALS = 8
UNDEFINED = "–"
MINUS = "−"


def mean_text(estimate: Estimate) -> str:
    """The mean with two digits of its interval (22.71 ± 0.35), or with four of its own."""
    if math.isnan(estimate.mean):
        return UNDEFINED
    if math.isnan(estimate.half):
        return fixed(estimate.mean, decimals(estimate.mean, 4))
    places = decimals(estimate.half, 2) if estimate.half else decimals(estimate.mean, 4)
    return f"{fixed(estimate.mean, places)} ± {fixed(estimate.half, places)}"


def difference_text(estimate: Estimate) -> str:
    """The mean with two digits of its interval (+0.31 [−0.04, +0.66]), or with four."""
    if math.isnan(estimate.mean):
        return UNDEFINED
    if math.isnan(estimate.half) or not estimate.half:
        return signed(estimate.mean, decimals(estimate.mean, 4))
    places = decimals(estimate.half, 2)
    ends = f"{signed(estimate.low, places)}, {signed(estimate.high, places)}"
    return f"{signed(estimate.mean, places)} [{ends}]"


def decimals(value: float, digits: int) -> int:
    """Decimal places that show this many significant digits of a value."""
    exponent = int(f"{abs(value):.{digits - 1}e}".split("e")[1]) if value else 0
    return min(MOST_DECIMALS, max(0, digits - 1 - exponent))


def fixed(value: float, places: int) -> str:
    """A number with so many decimal places, halves rounded away from zero, and a true minus."""
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return f"{rounded if rounded else abs(rounded):f}".replace("-", MINUS)


def signed(value: float, places: int) -> str:
    """The same with a plus before what is positive."""
    text = fixed(value, places)
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text
