/* Any bytes, in pieces whose sizes the input chooses: the decoder gives the same frames as for all bytes at once, and stays within its memory. */
#include "frames.h"

#include <stdlib.h>
#include <string.h>

static uint64_t digest(const uint8_t *bytes, size_t length, size_t piece)
{
    struct decoder *decoder = calloc(1, sizeof *decoder);
    struct frame frame;
    const char *why = NULL;
    uint64_t sum = 1469598103934665603u;
    enum decoded result = DECODED_MORE;
    while (length && result != DECODED_BROKEN) {
        size_t left = piece < length ? piece : length;
        length -= left;
        while ((result = decode(decoder, &bytes, &left, &frame, &why)) == DECODED_FRAME) {
            sum = (sum ^ frame.type ^ (uint64_t)frame.stream << 8) * 1099511628211u;
            for (uint32_t i = 0; i < frame.length; i++)
                sum = (sum ^ frame.payload[i]) * 1099511628211u;
        }
        if (result == DECODED_MORE && left)
            abort();
    }
    if (result == DECODED_BROKEN && !why)
        abort();
    decoder_free(decoder);
    free(decoder);
    return sum ^ (result == DECODED_BROKEN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (digest(data + 1, size - 1, size) != digest(data + 1, size - 1, 1 + data[0] % 61))
        abort();
    return 0;
}
