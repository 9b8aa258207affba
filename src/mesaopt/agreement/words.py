"""How the page and the figure of all claims write numbers."""

import math


def number(value: float) -> str:
    """Three significant digits, without zeros at the end; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.3g}".replace("-", "−")


def rounded(value: float, decimals: int) -> str:
    """That many decimals."""
    return f"{value:.{decimals}f}".replace("-", "−")


def measured(value: float, digits: int = 3) -> str:
    """That many significant digits, with zeros at the end."""
    return "" if math.isnan(value) else f"{value:#.{digits}g}".removesuffix(".").replace("-", "−")


def part(value: float) -> str:
    """A part in percent; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.1%}"


def interval(estimate: float, low: float, high: float) -> str:
    """A measured value with its interval, where it has one."""
    return measured(estimate) if math.isnan(low) else f"{measured(estimate)} ({measured(low)} to {measured(high)})"


def edges(low: float, high: float) -> str:
    """A bound in words; NaN: none on that side."""
    if math.isnan(low):
        return f"below {number(high)}"
    return f"above {number(low)}" if math.isnan(high) else f"{number(low)} to {number(high)}"
