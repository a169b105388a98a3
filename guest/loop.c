/* The agent's loop: the port on one side, the job's streams and its end on the other, with bounded memory in between. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    /* What is passed on without being copied: the pages that a pipe of the limit's size holds after the one with the frame's header. */
    PASSING = FRAME_OUTPUT_LIMIT - PAGE,
    /* For all frames but DATA that can be waiting at a time: at most FAILED, STARTED, EXITED, two END, CLOSED and four GRANT. */
    CONTROL_ROOM = 2048,
    GRANT_AT_LEAST = 64 << 10,
    ROUNDS = 16, /* of reading or writing, before the loop looks at everything else again */
    BROKEN_SECONDS = 2,
    /* Where at least this many bytes were all there was, the job writes much, in small pieces. The agent, woken at each of them (it runs at nice -20),
       would pass on each alone, at a twentieth of the port's rate; instead it lets the job fill its pipe for a moment. */
    BULK = 4096,
    REST_NANOSECONDS = 2000000,
};

enum state {
    IDLE, /* until START */
    RUNNING,
    KILLING, /* the main process has ended, what it left running is dying */
    DRAINING, /* nothing runs any more; its last output is in the pipes */
    OVER, /* EXITED, or FAILED for START, was sent: until DONE or AGAIN */
    LOST, /* FAILED was sent for the machine itself: until DONE */
    BROKEN, /* the peer broke the protocol: nothing it sends is read */
    GONE, /* power off */
};

static struct {
    enum state state;
    int port, watch, signals;
    bool hung; /* the host's end of the port is not open */
    int passing[2]; /* the pipe through which full pages of output pass */
    bool zero_copy; /* whether they do; else all output is copied */
    struct decoder decoder;
    struct start start;
    uint8_t *start_payload;
    struct job job;
    uint8_t out[FRAME_HEADER + PASSING + CONTROL_ROOM]; /* to the host; filled with DATA only when it is empty */
    size_t out_at, out_end;
    uint32_t credit[3]; /* what we may send of streams 1 and 2, and (0) what the host may send of stdin */
    bool open[3]; /* streams 1 and 2: END was not sent yet */
    uint8_t ring[WINDOW_INPUT]; /* stdin on its way to the job */
    size_t ring_at, ring_have;
    uint32_t passed; /* of stdin, not granted again yet */
    bool input_ended; /* END was received */
    uint8_t input_last;
    uint64_t bytes_out, bytes_in;
    uint64_t heard; /* CLOCK_MONOTONIC when the frame that is being received began */
    uint64_t now, rest_until; /* CLOCK_MONOTONIC, in nanoseconds; now is that of the turn of the loop */
    uint64_t deadline;
} l;

static uint64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void put(const uint8_t *frame, size_t length)
{
    if (sizeof l.out - l.out_end < length) { /* CONTROL_ROOM says that this cannot be; but never beyond the end */
        say("no room for a frame");
        l.state = GONE;
        return;
    }
    memcpy(l.out + l.out_end, frame, length);
    l.out_end += length;
}

static void put_empty(enum guest_frame type, uint8_t stream)
{
    uint8_t frame[FRAME_HEADER];
    put(frame, encode_header(frame, type, stream, 0));
}

static void put_ready(void)
{
    uint8_t frame[FRAME_HEADER + 1];
    put(frame, encode_stage(frame, STAGE_READY));
}

static void put_u32(enum guest_frame type, uint32_t value)
{
    uint8_t frame[FRAME_HEADER + 4];
    put(frame, encode_u32(frame, type, 0, value));
}

static void put_failed(const struct failure *failure, enum state then)
{
    uint8_t frame[FRAME_HEADER + FRAME_FAILED_LIMIT];
    say("%s", failure->text);
    put(frame, encode_failed(frame, failure));
    l.state = then;
}

static void broken(const char *what)
{
    struct failure failure;
    failure_set(&failure, FAILED_AGENT, KIND_NONE, 0, "the host broke the protocol: %s", what);
    l.deadline = monotonic() + BROKEN_SECONDS * 1000000000ull;
    put_failed(&failure, BROKEN);
}

