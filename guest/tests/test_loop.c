/* The loop over a socketpair: the agent is a child process here, and its jobs are ordinary processes without a cgroup. */
#include "agent.h"
#include "check.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int port;
static pid_t agent;

static void begin(void)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    agent = fork();
    if (agent == 0) {
        close(ends[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves no agent behind */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        serve(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    port = ends[0];
}

static void take(void *to, size_t length)
{
    for (uint8_t *at = to; length;) {
        ssize_t n = read(port, at, length);
        CHECK(n > 0);
        at += n;
        length -= (size_t)n;
    }
}

static struct frame next(void)
{
    static uint8_t payload[FRAME_OUTPUT_LIMIT];
    uint8_t header[FRAME_HEADER];
    take(header, sizeof header);
    struct frame frame = {.type = header[0], .stream = header[1], .length = get_u32(header + 4), .payload = payload};
    CHECK(frame.length <= sizeof payload);
    take(payload, frame.length);
    return frame;
}

static void expect(uint8_t type)
{
    struct frame frame = next();
    if (frame.type != type)
        fprintf(stderr, "frame %u instead of %u: %.*s\n", frame.type, type, (int)frame.length, (char *)frame.payload);
    CHECK(frame.type == type);
}

static void send_frame(uint8_t type, uint8_t stream, const void *payload, uint32_t length)
{
    uint8_t header[FRAME_HEADER];
    encode_header(header, (enum guest_frame)type, stream, length);
    CHECK(write_all(port, header, sizeof header) == 0 && write_all(port, payload, length) == 0);
}

static uint8_t *put_field(uint8_t *at, uint8_t tag, const void *value, uint32_t length)
{
    memset(at, 0, 8);
    at[0] = tag;
    memcpy(at + 4, &length, 4);
    memcpy(at + 8, value, length);
    return at + 8 + length;
}

static void start_with(const char *script, uint8_t tag, const void *value, uint32_t length)
{
    uint8_t payload[4096], *at = payload;
    uint32_t identity[2] = {getuid(), getgid()};
    at = put_field(at, 1, "sh", 2);
    at = put_field(at, 1, "-c", 2);
    at = put_field(at, 1, script, (uint32_t)strlen(script));
    at = put_field(at, 3, "/", 1);
    at = put_field(at, 4, identity, sizeof identity);
    if (tag)
        at = put_field(at, tag, value, length);
    expect(GUEST_STAGE);
    send_frame(HOST_START, 0, payload, (uint32_t)(at - payload));
}

static void start(const char *script)
{
    start_with(script, 0, NULL, 0);
}

static void end(void)
{
    int status;
    send_frame(HOST_DONE, 0, "", 0);
    CHECK(waitpid(agent, &status, 0) == agent && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(port);
}

/* To EXITED; counts what came of each stream, and grants it again. */
static struct frame follow(size_t counts[3])
{
    for (;;) {
        struct frame frame = next();
        if (frame.type == GUEST_EXITED)
            return frame;
        if (frame.type == GUEST_DATA) {
            counts[frame.stream] += frame.length;
            send_frame(HOST_GRANT, frame.stream, &frame.length, 4);
        } else
            CHECK(frame.type == GUEST_END || frame.type == GUEST_CLOSED || frame.type == GUEST_GRANT);
    }
}

static void test_output_and_code(void)
{
    size_t counts[3] = {0};
    begin();
    start("head -c 3000000 /dev/zero; echo err >&2; exit 3");
    expect(GUEST_STARTED);
    struct frame frame = follow(counts);
    CHECK(frame.payload[0] == 0 && frame.payload[1] == 3 && counts[1] == 3000000 && counts[2] == 4);
    CHECK(get_u64(frame.payload + 32) == 3000004);
    end();
}

static void test_leftovers_are_killed(void)
{
    size_t counts[3] = {0};
    begin();
    start("setsid sh -c 'setsid sleep 1000 & sleep 1000' & (sleep 1000) & kill -TERM $$");
    expect(GUEST_STARTED);
    struct frame frame = follow(counts);
    CHECK(frame.payload[0] == 1 && frame.payload[1] == SIGTERM);
    end();
}

static void test_input_and_its_credit(void)
{
    static uint8_t bytes[FRAME_INPUT_LIMIT];
    size_t counts[3] = {0};
    begin();
    start("wc -c");
    expect(GUEST_STARTED);
    for (int i = 0; i < 4; i++)
        send_frame(HOST_DATA, 0, bytes, sizeof bytes);
    /* The agent grants again at least 64 KiB at a time: a smaller rest, which depends on how the job's reads fell, is never granted. */
    for (uint32_t granted = 0; granted + FRAME_INPUT_LIMIT <= WINDOW_INPUT;) {
        struct frame frame = next();
        CHECK(frame.type == GUEST_GRANT);
        granted += get_u32(frame.payload);
    }
    send_frame(HOST_END, 0, "", 0);
    struct frame frame = follow(counts);
    CHECK(frame.payload[1] == 0 && counts[1] == 7 && get_u64(frame.payload + 40) == WINDOW_INPUT);
    end();
}

/* What a job leaves of its input is known to the byte, also after the input's end. */
static void test_input_left(void)
{
    size_t counts[3] = {0};
    begin();
    start("read line; echo $line");
    expect(GUEST_STARTED);
    send_frame(HOST_DATA, 0, "one\ntwo\nthree\n", 14);
    send_frame(HOST_END, 0, "", 0);
    struct frame frame = follow(counts);
    CHECK(counts[1] == 4 && get_u64(frame.payload + 40) == 4);
    end();
}

static void test_signals_and_closed_streams(void)
{
    static const uint64_t signals[2] = {1 << (SIGHUP - 1) | 1ull << (SIGPIPE - 1), 1 << (SIGUSR1 - 1)};
    size_t counts[3] = {0};
    begin();
    start_with("exec grep -c -e 'SigIgn:.0000000000001001$' -e 'SigBlk:.0000000000000200$' /proc/self/status", 18, signals, sizeof signals);
    expect(GUEST_STARTED);
    CHECK(follow(counts).payload[1] == 0 && counts[1] == 2);
    send_frame(HOST_AGAIN, 0, "", 0);
    start_with("test -e /proc/self/fd/0 || test -e /proc/self/fd/2 || echo two are closed", 19, "\5", 1);
    expect(GUEST_STARTED);
    CHECK(follow(counts).payload[1] == 0 && counts[1] == 2 + 15);
    end();
}

static void test_again(void)
{
    size_t counts[3] = {0};
    begin();
    start("read line; echo $line; sleep 1000 & exit 3");
    expect(GUEST_STARTED);
    send_frame(HOST_DATA, 0, "one\nmore\n", 9);
    struct frame frame = follow(counts);
    CHECK(frame.payload[1] == 3 && counts[1] == 4);
    send_frame(HOST_AGAIN, 0, "", 0);
    start("cat; exit 4");
    expect(GUEST_STARTED);
    send_frame(HOST_DATA, 0, "two\n", 4);
    send_frame(HOST_END, 0, "", 0);
    frame = follow(counts);
    CHECK(frame.payload[0] == 0 && frame.payload[1] == 4 && counts[1] == 8);
    CHECK(get_u64(frame.payload + 32) == 4 && get_u64(frame.payload + 40) == 4);
    send_frame(HOST_AGAIN, 0, "", 0);
    expect(GUEST_STAGE);
    send_frame(HOST_START, 0, "junk", 4);
    expect(GUEST_FAILED);
    send_frame(HOST_AGAIN, 0, "", 0);
    start("exit 5");
    expect(GUEST_STARTED);
    CHECK(follow(counts).payload[1] == 5);
    end();
}

static void test_again_too_early(void)
{
    begin();
    start("sleep 5");
    expect(GUEST_STARTED);
    send_frame(HOST_AGAIN, 0, "", 0);
    struct frame frame;
    while ((frame = next()).type == GUEST_END)
        ;
    CHECK(frame.type == GUEST_FAILED && frame.payload[0] == FAILED_AGENT);
    send_frame(HOST_AGAIN, 0, "", 0);
    CHECK(waitpid(agent, NULL, 0) == agent);
    close(port);
}

static void test_malformed_start(void)
{
    begin();
    expect(GUEST_STAGE);
    send_frame(HOST_START, 0, "junk", 4);
    struct frame frame = next();
    CHECK(frame.type == GUEST_FAILED && frame.payload[0] == FAILED_START && frame.payload[1] == KIND_MALFORMED);
    end();
}

static void test_broken_peer(void)
{
    int status;
    begin();
    start("sleep 5"); /* it outlives the agent here; in a machine, the power goes */
    expect(GUEST_STARTED);
    send_frame(HOST_SIGNAL, 0, "\0", 1);
    struct frame frame;
    while ((frame = next()).type == GUEST_END)
        ;
    CHECK(frame.type == GUEST_FAILED && frame.payload[0] == FAILED_AGENT);
    CHECK(waitpid(agent, &status, 0) == agent && WIFEXITED(status));
    close(port);
}

int main(void)
{
    if (getuid() != 0) {
        puts("loop: skipped, for the agent takes the job's identity, which needs root");
        return 0;
    }
    alarm(60); /* a loop that hangs is a failure, and not for ever */
    test_output_and_code();
    test_leftovers_are_killed();
    test_input_and_its_credit();
    test_input_left();
    test_signals_and_closed_streams();
    test_again();
    test_again_too_early();
    test_malformed_start();
    test_broken_peer();
    puts("loop: ok");
    return 0;
}
