#!/usr/bin/env python3
"""Holds this client against the vectors in proto/vectors: `vectors.py DIRECTORY`.

Each message is decoded, said as the vectors say it, and encoded again; what must be refused is.
"""

import pathlib
import sys

import wire
from codec import CODECS, Malformed, Reader, read_field, write_field
from messages import (
    CALLS,
    ENUMERATIONS,
    OPERATIONS,
    PART,
    REPORTS,
    REQUESTS,
    Message,
    decode,
    decode_fields,
    decode_whole,
    encode,
    encode_fields,
)


def read(path):
    """The vectors of a file: a title, and lines of a word and the rest."""
    vectors = []
    for line in path.read_text().splitlines():
        if line.startswith("  "):
            key, _, value = line.strip().partition(" ")
            vectors[-1][1].append((key, value))
        elif line and not line.startswith("#"):
            vectors.append((line, []))
    return vectors


def said(message):
    """A message as the vectors print it."""
    fields = [f"{name}: {value(kind, message.fields[name])}" for name, kind in message.kinds]
    return f"{message.name} {{ {', '.join(fields)} }}" if fields else message.name


def value(kind, it):
    match kind:
        case "slot":
            return f"Slot({it})"
        case "text":
            return f"Text({quoted(it)})"
        case "strings":
            return f"[{', '.join(map(quoted, it))}]"
        case "bytes" | "words":
            return str(list(it))
        case "bool":
            return str(it).lower()
    return str(it)


def quoted(text):
    text = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return '"' + text.decode("utf-8", "backslashreplace") + '"'


def expect(real, expected, what):
    if real != expected:
        sys.exit(f"{what}: {real!r} and not {expected!r}")


def messages(path, table):
    """Numbered messages in both codecs, and that each of this client has one."""
    seen = set()
    for title, lines in read(path):
        number = int(title.split()[0])
        seen.add(number)
        if number >= len(table):
            sys.exit(f"{title}: unknown to this client")
        for name, written in lines:
            codec, data = CODECS[name], bytes.fromhex(written)
            message = decode_whole(codec, table, data)
            expect(f"{number} {said(message)}", title, f"{path.name}: {name}")
            expect(encode(codec, table, message.name, **message.fields), data, title)
    expect(seen, set(range(len(table))), f"numbers in {path.name}")


def calls(path):
    vectors = read(path)
    for title, lines in vectors:
        for name, written in lines:
            codec, data = CODECS[name], bytes.fromhex(written)
            call = read_field(codec, "call", Reader(data), ENUMERATIONS)
            expect(f"{CALLS.index(call)} {call}", title, f"{path.name}: {name}")
            expect(write_field(codec, "call", call, ENUMERATIONS), data, title)
    expect(len(vectors), len(CALLS), f"calls in {path.name}")


def parts(path):
    for title, lines in read(path):
        for name, written in lines:
            codec, data = CODECS[name], bytes.fromhex(written)
            reader = Reader(data)
            fields = decode_fields(codec, PART, reader)
            expect(reader.left(), 0, title)
            expect(said(Message("Part", PART, fields)), title, f"{path.name}: {name}")
            expect(encode_fields(codec, PART, fields), data, title)


def frames(path):
    seen = set()
    for title, lines in read(path):
        about, data = dict(lines), bytes.fromhex(dict(lines)["bytes"])
        codec = CODECS[about["codec"]]
        sequence, descriptors = int(about["sequence"]), int(about["descriptors"])
        kind, body = wire.split(data, descriptors, sequence, codec)
        seen.add(kind)
        expect(f"{kind} {wire.TYPES[kind]}", about["type"], title)
        expect(body, bytes.fromhex(about["body"]), title)
        expect(wire.frame(kind, body, descriptors, sequence, codec), data, title)
        if kind == "Part":
            reader = Reader(body)
            count = decode_fields(codec, PART, reader)["operations"]
            ops = [said(decode(codec, OPERATIONS, reader)) for _ in range(count)]
            expect(reader.left(), 0, title)
            expect(ops, [text for key, text in lines if key == "operation"], title)
        elif kind in ("Request", "Report"):
            decode_whole(codec, REQUESTS if kind == "Request" else REPORTS, body)
    expect(seen, set(wire.TYPES), f"types in {path.name}")


def frozen(path):
    """The vectors as they were released: fields and their types, and bytes."""
    tables = {"operation": OPERATIONS, "request": REQUESTS, "report": REPORTS}
    for title, lines in read(path):
        kind, number, name = title.split()
        if kind not in tables:
            continue
        about = dict(lines)
        known, kinds = tables[kind][int(number)]
        expect(known, name, title)
        expect(", ".join(map(" ".join, kinds)), about.get("fields", ""), title)
        for codec in CODECS:
            data = bytes.fromhex(about[codec])
            message = decode_whole(CODECS[codec], tables[kind], data)
            expect(encode(CODECS[codec], tables[kind], name, **message.fields), data, title)


def refused(path):
    tables = {"operation": OPERATIONS, "request": REQUESTS, "report": REPORTS}
    for title, lines in read(path):
        about = dict(lines)
        codec, data = CODECS[about["codec"]], bytes.fromhex(about["bytes"])
        try:
            if about["as"] == "frame":
                wire.split(data, int(about["descriptors"]), int(about["sequence"]), codec)
            elif about["as"] == "part":
                decode_fields(codec, PART, Reader(data))
            else:
                decode_whole(codec, tables[about["as"]], data)
        except wire.Refused as error:
            expect(str(error.code), about["error"].split()[0], title)
        except Malformed as error:
            expect(type(error).__name__, about["error"], title)
        else:
            sys.exit(f"{title}: not refused")


def main():
    vectors = pathlib.Path(sys.argv[1])
    checks = {
        "operations.txt": lambda path: messages(path, OPERATIONS),
        "requests.txt": lambda path: messages(path, REQUESTS),
        "reports.txt": lambda path: messages(path, REPORTS),
        "calls.txt": calls,
        "parts.txt": parts,
        "frames.txt": frames,
        "refused.txt": refused,
        "version-1.txt": frozen,
    }
    for name, check in checks.items():
        check(vectors / name)
        print(f"{name}: {len(read(vectors / name))} vectors")


if __name__ == "__main__":
    main()
