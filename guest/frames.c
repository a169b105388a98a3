#include "frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The machine is x86-64 and so little-endian, as the protocol; memcpy because nothing in a frame is aligned. */
uint16_t get_u16(const uint8_t *at) { uint16_t v; memcpy(&v, at, sizeof v); return v; }
uint32_t get_u32(const uint8_t *at) { uint32_t v; memcpy(&v, at, sizeof v); return v; }
uint64_t get_u64(const uint8_t *at) { uint64_t v; memcpy(&v, at, sizeof v); return v; }
static void put_u16(uint8_t *at, uint16_t v) { memcpy(at, &v, sizeof v); }
static void put_u32(uint8_t *at, uint32_t v) { memcpy(at, &v, sizeof v); }
static void put_u64(uint8_t *at, uint64_t v) { memcpy(at, &v, sizeof v); }

/* The valid frames of each host type; streams is a bit set. */
static const struct shape {
    uint32_t least, most;
    uint8_t streams;
} shapes[] = {
    [HOST_START - HOST_START] = {0, FRAME_START_LIMIT, 1 << 0},
    [HOST_DATA - HOST_START] = {1, FRAME_INPUT_LIMIT, 1 << 0},
    [HOST_END - HOST_START] = {0, 0, 1 << 0},
    [HOST_GRANT - HOST_START] = {4, 4, 1 << 1 | 1 << 2},
    [HOST_CLOSED - HOST_START] = {0, 0, 1 << 1 | 1 << 2},
    [HOST_SIGNAL - HOST_START] = {1, 1, 1 << 0},
    [HOST_WINDOW - HOST_START] = {8, 8, 1 << 0},
    [HOST_CLOCK - HOST_START] = {8, 8, 1 << 0},
    [HOST_DONE - HOST_START] = {0, 0, 1 << 0},
    [HOST_AGAIN - HOST_START] = {0, 0, 1 << 0},
};

static const char *check_header(const uint8_t *header)
{
    unsigned type = header[0], stream = header[1];
    uint32_t length = get_u32(header + 4);
    if (type < HOST_START || type > HOST_AGAIN)
        return "unknown frame type";
    const struct shape *shape = &shapes[type - HOST_START];
    if (stream > 2 || !(shape->streams >> stream & 1))
        return "frame with a stream that its type does not have";
    if (get_u16(header + 2))
        return "frame with a reserved field that is not zero";
    if (length < shape->least || length > shape->most)
        return "frame with a length that its type does not allow";
    return NULL;
}

static size_t take(uint8_t *to, size_t wanted, const uint8_t **input, size_t *left)
{
    size_t n = wanted < *left ? wanted : *left;
    if (n)
        memcpy(to, *input, n);
    *input += n;
    *left -= n;
    return n;
}

enum decoded decode(struct decoder *d, const uint8_t **input, size_t *left, struct frame *frame, const char **why)
{
    if (d->have < FRAME_HEADER) {
        d->have += take(d->header + d->have, FRAME_HEADER - d->have, input, left);
        if (d->have < FRAME_HEADER)
            return DECODED_MORE;
        if ((*why = check_header(d->header)))
            return DECODED_BROKEN;
        if (d->header[0] == HOST_START) {
            free(d->start); /* a second START: the first one's payload may have been left here */
            if (!(d->start = malloc(get_u32(d->header + 4) + 1))) {
                *why = "no memory for the START frame";
                return DECODED_BROKEN;
            }
        }
    }
    uint32_t length = get_u32(d->header + 4);
    uint8_t *payload = d->header[0] == HOST_START ? d->start : d->small;
    size_t got = d->have - FRAME_HEADER;
    d->have += take(payload + got, length - got, input, left);
    if (d->have < FRAME_HEADER + (size_t)length)
        return DECODED_MORE;
    *frame = (struct frame){.type = d->header[0], .stream = d->header[1], .length = length, .payload = payload};
    d->have = 0;
    return DECODED_FRAME;
}

