/* What differs between this machine and other clones of its template: random state, host name, machine-id, ssh host keys.

   START only stores new bytes into files that are mapped before it. To write them anew would be a fifth of a clone's start: in software emulation
   its time goes with the kernel code that it comes through for the first time, and to truncate a file of ext4 is much code. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/random.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef ROOT /* tests that run outside a machine have another one */
#define ROOT ""
#endif
#define HOSTNAME_FILE ROOT "/etc/hostname"
#define HOSTS_FILE ROOT "/etc/hosts"
#define MACHINE_ID_FILE ROOT "/etc/machine-id"
#define JOURNALS ROOT "/var/log/journal"
#define SEED_FILE ROOT "/var/lib/systemd/random-seed"
#define SSH_FOLDER ROOT "/etc/ssh"
#define SSH_SERVER ROOT "/usr/sbin/sshd"
#define SSH_KEY SSH_FOLDER "/ssh_host_ed25519_key"

#define PLACEHOLDER "dayfly-0000000000" /* of the length that the host gives to all its machines' names */
#define NO_MACHINE_ID "00000000000000000000000000000000\n"

enum { PAGE = 4096, SEED_FILE_MOST = PAGE, LINE_ROOM = 160, MACHINE_ID_LENGTH = 32 };

/* Bytes of a file that are mapped; at is NULL where there are none. */
struct mapped {
    const char *path;
    char *at;
    size_t length;
    void *pages;
    size_t pages_length;
    dev_t device;
    ino_t inode;
    off_t size; /* of the whole file */
};

static struct mapped hostname = {.path = HOSTNAME_FILE}, hosts = {.path = HOSTS_FILE}, machine_id = {.path = MACHINE_ID_FILE}, seed = {.path = SEED_FILE};
static char hosts_line[LINE_ROOM]; /* what we have written to the file */
static bool machine_id_given; /* by a START */
static char journal[MACHINE_ID_LENGTH + 1]; /* the folder in JOURNALS that journald keeps to, and the other name that it was given; empty where there is none */
static char journal_link[sizeof JOURNALS + MACHINE_ID_LENGTH + 1];
static bool ssh_server;
static int last_pid = -1, scratch = -1; /* likewise; scratch is the writable layer's filesystem */
static uint32_t pid_most;
static int urandom = -1; /* open before START, as everything here */

static void unmap(struct mapped *m)
{
    if (m->at)
        munmap(m->pages, m->pages_length);
    m->at = NULL;
}

/* The file belongs to the overlay's upper layer from here on (it is opened for writing), and its pages are written to, since a page that is clean or not
   there would have to be made so at the store; locking memory does not do it for what is shared. */
