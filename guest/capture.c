/* The machine's files as a tar archive, which the host makes an image of. It runs as a command of the machine's root when a job has ended.

   The format is that of GNU tar (its manual, "Basic Tar Format"), with pax headers for values that do not fit. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PLACE "/run/dayfly/capture"

enum {
    BLOCK = 512, BUFFER = 252 << 10, PAX_ROOM = 60 << 10, XATTR_ROOM = 16 << 10, DEPTH_MOST = 256, BUCKETS = 4096,
    PARTS_MOST = 16384, /* of a file with holes: what comes after so many is written with its holes */
    HEADER_PARTS = 4, BLOCK_PARTS = 21,
};

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8], owner[32], group[32], device[16], times[24];
    char longer[17], parts[HEADER_PARTS][2][12], extended, real_size[12], rest[17];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

struct part { off_t at, length; };
struct known { struct known *next; dev_t device; ino_t inode; char *path; }; /* a file with several names */
struct rule { const char *folder, *name; size_t folder_length; }; /* FOLDER/NAME, of which the name is a pattern */

/* Not in the program's own memory, which the agent, the same program, locks. */
static struct {
    char buffer[BUFFER];
    size_t have;
    char path[PATH_MAX]; /* of the file that is being written, from the root on */
    char pax[PAX_ROOM];
    size_t pax_have;
    char names[XATTR_ROOM], value[XATTR_ROOM];
    struct part parts[PARTS_MOST];
    struct known *known[BUCKETS];
    struct rule *parents; /* files that are taken from the parent's root instead of the machine's */
    char **made; /* folders and links that were made for the job: the folders are included only if they have content */
    size_t parent_count, made_count;
    int before; /* the parent's root, or -1 */
    int changed; /* what the overlay's upper layer has of the folder, or -1 */
    bool of_parent; /* that is what is being read */
} *c;

static void __attribute__((noreturn, format(printf, 1, 2))) stop(const char *format, ...)
{
    struct failure failure;
    char what[600];
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    failure_set(&failure, 0, 0, error, "%s", what);
    write_all(2, failure.text, strlen(failure.text));
    _exit(1);
}

static void flush(void)
{
    if (write_all(1, c->buffer, c->have))
        _exit(1); /* the reader is gone */
    c->have = 0;
}

static void put(const void *bytes, size_t length)
{
    while (length) {
        size_t part = length < BUFFER - c->have ? length : BUFFER - c->have;
        if (bytes) {
            memcpy(c->buffer + c->have, bytes, part);
            bytes = (const char *)bytes + part;
        } else
            memset(c->buffer + c->have, 0, part);
        c->have += part;
        length -= part;
        if (c->have == BUFFER)
            flush();
    }
}

static void pad(uint64_t length)
{
    put(NULL, (size_t)(-length % BLOCK));
}

/* Octal digits, or if they do not suffice, the binary value after a flag byte; for a negative number, its two's complement. */
static void number(char *field, size_t room, int64_t value)
{
    if (value >= 0 && value >> (3 * (room - 1)) == 0) {
        for (size_t i = room - 1; i > 0; i--, value >>= 3)
            field[i - 1] = (char)('0' + (value & 7));
        return;
    }
    for (size_t i = room; i > 1; i--, value >>= 8)
        field[i - 1] = (char)value;
    *field = (char)(value < 0 ? 0xff : 0x80);
}

static void put_header(struct header *h)
{
    unsigned sum = 0;
    memcpy(h->magic, "ustar  ", sizeof h->magic);
    memset(h->checksum, ' ', sizeof h->checksum);
    for (size_t i = 0; i < sizeof *h; i++)
        sum += ((unsigned char *)h)[i];
    snprintf(h->checksum, sizeof h->checksum, "%06o", sum);
    put(h, sizeof *h);
}

static size_t digits(size_t value)
{
    size_t count = 1;
    while (value /= 10)
        count++;
    return count;
}

/* LENGTH KEY=VALUE\n, where the length counts itself. */
static void pax_add(const char *prefix, const char *key, const void *value, size_t length)
{
    size_t rest = strlen(prefix) + strlen(key) + length + 3, all = rest + digits(rest);
    all = rest + digits(all);
    errno = 0;
    if (all + 1 > PAX_ROOM - c->pax_have)
        stop("/%s: its extended attributes are too large", c->path);
    c->pax_have += (size_t)sprintf(c->pax + c->pax_have, "%zu %s%s=", all, prefix, key);
    memcpy(c->pax + c->pax_have, value, length);
    c->pax_have += length;
    c->pax[c->pax_have++] = '\n';
}

static void put_pax(void)
{
    struct header h = {.type = 'x', .name = "pax"};
    if (!c->pax_have)
        return;
    number(h.size, sizeof h.size, (int64_t)c->pax_have);
    number(h.mode, sizeof h.mode, 0644);
    put_header(&h);
    put(c->pax, c->pax_have);
    pad(c->pax_have);
    c->pax_have = 0;
}

