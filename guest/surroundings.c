/* Applies the machine's time, user, network and shared folders in START. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DATABASE_MOST = 4 << 20 };

static size_t mounted; /* how many of START's shares */

void set_clock(uint64_t nanoseconds)
{
    struct timespec now = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    if (clock_settime(CLOCK_REALTIME, &now))
        say("cannot set the clock: %s", strerror(errno));
}

/* Whether a line of passwd(5) or group(5) has this number in its third field. */
static bool has_number(const char *line, uint32_t number)
{
    const char *at = strchr(line, ':');
    at = at ? strchr(at + 1, ':') : NULL;
    char *end;
    return at && at[1] >= '0' && at[1] <= '9' && strtoul(at + 1, &end, 10) == number && (*end == ':' || *end == '\n' || !*end);
}

/* If a link of the image is dangling, makes the folder for the file. */
static void make_way(const char *path)
{
    enum { LINKS_MOST = 8 };
    char place[4096], target[4096];
    ssize_t n;
    snprintf(place, sizeof place, "%s", path);
    for (int links = 0; links < LINKS_MOST && (n = readlink(place, target, sizeof target - 1)) > 0; links++) {
        char *name = *target == '/' ? place : strrchr(place, '/') + 1;
        target[n] = 0;
        if ((size_t)n >= sizeof place - (size_t)(name - place))
            return;
        strcpy(name, target);
    }
    *strrchr(place, '/') = 0;
    make_directories(place);
}

/* Adds a line to /etc/passwd or /etc/group unless one has its number already. No NSS: the agent is linked statically. */
static int add_line(const char *path, const char *line)
{
    const char *field = strchr(strchr(line, ':') + 1, ':') + 1; /* the parser has counted the colons */
    uint32_t number = (uint32_t)strtoul(field, NULL, 10);
    struct stat status = {0};
    size_t size = stat(path, &status) ? 1 : (size_t)status.st_size + 1;
    char *text = size <= DATABASE_MOST ? malloc(size) : NULL;
    if (!text)
        return -1;
    ssize_t have = read_file(path, text, size);
    bool found = false;
    for (char *at = have > 0 ? text : NULL; at && *at && !found; at = (at = strchr(at, '\n')) ? at + 1 : NULL)
        found = has_number(at, number);
    const char *before = have > 0 && text[have - 1] != '\n' ? "\n" : "";
    char *added = NULL;
    int done = 0;
    if (!found && asprintf(&added, "%s%s\n", before, line) >= 0) {
        done = write_file(path, O_CREAT | O_APPEND, added);
        if (done && errno == ENOENT) {
            make_way(path);
            done = write_file(path, O_CREAT | O_APPEND, added);
        }
    }
    free(added);
    free(text);
    return done;
}

static int make_home(const struct start *start)
{
    char *home = start->user, path[4096];
    for (int colons = 0; colons < 5; colons += *home++ == ':')
        ;
    size_t length = strcspn(home, ":");
    if (*home != '/' || length < 2 || length >= sizeof path)
        return 0;
    memcpy(path, home, length);
    path[length] = 0;
    struct stat status;
    if (stat(path, &status) == 0)
        return 0;
    char *last = strrchr(path, '/');
    *last = 0;
    if (*path && make_directories(path))
        return -1;
    *last = '/';
    return mkdir(path, 0700) || chown(path, start->uid, start->gid) ? -1 : 0;
}

static bool add_user(const struct start *start, struct failure *why)
{
    for (char **line = start->group_lines; *line; line++)
        if (add_line("/etc/group", *line)) {
            failure_set(why, FAILED_START, KIND_IDENTITY, errno, "/etc/group");
            return false;
        }
    if (start->user && add_line("/etc/passwd", start->user)) {
        failure_set(why, FAILED_START, KIND_IDENTITY, errno, "/etc/passwd");
        return false;
    }
    if (start->user && make_home(start))
        say("cannot make the home directory: %s", strerror(errno)); /* it may lie in a folder that is shared next */
    return true;
}

