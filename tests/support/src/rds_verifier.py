"""Stands before a PostgreSQL or MariaDB server as Amazon RDS does: it takes TLS only, asks for a token in place of a password, and
verifies the token with botocore. Prints a line for each login: `ok TIME` or `refused REASON`.

Its argument is JSON: protocol (postgresql or mysql), port, upstream_port, upstream_password, cert, key, access_key, secret_key, region.
"""

import datetime
import hashlib
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
# How long RDS takes a token, in seconds.
LIFETIME = 15 * 60
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
    if not -5 <= age <= LIFETIME:
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


def serve_postgresql(client, context):
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
    both_ways(client, server)


def both_ways(client, server):
    threading.Thread(target=copy, args=(server, client), daemon=True).start()
    copy(client, server)


# MySQL's protocol: capabilities, and the plugin by which RDS asks for a token.
SSL, CONNECT_WITH_DB, CONNECT_ATTRS, LENENC_AUTH = 0x800, 0x8, 0x100000, 0x200000
CLEAR_TEXT = b"mysql_clear_password"


def packet(stream):
    header = exactly(stream, 4)
    return header[3], exactly(stream, int.from_bytes(header[:3], "little"))


def send(stream, number, body):
    stream.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)


def scrambled(password, challenge):
    """How mysql_native_password proves a password."""
    once = hashlib.sha1(password).digest()
    mask = hashlib.sha1(challenge + hashlib.sha1(once).digest()).digest()
    return bytes(a ^ b for a, b in zip(once, mask))


def serve_mysql(client, context):
    server = socket.create_connection(("127.0.0.1", SETTINGS["upstream_port"]))
    _, greeting = packet(server)
    # The protocol, the version up to a zero, the session's number, eight bytes of the challenge, a zero, the lower capabilities.
    start = greeting.index(0, 1) + 5
    capabilities = start + 9
    challenge = greeting[start : start + 8] + greeting[capabilities + 18 : capabilities + 30]
    offered = bytearray(greeting)
    offered[capabilities + 1] |= SSL >> 8
    send(client, 0, bytes(offered))
    number, request = packet(client)
    if len(request) != 32 or not int.from_bytes(request[:4], "little") & SSL:
        return say("refused it is not encrypted")
    client = context.wrap_socket(client, server_side=True)
    number, response = packet(client)
    user, rest = response[32:].split(b"\0", 1)
    wanted = int.from_bytes(response[:4], "little")
    database = rest[1 + rest[0] :].split(b"\0", 1)[0] if wanted & CONNECT_WITH_DB else b""
    send(client, number + 1, b"\xfe" + CLEAR_TEXT + b"\0")
    number, token = packet(client)
    reason, time = verify(token.rstrip(b"\0").decode(), user.decode())
    if reason:
        say(f"refused {reason}")
        return send(client, number + 1, b"\xff" + (1045).to_bytes(2, "little") + b"#28000Access denied")
    wanted &= ~(SSL | CONNECT_ATTRS | LENENC_AUTH)
    proof = scrambled(SETTINGS["upstream_password"].encode(), challenge)
    login = wanted.to_bytes(4, "little") + response[4:32] + user + b"\0" + bytes([len(proof)]) + proof
    if wanted & CONNECT_WITH_DB:
        login += database + b"\0"
    send(server, 1, login + b"mysql_native_password\0")
    _, answer = packet(server)
    if answer[:1] != b"\0":
        return say("refused the server does not take its password")
    say(f"ok {time}")
    send(client, number + 1, answer)
    both_ways(client, server)


SERVE = {"postgresql": serve_postgresql, "mysql": serve_mysql}[SETTINGS["protocol"]]


def attend(client, context):
    try:
        SERVE(client, context)
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
