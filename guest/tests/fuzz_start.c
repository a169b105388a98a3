/* Any bytes as START's payload: refused with a text, or every string and array of the result can be read to its end. */
#include "start.h"

#include <stdlib.h>
#include <string.h>

static size_t total;

static void touch(const char *text)
{
    total += text ? strlen(text) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct start start;
    uint8_t *payload = malloc(size + 1); /* exact but for the byte that the decoder has as well */
    memcpy(payload, data, size);
    const char *error = start_parse(&start, payload, size);
    if (error)
        touch(error);
    else {
        if (!start.argv[0] || *start.directory != '/' || start.uid == (uid_t)-1 || start.gid == (gid_t)-1)
            abort();
        for (char **at = start.argv; *at; at++)
            touch(*at);
        for (char **at = start.envp; *at; at++)
            touch(strchr(*at, '=') ? *at : (abort(), NULL));
        for (char **at = start.group_lines; *at; at++)
            touch(*at);
        for (size_t i = 0; i < start.share_count; i++) {
            if (*start.shares[i].path != '/' || strlen(start.shares[i].tag) > 31 || !*start.shares[i].tag)
                abort();
            touch(start.shares[i].path);
        }
        for (size_t i = 0; i < start.group_count; i++)
            total += start.groups[i];
        for (size_t i = 0; i < start.seed_length; i++)
            total += start.seed[i];
        for (size_t i = 0; start.mac && i < MAC_LENGTH; i++)
            total += start.mac[i];
        touch(start.directory), touch(start.user), touch(start.hostname), touch(start.machine_id);
    }
    start_free(&start);
    free(payload);
    return 0;
}