/* access=any: one attach for all users of the guest. Their rights are checked twice all the same: in the guest by owner and mode, and on the
   host, where QEMU runs as the job's user. cache=mmap: nothing is cached but what is mapped, so both sides see each other's writes at once. */
static bool mount_share(const struct share *share, struct failure *why)
{
    static const char *const options[] = {
        "trans=virtio,version=9p2000.L,access=any,cache=mmap,msize=512000",
        "trans=virtio,version=9p2000.L,access=any,msize=512000", /* before Linux 3.14 */
    };
    unsigned long flags = MS_NODEV | MS_NOSUID | (share->read_only ? MS_RDONLY : 0);
    bool done = make_directories(share->path) == 0;
    if (done)
        done = mount(share->tag, share->path, "9p", flags, options[0]) == 0 || (errno == EINVAL && mount(share->tag, share->path, "9p", flags, options[1]) == 0);
    if (!done)
        failure_set(why, FAILED_START, KIND_SHARE, errno, "%s", share->path);
    return done;
}

/* Makes a link of the host in the machine too. A file that the image has there stays, unless it is an empty folder. */
static void make_link(const struct link *link)
{
    struct stat status;
    char *parent, *target = NULL;
    if (lstat(link->path, &status) == 0 && (!S_ISDIR(status.st_mode) || rmdir(link->path)))
        return;
    if ((parent = strdup(link->path)))
        *strrchr(parent, '/') = 0; /* the parser has seen that there is one */
    if (!parent || asprintf(&target, "%s%s%s", *link->target == '/' ? "" : parent, *link->target == '/' ? "" : "/", link->target) < 0)
        say("no memory for the link %s", link->path);
    else if ((*parent && make_directories(parent)) || symlink(link->target, link->path) || make_directories(target))
        say("cannot make the link %s: %s", link->path, strerror(errno));
    free(parent);
    free(target);
}

/* The overlay copies up what will be changed: files when they are opened for writing, a folder when something is made in it. */
void surroundings_prepare(void)
{
    network_prepare();
    static const char *const databases[] = {"/etc/passwd", "/etc/group"};
    for (size_t i = 0; i < sizeof databases / sizeof *databases; i++) {
        int fd = open(databases[i], O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            close(fd);
    }
    if (mkdir("/home/.dayfly", 0700) == 0)
        rmdir("/home/.dayfly");
}

bool surroundings_apply(const struct start *start, struct failure *why)
{
    for (size_t i = 0; i < start->link_count; i++)
        make_link(&start->links[i]); /* before the home directory, on the way to which they may be */
    if (!add_user(start, why))
        return false;
    if ((start->has_network || start->mac) && network_configure(start->has_network ? &start->network : NULL, start->mac)) {
        failure_set(why, FAILED_START, KIND_NETWORK, errno, "network");
        return false;
    }
    for (mounted = 0; mounted < start->share_count; mounted++)
        if (!mount_share(&start->shares[mounted], why))
            return false;
    return true;
}

/* Every write has reached the host by now but those to mapped files. Unmounting would wait for the kernel to take the mounts' devices apart. */
void sync_shares(const struct start *start)
{
    for (size_t i = mounted; i > 0; i--) {
        const struct share *share = &start->shares[i - 1];
        int fd = share->read_only ? -1 : open(share->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && !share->read_only)
            sync(); /* a folder that root may not read on the host */
        if (fd >= 0 && syncfs(fd))
            say("cannot synchronise %s: %s", share->path, strerror(errno));
        close_fd(&fd);
    }
}

void release_shares(const struct start *start)
{
    for (; mounted > 0; mounted--) {
        const char *path = start->shares[mounted - 1].path;
        if (umount2(path, 0) && umount2(path, MNT_DETACH))
            say("cannot unmount %s: %s", path, strerror(errno));
    }
}
