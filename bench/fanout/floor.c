/* The floor: an epoll server that does nothing but send() the same bytes to each subscriber.
 *
 *     floor sse|ws [SENDERS]
 *
 * Prints its port. Whoever GETs is a subscriber, unless "other" is in the request; a POST's body is one JSON object, which is answered, framed once,
 * and sent to all, by SENDERS threads. It keeps nothing, checks nothing, and closes whoever has no room: what it takes, everybody
 * takes. The handshake of the WebSocket is answered with the key of RFC 6455's example, which the load client asks with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536
#define ROOM (1 << 20)

static int websocket, senders = 1, poller;
static int subscribers[MOST], many;
static char buffer[ROOM], frame[ROOM];
static size_t frame_size;
static pthread_barrier_t begin, end;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void send_part(int part) {
    for (int n = part; n < many; n += senders) {
        if (subscribers[n] < 0) continue;
        if (send(subscribers[n], frame, frame_size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)frame_size) {
            struct linger reset = {1, 0};
            setsockopt(subscribers[n], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(subscribers[n]);
            subscribers[n] = -1;
        }
    }
}

static void *sender(void *part) {
    for (;;) {
        pthread_barrier_wait(&begin);
        send_part((int)(long)part);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void fan_out(const char *body, size_t size) {
    if (websocket) {
        size_t head = size < 126 ? 2 : 4;
        frame[0] = (char)0x81;
        frame[1] = size < 126 ? (char)size : 126;
        if (head == 4) frame[2] = (char)(size >> 8), frame[3] = (char)size;
        memcpy(frame + head, body, size);
        frame_size = head + size;
    } else {
        frame_size = sprintf(frame, "%zx\r\nevent: alert\ndata: %.*s\n\n\r\n", size + 21, (int)size, body);
    }
    if (senders > 1) pthread_barrier_wait(&begin);
    send_part(0);
    if (senders > 1) pthread_barrier_wait(&end);
}

static int answer(int fd, const char *text) {
    return send(fd, text, strlen(text), MSG_NOSIGNAL) > 0;
}

static void subscribe(int fd, const char *request) {
    const char *upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const char *streamed = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    answer(fd, websocket ? upgraded : streamed);
    if (!strstr(request, "other") && many < MOST) subscribers[many++] = fd;
}

static void forget(int fd) {
    for (int n = 0; n < many; n++)
        if (subscribers[n] == fd) subscribers[n] = -1;
    close(fd);
}

static void hear(int fd) {
    ssize_t size = recv(fd, buffer, ROOM - 1, 0);
    if (size <= 0) {
        forget(fd);
        return;
    }
    buffer[size] = 0;
    if (!strncmp(buffer, "GET ", 4)) {
        subscribe(fd, buffer);
        return;
    }
    char *head_end = strstr(buffer, "\r\n\r\n"), *length = strcasestr(buffer, "\r\nContent-Length: ");
    if (strncmp(buffer, "POST ", 5) || !head_end || !length) return; /* an acknowledgement or the like */
    size_t whole = head_end + 4 - buffer + atol(length + 18);
    while ((size_t)size < whole) {
        ssize_t more = recv(fd, buffer + size, whole - size, MSG_WAITALL);
        if (more <= 0) fail("recv of a body");
        size += more;
    }
    answer(fd, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    fan_out(head_end + 4, buffer + whole - head_end - 4);
}

int main(int count, char **words) {
    websocket = count > 1 && !strcmp(words[1], "ws");
    if (count > 2) senders = atoi(words[2]);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    if (bind(listening, (struct sockaddr *)&address, size) < 0 || listen(listening, 4096) < 0) fail("listen");
    getsockname(listening, (struct sockaddr *)&address, &size);
    pthread_barrier_init(&begin, NULL, senders);
    pthread_barrier_init(&end, NULL, senders);
    for (long part = 1; part < senders; part++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, sender, (void *)part)) fail("pthread_create");
    }
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, events[512];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listening, &event) < 0) fail("epoll_ctl");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int found = epoll_wait(poller, events, 512, -1);
        for (int n = 0; n < found; n++) {
            if (events[n].data.fd != listening) {
                hear(events[n].data.fd);
                continue;
            }
            int fd;
            while ((fd = accept4(listening, NULL, NULL, 0)) >= 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                struct epoll_event one = {.events = EPOLLIN, .data.fd = fd};
                if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &one) < 0) fail("epoll_ctl");
            }
        }
    }
}