/* The attributes that users set; the others belong to the kernel. */
static void add_xattrs(const char *name)
{
    ssize_t length = llistxattr(name, c->names, sizeof c->names);
    if (length < 0 && errno != ENOTSUP)
        stop("/%s: extended attributes", c->path);
    for (char *at = c->names; at < c->names + length; at += strlen(at) + 1) {
        if (strncmp(at, "user.", 5) && strcmp(at, "security.capability"))
            continue;
        ssize_t n = lgetxattr(name, at, c->value, sizeof c->value);
        if (n < 0 && errno != ENODATA)
            stop("/%s: extended attribute %s", c->path, at);
        if (n >= 0)
            pax_add("SCHILY.xattr.", at, c->value, (size_t)n);
    }
}

static void text(char *field, size_t room, const char *value, const char *key)
{
    size_t length = strlen(value);
    if (length > room)
        pax_add("", key, value, length);
    memcpy(field, value, length < room ? length : room);
}

/* All fields except the size, which depends on how the content is written. */
static struct header header_of(char type, const struct stat *status, const char *link)
{
    struct header h = {.type = type};
    text(h.name, sizeof h.name, *c->path ? c->path : ".", "path");
    text(h.link, sizeof h.link, link, "linkpath");
    number(h.mode, sizeof h.mode, status->st_mode & 07777);
    number(h.uid, sizeof h.uid, status->st_uid);
    number(h.gid, sizeof h.gid, status->st_gid);
    number(h.mtime, sizeof h.mtime, status->st_mtime);
    return h;
}

/* The parts of a file with data. */
static size_t parts_of(int fd, off_t size, struct part *parts)
{
    size_t count = 0;
    for (off_t at = 0, end; at < size; at = end) {
        at = lseek(fd, at, SEEK_DATA);
        if (at < 0 || at >= size)
            break;
        end = count == PARTS_MOST - 1 ? size : lseek(fd, at, SEEK_HOLE);
        if (end <= at || end > size)
            end = size;
        parts[count++] = (struct part){at, end - at};
    }
    return count;
}

static void put_parts(char (*fields)[2][12], size_t room, const struct part **part, size_t *left)
{
    for (size_t i = 0; i < room && *left; i++, (*part)++, (*left)--) {
        number(fields[i][0], sizeof fields[i][0], (*part)->at);
        number(fields[i][1], sizeof fields[i][1], (*part)->length);
    }
}

/* The old form of GNU tar, which needs no second pass over the map (its manual, "Storing Sparse Files"). */
static void put_sparse_header(struct header *h, off_t size, const struct part *parts, size_t count)
{
    h->type = 'S';
    number(h->real_size, sizeof h->real_size, size);
    put_parts(h->parts, HEADER_PARTS, &parts, &count);
    h->extended = count > 0;
    put_header(h);
    while (count) {
        struct { char parts[BLOCK_PARTS][2][12], extended, rest[7]; } block = {0};
        put_parts(block.parts, BLOCK_PARTS, &parts, &count);
        block.extended = count > 0;
        put(&block, sizeof block);
    }
}

/* As many bytes as in the header: a file that was truncated meanwhile is filled with zeros. */
static void put_content(int fd, const struct part *part)
{
    off_t at = part->at, end = part->at + part->length;
    while (at < end) {
        size_t room = BUFFER - c->have;
        ssize_t n = pread(fd, c->buffer + c->have, end - at < (off_t)room ? (size_t)(end - at) : room, at);
        if (n < 0 && errno != EINTR)
            stop("/%s", c->path);
        if (n == 0) {
            put(NULL, (size_t)(end - at));
            return;
        }
        at += n > 0 ? n : 0;
        c->have += n > 0 ? (size_t)n : 0;
        if (c->have == BUFFER)
            flush();
    }
}

static void write_file_entry(const char *name, const struct stat *before)
{
    struct part *parts = c->parts;
    struct stat status;
    int fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return; /* a service of the image removed it just now */
    if (fd < 0 || fstat(fd, &status))
        stop("/%s", c->path);
    status.st_size = S_ISREG(status.st_mode) ? status.st_size : 0;
    add_xattrs(name);
    struct header h = header_of('0', before, "");
    size_t count = 1;
    uint64_t stored = (uint64_t)status.st_size;
    parts[0] = (struct part){0, status.st_size};
    if ((uint64_t)status.st_blocks * BLOCK < stored) {
        count = parts_of(fd, status.st_size, parts);
        stored = 0;
        for (size_t i = 0; i < count; i++)
            stored += (uint64_t)parts[i].length;
    }
    put_pax();
    number(h.size, sizeof h.size, (int64_t)stored);
    if (stored < (uint64_t)status.st_size)
        put_sparse_header(&h, status.st_size, parts, count);
    else
        put_header(&h);
    for (size_t i = 0; i < count; i++)
        put_content(fd, &parts[i]);
    pad(stored);
    close(fd);
}

