"""A server for one guest: transfer.py BYTES FILE writes two ports of 127.0.0.1 into FILE, sends BYTES random bytes to whom
connects to the first, takes all from whom connects to the second, and prints the MD5 of both."""
import hashlib
import os
import socket
import sys

size, file = int(sys.argv[1]), sys.argv[2]
data = os.urandom(size)
source, sink = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
with open(file + ".new", "w") as ports:
    ports.write(f"{source.getsockname()[1]} {sink.getsockname()[1]}\n")
os.rename(file + ".new", file)
for server in (source, sink):
    server.settimeout(240)

connection, _ = source.accept()
with connection:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    print("sent", hashlib.md5(data).hexdigest(), flush=True)
    while connection.recv(65536):
        pass

connection, _ = sink.accept()
digest = hashlib.md5()
with connection:
    while chunk := connection.recv(65536):
        digest.update(chunk)
print("received", digest.hexdigest(), flush=True)
