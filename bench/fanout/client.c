/* The load client: connects N subscribers over SSE or WebSocket and notes, with CLOCK_MONOTONIC, when each had each alert.
 *
 *     client sse|ws STALLED PORT COUNT PATH PORT COUNT PATH
 *
 * COUNT subscribers ask PORT for PATH, twice; STALLED of the first read nothing after the handshake. An alert is an event or frame that
 * holds "bench-" and six digits, its number. On standard output, lines for whoever started it:
 *
 *     connected SECONDS                          from the first connect() to the last answer
 *     count FIRST ALERTS RECEIPTS SECONDS        asked on standard input; answered by
 *       ready
 *       done RECEIPTS CLOSED STALLED_CLOSED      when so many came, or SECONDS passed without one; then ALERTS * N times,
 *                                                each 8 bytes in nanoseconds, 0 for what did not come
 *     state                                      answered by `state CLOSED STALLED_CLOSED`
 *
 * All connections are reset at the end, so that none lingers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_FLIGHT 512
#define ROOM (1 << 20)

enum state { CONNECTING, ASKED, OPEN, CLOSED };

struct conn {
    int fd;
    enum state state;
    int stalled, port;
    const char *path;
    unsigned char *kept; /* what came of an event that is not whole yet */
    size_t kept_size, kept_room;
};

static struct conn *conns;
static int total, opened, under_way, next_to_connect, closed, stalled_closed;
static int websocket, poller;
static unsigned char buffer[ROOM];

static int64_t *times;
static long first, alerts, wanted, receipts;
static int64_t last_news, patience;

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct conn *conn, uint32_t events, int change) {
    struct epoll_event event = {.events = events, .data.ptr = conn};
    if (epoll_ctl(poller, change, conn->fd, &event) < 0) fail("epoll_ctl");
}

static void begin(struct conn *conn) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(conn->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (conn->fd < 0) fail("socket");
    struct linger reset = {1, 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(conn->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) fail("connect");
    watch(conn, EPOLLOUT, EPOLL_CTL_ADD);
    under_way++;
}

static void ask(struct conn *conn) {
    char request[1024];
    const char *upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", conn->path,
                        websocket ? upgrade : "Accept: text/event-stream\r\n");
    if (send(conn->fd, request, size, MSG_NOSIGNAL) != size) fail("send of the request");
    conn->state = ASKED;
    watch(conn, EPOLLIN, EPOLL_CTL_MOD);
}

static void lose(struct conn *conn) {
    if (conn->state != OPEN) {
        fprintf(stderr, "a connection ended before its handshake\n");
        exit(1);
    }
    conn->state = CLOSED;
    close(conn->fd);
    closed++;
    stalled_closed += conn->stalled;
}

static void note(struct conn *conn, const unsigned char *text, size_t size, int64_t at) {
    const unsigned char *mark = memmem(text, size, "bench-", 6);
    if (!mark || text + size < mark + 12) return;
    long number = strtol((const char *)mark + 6, NULL, 10) - first;
    if (number < 0 || number >= alerts) return;
    int64_t *cell = times + number * total + (conn - conns);
    if (!*cell) {
        *cell = at;
        receipts++;
        last_news = at;
    }
}

/* Takes whole events from the front; returns how many bytes they were. */
static size_t take_events(struct conn *conn, const unsigned char *data, size_t size, int64_t at) {
    size_t taken = 0;
    for (;;) {
        const unsigned char *end = memmem(data + taken, size - taken, "\n\n", 2);
        if (!end) return taken;
        note(conn, data + taken, end - data - taken, at);
        taken = end + 2 - data;
    }
}

static size_t take_frames(struct conn *conn, const unsigned char *data, size_t size, int64_t at) {
    size_t taken = 0;
    for (;;) {
        const unsigned char *frame = data + taken;
        size_t left = size - taken, head = 2, length;
        if (left < 2) return taken;
        length = frame[1] & 127;
        if (length == 126) {
            if (left < 4) return taken;
            length = frame[2] << 8 | frame[3];
            head = 4;
        } else if (length == 127) {
            if (left < 10) return taken;
            length = 0;
            for (int n = 2; n < 10; n++) length = length << 8 | frame[n];
            head = 10;
        }
        if (left < head + length) return taken;
        if ((frame[0] & 15) < 8) note(conn, frame + head, length, at);
        taken += head + length;
    }
}

