"""A box on the earth, as catalogues of maps and imagery are asked for one."""

from __future__ import annotations

from rsvlm.errors import UserError

#: West, south, east, north in degrees.
Bounds = tuple[float, float, float, float]


def bounds_of(text: str) -> Bounds:
    """West, south, east, north in degrees, of a text such as `-122.5,37.7,-122.4,37.8`.

    Raises:
        UserError: it is none, or its sides are not in that order.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{text!r} is no box: give west,south,east,north in degrees, as "
            "--bbox=-122.5,37.7,-122.4,37.8 (with =, since it may begin with a minus)."
        ) from None
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise UserError(
            f"the box {text} is empty or leaves the earth: it is west,south,east,north in "
            "degrees, west below east and south below north. One across 180 degrees is two boxes."
        )
    return west, south, east, north
