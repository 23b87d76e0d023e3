"""A PNG's pixels without what programs wrote beside them.

In: the bytes of a PNG. Out: the same pixels, to the byte of their compression; no text, EXIF,
thumbnail, time or workflow, and nothing behind the end.
"""

from perfusion_core.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# what decides how the pixels look
KEPT = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"IDAT", b"IEND"}


def pixels_alone(content: bytes, name: str) -> bytes:
    """Of one file; `name` is for the sentence where it is none."""
    if not content.startswith(SIGNATURE):
        raise UserError(f"{name} is no PNG, and is not published; draw or import it again")
    parts, place, chunk = [SIGNATURE], len(SIGNATURE), b""
    while place < len(content) and chunk != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        chunk, end = content[place + 4 : place + 8], place + 12 + length
        if end > len(content):
            break
        if chunk in KEPT:
            parts.append(content[place:end])
        place = end
    if chunk != b"IEND" or len(parts) < 3:
        raise UserError(f"{name} is cut short, and is not published; draw or import it again")
    return b"".join(parts)
