/* Times QMP commands from outside, in a client that costs next to nothing beside the server.
 *
 *   roundtrip SOCKET        standard input: lines "t COUNT COMMAND" or "p COUNT COMMAND"
 *
 * t: one command at a time, prints the median and the 90th percentile in microseconds, and the reply's bytes.
 * p: all commands are written while replies are read, prints commands a second.
 * A line of the server that begins as an event does is none's reply.  It connects for ten seconds until somebody listens. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SPACE (16 << 20)

static int server;
static char space[SPACE];
static size_t filled, begin;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void dial(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    double end = microseconds() + 10e6;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    for (;;) {
        server = socket(AF_UNIX, SOCK_STREAM, 0);
        if (server < 0)
            die("socket");
        if (connect(server, (struct sockaddr *)&address, sizeof address) == 0)
            return;
        if (microseconds() > end)
            die("connect");
        close(server);
        usleep(500);
    }
}

/* Takes one reply that is here already: its length, or 0. */
static size_t taken(void)
{
    char *end;
    while ((end = memchr(space + begin, '\n', filled - begin)) != NULL) {
        const char *line = space + begin;
        size_t length = end + 1 - line;
        begin += length;
        if (length > 12 && memcmp(line, "{\"timestamp\"", 12) == 0)
            continue;
        if (begin == filled)
            begin = filled = 0;
        return length;
    }
    return 0;
}

static void more(void)
{
    ssize_t count;
    if (begin > 0) {
        memmove(space, space + begin, filled - begin);
        filled -= begin;
        begin = 0;
    }
    if (filled == SPACE) {
        fputs("a reply is too long\n", stderr);
        exit(1);
    }
    count = read(server, space + filled, SPACE - filled);
    if (count == 0) {
        fputs("the server has closed the connection\n", stderr);
        exit(1);
    }
    if (count < 0)
        die("read");
    filled += count;
}

static size_t reply(void)
{
    size_t length;
    while ((length = taken()) == 0)
        more();
    return length;
}

static void tell(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t count = write(server, text, length);
        if (count < 0)
            die("write");
        text += count;
        length -= count;
    }
}

static int smaller(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void trips(int count, const char *command, size_t length)
{
    double *times = calloc(count, sizeof *times);
    size_t bytes = 0;
    int i;
    for (i = -count / 10 - 1; i < count; i++) {
        double before = microseconds();
        tell(command, length);
        bytes = reply();
        if (i >= 0)
            times[i] = microseconds() - before;
    }
    qsort(times, count, sizeof *times, smaller);
    printf("%.2f %.2f %zu\n", times[count / 2], times[count * 9 / 10], bytes);
    free(times);
}

static void pipeline(int count, const char *command, size_t length)
{
    char *all = malloc(length * count);
    size_t sent = 0, size = length * count;
    int i, got = 0;
    double before;
    for (i = 0; i < count; i++)
        memcpy(all + i * length, command, length);
    before = microseconds();
    while (got < count) {
        struct pollfd ready = { server, POLLIN | (sent < size ? POLLOUT : 0), 0 };
        if (poll(&ready, 1, -1) < 0)
            die("poll");
        if (ready.revents & POLLOUT) {
            ssize_t written = send(server, all + sent, size - sent, MSG_DONTWAIT);
            if (written < 0 && errno != EAGAIN)
                die("send");
            sent += written > 0 ? written : 0;
        }
        if (ready.revents & (POLLIN | POLLHUP)) {
            more();
            while (taken() > 0)
                got++;
        }
    }
    printf("%.1f\n", count / ((microseconds() - before) / 1e6));
    free(all);
}

int main(int argc, char **argv)
{
    static char line[1 << 16];
    const char *negotiate = "{\"execute\":\"qmp_capabilities\"}\n";
    if (argc != 2) {
        fputs("usage: roundtrip SOCKET\n", stderr);
        return 2;
    }
    dial(argv[1]);
    reply();
    tell(negotiate, strlen(negotiate));
    reply();
    while (fgets(line, sizeof line, stdin)) {
        char kind;
        int count, at;
        if (sscanf(line, "%c %d %n", &kind, &count, &at) != 2 || count < 1) {
            fputs("a line must be t or p, a count and a command\n", stderr);
            return 2;
        }
        (kind == 'p' ? pipeline : trips)(count, line + at, strlen(line + at));
        fflush(stdout);
    }
    return 0;
}
