#include "start.h"

#include "frames.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum tag {
    TAG_ARGUMENT = 1, TAG_ENVIRONMENT, TAG_DIRECTORY, TAG_IDENTITY, TAG_USER, TAG_GROUP, TAG_UMASK, TAG_LIMIT, TAG_TERMINAL, TAG_MERGED,
    TAG_SHARE, TAG_HOSTNAME, TAG_SEED, TAG_CLOCK, TAG_NETWORK, TAG_MACHINE_ID, TAG_END,
};
enum { FIELD_HEADER = 8, GROUPS_MOST = 65536, NO_ID = -1 };

struct field { uint16_t tag; uint8_t *value; uint32_t length; };

/* The next field, or false at the end and where the frame is cut short (then *error is set). */
static bool next_field(uint8_t **at, uint8_t *end, struct field *field, const char **error)
{
    size_t left = (size_t)(end - *at);
    if (!left)
        return false;
    if (left < FIELD_HEADER || get_u32(*at + 4) > left - FIELD_HEADER) {
        *error = "START: a field is cut short";
        return false;
    }
    if (get_u16(*at + 2)) {
        *error = "START: a reserved field is not zero";
        return false;
    }
    *field = (struct field){.tag = get_u16(*at), .value = *at + FIELD_HEADER, .length = get_u32(*at + 4)};
    *at = field->value + field->length;
    return true;
}

/* Makes a C string of a field: it moves one byte down into its own header, which has been read, to gain room for the NUL. */
static char *string_of(struct field *f)
{
    if (f->length && memchr(f->value, 0, f->length))
        return NULL;
    char *text = (char *)f->value - 1;
    memmove(text, f->value, f->length);
    text[f->length] = 0;
    return text;
}

static const char *absolute(char **to, struct field *f)
{
    *to = string_of(f);
    return *to && **to == '/' ? NULL : "START: directory: not an absolute path";
}

static const char *parse_identity(struct start *s, const struct field *f)
{
    if (f->length < 8 || f->length % 4 || f->length / 4 - 2 > GROUPS_MOST)
        return "START: identity: wrong length";
    s->uid = get_u32(f->value);
    s->gid = get_u32(f->value + 4);
    s->group_count = f->length / 4 - 2;
    s->groups = s->memory[0] = calloc(s->group_count + 1, sizeof *s->groups);
    if (!s->groups)
        return "START: no memory";
    /* -1 means "leave it as it is" to setresuid(2): the job would run as root */
    if (s->uid == (uid_t)NO_ID || s->gid == (gid_t)NO_ID)
        return "START: identity: -1 is no user or group";
    for (size_t i = 0; i < s->group_count; i++)
        s->groups[i] = get_u32(f->value + 8 + 4 * i);
    return NULL;
}

static const char *database_line(char **to, struct field *f, int colons)
{
    char *line = *to = string_of(f);
    if (!line || *line == ':' || strchr(line, '\n'))
        return "START: user or group: not a line of passwd(5) or group(5)";
    for (; *line; line++)
        colons -= *line == ':';
    return colons ? "START: user or group: wrong number of fields" : NULL;
}

static const char *parse_limit(struct start *s, const struct field *f)
{
    if (f->length != 24 || get_u32(f->value + 4) || s->limit_count == LIMITS_MOST)
        return "START: limit: wrong length or too many";
    struct limit *limit = &s->limits[s->limit_count++];
    *limit = (struct limit){.resource = get_u32(f->value), .soft = get_u64(f->value + 8), .hard = get_u64(f->value + 16)};
    return limit->resource < LIMITS_MOST ? NULL : "START: limit: unknown resource";
}

static const char *parse_share(struct start *s, struct field *f)
{
    if (f->length < 4 || s->share_count == SHARES_MOST)
        return "START: share: wrong length or too many";
    uint32_t flags = get_u32(f->value);
    uint8_t *tag = f->value + 4, *zero = memchr(tag, 0, f->length - 4);
    if (flags > 1 || !zero || zero == tag || zero - tag > 31)
        return "START: share: wrong flags or tag";
    struct field rest = {.value = zero + 1, .length = (uint32_t)(f->value + f->length - (zero + 1))};
    char *path = string_of(&rest); /* overwrites the tag's NUL: the tag moves as well */
    memmove(tag - 1, tag, (size_t)(zero - tag));
    zero[-1] = 0;
    if (!path || *path != '/')
        return "START: share: not an absolute path";
    s->shares[s->share_count++] = (struct share){.read_only = flags & 1, .tag = (char *)tag - 1, .path = path};
    return NULL;
}

static const char *parse_hostname(struct start *s, struct field *f)
{
    char *name = s->hostname = string_of(f);
    if (!name || !*name || f->length > 64)
        return "START: hostname: wrong length";
    for (; *name; name++) /* it becomes a word in /etc/hosts */
        if (*name <= ' ' || *name >= 0x7f || *name == '#')
            return "START: hostname: a character that no host name has";
    return NULL;
}