static void flush(void)
{
    while (l.out_at < l.out_end) {
        ssize_t n = write(l.port, l.out + l.out_at, l.out_end - l.out_at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            say("the port is broken: %s", strerror(errno));
            l.state = GONE;
        }
        if (n <= 0)
            return;
        l.out_at += (size_t)n;
    }
    l.out_at = l.out_end = 0;
}

/* What is in stdin's pipe, of which this is an end, was not read by the job. */
static void count_unread(int pipe)
{
    int unread = 0;
    if (pipe >= 0 && l.job.terminal < 0 && ioctl(pipe, FIONREAD, &unread) == 0)
        l.bytes_in -= (uint64_t)unread;
}

/* The job reads no more, or has ended. */
static void close_input(void)
{
    count_unread(l.job.unread);
    close_fd(&l.job.unread);
    if (l.job.in < 0)
        return;
    count_unread(l.job.in);
    close_fd(&l.job.in);
    l.ring_have = 0;
    if (!l.input_ended)
        put_empty(GUEST_CLOSED, 0);
}

/* The end of stdin: a pipe is closed; in a terminal it is typed, twice where the line so far was not ended. */
static void end_input(void)
{
    struct termios settings;
    if (l.job.terminal < 0) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", l.job.in); /* opened once more, a pipe's writer becomes a reader */
        l.job.unread = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        close_fd(&l.job.in);
        return;
    }
    if (tcgetattr(l.job.terminal, &settings) == 0 && settings.c_lflag & ICANON) {
        uint8_t end[2] = {settings.c_cc[VEOF], settings.c_cc[VEOF]};
        if (write(l.job.in, end, l.input_last == '\n' ? 1 : 2) < 0)
            say("cannot end the terminal's input: %s", strerror(errno));
    }
    close_fd(&l.job.in);
}

