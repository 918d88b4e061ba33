"""Operations, requests and reports of proto/WIRE.md: their numbers, names and fields."""

from codec import Malformed, Reader, TrailingBytes, read_field, write_field

CREATE = ("Nothing", "Directory", "File")

CALLS = tuple(
    """
    Receive Decode Send Slot Open Stat MakeDirectory MakeNode MakeLink MakeFile ChangeOwner
    Remove NodeDiffers FsOpen FsConfig FsCreate FsMount Mount OpenTree MountSetAttr MoveMount
    PivotRoot Unmount Chroot ChangeDirectory SetNamespaces Clone Unshare Socket Ioctl HostName
    Write Terminal Session Duplicate Rlimit BoundingSet Groups SetGid SetUid CapSet Ambient
    NoNewPrivileges Seccomp ParentDeath ParentGone Memory CloseRange Exec Interpreter Accept
    DomainName Keyring Personality Scheduler IoPriority Affinity MemoryPolicy Read Attributes
    Supervise Limit
    """.split()
)

# The enumerations without fields.
ENUMERATIONS = {"create": CREATE, "call": CALLS}


def table(text):
    """Messages in the order of their numbers, from 0 up: name, and fields as (name, type)."""
    messages = []
    for line in text.strip().splitlines():
        name, _, fields = line.strip().partition(": ")
        messages.append((name, [tuple(field.split()) for field in fields.split(", ") if field]))
    return messages


OPERATIONS = table(
    """
    SetNamespaces: target slot, flags u32
    Fork: flags u32
    Unshare: flags u32
    Barrier: id u32
    Loopback
    Propagation: flags u32
    MakeMount: into slot, fstype text, options strings, attributes u32
    OpenTree: into slot, path text, recursive bool
    SetAttributes: mount slot, set u64, clear u64, propagation u64, recursive bool
    Root: tree slot, at text
    PivotRoot
    MoveRoot
    Chroot: directory slot
    Attach: mount slot, at text, create create, follow bool
    LegacyMount: source text, fstype text, flags u32, data text, at text
    MakeDirectory: path text, mode u32
    MakeNode: path text, mode u32, major u32, minor u32, uid u32, gid u32
    MakeLink: target text, path text, replace bool
    Mask: path text, file slot, directory slot
    ReadOnly: path text
    ReadOnlyRoot
    ReopenNull
    HostName: name text
    Sysctl: proc slot, path text, value text
    Label: proc slot, attribute text, value text
    Close: slot slot
    Console: rows u16, columns u16, uid u32, bind bool
    Session
    Rlimit: resource u32, soft u64, hard u64
    Bounding: keep u64
    Groups: ids words
    Ids: uid u32, gid u32
    Capabilities: effective u64, permitted u64, inheritable u64, ambient u64
    NoNewPrivileges
    Seccomp: flags u32, filter bytes
    Umask: mask u32
    ChangeDirectory: path text
    ParentDeath: signal u32
    Exec: candidates strings, arguments strings, environment strings, preserved u32, \
filter_flags u32, filter bytes
    AwaitStart: listener slot
    DomainName: name text
    Keyring: name text
    Personality: persona u32
    Scheduler: attributes bytes
    IoPriority: value u32
    Affinity: mask bytes
    MemoryPolicy: mode u32, nodes bytes
    TimeOffsets: proc slot, offsets text
    CopyUp: mount slot, from text, contents bool
    FindProgram: candidates strings
    Remount: at text, set u64, clear u64, recursive bool
    Supervise: listener slot
    Stdio: count u32
    JoinCgroup: procs slot
    Descriptor: from slot, number u16
    """
)

REQUESTS = table(
    """
    Spawn: tag u32, main bool, operations u32, plan bytes
    Signal: process u32, signal u32, group bool
    Resize: process u32, rows u16, columns u16
    List
    Shutdown: signal u32, patience u32
    """
)

REPORTS = table(
    """
    Barrier: id u32
    Forked
    Console
    Times: first u32, nanoseconds bytes
    Executing
    Failed: step u32, call call, detail u16, errno u16
    Waiting
    Listener
    Supervising
    Spawned: tag u32, process u32, pid u32
    NotSpawned: tag u32, step u32, call call, detail u16, errno u16
    SpawnConsole: tag u32
    Exited: process u32, code u32, signal u32, core bool, user u64, system u64, max_rss u64, \
minor_faults u64, major_faults u64
    Processes: more bool, processes words
    Done: errno u16
    """
)

# What comes before the operations of a part. It has no number.
PART = [("first", "u32"), ("operations", "u32"), ("more", "bool"), ("timed", "bool")]


class Message:
    """A decoded message: its name, and its fields as attributes."""

    def __init__(self, name, kinds, fields):
        self.name, self.kinds, self.fields = name, kinds, fields

    def __getattr__(self, field):
        try:
            return self.fields[field]
        except KeyError:
            raise AttributeError(field) from None

    def __repr__(self):
        return f"{self.name} {self.fields}"


def encode(codec, messages, name, /, **fields):
    """A message of a table in bytes."""
    number, kinds = next(
        (number, kinds) for number, (known, kinds) in enumerate(messages) if known == name
    )
    return codec.write(number) + encode_fields(codec, kinds, fields)


def encode_fields(codec, kinds, fields):
    if set(fields) != {name for name, _ in kinds}:
        raise TypeError(f"fields {sorted(fields)} where {kinds} belong")
    return b"".join(write_field(codec, kind, fields[name], ENUMERATIONS) for name, kind in kinds)


def decode(codec, messages, reader):
    """The message of a table at the front of a reader."""
    number = codec.read(reader, 32)
    if number >= len(messages):
        raise Malformed(f"unknown number {number}")
    name, kinds = messages[number]
    return Message(name, kinds, decode_fields(codec, kinds, reader))


def decode_fields(codec, kinds, reader):
    return {name: read_field(codec, kind, reader, ENUMERATIONS) for name, kind in kinds}


def decode_whole(codec, messages, body):
    """The message that a body is, to its last byte."""
    reader = Reader(body)
    message = decode(codec, messages, reader)
    if reader.left():
        raise TrailingBytes
    return message
