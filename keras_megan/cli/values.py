"""Reads and checks values on the command line: times, rates, sizes, numbers.

Each function fits `argparse`'s `type=`: it returns a value or says in one line what it
had expected.
"""

import argparse
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_megan.video.request.size import Size


def seconds(text: str) -> Fraction:
    """Seconds or h:mm:ss; a trailing "s" is allowed ("3s")."""
    total = Fraction(0)
    try:
        for part in text.strip().removesuffix("s").split(":"):
            value = Fraction(part)
            if value < 0:
                raise ValueError("negative")
            total = total * 60 + value
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(
            f"expected seconds or h:mm:ss. Received: '{text}'"
        ) from error
    return total


def positive_seconds(text: str) -> Fraction:
    """The same, and more than 0."""
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected more than 0. Received: '{text}'")
    return value


def rate(text: str) -> Fraction:
    """Frames per second, up to 1000."""
    value = _fraction(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(
            f"expected frames per second, such as 25 or 30000/1001. Received: '{text}'"
        )
    return value


def factor(text: str) -> Fraction:
    """A number above 0, such as 2, 2.5 or 5/2."""
    value = _fraction(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0, such as 2 or 2.5. Received: '{text}'"
        )
    return value


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text.strip().removesuffix("x"))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)


def size(text: str) -> "Size":
    """A `Size`: 1920x1080 or 1080p."""
    from keras_megan.video.request.size import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def tile(text: str) -> int | str:
    """ "auto" or a number of pixels."""
    if text == "auto":
        return text
    if text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(
        f"expected 'auto', a number of pixels, or 0 for no tiles. Received: '{text}'"
    )


def threshold(text: str) -> float:
    """A score from 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 0 to 100. Received: '{text}'")
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"expected a whole number above 0. Received: '{text}'"
    )


def address(text: str) -> str:
    """Where a cluster of Ray is: host:port, or "auto" for the one this is part of."""
    host, colon, port = text.rpartition(":")
    if text == "auto" or (host and colon and port.isdigit()):
        return text
    raise argparse.ArgumentTypeError(
        "expected nothing, for this machine, or HOST:PORT. Inputs go before it. "
        f"Received: '{text}'"
    )
