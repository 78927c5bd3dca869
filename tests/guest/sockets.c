// Runs as the guest's first program: AF_VSOCK both ways over hv_sock, told on the console. Linked statically.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

enum { kHost = 2, kEchoPort = 5000, kSumPort = 7000, kNobodysPort = 9, kBytes = 1 << 20 };

static int dial(unsigned port) {
    struct sockaddr_vm address;
    memset(&address, 0, sizeof address);
    address.svm_family = AF_VSOCK;
    address.svm_cid = kHost;
    address.svm_port = port;
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) == 0) return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

/// A generator that the host knows too.
static void fill(unsigned char* bytes, size_t size) {
    unsigned state = 12345;
    for (size_t i = 0; i < size; ++i) {
        state = state * 1103515245u + 12345u;
        bytes[i] = (unsigned char)(state >> 16);
    }
}

/// Sends much, ends, and prints what the host answers.
static void ask_for_sum(void) {
    unsigned char* bytes = malloc(kBytes);
    fill(bytes, kBytes);
    int fd = dial(kSumPort);
    if (fd < 0) {
        printf("sockets: connect: %s\n", strerror(errno));
        return;
    }
    for (size_t at = 0; at < kBytes;) {
        ssize_t count = write(fd, bytes + at, kBytes - at);
        if (count <= 0) {
            printf("sockets: write: %s\n", strerror(errno));
            return;
        }
        at += (size_t)count;
    }
    shutdown(fd, SHUT_WR);
    char answer[128];
    size_t got = 0;
    for (ssize_t count; got < sizeof answer - 1 && (count = read(fd, answer + got, sizeof answer - 1 - got)) > 0;)
        got += (size_t)count;
    answer[got] = 0;
    printf("sockets: the host's sum is %s\n", answer);
    close(fd);
    free(bytes);
}

/// Echoes what the host sends until it ends.
static void echo(int listener) {
    int fd = accept(listener, NULL, NULL);
    static char buffer[20000];
    size_t total = 0;
    for (ssize_t count; (count = read(fd, buffer, sizeof buffer)) > 0; total += (size_t)count) {
        for (ssize_t at = 0; at < count;) {
            ssize_t part = write(fd, buffer + at, (size_t)(count - at));
            if (part <= 0) {
                printf("sockets: echo: %s\n", strerror(errno));
                return;
            }
            at += part;
        }
    }
    close(fd);
    printf("sockets: echoed %zu bytes\n", total);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sockaddr_vm address;
    memset(&address, 0, sizeof address);
    address.svm_family = AF_VSOCK;
    address.svm_cid = VMADDR_CID_ANY;
    address.svm_port = kEchoPort;
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    const char* only = getenv("SOCKETS");  // the kernel hands on what it does not know
    if (only != NULL && strcmp(only, "dial") == 0) {
        printf("sockets: not listening\n");
    } else if (listener < 0 || bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 8) != 0) {
        printf("sockets: listen: %s\n", strerror(errno));
    } else {
        printf("sockets: listening\n");
        echo(listener);
        echo(listener);
    }
    ask_for_sum();
    int fd = dial(kNobodysPort);
    printf("sockets: nobody's port: %s\n", fd >= 0 ? "connected" : strerror(errno));
    printf("sockets: done\n");
    sync();
    reboot(RB_POWER_OFF);
    for (;;) pause();
}
