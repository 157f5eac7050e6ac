"""Everything a page can name: keys, coloured shapes, bars, numbers, yes and no; and their places in one list."""

from __future__ import annotations

KEYS = ("TOTAL", "DATE", "NAME", "CITY", "CODE", "ITEM", "UNIT", "RATE", "PAGE", "ROOM", "SEAT", "GATE",
        "TEAM", "PLAN", "TYPE", "SIZE", "COST", "TAX", "FEE", "SUM", "NET", "DUE", "BANK", "REF",
        "ZIP", "TEL", "FAX", "LOT", "NOTE", "DESK")
COLOURS = {"red": (215, 40, 40), "green": (40, 165, 60), "blue": (50, 80, 225), "yellow": (230, 200, 30),
           "purple": (150, 60, 175), "cyan": (40, 190, 205)}
SHAPES = ("circle", "square", "triangle", "cross", "diamond", "ring")
BAR = "bar"
NUMBERS = ("1", "2", "3", "4")
YES, NO = "yes", "no"

COLOURED_SHAPES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
OBJECTS = (*COLOURED_SHAPES, *(f"{colour} {BAR}" for colour in COLOURS))
CONCEPTS = (*KEYS, *OBJECTS, *SHAPES, *COLOURS, *NUMBERS, YES, NO)
CONCEPT_ID = {name: place for place, name in enumerate(CONCEPTS)}
OBJECT_ID = {name: place for place, name in enumerate(OBJECTS)}


def plural(shape: str) -> str:
    """More than one of a shape, in words."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"