uint8_t *decoder_take(struct decoder *d)
{
    uint8_t *payload = d->start;
    d->start = NULL;
    return payload;
}

void decoder_free(struct decoder *d)
{
    free(d->start);
    d->start = NULL;
}

size_t encode_header(uint8_t *out, enum guest_frame type, uint8_t stream, uint32_t length)
{
    out[0] = (uint8_t)type;
    out[1] = stream;
    put_u16(out + 2, 0);
    put_u32(out + 4, length);
    return FRAME_HEADER;
}

size_t encode_hello(uint8_t out[HELLO_ROOM], const char *version, const char *kernel)
{
    uint8_t *at = out + FRAME_HEADER;
    memcpy(at, "DFLY", 4);
    put_u16(at + 4, PROTOCOL_VERSION);
    put_u16(at + 6, 0);
    int n = snprintf((char *)at + 8, FRAME_HELLO_LIMIT - 8 + 1, "%.64s%c%s", version, 0, kernel);
    uint32_t length = n < FRAME_HELLO_LIMIT - 8 ? 8 + (uint32_t)n : FRAME_HELLO_LIMIT;
    encode_header(out, GUEST_HELLO, 0, length);
    return FRAME_HEADER + length;
}

size_t encode_stage(uint8_t *out, enum stage stage)
{
    encode_header(out, GUEST_STAGE, 0, 1);
    out[FRAME_HEADER] = (uint8_t)stage;
    return FRAME_HEADER + 1;
}

size_t encode_u32(uint8_t *out, enum guest_frame type, uint8_t stream, uint32_t value)
{
    encode_header(out, type, stream, 4);
    put_u32(out + FRAME_HEADER, value);
    return FRAME_HEADER + 4;
}

/* A command's name may be any bytes, but the text of FAILED is UTF-8: invalid bytes become '?'.
   Bytes from 0x80 on are kept only in well-formed sequences, so that a name cut in the middle stays valid too. */
static void copy_utf8(uint8_t *to, const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint8_t c = (uint8_t)text[i];
        size_t n = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
        bool good = n && n <= length - i && !(n == 1 && (c < 0x20 || c == 0x7f));
        for (size_t k = 1; good && k < n; k++)
            good = ((uint8_t)text[i + k] & 0xc0) == 0x80;
        if (good && n > 2) { /* overlong forms, surrogates, and what lies beyond U+10FFFF */
            uint8_t second = (uint8_t)text[i + 1];
            good = !(c == 0xe0 && second < 0xa0) && !(c == 0xed && second > 0x9f) && !(c == 0xf0 && second < 0x90) && !(c == 0xf4 && second > 0x8f);
        }
        if (!good)
            to[i++] = '?';
        else
            for (; n; n--, i++)
                to[i] = (uint8_t)text[i];
    }
}

size_t encode_failed(uint8_t *out, const struct failure *failure)
{
    size_t length = strnlen(failure->text, sizeof failure->text);
    uint8_t *at = out + encode_header(out, GUEST_FAILED, 0, (uint32_t)(4 + length));
    at[0] = failure->stage;
    at[1] = failure->kind;
    put_u16(at + 2, failure->error);
    copy_utf8(at + 4, failure->text, length);
    return FRAME_HEADER + 4 + length;
}

size_t encode_exited(uint8_t *out, const struct exited *e)
{
    uint8_t *at = out + encode_header(out, GUEST_EXITED, 0, EXITED_LENGTH);
    at[0] = e->signalled;
    at[1] = e->value;
    put_u16(at + 2, 0);
    put_u32(at + 4, e->oom_kills);
    put_u64(at + 8, e->user_us);
    put_u64(at + 16, e->system_us);
    put_u64(at + 24, e->peak_bytes);
    put_u64(at + 32, e->bytes_out);
    put_u64(at + 40, e->bytes_in);
    return FRAME_HEADER + EXITED_LENGTH;
}