/* Which file a name means. The overlay may give two numbers to a file of the image that got another name: the layer that it was copied up to has one. */
static void identify(struct stat *status)
{
    struct stat copied;
    if (!c->of_parent && c->changed >= 0 && fstatat(c->changed, c->path, &copied, AT_SYMLINK_NOFOLLOW) == 0 &&
        (copied.st_mode & S_IFMT) == (status->st_mode & S_IFMT)) {
        status->st_dev = copied.st_dev;
        status->st_ino = copied.st_ino;
    }
}

/* The name under which a file was written already, or NULL: then it is known from now on. */
static const char *linked(const struct stat *status)
{
    struct known **bucket = &c->known[(status->st_ino ^ status->st_dev) % BUCKETS];
    for (struct known *known = *bucket; known; known = known->next)
        if (known->inode == status->st_ino && known->device == status->st_dev)
            return known->path;
    struct known *new = malloc(sizeof *new);
    if (!new || !(new->path = strdup(c->path)))
        stop("no memory");
    *new = (struct known){*bucket, status->st_dev, status->st_ino, new->path};
    *bucket = new;
    return NULL;
}

static void write_plain_entry(char type, const char *name, const struct stat *status, const char *link)
{
    if (type == '5')
        add_xattrs(name);
    struct header h = header_of(type, status, link);
    put_pax();
    number(h.size, sizeof h.size, 0);
    put_header(&h);
}

static void write_link_entry(const char *name, const struct stat *status)
{
    char target[PATH_MAX];
    ssize_t n = readlink(name, target, sizeof target - 1);
    if (n < 0)
        stop("/%s", c->path);
    target[n] = 0;
    write_plain_entry('2', name, status, target);
}

static bool is_parents(const char *name, size_t length)
{
    for (size_t i = 0; i < c->parent_count && !c->of_parent; i++) {
        const struct rule *rule = &c->parents[i];
        if (rule->folder_length == length && memcmp(rule->folder, c->path, length) == 0 && fnmatch(rule->name, name, 0) == 0)
            return true;
    }
    return false;
}

/* Whether a folder or a link was made for the machine: it differs from the image's own root. */
static bool is_made(mode_t kind, struct stat *own)
{
    *own = (struct stat){0};
    for (size_t i = 0; i < c->made_count && !c->of_parent; i++)
        if (strcmp(c->made[i], c->path) == 0)
            return c->before < 0 || fstatat(c->before, c->path, own, AT_SYMLINK_NOFOLLOW) || (own->st_mode & S_IFMT) != kind;
    return false;
}

static void walk(const char *name, size_t length, int depth);

/* A file in the folder that is the working directory. Devices and sockets belong to the machine, not to its image. */
static void entry(const char *name, size_t length, int depth)
{
    struct stat status, own;
    const char *first = NULL;
    if (lstat(name, &status)) {
        if (errno == ENOENT)
            return;
        stop("/%s", c->path);
    }
    if (S_ISDIR(status.st_mode)) {
        if (!is_made(S_IFDIR, &own))
            write_plain_entry('5', name, &status, "");
        walk(name, length, depth + 1);
        return;
    }
    if (S_ISLNK(status.st_mode) && is_made(S_IFLNK, &own)) {
        if (S_ISDIR(own.st_mode)) /* an empty folder: nothing else is replaced */
            write_plain_entry('5', name, &own, "");
        return;
    }
    if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode) && !S_ISFIFO(status.st_mode))
        return;
    if (status.st_nlink > 1) {
        identify(&status);
        first = linked(&status);
    }
    if (first)
        write_plain_entry('1', name, &status, first);
    else if (S_ISREG(status.st_mode))
        write_file_entry(name, &status);
    else if (S_ISLNK(status.st_mode))
        write_link_entry(name, &status);
    else
        write_plain_entry('6', name, &status, "");
}

/* The content of a folder, whose path has this length. The working directory is the same afterwards. */
static void walk(const char *name, size_t length, int depth)
{
    int above = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = depth > DEPTH_MOST || above < 0 || chdir(name) ? NULL : opendir(".");
    struct dirent *next;
    if (depth > DEPTH_MOST)
        errno = ELOOP;
    if (!folder)
        stop("/%s", c->path);
    while (errno = 0, (next = readdir(folder))) {
        size_t room = strlen(next->d_name), start = length ? length + 1 : 0;
        if (strcmp(next->d_name, ".") == 0 || strcmp(next->d_name, "..") == 0 || is_parents(next->d_name, length))
            continue;
        errno = ENAMETOOLONG;
        if (start + room >= sizeof c->path)
            stop("/%s/%s", c->path, next->d_name);
        c->path[length] = '/';
        strcpy(c->path + start, next->d_name);
        entry(next->d_name, start + room, depth);
        c->path[length] = 0;
    }
    if (errno)
        stop("/%s", c->path);
    closedir(folder);
    if (fchdir(above))
        stop("/%s", c->path);
    close(above);
}