static bool map(struct mapped *m, off_t offset, size_t length)
{
    struct stat status;
    unmap(m);
    int fd = open(m->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return false;
    off_t first = offset / PAGE * PAGE;
    m->pages_length = (size_t)(offset - first) + length;
    if (length && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size >= offset + (off_t)length) {
        m->pages = mmap(NULL, m->pages_length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, first);
        if (m->pages != MAP_FAILED)
            m->at = (char *)m->pages + (offset - first);
    }
    close(fd);
    if (!m->at)
        return false;
    m->length = length;
    m->device = status.st_dev;
    m->inode = status.st_ino;
    m->size = status.st_size;
    for (size_t at = 0; at < length; at += PAGE)
        *(volatile char *)(m->at + at) = m->at[at];
    *(volatile char *)(m->at + length - 1) = m->at[length - 1];
    return true;
}

/* Only if the file has the expected content: otherwise the bytes to replace are somewhere else. */
static bool map_text(struct mapped *m, off_t offset, const char *text)
{
    if (offset < 0 || !map(m, offset, strlen(text)))
        return false;
    if (memcmp(m->at, text, m->length))
        unmap(m);
    return m->at;
}

/* Whether it is still the file of that name: a service of the image may have replaced it, or cut it, since it was mapped. */
static bool is_current(const struct mapped *m)
{
    struct stat status;
    return m->at && stat(m->path, &status) == 0 && status.st_dev == m->device && status.st_ino == m->inode && status.st_size == m->size;
}

static bool store(const struct mapped *m, const char *text)
{
    if (!is_current(m) || strlen(text) != m->length)
        return false;
    memcpy(m->at, text, m->length);
    return true;
}

/* Puts a line at the end of /etc/hosts, in the place of the one that we have put there before. Returns where it begins, or -1. */
static off_t write_hosts(const char *line)
{
    static const char least[] = "127.0.0.1\tlocalhost\n";
    struct stat status;
    size_t size = stat(HOSTS_FILE, &status) ? 1 : (size_t)status.st_size + 1;
    char *text = malloc(size + sizeof least + LINE_ROOM);
    if (!text)
        return -1;
    if (read_file(HOSTS_FILE, text, size) <= 0)
        strcpy(text, least);
    char *old = *hosts_line ? strstr(text, hosts_line) : NULL;
    if (old && (old == text || old[-1] == '\n'))
        memmove(old, old + strlen(hosts_line), strlen(old + strlen(hosts_line)) + 1);
    size_t at = strlen(text);
    if (at && text[at - 1] != '\n')
        text[at++] = '\n';
    strcpy(text + at, line);
    int done = write_file(HOSTS_FILE, O_CREAT | O_TRUNC, text);
    free(text);
    if (done)
        return -1;
    snprintf(hosts_line, sizeof hosts_line, "%s", line);
    return (off_t)at;
}

static void line_of_hosts(char line[LINE_ROOM], const char *name)
{
    int short_name = (int)strcspn(name, ".");
    snprintf(line, LINE_ROOM, "127.0.1.1\t%s%s%.*s\n", name, name[short_name] ? " " : "", name[short_name] ? short_name : 0, name);
}

static void set_hostname(const char *name)
{
    char line[LINE_ROOM];
    if (sethostname(name, strlen(name)))
        say("cannot set the host name: %s", strerror(errno));
    snprintf(line, sizeof line, "%s\n", name);
    if (!store(&hostname, line) && write_file(HOSTNAME_FILE, O_CREAT | O_TRUNC, line))
        say("cannot write " HOSTNAME_FILE ": %s", strerror(errno));
    line_of_hosts(line, name);
    if (store(&hosts, line))
        strcpy(hosts_line, line);
    else if (write_hosts(line) < 0)
        say("cannot write " HOSTS_FILE ": %s", strerror(errno));
}

static void prepare_hostname(void)
{
    char line[LINE_ROOM];
    unmap(&hostname); /* or the placeholder would be stored into the file of a job, which may be no more than its name */
    unmap(&hosts);
    set_hostname(PLACEHOLDER);
    map_text(&hostname, 0, PLACEHOLDER "\n");
    line_of_hosts(line, PLACEHOLDER);
    struct stat status;
    if (stat(HOSTS_FILE, &status) == 0)
        map_text(&hosts, status.st_size - (off_t)strlen(line), line);
}

static void write_machine_id(const char *line)
{
    int done = write_file(MACHINE_ID_FILE, O_CREAT | O_TRUNC, line);
    if (done && errno == EROFS && umount2(MACHINE_ID_FILE, MNT_DETACH) == 0) /* systemd lays a transient one over it */
        done = write_file(MACHINE_ID_FILE, O_CREAT | O_TRUNC, line);
    if (done)
        say("cannot write " MACHINE_ID_FILE ": %s", strerror(errno));
}

/* journald keeps to the machine-id that it was started under, and journalctl reads what lies under the machine's present one (sd-journal(3), "local"; of
   /run/log/journal it reads all). So that is another name of the same folder: to rename it would take it away under journald. */
static void prepare_journal(const char *id)
{
    struct stat status;
    char path[sizeof JOURNALS + MACHINE_ID_LENGTH + 1];
    if (*journal_link)
        unlink(journal_link); /* of a job before, as that with which a template is rehearsed */
    *journal_link = 0;
    snprintf(path, sizeof path, "%s/%.*s", JOURNALS, MACHINE_ID_LENGTH, id);
    if (lstat(path, &status) == 0 && S_ISDIR(status.st_mode))
        snprintf(journal, sizeof journal, "%.*s", MACHINE_ID_LENGTH, id);
}

static void keep_journal(const char *id)
{
    if (!*journal)
        return;
    snprintf(journal_link, sizeof journal_link, "%s/%s", JOURNALS, id);
    if (symlink(journal, journal_link)) {
        say("cannot make %s: %s", journal_link, strerror(errno));
        *journal_link = 0;
    }
}

static void set_machine_id(const char *id)
{
    char line[MACHINE_ID_LENGTH + 2];
    snprintf(line, sizeof line, "%s\n", id);
    machine_id_given = true;
    if (!store(&machine_id, line))
        write_machine_id(line);
    keep_journal(id);
}

/* One that the machine has found itself stays until START, for services may have seen it; that of a job before does not. */
static void prepare_machine_id(void)
{
    char line[MACHINE_ID_LENGTH + 16];
    unmap(&machine_id);
    ssize_t have = read_file(MACHINE_ID_FILE, line, sizeof line);
    if (machine_id_given || have != MACHINE_ID_LENGTH + 1 || strspn(line, "0123456789abcdef") != MACHINE_ID_LENGTH)
        strcpy(line, NO_MACHINE_ID);
    prepare_journal(line);
    if (map_text(&machine_id, 0, line))
        return;
    write_machine_id(line);
    map_text(&machine_id, 0, line);
}

/* What systemd would credit at the next boot: of use where the root is kept, and the same in all clones. */
static void renew_seed_file(void)
{
    char bytes[SEED_FILE_MOST];
    if (is_current(&seed)) {
        if (read(urandom, seed.at, seed.length) < 0)
            say("cannot write " SEED_FILE ": %s", strerror(errno));
        return;
    }
    struct stat status;
    if (stat(SEED_FILE, &status) || status.st_size <= 0)
        return;
    ssize_t n = read(urandom, bytes, status.st_size < SEED_FILE_MOST ? (size_t)status.st_size : SEED_FILE_MOST);
    int fd = open(SEED_FILE, O_WRONLY | O_CLOEXEC | O_TRUNC);
    if (n < 0 || fd < 0 || write_all(fd, bytes, (size_t)n))
        say("cannot write " SEED_FILE ": %s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* Clones of one template have the same random state; only a reseed makes them differ at once. */
static void set_seed(const uint8_t *bytes, size_t length)
{
    int pool[2 + 512 / sizeof(int)] = {(int)length * 8, (int)length}; /* struct rand_pool_info: bits, bytes, the bytes themselves */
    memcpy(pool + 2, bytes, length);
    if (ioctl(urandom, RNDADDENTROPY, pool) || ioctl(urandom, RNDRESEEDCRNG))
        say("cannot reseed the random pool: %s", strerror(errno));
    renew_seed_file();
}

/* Processes of a clone would all get the ids that followed those of its template: files that jobs name by $$ in a shared folder would collide. */
static void renew_pids(void)
{
    enum { RESERVED = 300 }; /* where the kernel begins again when it has come round */
    uint32_t random;
    char text[16];
    if (last_pid < 0 || pid_most <= 2 * RESERVED || read(urandom, &random, sizeof random) != sizeof random)
        return;
    int length = snprintf(text, sizeof text, "%u", RESERVED + random % (pid_most - 2 * RESERVED));
    if (pwrite(last_pid, text, (size_t)length, 0) < 0)
        say("cannot choose the next process id: %s", strerror(errno));
}

/* By kernels since 6.0, of a filesystem without checksums. */
static void renew_filesystem(void)
{
    struct { uint32_t length, flags; uint8_t id[16]; } uuid = {.length = sizeof uuid.id};
    unsigned long set_uuid = _IOC(_IOC_WRITE, 'f', 44, 8); /* EXT4_IOC_SETFSUUID: fs/ext4/ext4.h */
    if (scratch < 0 || read(urandom, uuid.id, sizeof uuid.id) != sizeof uuid.id)
        return;
    uuid.id[6] = (uint8_t)((uuid.id[6] & 0x0f) | 0x40); /* RFC 4122, 4.4: made of random numbers */
    uuid.id[8] = (uint8_t)((uuid.id[8] & 0x3f) | 0x80);
    if (ioctl(scratch, set_uuid, &uuid) && errno != ENOTTY && errno != EOPNOTSUPP)
        say("cannot give the scratch filesystem an id: %s", strerror(errno));
}

/* Its own mount is not to be reached any more, below the root that was switched to. */
static int open_scratch(void)
{
    static const char place[] = "/run/dayfly/scratch";
    char device[DEVICE_ROOM], type[DEVICE_ROOM];
    if (!kernel_device("dayfly.scratch", device, type) || make_directories(place) || mount(device, place, type, MS_NOATIME, NULL))
        return -1;
    int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    umount2(place, MNT_DETACH);
    rmdir(place);
    return fd;
}

static bool run(char *const argv[])
{
    pid_t pid;
    int status;
    posix_spawnattr_t attributes;
    sigset_t signals;
    posix_spawnattr_init(&attributes);
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawn(&pid, argv[0], NULL, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    if (error)
        return false;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return status == 0;
}

static void remove_host_keys(void)
{
    DIR *folder = opendir(SSH_FOLDER);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (fnmatch("ssh_host_*_key*", entry->d_name, 0) == 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
}

/* A server that runs takes up the new key when it is hung up. */
static void tell_server(void)
{
    char text[32], path[64];
    pid_t pid = read_file("/run/sshd.pid", text, sizeof text) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
    if (pid <= 1)
        return;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    if (read_file(path, text, sizeof text) > 0 && strcmp(text, "sshd\n") == 0)
        kill(pid, SIGHUP);
}

/* Only of the one kind that is quickly made; the program's own choice of kinds where it is too old for that one. */
static void new_host_keys(void)
{
    static char *const one[] = {"/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", SSH_KEY, NULL};
    static char *const all[] = {"/usr/bin/ssh-keygen", "-A", NULL};
    remove_host_keys();
    if (!run(one) && !run(all))
        say("cannot make ssh host keys");
    tell_server();
}

void own_prepare(void)
{
    struct stat status;
    prepare_hostname();
    prepare_machine_id();
    unmap(&seed);
    if (stat(SEED_FILE, &status) == 0 && status.st_size <= SEED_FILE_MOST)
        map(&seed, 0, (size_t)status.st_size);
    if (urandom < 0)
        urandom = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    ssh_server = access(SSH_SERVER, X_OK) == 0;
    char text[16];
    if (last_pid < 0 && read_file("/proc/sys/kernel/pid_max", text, sizeof text) > 0) {
        pid_most = (uint32_t)strtoul(text, NULL, 10);
        last_pid = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC); /* where the kernel has it */
    }
    if (scratch < 0)
        scratch = open_scratch();
}

void own(const struct start *start)
{
    if (start->seed)
        set_seed(start->seed, start->seed_length);
    if (start->hostname)
        set_hostname(start->hostname);
    if (start->machine_id)
        set_machine_id(start->machine_id);
    if (start->seed && ssh_server)
        new_host_keys();
    if (start->seed) {
        renew_filesystem();
        renew_pids(); /* last, for the job is the next process */
    }
}