static void keep(struct conn *conn, const unsigned char *data, size_t size) {
    if (size > conn->kept_room) {
        conn->kept = realloc(conn->kept, size);
        conn->kept_room = size;
    }
    memmove(conn->kept, data, size);
    conn->kept_size = size;
}

static void hear(struct conn *conn) {
    size_t before = conn->kept_size;
    if (before) memcpy(buffer, conn->kept, before);
    ssize_t came = recv(conn->fd, buffer + before, ROOM - 1 - before, 0);
    int64_t at = now();
    if (came < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (came <= 0) {
        lose(conn);
        return;
    }
    size_t size = before + came, taken = 0;
    if (conn->state == ASKED) {
        unsigned char *end = memmem(buffer, size, "\r\n\r\n", 4);
        if (end) {
            if (memcmp(buffer, websocket ? "HTTP/1.1 101" : "HTTP/1.1 200", 12)) {
                buffer[size] = 0;
                fprintf(stderr, "refused: %s\n", buffer);
                exit(1);
            }
            taken = end + 4 - buffer;
            conn->state = OPEN;
            opened++;
            under_way--;
            if (conn->stalled) watch(conn, EPOLLRDHUP, EPOLL_CTL_MOD);
        }
    }
    if (conn->state == OPEN)
        taken += (websocket ? take_frames : take_events)(conn, buffer + taken, size - taken, at);
    keep(conn, buffer + taken, size - taken);
}

static void tell_done(void) {
    printf("done %ld %d %d\n", receipts, closed, stalled_closed);
    fwrite(times, sizeof *times, alerts * total, stdout);
    fflush(stdout);
    wanted = alerts = 0;
}

static void obey(void) {
    static char line[256];
    static size_t size;
    ssize_t came = read(0, line + size, sizeof line - 1 - size);
    if (came <= 0) exit(0);
    size += came;
    line[size] = 0;
    if (!strchr(line, '\n')) return;
    double seconds;
    if (!strncmp(line, "state", 5)) {
        printf("state %d %d\n", closed, stalled_closed);
    } else if (sscanf(line, "count %ld %ld %ld %lf", &first, &alerts, &wanted, &seconds) == 4) {
        free(times);
        times = calloc(alerts * total, sizeof *times);
        receipts = 0;
        patience = seconds * 1e9;
        last_news = now();
        printf("ready\n");
    } else {
        fprintf(stderr, "not understood: %s", line);
        exit(1);
    }
    fflush(stdout);
    size = 0;
}

int main(int count, char **words) {
    if (count != 9) {
        fprintf(stderr, "client sse|ws STALLED PORT COUNT PATH PORT COUNT PATH\n");
        return 2;
    }
    websocket = !strcmp(words[1], "ws");
    int stalled = atoi(words[2]), some = atoi(words[4]);
    total = some + atoi(words[7]);
    conns = calloc(total, sizeof *conns);
    for (int n = 0; n < total; n++) {
        conns[n].port = atoi(words[n < some ? 3 : 6]);
        conns[n].path = words[n < some ? 5 : 8];
        conns[n].stalled = n < stalled;
    }
    poller = epoll_create1(0);
    struct epoll_event orders = {.events = EPOLLIN, .data.ptr = NULL}, events[512];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &orders) < 0) fail("epoll_ctl");
    int64_t begun = now();
    for (;;) {
        while (next_to_connect < total && under_way < IN_FLIGHT) begin(&conns[next_to_connect++]);
        int found = epoll_wait(poller, events, 512, wanted ? 50 : -1);
        int before = opened;
        for (int n = 0; n < found; n++) {
            struct conn *conn = events[n].data.ptr;
            if (!conn) obey();
            else if (conn->state == CONNECTING) ask(conn);
            else if (conn->state == OPEN && conn->stalled) lose(conn);
            else if (conn->state != CLOSED) hear(conn);
        }
        if (before < total && opened == total) {
            printf("connected %.6f\n", (now() - begun) / 1e9);
            fflush(stdout);
        }
        if (wanted && (receipts >= wanted || now() - last_news > patience)) tell_done();
    }
}