static void pass_input(void)
{
    while (l.job.in >= 0 && l.ring_have) {
        size_t part = sizeof l.ring - l.ring_at < l.ring_have ? sizeof l.ring - l.ring_at : l.ring_have;
        ssize_t n = write(l.job.in, l.ring + l.ring_at, part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            close_input();
        if (n <= 0)
            break;
        l.input_last = l.ring[l.ring_at + (size_t)n - 1];
        l.ring_at = (l.ring_at + (size_t)n) % sizeof l.ring;
        l.ring_have -= (size_t)n;
        l.passed += (uint32_t)n;
        l.bytes_in += (uint64_t)n;
    }
    if (l.job.in >= 0 && !l.ring_have && l.input_ended)
        end_input();
    if (l.job.in >= 0 && l.passed >= GRANT_AT_LEAST) {
        put_u32(GUEST_GRANT, l.passed);
        l.credit[0] += l.passed;
        l.passed = 0;
    }
}

static void take_input(const struct frame *frame)
{
    if (l.input_ended || frame->length > l.credit[0]) {
        broken(l.input_ended ? "stdin after its end" : "more stdin than was granted");
        return;
    }
    l.credit[0] -= frame->length;
    if (l.job.in < 0)
        return; /* sent before the host read that nobody takes it */
    /* The credit is the ring's size less what it holds and what was not granted again: this always fits. */
    size_t at = (l.ring_at + l.ring_have) % sizeof l.ring;
    size_t part = sizeof l.ring - at < frame->length ? sizeof l.ring - at : frame->length;
    memcpy(l.ring + at, frame->payload, part);
    memcpy(l.ring, frame->payload + part, frame->length - part);
    l.ring_have += frame->length;
}

static void end_output(int stream)
{
    close_fd(&l.job.out[stream]);
    l.open[stream] = false;
    put_empty(GUEST_END, (uint8_t)stream);
}

/* The host has no reader for a stream any more: what the job writes next gets SIGPIPE, or in a terminal, the job is hung up. */
static void drop_output(int stream)
{
    if (!l.open[stream])
        return;
    if (l.job.terminal >= 0) {
        close_input();
        close_fd(&l.job.terminal);
    }
    end_output(stream);
}

static bool wants_output(int stream)
{
    return l.open[stream] && l.credit[stream] && l.out_end == 0 && l.now >= l.rest_until;
}

/* The passing pipe is full of a frame: it goes to the port as it is, and what a kernel leaves of it is copied. Only when every slot of the pipe is
   full is this safe: a slot without bytes becomes a buffer without bytes for the device, which stops QEMU's. */
static void send_passing(void)
{
    size_t left = FRAME_HEADER + PASSING;
    ssize_t n = splice(l.passing[0], NULL, l.port, NULL, left, 0);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        l.zero_copy = false; /* a driver that cannot do it */
    left -= n > 0 ? (size_t)n : 0;
    l.out_end = left;
    if (left && read(l.passing[0], l.out, left) != (ssize_t)left) {
        struct failure failure; /* the driver drops what it took when it finds no memory to hand it on */
        failure_set(&failure, FAILED_AGENT, KIND_NONE, ENOMEM, "output of the job was lost");
        l.open[1] = l.open[2] = false;
        l.out_end = 0;
        put_failed(&failure, LOST);
    }
}

/* As read(2) into a frame in l.out. With *passing, what fills the passing pipe stays there instead; where its pages are not full, it is copied after all. */
static ssize_t take_output(int stream, bool *passing)
{
    if (!*passing)
        return read(l.job.out[stream], l.out + FRAME_HEADER, l.credit[stream] < PASSING ? l.credit[stream] : PASSING);
    write_all(l.passing[1], l.out, encode_header(l.out, GUEST_DATA, (uint8_t)stream, PASSING));
    ssize_t n = splice(l.job.out[stream], NULL, l.passing[1], NULL, PASSING, SPLICE_F_NONBLOCK);
    *passing = n == PASSING;
    if (*passing)
        return n;
    int error = errno;
    ssize_t copied = read(l.passing[0], l.out, sizeof l.out) - FRAME_HEADER;
    errno = error;
    return n > 0 ? copied : n;
}

static bool can_pass(int stream)
{
    int waiting = 0;
    return l.zero_copy && l.job.terminal < 0 && l.credit[stream] >= PASSING && ioctl(l.job.out[stream], FIONREAD, &waiting) == 0 && waiting >= PASSING;
}

/* One piece of output and one frame to the host. False: nothing to be done at the moment. In bulk, what is less than a full frame waits for more. */
static bool pump(int stream, bool bulk)
{
    if (!wants_output(stream))
        return false;
    bool passing = can_pass(stream);
    if (bulk && !passing)
        return false;
    ssize_t n = take_output(stream, &passing);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN && l.state != DRAINING)
        return false;
    if (n <= 0) { /* the end; EIO is a terminal's way to say it. While draining, nobody is left who could write more */
        end_output(stream);
        return true;
    }
    l.credit[stream] -= (uint32_t)n;
    l.bytes_out += (uint64_t)n;
    if (passing)
        send_passing();
    else
        l.out_end = encode_header(l.out, GUEST_DATA, (uint8_t)stream, (uint32_t)n) + (size_t)n;
    flush();
    return true;
}

static void pump_all(void)
{
    uint64_t before = l.bytes_out;
    bool more = true;
    for (int round = 0; more && round < ROUNDS && l.state != GONE; round++) {
        bool bulk = l.bytes_out - before >= PASSING;
        more = pump(1, bulk);
        more = pump(2, bulk) || more; /* both have their turn */
    }
    if (!more && l.state == RUNNING && l.bytes_out - before >= BULK)
        l.rest_until = monotonic() + REST_NANOSECONDS;
}

/* Whatever START would have to wait for, and does not depend on what it says, is done before STAGE ready: a clone of the machine has it done already. */
static void await_start(void)
{
    own_prepare();
    surroundings_prepare();
    job_prepare(&l.job);
    l.state = IDLE;
    put_ready();
}

static void begin(struct frame *frame)
{
    struct failure why;
    l.start_payload = decoder_take(&l.decoder);
    const char *malformed = start_parse(&l.start, l.start_payload, frame->length);
    if (malformed) {
        failure_set(&why, FAILED_START, KIND_MALFORMED, 0, "%s", malformed);
        put_failed(&why, OVER);
        return;
    }
    if (l.start.has_clock)
        set_clock(l.start.clock + monotonic() - l.heard); /* receiving it took a while: emulated code is slow the first time */
    own(&l.start);
    if (!surroundings_apply(&l.start, &why) || !job_spawn(&l.job, &l.start, &why)) {
        close_fd(&l.job.in); /* or that nobody reads it would be told, maybe after AGAIN */
        put_failed(&why, OVER);
        return;
    }
    put_u32(GUEST_STARTED, (uint32_t)l.job.pid);
    l.state = RUNNING;
    l.credit[0] = WINDOW_INPUT;
    l.credit[1] = l.credit[2] = WINDOW_OUTPUT;
    l.open[1] = l.open[2] = true;
    if (l.job.out[2] < 0)
        end_output(2);
}

