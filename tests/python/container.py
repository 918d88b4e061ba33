#!/usr/bin/env python3
"""A container by the protocol alone: `container.py IMAGE CODEC GUEST DIRECTORY`.

IMAGE is an init that can supervise and speaks CODEC, GUEST the static program of the tests,
DIRECTORY an empty one for the root and the listening socket. Namespaces are made by unshare(1);
the init does the rest. Each step is checked, and printed when it holds.
"""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

from codec import CODECS
from wire import FIRST_MADE_SLOT, Client, Connection, Gone, NotSpawned, Refused, frame, part, split

MS_PRIVATE_REC = 0x40000 | 0x4000
NOSUID_NODEV_NOEXEC = 2 | 4 | 8
NULL = {"mode": 0o020666, "major": 1, "minor": 3, "uid": 0, "gid": 0}

NAMESPACES = ["--mount", "--pid", "--uts", "--ipc", "--net"]


def holds(condition, what):
    if not condition:
        sys.exit(f"does not hold: {what}")
    print(f"ok: {what}")


def launch(image, codec):
    """Executes the init as process 1 of new namespaces: its parent, and our end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = ["unshare", *NAMESPACES, "--propagation", "unchanged", "--fork", "--kill-child"]
    control = theirs.fileno()
    init = subprocess.Popen(
        [*command, image, f"--control={control}"], stdin=subprocess.DEVNULL, pass_fds=[control]
    )
    theirs.close()
    return init, Connection(ours, codec)


def container(image, codec, root, listener):
    """A container whose init supervises: the process, and its first client."""
    init, connection = launch(image, codec)
    tree, proc, dev, pts = range(FIRST_MADE_SLOT, FIRST_MADE_SLOT + 4)

    def mount(slot, fstype, *options, attributes=0):
        fields = {"into": slot, "fstype": fstype, "options": options, "attributes": attributes}
        return "MakeMount", fields

    def attach(slot, at):
        return "Attach", {"mount": slot, "at": at, "create": "Directory", "follow": False}

    plan = part(
        ("Propagation", {"flags": MS_PRIVATE_REC}),
        ("OpenTree", {"into": tree, "path": root, "recursive": False}),
        mount(proc, "proc", attributes=NOSUID_NODEV_NOEXEC),
        ("Root", {"tree": tree, "at": root}),
        ("PivotRoot", {}),
        attach(proc, "/proc"),
        mount(dev, "tmpfs", "mode", "755"),
        attach(dev, "/dev"),
        ("MakeNode", {"path": "/dev/null", **NULL}),
        mount(pts, "devpts", "newinstance", "", "ptmxmode", "0666", "mode", "0620"),
        attach(pts, "/dev/pts"),
        ("HostName", {"name": "box"}),
        ("Loopback", {}),
        ("Supervise", {"listener": 0}),
        codec=codec,
    )
    connection.send("Part", plan, [listener.fileno()])
    report, _ = connection.receive()
    holds(report.name == "Supervising", f"a container is made, and supervised: {report}")
    return init, Client(connection)


def output_of(client, args, **more):
    """What a process writes, as JSON, and how it ended."""
    reading, writing = os.pipe()
    with open("/dev/null", "r+b") as null, os.fdopen(reading) as output:
        stdio = [null.fileno(), writing, null.fileno()]
        process = client.spawn(args, stdio=stdio, **more)
        os.close(writing)
        end = client.end(process)
        return json.loads(output.readline()), end


def processes(client):
    """The main process and others: what they are, and how they end."""
    main = client.spawn(["/guest", "sleep"], main=True)
    holds(main.pid > 1 and main.pidfd is not None, f"the main process is spawned: {main.pid}")

    report, end = output_of(
        client,
        ["/guest", "report"],
        env=["NAME=value"],
        before=[("Session", {}), ("Umask", {"mask": 0o27})],
    )
    holds(end.code == 0 and end.signal == 0, "a second process exits with 0")
    holds(report["ppid"] == 1 and report["env"] == ["NAME=value"], "it is the init's child")
    holds(report["umask"] == 0o27 and report["sid"] == report["pid"], "operations came first")
    holds(len(report["descriptors"]) == 3, "it has its stdio and nothing else")

    for code in (0, 7, 255):
        end = client.end(client.spawn(["/guest", "exit", str(code)]))
        holds((end.code, end.signal) == (code, 0), f"an exit status comes back: {code}")

    end = client.end(client.spawn(["/guest", "spin", "100", ",", "memory", "8"]))
    used = f"{end.user + end.system} us, {end.max_rss} KiB, {end.minor_faults} faults"
    holds(end.user + end.system > 10_000, f"and what was used: {used}")
    holds(end.max_rss >= 8 * 1024 and end.minor_faults > 2048, "memory too")
    return main


def terminal(client):
    """A process with a terminal, whose size changes."""
    console = ("Console", {"rows": 24, "columns": 80, "uid": 0, "bind": False})
    process = client.spawn(["/guest", "report", ",", "echo", ",", "report"], before=[console])
    with os.fdopen(process.terminal, "r+b", buffering=0) as master:
        lines = lines_of(master)
        seen = json.loads(next(lines))["terminal"]
        holds((seen["rows"], seen["columns"]) == (24, 80), "a process has a terminal of 80x24")
        holds(client.resize(process, 50, 132) == 0, "its size is changed")
        # The end of what is typed: the process stops copying, and looks again.
        master.write(b"\x04")
        seen = json.loads(next(lines))["terminal"]
        holds((seen["rows"], seen["columns"]) == (50, 132), "the process sees the new size")
        holds(client.end(process).code == 0, "and ends")


def lines_of(master):
    """The lines that are written to a terminal, up to its hangup."""
    text = b""
    while True:
        try:
            text += master.read(4096)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return
        *lines, text = text.split(b"\n")
        yield from lines


def others(client, listener, main):
    """Lists, signals, and a second client."""
    sleeper = client.spawn(["/guest", "sleep"])
    expected = {main.number: main.pid, sleeper.number: sleeper.pid}
    holds(client.processes() == expected, f"they are listed: {expected}")
    second = Client.connect(listener, client.connection.codec)
    holds(second.processes() == expected, "a second client sees the same")
    holds(second.signal(sleeper, signal.SIGUSR1) == 0, "and sends a signal")
    end = client.end(sleeper)
    holds((end.code, end.signal) == (0, signal.SIGUSR1), "whose effect its maker hears")
    holds(second.signal(sleeper, 0) == errno.ESRCH, "a process that is gone is not found")
    holds(second.resize(main, 1, 1) == errno.ENOTTY, "one without a terminal has no size")
    second.connection.close()


def refusals(client, listener):
    """What is refused, and how."""
    not_spawned(client, ["/missing"], (1, "Exec", errno.ENOENT), "an unknown program")
    limit = ("Rlimit", {"resource": 99, "soft": 1, "hard": 1})
    not_spawned(client, ["/guest"], (2, "Rlimit", errno.EINVAL), "a limit", ("Session", {}), limit)
    not_spawned(client, ["/guest"], (0, "Supervise", errno.EBUSY), "a second main", main=True)
    for what, send in (
        ("a request with an unknown number", lambda it: it.send("Request", b"\x63")),
        ("bytes behind a request", lambda it: it.send("Request", b"\x03\x00")),
        ("what is no request", lambda it: it.send("Proceed")),
        ("another version", lambda it: it.send("Request", b"\x03", version=2)),
    ):
        liar = Client.connect(listener, client.connection.codec)
        send(liar.connection)
        try:
            said = liar.connection.receive()
            holds(False, f"{what} is answered by the end, and not by {said}")
        except Gone:
            print(f"ok: {what} ends the connection it came on")
    holds(client.end(client.spawn(["/guest", "exit", "3"])).code == 3, "and nobody else's")


def not_spawned(client, args, expected, what, *before, main=False):
    try:
        client.spawn(args, before=before, main=main)
    except NotSpawned as error:
        report = error.report
        holds((report.step, report.call, report.errno) == expected, f"{what}: {error}")
    else:
        holds(False, f"{what} is refused")


def versions(image, codec):
    """Both sides refuse another version, and say so."""
    for what, body, version, expected in (
        ("another version", part(codec=codec), 2, (0, "Receive", 3, errno.EPROTO)),
        ("an unknown operation", b"\x01\x01\x00\x00\xc8", 1, (1, "Decode", 0, errno.EPROTO)),
    ):
        init, connection = launch(image, codec)
        connection.send("Part", body, version=version)
        report, _ = connection.receive()
        said = (report.step, report.call, report.detail, report.errno)
        holds(report.name == "Failed" and said == expected, f"the init refuses {what}: {report}")
        holds(init.wait(20) == 125, "and exits with 125")
    try:
        split(frame("Report", b"\x08", version=2), 0, 0)
    except Refused as error:
        holds(error.code == 3, f"this client does, too: {error}")
    else:
        holds(False, "this client refuses another version")


def main():
    image, codec, guest, directory = sys.argv[1:]
    codec = CODECS[codec]
    root, name = os.path.join(directory, "root"), os.path.join(directory, "socket")
    os.makedirs(os.path.join(root, "proc"))
    shutil.copy(guest, os.path.join(root, "guest"))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(name)
    listener.listen()

    versions(image, codec)
    init, client = container(image, codec, root, listener)
    try:
        main_process = processes(client)
        terminal(client)
        others(client, name, main_process)
        refusals(client, name)
        holds(client.shutdown(signal.SIGTERM, 10_000) == 0, "it is shut down")
        end = client.end(main_process)
        holds((end.code, end.signal) == (0, signal.SIGTERM), "the main process is told so")
        # The container ends as its main process did.
        holds(init.wait(20) == 128 + signal.SIGTERM, "the init ends with its status")
    finally:
        init.kill()
        init.wait()


if __name__ == "__main__":
    main()
