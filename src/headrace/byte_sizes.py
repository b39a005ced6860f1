"""Amounts of memory as people write and read them: 600MiB, 4GiB, 2g."""

import re
from typing import Any

WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:(b|kb|mb|gb|tb)|([kmgt])(?:ib)?)?", re.IGNORECASE | re.ASCII)
POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
"""First letter of a unit → how many times it is a thousand, or 1024."""
DECIMAL, BINARY = 1000, 1024
DIGITS = 3
"""Of an amount in words; more are never needed to tell two apart that matter."""
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def byte_size(given: Any) -> Any:
    """Bytes of an amount in words; what is no text is left as it is. MB is a million, MiB and m are 1024 times 1024.

    Raises:
        ValueError: the words are none.
    """
    if not isinstance(given, str):
        return given
    match = WRITTEN.fullmatch(given.strip())
    if match is None:
        raise ValueError("should be bytes, as in 600MiB, 4GiB, 2.5g or 1000000")
    number, decimal, binary = match.groups()
    unit = DECIMAL if decimal else BINARY
    return round(float(number) * unit ** POWERS.get((decimal or binary or "b")[0].lower(), 0))


def in_words(nbytes: float) -> str:
    """The amount to three digits, in the largest unit of which there is one: 8.13 GiB, 600 MiB."""
    amount, power = float(nbytes), 0
    while abs(amount) >= BINARY and power < len(UNITS) - 1:
        amount /= BINARY
        power += 1
    decimals = max(0, DIGITS - len(str(int(abs(amount)))))
    return f"{round(amount, decimals):g} {UNITS[power]}"