/* As if there had been no job. What waits to be sent stays, and so does what the job did to the machine's files. */
static void again(void)
{
    release_shares(&l.start);
    start_free(&l.start);
    free(l.start_payload);
    l.start_payload = NULL;
    job_forget(&l.job);
    for (int stream = 0; stream < 3; stream++) {
        l.credit[stream] = 0;
        l.open[stream] = false;
    }
    l.ring_at = l.ring_have = 0;
    l.passed = 0;
    l.input_ended = false;
    l.input_last = 0;
    l.bytes_out = l.bytes_in = 0;
    l.rest_until = 0;
    await_start();
}

static void grant(const struct frame *frame)
{
    uint32_t more = get_u32(frame->payload);
    if (!l.open[frame->stream])
        return;
    if (more > WINDOW_OUTPUT - l.credit[frame->stream])
        broken("a credit larger than the window");
    else
        l.credit[frame->stream] += more;
}

static void handle(struct frame *frame)
{
    const uint8_t *p = frame->payload;
    if (frame->type == HOST_START) {
        if (l.state == IDLE)
            begin(frame);
        else
            broken("a second START");
        return;
    }
    bool early = (frame->type == HOST_DONE && l.state != OVER && l.state != LOST) || (frame->type == HOST_AGAIN && l.state != OVER);
    if (l.state == IDLE && frame->type == HOST_CLOCK) { /* how the host sees that a clone is awake, so that the clock in START is not old when it is read */
        set_clock(get_u64(p));
        put_ready();
        return;
    }
    if (l.state == IDLE || early) {
        broken(l.state == IDLE ? "a frame before START" : "DONE or AGAIN before the end");
        return;
    }
    switch (frame->type) {
    case HOST_DATA: take_input(frame); break;
    case HOST_END:
        if (l.input_ended)
            broken("a second end of stdin");
        l.input_ended = true;
        break;
    case HOST_GRANT: grant(frame); break;
    case HOST_CLOSED: drop_output(frame->stream); break;
    case HOST_SIGNAL:
        if (p[0] < 1 || p[0] > 31)
            broken("a signal number out of range");
        else if (l.state == RUNNING)
            job_signal(&l.job, p[0]);
        break;
    case HOST_WINDOW:
        job_window(&l.job, &(struct window){get_u16(p), get_u16(p + 2), get_u16(p + 4), get_u16(p + 6)});
        break;
    case HOST_CLOCK: set_clock(get_u64(p)); break;
    case HOST_DONE: l.state = GONE; break;
    case HOST_AGAIN: again(); break;
    }
}

static void take_frames(const uint8_t *bytes, size_t length)
{
    struct frame frame;
    const char *why;
    while (l.state != BROKEN && l.state != GONE) {
        switch (decode(&l.decoder, &bytes, &length, &frame, &why)) {
        case DECODED_MORE: return;
        case DECODED_BROKEN: broken(why); return;
        case DECODED_FRAME: handle(&frame); break;
        }
    }
}

static void read_port(void)
{
    static uint8_t bytes[32768];
    for (int round = 0; round < ROUNDS && l.state != GONE; round++) {
        ssize_t n = read(l.port, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            say("the port is broken: %s", strerror(errno));
            l.state = GONE;
        }
        l.hung = n == 0;
        if (n <= 0)
            return;
        if (!l.decoder.have)
            l.heard = monotonic();
        take_frames(bytes, (size_t)n);
    }
}

/* poll(2) says at once that a hung-up port is hung up; an edge-triggered epoll says only when that changes. */
static bool still_hung(void)
{
    struct epoll_event event;
    struct pollfd port = {.fd = l.port};
    epoll_wait(l.watch, &event, 1, 0);
    return poll(&port, 1, 0) > 0 && port.revents & POLLHUP;
}