/* Into the folder of a rule in the parent's root, no link followed. */
static bool enter(const struct rule *rule)
{
    char part[NAME_MAX + 1];
    if (fchdir(c->before))
        stop("the image's own root");
    for (const char *at = rule->folder, *end = at + rule->folder_length; at < end;) {
        size_t length = strcspn(at, "/");
        snprintf(part, sizeof part, "%.*s", (int)length, at);
        int fd = open(part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return false;
        if (fchdir(fd))
            stop("/%s", rule->folder);
        close(fd);
        at += length + (at[length] == '/');
    }
    return true;
}

static void take_from_parent(const struct rule *rule)
{
    DIR *folder = enter(rule) ? opendir(".") : NULL;
    size_t start = rule->folder_length ? rule->folder_length + 1 : 0;
    for (struct dirent *next; folder && (next = readdir(folder));)
        if (strcmp(next->d_name, ".") && strcmp(next->d_name, "..") && fnmatch(rule->name, next->d_name, 0) == 0) {
            int n = snprintf(c->path, sizeof c->path, "%.*s%s%s", (int)rule->folder_length, rule->folder, start ? "/" : "", next->d_name);
            entry(next->d_name, (size_t)n, 0);
        }
    if (folder)
        closedir(folder);
}

static void parse(char **arguments, int count)
{
    c->parents = calloc((size_t)count + 1, sizeof *c->parents);
    c->made = calloc((size_t)count + 1, sizeof *c->made);
    errno = 0;
    if (!c->parents || !c->made)
        stop("no memory");
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "made:", 5) == 0) {
            c->made[c->made_count++] = arguments[i] + 5;
            continue;
        }
        if (strncmp(arguments[i], "parents:", 8))
            stop("%s: neither parents:PATTERN nor made:PATH", arguments[i]);
        char *path = arguments[i] + 8, *slash = strrchr(path, '/');
        c->parents[c->parent_count++] = (struct rule){path, slash ? slash + 1 : path, slash ? (size_t)(slash - path) : 0};
    }
}

/* The image's own root is still on its disk, below what the machine has changed. */
static void mount_parent(void)
{
    char device[DEVICE_ROOM], type[DEVICE_ROOM];
    errno = EINVAL;
    if (!kernel_device("dayfly.root", device, type))
        stop("/proc/cmdline does not name the root");
    if (make_directories(PLACE "/before") || mount(device, PLACE "/before", type, MS_RDONLY, NULL))
        stop("cannot mount the image's own root");
    c->before = open(PLACE "/before", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->before < 0)
        stop(PLACE "/before");
}

/* The writable layer, which is not below the root. Where there is no disk for it, the overlay's own numbers have to do. */
static void mount_changed(const char *folder)
{
    char device[DEVICE_ROOM], type[DEVICE_ROOM], path[PATH_MAX];
    if (!kernel_device("dayfly.scratch", device, type))
        return;
    if (make_directories(PLACE "/scratch") || mount(device, PLACE "/scratch", type, MS_NOATIME, NULL))
        stop("cannot mount the writable layer");
    errno = ENAMETOOLONG;
    if (snprintf(path, sizeof path, PLACE "/scratch/upper/%s", folder) >= (int)sizeof path)
        stop("%s", folder);
    c->changed = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->changed < 0 && errno != ENOENT)
        stop("%s", path);
}

/* A bind mount alone has none of the filesystems that are mounted below it. */
static void see_alone(const char *folder)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        stop("cannot have mounts of its own");
    if (make_directories(PLACE "/now") || mount(folder, PLACE "/now", NULL, MS_BIND, NULL))
        stop("cannot see %s alone", folder);
}

int capture(char **arguments, int count)
{
    struct stat status;
    c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c == MAP_FAILED)
        return 1;
    c->before = c->changed = -1;
    parse(arguments + 1, count - 1);
    see_alone(arguments[0]);
    mount_changed(arguments[0]);
    if (c->parent_count || c->made_count)
        mount_parent();
    if (chdir(PLACE "/now") || lstat(".", &status))
        stop("%s", arguments[0]);
    write_plain_entry('5', ".", &status, "");
    walk(".", 0, 0);
    c->of_parent = true;
    for (size_t i = 0; i < c->parent_count; i++)
        take_from_parent(&c->parents[i]);
    put(NULL, 2 * BLOCK);
    flush();
    return 0;
}
