/* The decoder, the encoders and START's parser. */
#include "agent.h"
#include "check.h"

#include <arpa/inet.h>
#include <string.h>

static uint8_t buffer[1 << 16];
static size_t length;

static void field(uint16_t tag, const void *value, size_t size)
{
    uint16_t zero = 0;
    uint32_t size32 = (uint32_t)size;
    memcpy(buffer + length, &tag, 2);
    memcpy(buffer + length + 2, &zero, 2);
    memcpy(buffer + length + 4, &size32, 4);
    memcpy(buffer + length + 8, value, size);
    length += 8 + size;
}

static void text(uint16_t tag, const char *value)
{
    field(tag, value, strlen(value));
}

static void minimal(void)
{
    static const uint32_t identity[4] = {1000, 1001, 7, 8};
    length = 0;
    text(1, "sh");
    text(3, "/work");
    field(4, identity, sizeof identity);
}

static const char *parse(struct start *start)
{
    static uint8_t copy[sizeof buffer];
    memcpy(copy, buffer, length);
    return start_parse(start, copy, length);
}

/* One field more than the minimal ones; what the parser says of it. */
static const char *with(uint16_t tag, const void *value, size_t size)
{
    struct start start;
    minimal();
    field(tag, value, size);
    const char *error = parse(&start);
    start_free(&start);
    return error;
}

static bool says(const char *error, const char *part)
{
    if (!error || !strstr(error, part))
        fprintf(stderr, "said: %s\n", error ? error : "nothing");
    return error && strstr(error, part);
}

static void test_whole_start(void)
{
    struct start s;
    minimal();
    text(1, "");
    text(1, "last");
    text(2, "A=");
    text(2, "B=c=d");
    text(6, "lab:x:5:");
    field(11, "\1\0\0\0tag\0/data", 13);
    field(11, "\0\0\0\0work\0/w", 11);
    text(15, "10.0.2.15/24 10.0.2.2 10.0.2.3");
    field(17, "\x52\x54\0\0\0\1", 6);
    field(10, "", 0);
    field(18, "\0\x10\0\0\0\0\0\0" "\1\0\0\0\0\0\0\x80", 16);
    field(19, "\5", 1);
    field(20, "/home\0net/home", 14);
    CHECK(!parse(&s));
    CHECK(!strcmp(s.argv[0], "sh") && !strcmp(s.argv[1], "") && !strcmp(s.argv[2], "last") && !s.argv[3]);
    CHECK(!strcmp(s.envp[0], "A=") && !strcmp(s.envp[1], "B=c=d") && !s.envp[2]);
    CHECK(!strcmp(s.directory, "/work") && s.uid == 1000 && s.gid == 1001 && s.group_count == 2 && s.groups[1] == 8);
    CHECK(!strcmp(s.group_lines[0], "lab:x:5:") && !s.group_lines[1] && !s.user && s.merged && !s.terminal);
    CHECK(s.share_count == 2 && s.shares[0].read_only && !strcmp(s.shares[0].tag, "tag") && !strcmp(s.shares[0].path, "/data"));
    CHECK(!s.shares[1].read_only && !strcmp(s.shares[1].tag, "work") && !strcmp(s.shares[1].path, "/w"));
    CHECK(!memcmp(s.mac, "\x52\x54\0\0\0\1", 6));
    CHECK(s.ignored == 0x1000 && s.blocked == (1ull << 63 | 1) && s.closed == 5);
    CHECK(s.link_count == 1 && !strcmp(s.links[0].path, "/home") && !strcmp(s.links[0].target, "net/home"));
    CHECK(s.has_network && s.network.mask == htonl(0xffffff00) && s.network.gateway == htonl(0x0a000202));
    start_free(&s);
}