static const char *parse_network(struct start *s, struct field *f)
{
    char *text = string_of(f), address[16], gateway[16], nameserver[16], excess;
    unsigned prefix;
    struct in_addr a, g, n;
    if (!text || sscanf(text, "%15[0-9.]/%2u %15[0-9.] %15[0-9.]%c", address, &prefix, gateway, nameserver, &excess) != 4 || prefix > 32
        || inet_pton(AF_INET, address, &a) != 1 || inet_pton(AF_INET, gateway, &g) != 1 || inet_pton(AF_INET, nameserver, &n) != 1)
        return "START: network: not `address/prefix gateway nameserver`";
    s->has_network = true;
    s->network = (struct ipv4){a.s_addr, prefix ? htonl(~0u << (32 - prefix)) : 0, g.s_addr, n.s_addr};
    return NULL;
}

static const char *parse_machine_id(struct start *s, struct field *f)
{
    s->machine_id = string_of(f);
    if (!s->machine_id || f->length != 32 || strspn(s->machine_id, "0123456789abcdef") != 32)
        return "START: machine-id: not 32 hexadecimal digits";
    return NULL;
}

static const char *fixed(const struct field *f, uint32_t length)
{
    return f->length == length ? NULL : "START: a field has a wrong length";
}

static const char *parse_number(struct start *s, const struct field *f)
{
    const char *error;
    switch (f->tag) {
    case TAG_UMASK:
        if ((error = fixed(f, 4)))
            return error;
        s->has_umask = true;
        s->umask = get_u32(f->value);
        return s->umask > 0777 ? "START: umask: not a mode" : NULL;
    case TAG_TERMINAL:
        if ((error = fixed(f, 8)))
            return error;
        s->terminal = true;
        s->window = (struct window){get_u16(f->value), get_u16(f->value + 2), get_u16(f->value + 4), get_u16(f->value + 6)};
        return NULL;
    case TAG_CLOCK:
        if ((error = fixed(f, 8)))
            return error;
        s->has_clock = true;
        s->clock = get_u64(f->value);
        return NULL;
    default:
        s->merged = true;
        return fixed(f, 0);
    }
}

struct cursors { char **argument, **environment, **group; };

static const char *parse_field(struct start *s, struct field *f, struct cursors *to)
{
    switch (f->tag) {
    case TAG_ARGUMENT:
        return (*to->argument++ = string_of(f)) ? NULL : "START: argument: a NUL in it";
    case TAG_ENVIRONMENT:
        *to->environment = string_of(f);
        return *to->environment && strchr(*to->environment++, '=') ? NULL : "START: environment: not NAME=value";
    case TAG_DIRECTORY: return absolute(&s->directory, f);
    case TAG_IDENTITY: return parse_identity(s, f);
    case TAG_USER: return database_line(&s->user, f, 6);
    case TAG_GROUP: return database_line(to->group++, f, 3);
    case TAG_UMASK: case TAG_TERMINAL: case TAG_CLOCK: case TAG_MERGED: return parse_number(s, f);
    case TAG_LIMIT: return parse_limit(s, f);
    case TAG_SHARE: return parse_share(s, f);
    case TAG_HOSTNAME: return parse_hostname(s, f);
    case TAG_SEED:
        s->seed = f->value;
        s->seed_length = f->length;
        return f->length < 32 || f->length > 512 ? "START: seed: wrong length" : NULL;
    case TAG_NETWORK: return parse_network(s, f);
    default: return parse_machine_id(s, f);
    }
}

/* A first look at all fields, before anything is changed: how many of each there are. */
static const char *count_fields(uint8_t *payload, size_t length, size_t counts[TAG_END])
{
    const char *error = NULL;
    struct field f;
    for (uint8_t *at = payload; next_field(&at, payload + length, &f, &error);) {
        if (f.tag == 0 || f.tag >= TAG_END)
            return "START: unknown field";
        bool repeats = f.tag == TAG_ARGUMENT || f.tag == TAG_ENVIRONMENT || f.tag == TAG_GROUP || f.tag == TAG_LIMIT || f.tag == TAG_SHARE;
        if (counts[f.tag]++ && !repeats)
            return "START: a field comes twice";
    }
    if (error)
        return error;
    if (!counts[TAG_ARGUMENT] || !counts[TAG_DIRECTORY] || !counts[TAG_IDENTITY])
        return "START: command, directory or identity is missing";
    return NULL;
}

const char *start_parse(struct start *s, uint8_t *payload, size_t length)
{
    size_t counts[TAG_END] = {0};
    memset(s, 0, sizeof *s);
    const char *error = count_fields(payload, length, counts);
    if (error)
        return error;
    char **arguments = s->memory[1] = calloc(counts[TAG_ARGUMENT] + 3, sizeof(char *));
    s->envp = s->memory[2] = calloc(counts[TAG_ENVIRONMENT] + 1, sizeof(char *));
    s->group_lines = s->memory[3] = calloc(counts[TAG_GROUP] + 1, sizeof(char *));
    if (!arguments || !s->envp || !s->group_lines)
        return "START: no memory";
    s->argv = arguments + 2;
    struct cursors to = {s->argv, s->envp, s->group_lines};
    struct field f;
    /* string_of() writes only below the field's end, so the header that follows is still whole when it is read */
    for (uint8_t *at = payload; next_field(&at, payload + length, &f, &error);)
        if ((error = parse_field(s, &f, &to)))
            return error;
    return NULL;
}

void start_free(struct start *s)
{
    for (size_t i = 0; i < sizeof s->memory / sizeof *s->memory; i++)
        free(s->memory[i]);
    memset(s, 0, sizeof *s);
}
