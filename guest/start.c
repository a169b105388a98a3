#include "start.h"

#include "frames.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum tag {
    TAG_ARGUMENT = 1, TAG_ENVIRONMENT, TAG_DIRECTORY, TAG_IDENTITY, TAG_USER, TAG_GROUP, TAG_UMASK, TAG_LIMIT, TAG_TERMINAL, TAG_MERGED,
    TAG_SHARE, TAG_HOSTNAME, TAG_SEED, TAG_CLOCK, TAG_NETWORK, TAG_MACHINE_ID, TAG_MAC, TAG_SIGNALS, TAG_CLOSED, TAG_LINK, TAG_END,
};
enum { FIELD_HEADER = 8, GROUPS_MOST = 65536, NO_ID = -1 };

struct field { uint16_t tag; uint8_t *value; uint32_t length; };

/* How long each field's value may be, and how many there may be of it. */
static const struct shape { uint32_t least, most, count; } shapes[TAG_END] = {
    [TAG_ARGUMENT] = {0, UINT32_MAX, UINT32_MAX},
    [TAG_ENVIRONMENT] = {0, UINT32_MAX, UINT32_MAX},
    [TAG_DIRECTORY] = {1, UINT32_MAX, 1},
    [TAG_IDENTITY] = {8, 8 + 4 * GROUPS_MOST, 1},
    [TAG_USER] = {0, UINT32_MAX, 1},
    [TAG_GROUP] = {0, UINT32_MAX, UINT32_MAX},
    [TAG_UMASK] = {4, 4, 1},
    [TAG_LIMIT] = {24, 24, LIMITS_MOST},
    [TAG_TERMINAL] = {8, 8, 1},
    [TAG_MERGED] = {0, 0, 1},
    [TAG_SHARE] = {4, UINT32_MAX, SHARES_MOST},
    [TAG_HOSTNAME] = {1, 64, 1},
    [TAG_SEED] = {32, 512, 1},
    [TAG_CLOCK] = {8, 8, 1},
    [TAG_NETWORK] = {0, UINT32_MAX, 1},
    [TAG_MACHINE_ID] = {32, 32, 1},
    [TAG_MAC] = {MAC_LENGTH, MAC_LENGTH, 1},
    [TAG_SIGNALS] = {16, 16, 1},
    [TAG_CLOSED] = {1, 1, 1},
    [TAG_LINK] = {3, UINT32_MAX, LINKS_MOST},
};

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
    if (f->length % 4)
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
    if (get_u32(f->value + 4))
        return "START: limit: a reserved field is not zero";
    struct limit *limit = &s->limits[s->limit_count++];
    *limit = (struct limit){.resource = get_u32(f->value), .soft = get_u64(f->value + 8), .hard = get_u64(f->value + 16)};
    return limit->resource < LIMITS_MOST ? NULL : "START: limit: unknown resource";
}

/* Two C strings of a field, from the offset `skip` on: a NUL ends the first. False where there are not two, or the first is empty. */
static bool pair_of(const struct field *f, uint32_t skip, char **first, char **second)
{
    uint8_t *at = f->value + skip, *zero = memchr(at, 0, f->length - skip);
    if (!zero || zero == at)
        return false;
    struct field rest = {.value = zero + 1, .length = (uint32_t)(f->value + f->length - (zero + 1))};
    *second = string_of(&rest); /* overwrites the NUL before it: the first string moves as well */
    memmove(at - 1, at, (size_t)(zero - at));
    zero[-1] = 0;
    *first = (char *)at - 1;
    return *second;
}

static const char *parse_share(struct start *s, const struct field *f)
{
    uint32_t flags = get_u32(f->value);
    char *tag, *path;
    if (flags > 1 || !pair_of(f, 4, &tag, &path) || strlen(tag) > 31)
        return "START: share: wrong flags or tag";
    if (*path != '/')
        return "START: share: not an absolute path";
    s->shares[s->share_count++] = (struct share){.read_only = flags & 1, .tag = tag, .path = path};
    return NULL;
}

static const char *parse_link(struct start *s, const struct field *f)
{
    char *path, *target;
    if (!pair_of(f, 0, &path, &target) || *path != '/' || !*target)
        return "START: link: not an absolute path and a target";
    s->links[s->link_count++] = (struct link){.path = path, .target = target};
    return NULL;
}

static const char *parse_closed(struct start *s, const struct field *f)
{
    s->closed = *f->value;
    return s->closed > 7 ? "START: closed: not a standard stream" : NULL;
}

static const char *parse_hostname(struct start *s, struct field *f)
{
    char *name = s->hostname = string_of(f);
    for (; name && *name; name++) /* it becomes a word in /etc/hosts */
        if (*name <= ' ' || *name >= 0x7f || *name == '#')
            return "START: hostname: a character that no host name has";
    return name ? NULL : "START: hostname: a NUL in it";
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
    if (!s->machine_id || strspn(s->machine_id, "0123456789abcdef") != 32)
        return "START: machine-id: not 32 hexadecimal digits";
    return NULL;
}

static const char *parse_mac(struct start *s, const struct field *f)
{
    static const uint8_t none[MAC_LENGTH];
    s->mac = f->value;
    return *s->mac & 1 || memcmp(s->mac, none, sizeof none) == 0 ? "START: mac: not one interface's address" : NULL;
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
    case TAG_UMASK:
        s->has_umask = true;
        s->umask = get_u32(f->value);
        return s->umask > 0777 ? "START: umask: not a mode" : NULL;
    case TAG_TERMINAL:
        s->terminal = true;
        s->window = (struct window){get_u16(f->value), get_u16(f->value + 2), get_u16(f->value + 4), get_u16(f->value + 6)};
        return NULL;
    case TAG_MERGED:
        s->merged = true;
        return NULL;
    case TAG_CLOCK:
        s->has_clock = true;
        s->clock = get_u64(f->value);
        return NULL;
    case TAG_LIMIT: return parse_limit(s, f);
    case TAG_SHARE: return parse_share(s, f);
    case TAG_HOSTNAME: return parse_hostname(s, f);
    case TAG_SEED:
        s->seed = f->value;
        s->seed_length = f->length;
        return NULL;
    case TAG_NETWORK: return parse_network(s, f);
    case TAG_MACHINE_ID: return parse_machine_id(s, f);
    case TAG_SIGNALS:
        s->ignored = get_u64(f->value);
        s->blocked = get_u64(f->value + 8);
        return NULL;
    case TAG_CLOSED: return parse_closed(s, f);
    case TAG_LINK: return parse_link(s, f);
    default: return parse_mac(s, f);
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
        const struct shape *shape = &shapes[f.tag];
        if (f.length < shape->least || f.length > shape->most)
            return "START: a field has a wrong length";
        if (counts[f.tag]++ >= shape->count)
            return "START: a field comes twice, or too often";
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
    s->argv = s->memory[1] = calloc(counts[TAG_ARGUMENT] + 1, sizeof(char *));
    s->envp = s->memory[2] = calloc(counts[TAG_ENVIRONMENT] + 1, sizeof(char *));
    s->group_lines = s->memory[3] = calloc(counts[TAG_GROUP] + 1, sizeof(char *));
    if (!s->argv || !s->envp || !s->group_lines)
        return "START: no memory";
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