static void test_refused_starts(void)
{
    struct start s;
    minimal();
    length -= 1;
    CHECK(says(parse(&s), "cut short"));
    start_free(&s);
    length = 0;
    CHECK(says(parse(&s), "missing"));
    start_free(&s);
    minimal();
    buffer[2] = 1;
    CHECK(says(parse(&s), "reserved"));
    start_free(&s);
    CHECK(says(with(21, "", 0), "unknown"));
    CHECK(says(with(0, "", 0), "unknown"));
    CHECK(says(with(3, "/", 1), "twice"));
    CHECK(says(with(1, "a\0b", 3), "NUL"));
    CHECK(says(with(2, "novalue", 7), "NAME=value"));
    CHECK(says(with(7, "\0\0\1\0", 4), "umask"));
    CHECK(says(with(7, "", 0), "wrong length"));
    CHECK(says(with(8, "\20\0\0\0" "\0\0\0\0" "\0\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0\0", 24), "resource"));
    CHECK(says(with(9, "\0\0", 2), "wrong length"));
    CHECK(says(with(10, "x", 1), "wrong length"));
    CHECK(says(with(11, "\2\0\0\0t\0/", 7), "flags"));
    CHECK(says(with(11, "\0\0\0\0\0/", 6), "tag"));
    CHECK(says(with(11, "\0\0\0\0t\0rel", 9), "absolute"));
    CHECK(says(with(11, "\0\0\0\0" "01234567890123456789012345678901" "\0/", 38), "tag"));
    CHECK(says(with(12, "a b", 3), "character"));
    CHECK(says(with(12, "", 0), "length"));
    CHECK(says(with(13, "short", 5), "wrong length"));
    CHECK(says(with(15, "10.0.2.15/33 10.0.2.2 10.0.2.3", 30), "network"));
    CHECK(says(with(15, "10.0.2.15/24 10.0.2.2", 21), "network"));
    CHECK(says(with(16, "0123456789ABCDEF0123456789abcdef", 32), "machine-id"));
    CHECK(says(with(16, "0123456789abcdef", 16), "wrong length"));
    CHECK(says(with(17, "\x52\x54\0\0\0", 5), "wrong length"));
    CHECK(says(with(17, "\x53\x54\0\0\0\1", 6), "mac"));
    CHECK(says(with(17, "\0\0\0\0\0\0", 6), "mac"));
    CHECK(says(with(18, "\0\0\0\0\0\0\0\0", 8), "wrong length"));
    CHECK(says(with(19, "\x08", 1), "stream"));
    CHECK(says(with(20, "/home", 5), "target"));
    CHECK(says(with(20, "/home\0", 6), "target"));
    CHECK(says(with(20, "home\0x", 6), "absolute"));
    CHECK(says(with(20, "/home\0x\0y", 9), "target"));
    CHECK(says(with(5, "pat:x:1:1:Pat:/home", 19), "fields"));
    CHECK(says(with(6, "lab:x:5:\n", 9), "line"));
    CHECK(says(with(5, ":x:1:1:Pat:/home:/bin/sh", 24), "line"));
}

static enum decoded feed(struct decoder *decoder, const void *bytes, size_t size, struct frame *frame, const char **why)
{
    const uint8_t *at = bytes;
    return decode(decoder, &at, &size, frame, why);
}

static void test_decoder(void)
{
    static struct decoder decoder;
    struct frame frame;
    const char *why;
    static const char *const broken[] = {
        "\x40\0\0\0\0\0\0\0", "\x4b\0\0\0\0\0\0\0", "\x4a\0\0\0\1\0\0\0", "\x4a\1\0\0\0\0\0\0", "\x42\1\0\0\1\0\0\0", "\x44\0\0\0\4\0\0\0", "\x44\3\0\0\4\0\0\0", "\x43\0\1\0\0\0\0\0",
        "\x42\0\0\0\0\0\0\0", "\x42\0\0\0\1\0\1\0", "\x41\0\0\0\1\0\x40\0", "\x46\0\0\0\2\0\0\0", "\x49\0\0\0\1\0\0\0", "\x45\x80\0\0\0\0\0\0",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        memset(&decoder, 0, sizeof decoder);
        CHECK(feed(&decoder, broken[i], 8, &frame, &why) == DECODED_BROKEN && why);
    }
    memset(&decoder, 0, sizeof decoder);
    CHECK(feed(&decoder, "\x42\0\0\0\3\0\0\0ab", 10, &frame, &why) == DECODED_MORE);
    CHECK(feed(&decoder, "c", 1, &frame, &why) == DECODED_FRAME);
    CHECK(frame.type == HOST_DATA && frame.length == 3 && !memcmp(frame.payload, "abc", 3));
    CHECK(feed(&decoder, "\x45\2\0\0\0\0\0\0", 8, &frame, &why) == DECODED_FRAME && frame.stream == 2);
    CHECK(feed(&decoder, "\x4a\0\0\0\0\0\0\0", 8, &frame, &why) == DECODED_FRAME && frame.type == HOST_AGAIN);
    CHECK(feed(&decoder, "\x41\0\0\0\2\0\0\0xy", 10, &frame, &why) == DECODED_FRAME && !memcmp(frame.payload, "xy", 2));
    free(decoder_take(&decoder));
    decoder_free(&decoder);
}

static void test_encoders(void)
{
    uint8_t out[FRAME_HEADER + FRAME_FAILED_LIMIT];
    CHECK(encode_hello(out, "1", "6.1") == FRAME_HEADER + 8 + 5 && !memcmp(out + 8, "DFLY\3\0\0\0" "1\0" "6.1", 13));
    char kernel[400];
    memset(kernel, 'k', sizeof kernel - 1);
    kernel[sizeof kernel - 1] = 0;
    CHECK(encode_hello(out, "1", kernel) == FRAME_HEADER + 256);
    struct failure failure;
    failure_set(&failure, FAILED_START, KIND_NOT_FOUND, 2, "a\xff\xc3\xa9\xed\xa0\x80\n");
    size_t size = encode_failed(out, &failure);
    CHECK(!memcmp(out + 12, "a?\xc3\xa9????: no such file or directory", size - 12) && out[8] == 5 && out[9] == 1 && out[10] == 2);
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    failure_set(&failure, FAILED_START, 0, 2, "%s", longest);
    CHECK(encode_failed(out, &failure) <= sizeof out);
    CHECK(encode_exited(out, &(struct exited){.signalled = true, .value = 9, .bytes_in = 5}) == 56 && out[8] == 1 && out[9] == 9 && out[48] == 5);
}

int main(void)
{
    test_whole_start();
    test_refused_starts();
    test_decoder();
    test_encoders();
    puts("pure parts: ok");
    return 0;
}
