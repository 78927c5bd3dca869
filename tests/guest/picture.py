"""What a picture of a screen shows: picture.py FILE.png WIDTHxHEIGHT CELL WORD... says what is not there."""
import struct
import sys
import zlib


def pixels(name):
    """A PNG file of 8-bit RGB without interlacing as rows of (r, g, b)."""
    data = open(name, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert (depth, colour, interlace) == (8, 2, 0)
        if kind == b"IDAT":
            packed += body
        at += 12 + size
    raw, stride, rows, before = zlib.decompress(packed), width * 3, [], bytes(width * 3)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left, up, corner = line[i - 3] if i >= 3 else 0, before[i], before[i - 3] if i >= 3 else 0
            if kind == 1:
                line[i] = (line[i] + left) & 255
            elif kind == 2:
                line[i] = (line[i] + up) & 255
            elif kind == 3:
                line[i] = (line[i] + (left + up) // 2) & 255
            elif kind == 4:
                estimate = left + up - corner
                pa, pb, pc = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
                line[i] = (line[i] + (left if pa <= pb and pa <= pc else up if pb <= pc else corner)) & 255
        before = bytes(line)
        rows.append(before)
    return width, height, rows


# Letters of the VGA's 8x16 character set, a byte a line.
GLYPHS = {
    "B": "0000fc6666667c66666666fc00000000",
    "D": "0000f86c6666666666666cf800000000",
    "G": "00003c66c2c0c0dec6c6663a00000000",
    "H": "0000c6c6c6c6fec6c6c6c6c600000000",
    "I": "00003c18181818181818183c00000000",
    "R": "0000fc6666667c6c666666e600000000",
    "U": "0000c6c6c6c6c6c6c6c6c67c00000000",
    " ": "00" * 16,
}


def shows(word, width, height, rows, cell=8):
    """True if the word stands somewhere on the grid of characters of 8 dots (a VGA's text mode: and a blank one)."""
    want = [bytes.fromhex(GLYPHS[letter]) for letter in word]
    for top in range(0, height - 15, 16):
        for left in range(0, width - cell * len(word) + 1, cell):
            if all(((rows[top + y][3 * (left + cell * n + x)] > 96) == bool(glyph[y] >> (7 - x) & 1))
                   for n, glyph in enumerate(want) for y in range(16) for x in range(8)):
                return True
    return False


if __name__ == "__main__":
    shown = pixels(sys.argv[1])
    wrong = [] if f"{shown[0]}x{shown[1]}" == sys.argv[2] else [f"it is {shown[0]}x{shown[1]}"]
    wrong += [f"no {word}" for word in sys.argv[4:] if not shows(word, *shown, cell=int(sys.argv[3]))]
    print("; ".join(wrong))
    sys.exit(1 if wrong else 0)
