"""The host's programs of tests/guest/sockets: sockets.py SOCKET. Prints one line a check."""

import hashlib
import socket
import sys
import threading
import time

path = sys.argv[1]


def check(what, good):
    print(("ok: " if good else "FAILED: ") + what, flush=True)


def read_all(connection):
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def guest_bytes(size):
    state, out = 12345, bytearray()
    for _ in range(size):
        state = (state * 1103515245 + 12345) & 0xFFFFFFFF
        out.append(state >> 16 & 0xFF)
    return bytes(out)


def answer_sum(listener):
    """What the guest connects to: reads to the end, answers with a sum."""
    connection, _ = listener.accept()
    data = read_all(connection)
    check("the guest's bytes arrived as they were sent", data == guest_bytes(1 << 20))
    connection.sendall(hashlib.sha256(data).hexdigest().encode())
    connection.close()


def dial(port, deadline):
    """A connection to the guest's port; tries until it listens."""
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        try:
            connection.connect(path)
            connection.sendall(b"CONNECT %d\n" % port)
            line = b""
            while not line.endswith(b"\n"):
                byte = connection.recv(1)
                if not byte:
                    break
                line += byte
            if line.startswith(b"OK "):
                return connection
        except OSError:
            pass
        connection.close()
        if time.monotonic() > deadline:
            return None
        time.sleep(0.3)


def echoed(connection, data):
    sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
    sender.start()
    back = read_all(connection)
    sender.join()
    connection.close()
    return back


listener = socket.socket(socket.AF_UNIX)
listener.bind(path + "_7000")
listener.listen(1)
server = threading.Thread(target=answer_sum, args=(listener,), daemon=True)
server.start()
deadline = time.monotonic() + 120
first = dial(5000, deadline)
check("the host connects to the guest", first is not None)
if first:
    check("a few bytes come back", echoed(first, b"hello, guest\n") == b"hello, guest\n")
    second = dial(5000, deadline)
    data = guest_bytes(600_000)
    check("many bytes come back", second is not None and echoed(second, data) == data)
server.join(120)
check("the guest came to the end", not server.is_alive())
