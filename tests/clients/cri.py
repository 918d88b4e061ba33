"""Calls a method of a Container Runtime Interface: cri.py SOCKET MESSAGES METHOD REQUEST

MESSAGES is the compiled cri.proto, REQUEST is JSON. Prints the one field of the response, or the
fields of the message in it, a line each. Of ExecSync it prints what the program wrote, and ends
with its status."""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

socket, messages, method, request = sys.argv[1:]
with open(messages, "rb") as file:
    files = descriptor_pb2.FileDescriptorSet.FromString(file.read()).file
pool = descriptor_pool.DescriptorPool()
for file in files:
    pool.Add(file)
# protobuf 5 has neither the older function nor the older name of the option.
if hasattr(message_factory, "GetMessageClass"):
    message_class = message_factory.GetMessageClass
    DEFAULTS = {"always_print_fields_with_no_presence": True}
else:
    message_class = message_factory.MessageFactory(pool).GetPrototype
    DEFAULTS = {"including_default_value_fields": True}
Request, Response = (
    message_class(pool.FindMessageTypeByName(f"runtime.v1.{method}{end}"))
    for end in ("Request", "Response")
)
call = grpc.insecure_channel(f"unix://{socket}").unary_unary(
    f"/runtime.v1.RuntimeService/{method}", Request.SerializeToString, Response.FromString
)
try:
    response = call(json_format.Parse(request, Request()), timeout=30)
except grpc.RpcError as error:
    sys.exit(error.details())
if method == "ExecSync":
    sys.stdout.buffer.write(response.stdout)
    sys.stderr.buffer.write(response.stderr)
    sys.exit(response.exit_code)
fields = json_format.MessageToDict(response, **DEFAULTS)
for value in fields.values():
    print(*(value.values() if isinstance(value, dict) else [value]))
