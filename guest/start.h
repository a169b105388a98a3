/* The START frame's fields: parsing, without any I/O. */
#ifndef DAYFLY_START_H
#define DAYFLY_START_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LIMITS_MOST = 16, SHARES_MOST = 64, LINKS_MOST = 256, MAC_LENGTH = 6 };

struct limit { uint32_t resource; uint64_t soft, hard; };
struct share { bool read_only; char *tag; char *path; };
struct link { char *path, *target; };
struct window { uint16_t rows, columns, width, height; };
struct ipv4 { uint32_t address, mask, gateway, nameserver; }; /* in network byte order */

struct start {
    char **argv;
    char **envp;
    char *directory;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    size_t group_count;
    char *user; /* a line of passwd(5), or NULL */
    char **group_lines; /* lines of group(5), NULL at the end */
    bool has_umask, terminal, merged, has_clock, has_network;
    mode_t umask;
    struct limit limits[LIMITS_MOST];
    size_t limit_count;
    struct window window;
    struct share shares[SHARES_MOST];
    size_t share_count;
    struct link links[LINKS_MOST];
    size_t link_count;
    uint64_t ignored, blocked; /* signals: bit n - 1 is signal n */
    uint8_t closed; /* standard streams that are closed for the job: bit n is descriptor n */
    char *hostname, *machine_id;
    uint8_t *seed;
    size_t seed_length;
    uint64_t clock;
    struct ipv4 network;
    uint8_t *mac; /* MAC_LENGTH bytes, or NULL */
    void *memory[4]; /* what start_free() frees */
};

/* Strings of the result lie in the payload, which is changed for it and must live as long. NULL, or what is wrong. */
const char *start_parse(struct start *start, uint8_t *payload, size_t length);
void start_free(struct start *start);

#endif
