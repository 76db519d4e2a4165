"""A tool for the agent: when we are open. Copy it into TOOLS_DIR and put your own hours in."""

from typing import Literal

HOURS = {
    "monday": "9:00 to 18:00",
    "tuesday": "9:00 to 18:00",
    "wednesday": "9:00 to 13:00",
    "thursday": "9:00 to 18:00",
    "friday": "9:00 to 16:00",
}


def opening_hours(
    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None = None,
) -> str | dict[str, str]:
    """Tell when the shop is open. Use it whenever the caller asks about opening hours.

    Args:
        day: The day of the week, or nothing for the whole week.
    """
    if day is None:
        return HOURS
    return HOURS.get(day, "closed all day")
