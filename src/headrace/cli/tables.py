"""What a server says, as a table for people; nothing in it is taken for the terminal's own."""

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 160
"""Where no terminal says how wide it is."""


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """The last column takes what is left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, head in enumerate(heads):
        table.add_column(head, overflow="fold" if at == len(heads) - 1 else "ellipsis")
    for row in rows:
        table.add_row(*(each if isinstance(each, Text) else Text(printable(each)) for each in row))
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)


def printable(text: str) -> str:
    """A text that somebody else wrote, on one line."""
    return "".join(each if each.isprintable() else " " for each in text)