static void finish(void)
{
    uint8_t frame[FRAME_HEADER + EXITED_LENGTH];
    struct exited exited = {.bytes_out = l.bytes_out, .bytes_in = l.bytes_in};
    sync_shares(&l.start);
    job_account(&l.job, &exited);
    put(frame, encode_exited(frame, &exited));
    l.state = OVER;
}

/* Takes every step towards the end that is possible now. */
static void advance(bool child_ended)
{
    bool no_child = child_ended && job_reap(&l.job);
    if (l.state == RUNNING && l.job.ended) {
        l.state = KILLING;
        close_input();
        if (!no_child) /* no descendant is left either: orphans become our children */
            job_kill_all(&l.job);
    } else if (l.state == KILLING && child_ended && l.job.kill < 0)
        job_kill_all(&l.job); /* what was forked while the list was read */
    if (l.state == KILLING && job_alone(&l.job, no_child))
        l.state = DRAINING;
    if (l.state == DRAINING && !l.open[1] && !l.open[2])
        finish();
}

/* Until when the loop may sleep: a moment of CLOCK_MONOTONIC, 0 for no sleep at all, or for ever. */
static uint64_t wake_at(void)
{
    if (l.state == BROKEN)
        return l.deadline;
    if (l.now < l.rest_until)
        return l.rest_until;
    return l.state == DRAINING && (wants_output(1) || wants_output(2)) ? 0 : UINT64_MAX;
}

static int sleep_until(struct pollfd *fds, nfds_t count, uint64_t moment)
{
    uint64_t left = moment > l.now ? moment - l.now : 0;
    struct timespec time = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
    return ppoll(fds, count, moment == UINT64_MAX ? NULL : &time, NULL);
}

static void turn(void)
{
    struct signalfd_siginfo signals[8];
    enum { PORT, SIGNALS, INPUT, OUT1, OUT2, EVENTS, COUNT };
    bool waiting = l.out_at < l.out_end;
    l.now = monotonic();
    l.hung = l.hung && still_hung();
    struct pollfd fds[COUNT] = {
        [PORT] = {.fd = l.hung ? l.watch : l.port, .events = (short)(POLLIN | (waiting && !l.hung ? POLLOUT : 0))},
        [SIGNALS] = {.fd = l.signals, .events = POLLIN},
        /* with no event asked for, the end of a pipe's reader is still told; a terminal's would be told for ever */
        [INPUT] = {.fd = l.ring_have || l.job.terminal < 0 ? l.job.in : -1, .events = l.ring_have ? POLLOUT : 0},
        [OUT1] = {.fd = wants_output(1) ? l.job.out[1] : -1, .events = POLLIN},
        [OUT2] = {.fd = wants_output(2) ? l.job.out[2] : -1, .events = POLLIN},
        [EVENTS] = {.fd = l.state == KILLING ? l.job.events : -1, .events = POLLPRI},
    };
    if (sleep_until(fds, COUNT, wake_at()) < 0)
        return;
    l.now = monotonic();
    if (l.state == BROKEN && l.now >= l.deadline)
        l.state = GONE;
    if (!l.hung && fds[PORT].revents)
        read_port();
    bool child_ended = fds[SIGNALS].revents && read(l.signals, signals, sizeof signals) > 0;
    if (fds[INPUT].revents & POLLERR)
        close_input();
    pass_input();
    flush();
    pump_all();
    advance(child_ended);
    flush();
}

static void run(int port)
{
    sigset_t child;
    struct epoll_event edge = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
    l.port = port;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signal(SIGPIPE, SIG_IGN);
    l.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    l.watch = epoll_create1(EPOLL_CLOEXEC);
    if (l.signals < 0 || l.watch < 0 || epoll_ctl(l.watch, EPOLL_CTL_ADD, port, &edge) || fcntl(port, F_SETFL, O_NONBLOCK)) {
        say("cannot watch the port: %s", strerror(errno));
        return;
    }
    l.zero_copy = pipe2(l.passing, O_CLOEXEC | O_NONBLOCK) == 0 && fcntl(l.passing[0], F_SETPIPE_SZ, FRAME_OUTPUT_LIMIT) == FRAME_OUTPUT_LIMIT;
    flush();
    while (l.state != GONE)
        turn();
}

void serve(int port)
{
    await_start();
    run(port);
}

void serve_failure(int port, const struct failure *failure)
{
    l.job = no_job;
    put_failed(failure, LOST);
    run(port);
}
