/* The frames of the guest protocol (docs/reference/guest-protocol.md): encoding and decoding, without any I/O. */
#ifndef DAYFLY_FRAMES_H
#define DAYFLY_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 3,
    FRAME_HEADER = 8,
    FRAME_INPUT_LIMIT = 64 << 10, /* of a frame of stdin */
    FRAME_OUTPUT_LIMIT = 256 << 10, /* of stdout or stderr */
    FRAME_HELLO_LIMIT = 256,
    FRAME_FAILED_LIMIT = 1024,
    FRAME_START_LIMIT = 4 << 20,
    WINDOW_OUTPUT = 1 << 20,
    WINDOW_INPUT = 256 << 10,
    EXITED_LENGTH = 48,
};

enum guest_frame {
    GUEST_HELLO = 1, GUEST_STAGE, GUEST_FAILED, GUEST_STARTED, GUEST_DATA, GUEST_END, GUEST_GRANT, GUEST_CLOSED, GUEST_EXITED,
};

enum host_frame {
    HOST_START = 0x41, HOST_DATA, HOST_END, HOST_GRANT, HOST_CLOSED, HOST_SIGNAL, HOST_WINDOW, HOST_CLOCK, HOST_DONE, HOST_AGAIN,
};

enum stage { STAGE_ROOT = 1, STAGE_READY = 2 };
enum failed_stage { FAILED_MODULES = 1, FAILED_ROOT, FAILED_INIT, FAILED_AGENT, FAILED_START };
enum failed_kind {
    KIND_NONE, KIND_NOT_FOUND, KIND_NOT_EXECUTABLE, KIND_DIRECTORY, KIND_SHARE, KIND_IDENTITY, KIND_NETWORK, KIND_MALFORMED, KIND_RESOURCES,
};

struct frame {
    uint8_t type;
    uint8_t stream;
    uint32_t length;
    uint8_t *payload; /* valid until the next call of decode(); that of START may be taken over, see decoder_take() */
};

struct decoder {
    uint8_t header[FRAME_HEADER];
    size_t have; /* bytes of the header and the payload so far */
    uint8_t *start; /* where the payload of START is collected: on the heap, since only this one is large */
    uint8_t small[FRAME_INPUT_LIMIT];
};

enum decoded { DECODED_MORE, DECODED_FRAME, DECODED_BROKEN };

/* Consumes from *input what the next frame needs. MORE: all was consumed. BROKEN: *why says what is wrong with the frame. */
enum decoded decode(struct decoder *decoder, const uint8_t **input, size_t *left, struct frame *frame, const char **why);
/* The payload of the START frame just decoded now belongs to the caller, who frees it. */
uint8_t *decoder_take(struct decoder *decoder);
void decoder_free(struct decoder *decoder);

/* Each writes a frame's header, or a whole small frame, and returns its length. */
size_t encode_header(uint8_t *out, enum guest_frame type, uint8_t stream, uint32_t length);
enum { HELLO_ROOM = FRAME_HEADER + FRAME_HELLO_LIMIT + 1 };
size_t encode_hello(uint8_t out[HELLO_ROOM], const char *version, const char *kernel); /* cut to the limit */
size_t encode_stage(uint8_t *out, enum stage stage);
size_t encode_u32(uint8_t *out, enum guest_frame type, uint8_t stream, uint32_t value);

struct failure {
    uint8_t stage;
    uint8_t kind;
    uint16_t error; /* errno, or 0 */
    char text[512];
};
size_t encode_failed(uint8_t *out, const struct failure *failure);

struct exited {
    bool signalled;
    uint8_t value;
    uint32_t oom_kills;
    uint64_t user_us, system_us, peak_bytes, bytes_out, bytes_in;
};
size_t encode_exited(uint8_t *out, const struct exited *exited);

uint16_t get_u16(const uint8_t *at);
uint32_t get_u32(const uint8_t *at);
uint64_t get_u64(const uint8_t *at);

#endif
