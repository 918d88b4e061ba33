"""The two codecs of proto/WIRE.md and its types, from that page alone."""

import struct


class Malformed(Exception):
    """Bytes that are no message."""


class TrailingBytes(Malformed):
    """A message, and bytes after it."""


class Reader:
    """Bytes that are taken from the front."""

    def __init__(self, data):
        self.data, self.place = data, 0

    def take(self, count):
        if count > len(self.data) - self.place:
            raise Malformed("ends early")
        self.place += count
        return self.data[self.place - count : self.place]

    def left(self):
        return len(self.data) - self.place


class Bincode:
    """A byte up to 250, or a mark and the value in little-endian."""

    NUMBER = 1
    MARKS = {251: 2, 252: 4, 253: 8}

    @classmethod
    def write(cls, value):
        if value <= 250:
            return bytes([value])
        for mark, length in cls.MARKS.items():
            if value < 1 << 8 * length:
                return bytes([mark]) + value.to_bytes(length, "little")
        raise OverflowError(value)

    @classmethod
    def read(cls, reader, bits):
        mark = reader.take(1)[0]
        if mark <= 250:
            return mark
        length = cls.MARKS.get(mark)
        if length is None or 8 * length > bits:
            raise Malformed(f"mark {mark} for {bits} bits")
        return int.from_bytes(reader.take(length), "little")


class Postcard:
    """LEB128."""

    NUMBER = 2

    @staticmethod
    def write(value):
        written = bytearray()
        while value > 0x7F:
            written.append(value & 0x7F | 0x80)
            value >>= 7
        written.append(value)
        return bytes(written)

    @staticmethod
    def read(reader, bits):
        value = 0
        for shift in range(0, bits, 7):
            byte = reader.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> bits:
                    raise Malformed(f"more than {bits} bits")
                return value
        raise Malformed("does not end")


CODECS = {"bincode": Bincode, "postcard": Postcard}

INTEGERS = {"u16": 16, "u32": 32, "u64": 64, "slot": 16}


def write_field(codec, kind, value, names):
    """A field in bytes; `names` are those of the enumeration, where it is one."""
    if kind in INTEGERS:
        if not 0 <= value < 1 << INTEGERS[kind]:
            raise OverflowError(f"{value} as {kind}")
        return codec.write(value)
    if kind == "bool":
        return b"\x01" if value else b"\x00"
    if kind in names:
        return codec.write(names[kind].index(value))
    if kind == "text":
        value = as_bytes(value) + b"\0"
    elif kind == "strings":
        value = b"".join(as_bytes(text) + b"\0" for text in value)
    elif kind == "words":
        value = struct.pack(f"<{len(value)}I", *value)
    return codec.write(len(value)) + value


def read_field(codec, kind, reader, names):
    """The field at the front."""
    if kind in INTEGERS:
        return codec.read(reader, INTEGERS[kind])
    if kind == "bool":
        byte = reader.take(1)[0]
        if byte > 1:
            raise Malformed(f"a boolean of {byte}")
        return byte == 1
    if kind in names:
        number = codec.read(reader, 32)
        if number >= len(names[kind]):
            raise Malformed(f"{kind} {number}")
        return names[kind][number]
    value = reader.take(codec.read(reader, 64))
    if kind == "text":
        if value[-1:] != b"\0" or b"\0" in value[:-1]:
            raise Malformed("a text does not end in its only NUL")
        return value[:-1]
    if kind == "strings":
        if value and value[-1] != 0:
            raise Malformed("strings do not end in NUL")
        return value.split(b"\0")[:-1]
    if kind == "words":
        if len(value) % 4:
            raise Malformed("part of a word")
        return list(struct.unpack(f"<{len(value) // 4}I", value))
    return value


def as_bytes(text):
    return text.encode() if isinstance(text, str) else text
