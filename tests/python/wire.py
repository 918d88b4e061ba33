"""Frames, plans and clients of an init, from proto/WIRE.md alone.

`Connection` carries frames, `plan` makes a part of a plan, and `Client` asks an init that
supervises.
"""

import array
import os
import select
import socket
import struct

from codec import Bincode
from messages import OPERATIONS, PART, REPORTS, REQUESTS, decode_whole, encode, encode_fields

MAGIC = b"pid1"
VERSION = 1
HEADER = struct.Struct("<4sBBBBII")
LONGEST = 65536
MOST_DESCRIPTORS = 253
FIRST_MADE_SLOT = 256

TYPES = {
    "Part": 1,
    "PartInMemfd": 2,
    "Proceed": 3,
    "Start": 4,
    "Request": 5,
    "RequestInMemfd": 6,
    "Report": 129,
}


class Refused(Exception):
    """A message that is refused by its header; `code` is the page's number for why."""

    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


class Gone(Exception):
    """The other end is closed, or says nothing."""


def frame(kind, body=b"", descriptors=0, sequence=0, codec=Bincode, version=VERSION):
    """A message in bytes."""
    head = (MAGIC, version, codec.NUMBER, TYPES[kind], descriptors, sequence, len(body))
    return HEADER.pack(*head) + body


def split(message, descriptors, sequence, codec=Bincode):
    """Type and body of a message that came whole, checked in the order of the page."""
    if len(message) < HEADER.size:
        raise Refused(1, "shorter than a header")
    magic, version, number, kind, count, its_sequence, length = HEADER.unpack_from(message)
    if magic != MAGIC:
        raise Refused(2, "a wrong magic number")
    if version != VERSION:
        raise Refused(3, f"the other side speaks version {version}, and this one {VERSION}")
    if number != codec.NUMBER:
        raise Refused(4, f"codec {number} and not {codec.NUMBER}")
    name = next((name for name, known in TYPES.items() if known == kind), None)
    if name is None:
        raise Refused(5, f"unknown type {kind}")
    if count != descriptors or descriptors > MOST_DESCRIPTORS:
        raise Refused(7, f"{descriptors} descriptors came, and {count} were told")
    if its_sequence != sequence:
        raise Refused(8, f"message {its_sequence} where {sequence} belongs")
    body = message[HEADER.size :]
    if len(body) != length:
        raise Refused(6, f"{len(body)} bytes came, and {length} were told")
    return name, body


def operations(*ops, codec=Bincode):
    """Operations in bytes, in order. Each is a name and its fields."""
    return b"".join(encode(codec, OPERATIONS, name, **fields) for name, fields in ops)


def part(*ops, first=1, more=False, codec=Bincode):
    """The body of a part of a plan."""
    head = {"first": first, "operations": len(ops), "more": more, "timed": False}
    return encode_fields(codec, PART, head) + operations(*ops, codec=codec)


class Connection:
    """One end of the socket, and the counts of both directions."""

    def __init__(self, own, codec=Bincode):
        self.socket, self.codec = own, codec
        self.sent = self.received = 0

    def send(self, kind, body=b"", fds=(), version=VERSION):
        message = frame(kind, body, len(fds), self.sent, self.codec, version)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([message], rights, socket.MSG_NOSIGNAL)
        self.sent += 1

    def receive(self, patience=20):
        """The next report and its descriptor, or None."""
        if not select.select([self.socket], [], [], patience)[0]:
            raise Gone("says nothing")
        space = socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)
        try:
            message, ancillary, flags, _ = self.socket.recvmsg(
                LONGEST, space, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            message, ancillary, flags = b"", [], 0
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not message:
            raise Gone("the end")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Refused(0, "cut")
        kind, body = split(message, len(fds), self.received, self.codec)
        self.received += 1
        if kind != "Report" or len(fds) > 1:
            raise Refused(5, f"an init does not send {kind} with {len(fds)} descriptors")
        return decode_whole(self.codec, REPORTS, body), fds[0] if fds else None

    def close(self):
        self.socket.close()


class NotSpawned(Exception):
    """A process that was not spawned: step, call, detail and errno of its `report`."""

    def __init__(self, report):
        super().__init__(f"step {report.step}: {report.call}: {os.strerror(report.errno)}")
        self.report = report


class Process:
    """A process that an init has spawned."""

    def __init__(self, number, pid, pidfd, terminal):
        self.number, self.pid, self.pidfd, self.terminal = number, pid, pidfd, terminal


class Client:
    """A client of an init that supervises."""

    def __init__(self, connection):
        self.connection = connection
        self.tags = 0
        # Reports of processes that have ended, by their number: they come when they come.
        self.ended = {}

    @classmethod
    def connect(cls, path, codec=Bincode):
        """Another client, by the listening socket's name."""
        own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.connect(path)
        return cls(Connection(own, codec))

    def ask(self, request, fds=(), /, **fields):
        codec = self.connection.codec
        self.connection.send("Request", encode(codec, REQUESTS, request, **fields), fds)

    def answer(self, *names):
        """The next report of one of these names; the end of a process is kept for later."""
        while True:
            report, fd = self.connection.receive()
            if report.name in names:
                return report, fd
            if report.name != "Exited":
                raise Refused(0, f"unexpected {report}")
            self.ended[report.process] = report

    def spawn(self, args, env=(), before=(), stdio=(), main=False):
        """Spawns a program. `before` are operations that its process runs first, `stdio` its
        descriptors from 0 up; without any it has the init's."""
        self.tags += 1
        ops = list(before)
        if stdio:
            ops.insert(0, ("Stdio", {"count": len(stdio)}))
        program = {"candidates": args[:1], "arguments": args, "environment": env}
        ops.append(("Exec", program | {"preserved": 0, "filter_flags": 0, "filter": b""}))
        plan = operations(*ops, codec=self.connection.codec)
        self.ask("Spawn", stdio, tag=self.tags, main=main, operations=len(ops), plan=plan)
        report, fd = self.answer("Spawned", "NotSpawned", "SpawnConsole")
        terminal = None
        if report.name == "SpawnConsole":
            terminal = fd
            report, fd = self.answer("Spawned", "NotSpawned")
        if report.name == "NotSpawned":
            raise NotSpawned(report)
        return Process(report.process, report.pid, fd, terminal)

    def done(self):
        """The errno of what was asked for last; 0 if it is done."""
        return self.answer("Done")[0].errno

    def signal(self, process, signal, group=False):
        self.ask("Signal", process=process.number, signal=signal, group=group)
        return self.done()

    def resize(self, process, rows, columns):
        self.ask("Resize", process=process.number, rows=rows, columns=columns)
        return self.done()

    def processes(self):
        """Numbers and ids of the processes that run."""
        self.ask("List")
        listed, more = {}, True
        while more:
            report, _ = self.answer("Processes")
            listed |= dict(zip(report.processes[::2], report.processes[1::2]))
            more = report.more
        return listed

    def end(self, process):
        """How a process ended."""
        while process.number not in self.ended:
            report, _ = self.answer("Exited")
            self.ended[report.process] = report
        return self.ended.pop(process.number)

    def shutdown(self, signal, patience):
        """Ends everything, after so many milliseconds by force."""
        self.ask("Shutdown", signal=signal, patience=patience)
        return self.done()
