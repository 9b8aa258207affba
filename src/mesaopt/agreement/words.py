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
