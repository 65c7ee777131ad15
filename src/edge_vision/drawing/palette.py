"""Colours that stay apart for colour-blind eyes, and text that stays legible on them."""

from __future__ import annotations

Colour = tuple[int, int, int]
"""B, G, R in 0..255."""

# Okabe and Ito, Color Universal Design (2008), without black, as RGB; strong neighbours first.
_OKABE_ITO = (
    (0x56, 0xB4, 0xE9),  # sky blue
    (0xE6, 0x9F, 0x00),  # orange
    (0x00, 0x9E, 0x73),  # bluish green
    (0xCC, 0x79, 0xA7),  # reddish purple
    (0xF0, 0xE4, 0x42),  # yellow
    (0xD5, 0x5E, 0x00),  # vermilion
    (0x00, 0x72, 0xB2),  # blue
)


def _lighter(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    r, g, b = (value + (255 - value) * 11 // 20 for value in colour)
    return r, g, b


PALETTE: tuple[Colour, ...] = tuple(
    (b, g, r) for r, g, b in (*_OKABE_ITO, *(_lighter(colour) for colour in _OKABE_ITO))
)

DARK: Colour = (24, 24, 24)
LIGHT: Colour = (255, 255, 255)


def colour_of(number: int) -> Colour:
    """The colour of a class or a track id: always the same, different for 14 numbers in a row."""
    return PALETTE[number % len(PALETTE)]


def text_colour(background: Colour) -> Colour:
    """Dark or light, whichever has the higher contrast on ``background`` (WCAG 2.1 relative luminance)."""
    linear = [(v / 3294.6 if v <= 10 else ((v / 255.0 + 0.055) / 1.055) ** 2.4) for v in background]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    return DARK if luminance > 0.179 else LIGHT
