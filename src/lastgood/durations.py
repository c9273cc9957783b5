"""Spans of time in sentences."""


def tell_seconds(seconds: float) -> str:
    """
    Write a span of time so that it can be read at a glance: three digits, and microseconds or milliseconds where seconds are too large.

    Args:
        seconds: Not negative.
    """
    rounded = float(f"{seconds:.3g}")
    if 0 < rounded < 1e-3:
        return f"{rounded * 1e6:.3g} µs"
    if 0 < rounded < 0.1:
        return f"{rounded * 1e3:.3g} ms"
    return f"{rounded:.3g} s" if rounded < 1000 else f"{seconds:.0f} s"
