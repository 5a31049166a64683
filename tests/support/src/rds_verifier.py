"""Stands before a PostgreSQL server as Amazon RDS does: it takes TLS only, asks for a token in place of a password, and verifies
the token with botocore. Prints a line for each login: `ok TIME` or `refused REASON`.

Its argument is JSON: port, upstream_port, upstream_password, cert, key, access_key, secret_key, region, lifetime in seconds.
"""

import datetime
import json
import socket
import ssl
import struct
import sys
import threading
import urllib.parse
from unittest import mock

import botocore.auth
import botocore.session

SETTINGS = json.loads(sys.argv[1])
LOCK = threading.Lock()


def say(line):
    with LOCK:
        print(line, flush=True)


def exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def message(stream):
    kind = exactly(stream, 1)
    (length,) = struct.unpack("!I", exactly(stream, 4))
    return kind, exactly(stream, length - 4)


RDS = botocore.session.Session().create_client(
    "rds",
    region_name=SETTINGS["region"],
    aws_access_key_id=SETTINGS["access_key"],
    aws_secret_access_key=SETTINGS["secret_key"],
)


def expected(user, moment):
    """The token that botocore makes for this moment."""
    with LOCK, mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: moment):
        return RDS.generate_db_auth_token("localhost", SETTINGS["port"], user)


def verify(token, user):
    """Why a token is refused, or nothing; and its time."""
    url = urllib.parse.urlsplit("https://" + token)
    query = dict(urllib.parse.parse_qsl(url.query))
    time = query.get("X-Amz-Date", "")
    try:
        moment = datetime.datetime.strptime(time, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return "it is no token", time
    age = (datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - moment).total_seconds()
    if not -5 <= age <= SETTINGS["lifetime"]:
        return f"it is {age} s old", time
    if url.netloc != f"localhost:{SETTINGS['port']}":
        return "it is for another host", time
    known = urllib.parse.urlsplit("https://" + expected(user, moment))
    if query != dict(urllib.parse.parse_qsl(known.query)):
        return "its signature or one of its parts differs", time
    return None, time


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client, context):
    length, code = struct.unpack("!II", exactly(client, 8))
    if (length, code) != (8, 80877103):
        return say("refused it is not encrypted")
    client.sendall(b"S")
    client = context.wrap_socket(client, server_side=True)
    (length,) = struct.unpack("!I", exactly(client, 4))
    start = exactly(client, length - 4)
    texts = start[4:].split(b"\0")
    user = dict(zip(texts[::2], texts[1::2]))[b"user"].decode()
    client.sendall(struct.pack("!cII", b"R", 8, 3))
    _, password = message(client)
    reason, time = verify(password.rstrip(b"\0").decode(), user)
    if reason:
        say(f"refused {reason}")
        fields = b"SFATAL\0VFATAL\0C28P01\0MPAM authentication failed\0\0"
        return client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
    server = socket.create_connection(("127.0.0.1", SETTINGS["upstream_port"]))
    server.sendall(struct.pack("!I", len(start) + 4) + start)
    kind, body = message(server)
    if kind != b"R" or body[:4] != b"\0\0\0\x03":
        return say("refused the server does not ask for a password in clear text")
    password = SETTINGS["upstream_password"].encode() + b"\0"
    server.sendall(b"p" + struct.pack("!I", len(password) + 4) + password)
    say(f"ok {time}")
    threading.Thread(target=copy, args=(server, client), daemon=True).start()
    copy(client, server)


def attend(client, context):
    try:
        serve(client, context)
    except (EOFError, OSError, KeyError) as error:
        say(f"lost {type(error).__name__}")
    finally:
        client.close()


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SETTINGS["cert"], SETTINGS["key"])
    listener = socket.create_server(("127.0.0.1", SETTINGS["port"]), backlog=128)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=attend, args=(client, context), daemon=True).start()


main()
