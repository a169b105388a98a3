/* From the kernel's first process to STAGE ready: modules, root, and the two ways to go on (agent or system). */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LAYERS "/layers" /* in the initramfs: where the overlay's parts are mounted */

enum { PORT_SECONDS = 10, DEVICE_SECONDS = 10 };

struct source { char device[64], type[32]; }; /* of a mount; device is empty where the command line has none */
struct options { struct source root, modules, scratch; bool system; };

static int port = -1;
static char cmdline[8192];

/* Nothing of the machine is kept, so nothing is shut down in order; the shared folders were synchronised before. */
static void __attribute__((noreturn)) power_off(void)
{
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

/* The first thing said on the port, as soon as there is one. */
static void hello(int opened)
{
    uint8_t frame[HELLO_ROOM];
    struct utsname system;
    if (opened < 0)
        return;
    port = opened;
    uname(&system);
    write_all(port, frame, encode_hello(frame, AGENT_VERSION, system.release));
}

static void __attribute__((noreturn)) fail(const struct failure *failure)
{
    if (port < 0)
        hello(port_wait(PORT_SECONDS));
    if (port < 0)
        say("no port to report it: %s", failure->text);
    else
        serve_failure(port, failure);
    power_off();
}

#define FAIL(stage, ...) do { \
        struct failure failure_; \
        failure_set(&failure_, stage, KIND_NONE, errno, __VA_ARGS__); \
        fail(&failure_); \
    } while (0)

/* Whether the machine has a virtio device of this number. */
static bool has_virtio(int wanted)
{
    char path[300], text[16];
    bool found = false;
    DIR *devices = opendir("/sys/bus/virtio/devices");
    for (struct dirent *entry; devices && !found && (entry = readdir(devices));) {
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", entry->d_name);
        found = read_file(path, text, sizeof text) > 0 && strtol(text, NULL, 16) == wanted;
    }
    if (devices)
        closedir(devices);
    return found;
}

/* Loading what this machine has no use for costs much of a cold start: ext4 alone took 0.28 s of 1.9 in software emulation. */
static bool is_needed(const char *file)
{
    enum { NETWORK = 1, NINE_P = 9 }; /* virtio's device numbers */
    static const struct { const char *file; int device; const char *mount; } only_for[] = {
        {"failover.ko", NETWORK, NULL}, {"net_failover.ko", NETWORK, NULL}, {"virtio_net.ko", NETWORK, NULL},
        {"netfs.ko", NINE_P, NULL}, {"fscache.ko", NINE_P, NULL}, {"9pnet.ko", NINE_P, NULL}, {"9pnet_virtio.ko", NINE_P, NULL}, {"9p.ko", NINE_P, NULL},
        {"crc16.ko", 0, ":ext4"}, {"mbcache.ko", 0, ":ext4"}, {"jbd2.ko", 0, ":ext4"}, {"ext4.ko", 0, ":ext4"},
    };
    for (size_t i = 0; i < sizeof only_for / sizeof *only_for; i++)
        if (strcmp(file, only_for[i].file) == 0)
            return only_for[i].mount ? strstr(cmdline, only_for[i].mount) != NULL : has_virtio(only_for[i].device);
    return true;
}

static void load_module(const char *file)
{
    char path[300];
    snprintf(path, sizeof path, "/modules/%s", file);
    if (is_needed(file)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        /* EEXIST: loaded, or part of the kernel; ENODEV: for a processor that this machine does not have */
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST && errno != ENODEV))
            FAIL(FAILED_MODULES, fd >= 0 && errno == ENOENT ? "module %s needs another one before it" : "module %s", file);
        close(fd);
    }
    unlink(path); /* the initramfs is memory that the job could have */
}

static void load_modules(void)
{
    static char list[16384];
    hello(port_open()); /* a kernel may have all that the port needs built in */
    if (read_file("/modules/load", list, sizeof list) < 0 && errno != ENOENT)
        FAIL(FAILED_MODULES, "/modules/load");
    for (char *next = list, *file; (file = strsep(&next, "\n"));)
        if (*file) {
            load_module(file);
            if (port < 0)
                hello(port_open()); /* as soon as it is there, so that what fails after it can be told */
        }
    unlink("/modules/load");
    rmdir("/modules");
    if (port < 0)
        hello(port_wait(PORT_SECONDS));
    if (port < 0) {
        say("no port named org.dayfly.agent");
        power_off();
    }
}

static void parse_source(const char *word, struct source *source)
{
    const char *colon = strchr(word, ':');
    errno = EINVAL;
    if (!colon || colon - word >= (int)sizeof source->device || strlen(colon + 1) >= sizeof source->type || strchr(word, '/') || colon == word)
        FAIL(FAILED_ROOT, "kernel command line: %.100s", word);
    memcpy(source->device, word, (size_t)(colon - word));
    source->device[colon - word] = 0;
    strcpy(source->type, colon + 1);
}

static void parse_options(struct options *options)
{
    for (char *next = cmdline, *word; (word = strsep(&next, " \n"));) {
        if (strncmp(word, "dayfly.root=", 12) == 0)
            parse_source(word + 12, &options->root);
        else if (strncmp(word, "dayfly.modules=", 15) == 0)
            parse_source(word + 15, &options->modules);
        else if (strncmp(word, "dayfly.scratch=", 15) == 0)
            parse_source(word + 15, &options->scratch);
        else if (strcmp(word, "dayfly.boot=system") == 0)
            options->system = true;
        else if (strncmp(word, "dayfly.boot=", 12) == 0 && strcmp(word, "dayfly.boot=agent"))
            FAIL(FAILED_ROOT, "kernel command line: %.100s", word);
    }
    errno = EINVAL;
    if (!*options->root.device)
        FAIL(FAILED_ROOT, "kernel command line: dayfly.root is missing");
}

static bool exists(void *path)
{
    return access(path, F_OK) == 0;
}

static void mount_layer(const struct source *source, const char *path, unsigned long flags, const char *data)
{
    char device[80];
    snprintf(device, sizeof device, "/dev/%s", source->device);
    mkdir(path, 0755);
    if (wait_for_device(exists, device, DEVICE_SECONDS) || (mount(device, path, source->type, flags, data) && mount(device, path, source->type, flags, NULL)))
        FAIL(FAILED_ROOT, "cannot mount %s as %s", device, source->type);
}

/* The topmost layer says whose a folder is: it gets what the image's root says, before the modules' layer, which has the same folders, can. */
static void keep_owner(const char *folder)
{
    char from[64], to[64];
    struct stat status;
    snprintf(from, sizeof from, LAYERS "/root%s", folder);
    snprintf(to, sizeof to, LAYERS "/scratch/upper%s", folder);
    if (lstat(from, &status) || !S_ISDIR(status.st_mode))
        return;
    struct timespec times[] = {status.st_atim, status.st_mtim};
    if (make_directories(to) || chown(to, status.st_uid, status.st_gid) || chmod(to, status.st_mode & 07777) || utimensat(AT_FDCWD, to, times, 0))
        say("cannot keep the owner and mode of %s/: %s", folder, strerror(errno));
}

static void mount_root(const struct options *options)
{
    static const char *const shared[] = {"/usr/lib", "/usr", ""}; /* from below: what is made in a folder changes its time */
    char data[256];
    mkdir(LAYERS, 0755);
    mount_layer(&options->root, LAYERS "/root", MS_RDONLY, NULL);
    if (*options->modules.device)
        mount_layer(&options->modules, LAYERS "/modules", MS_RDONLY, NULL);
    if (*options->scratch.device)
        mount_layer(&options->scratch, LAYERS "/scratch", MS_NOATIME, "nobarrier");
    else if (mkdir(LAYERS "/scratch", 0755) || mount("scratch", LAYERS "/scratch", "tmpfs", 0, "mode=0755"))
        FAIL(FAILED_ROOT, "cannot mount a tmpfs");
    mkdir(LAYERS "/scratch/upper", 0755);
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        keep_owner(shared[i]);
    mkdir(LAYERS "/scratch/work", 0755);
    mkdir(LAYERS "/new", 0755);
    /* volatile: fsync(2) does nothing, for nothing outlives the machine; kernels before 5.10 do not know it */
    int n = snprintf(data, sizeof data, "lowerdir=%s" LAYERS "/root,upperdir=" LAYERS "/scratch/upper,workdir=" LAYERS "/scratch/work",
                     *options->modules.device ? LAYERS "/modules:" : "");
    snprintf(data + n, sizeof data - (size_t)n, ",volatile");
    bool done = mount("root", LAYERS "/new", "overlay", 0, data) == 0;
    data[n] = 0;
    if (!done && mount("root", LAYERS "/new", "overlay", 0, data))
        FAIL(FAILED_ROOT, "cannot lay the overlay");
    write_all(port, data, encode_stage((uint8_t *)data, STAGE_ROOT));
}

static void switch_root(void)
{
    static const char *const kept[] = {"/dev", "/proc", "/sys"};
    char path[64];
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(path, sizeof path, LAYERS "/new%s", kept[i]);
        mkdir(path, 0755);
        if (mount(kept[i], path, NULL, MS_MOVE, NULL))
            FAIL(FAILED_ROOT, "cannot move %s", kept[i]);
    }
    if (chdir(LAYERS "/new") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        FAIL(FAILED_ROOT, "cannot switch to the root");
}

static void try_mount(const char *type, const char *path, unsigned long flags, const char *data)
{
    mkdir(path, 0755);
    if (mount(type, path, type, flags, data) && errno != EBUSY)
        say("cannot mount %s: %s", path, strerror(errno));
}

static void try_link(const char *target, const char *path)
{
    if (symlink(target, path) && errno != EEXIST)
        say("cannot link %s: %s", path, strerror(errno));
}

static void make_node(const char *name, char kind, unsigned major, unsigned minor)
{
    enum { DISK = 6 }; /* the group's number everywhere: it is a static one of the distributions */
    static const struct { const char *name; mode_t mode; gid_t group; } rules[] = { /* systemd, rules.d/50-udev-default.rules, static_node */
        {"fuse", 0666, 0}, {"net/tun", 0666, 0}, {"loop-control", 0660, DISK}, {"btrfs-control", 0660, DISK},
    };
    char path[128], *slash;
    mode_t mode = 0600;
    gid_t group = 0;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(name, rules[i].name) == 0) {
            mode = rules[i].mode;
            group = rules[i].group;
        }
    snprintf(path, sizeof path, "/dev/%s", name);
    slash = strrchr(path, '/');
    *slash = 0;
    bool folder = make_directories(path) == 0;
    *slash = '/';
    if (!folder || (mknod(path, (kind == 'b' ? S_IFBLK : S_IFCHR) | mode, makedev(major, minor)) && errno != EEXIST) || chown(path, 0, group))
        say("cannot make %s: %s", path, strerror(errno));
}

/* Nodes of drivers that are not loaded yet: whoever opens one has the kernel load its module. As `kmod static-nodes` reads them: MODULE NAME TYPEMAJOR:MINOR. */
static void make_static_nodes(void)
{
    static char list[16384];
    struct utsname system;
    char path[200], name[100], kind;
    unsigned major, minor;
    uname(&system);
    snprintf(path, sizeof path, "/lib/modules/%s/modules.devname", system.release);
    if (read_file(path, list, sizeof list) < 0)
        return; /* a kernel without modules */
    for (char *next = list, *line; (line = strsep(&next, "\n"));)
        if (sscanf(line, "%*s %99s %c%u:%u", name, &kind, &major, &minor) == 4 && *line != '#' && !strstr(name, ".."))
            make_node(name, kind, major, minor);
}

/* What a system's own init would have done, as far as programs count on it. */
static void furnish(void)
{
    try_mount("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
    try_mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
    try_mount("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    try_mount("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    try_link("/proc/self/fd", "/dev/fd");
    try_link("/proc/self/fd/0", "/dev/stdin");
    try_link("/proc/self/fd/1", "/dev/stdout");
    try_link("/proc/self/fd/2", "/dev/stderr");
    try_link("../proc/self/mounts", "/etc/mtab");
    make_static_nodes();
    mkdir("/run/lock", 01777);
    chmod("/run/lock", 01777);
    if (mkdir("/tmp", 01777) == 0)
        chmod("/tmp", 01777);
    if (loopback_up())
        say("cannot bring lo up: %s", strerror(errno));
}

/* The agent must answer when the job has taken all memory and every process slot. */
static void stay_alive(void)
{
    job_protect_agent();
    setpriority(PRIO_PROCESS, 0, -20);
    if (mlockall(MCL_CURRENT | MCL_FUTURE))
        say("cannot lock memory: %s", strerror(errno));
}

static const char unit[] =
    "[Unit]\nDescription=Dayfly agent\nDefaultDependencies=no\nAfter=multi-user.target\n\n"
    "[Service]\nExecStart=" AGENT_PATH " service\nKillMode=process\nOOMScoreAdjust=-1000\nNice=-20\n"
    "StandardInput=null\nStandardOutput=null\nStandardError=null\nTasksMax=infinity\nLimitNOFILE=1048576\n";

static int copy_agent(void)
{
    static char buffer[65536];
    int from = open("/init", O_RDONLY | O_CLOEXEC), to = open(LAYERS "/new" AGENT_PATH, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    ssize_t n = -1;
    while (from >= 0 && to >= 0 && (n = read(from, buffer, sizeof buffer)) > 0)
        if (write_all(to, buffer, (size_t)n))
            return -1;
    close(from);
    close(to);
    return n == 0 ? 0 : -1;
}

/* Before the root is switched, since /init is not there after it. */
static void install_service(void)
{
    mkdir(LAYERS "/new/run", 0755);
    if (mount("tmpfs", LAYERS "/new/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") || make_directories(LAYERS "/new/run/dayfly") || copy_agent()
        || make_directories(LAYERS "/new/run/systemd/system/default.target.wants")
        || write_file(LAYERS "/new/run/systemd/system/dayfly-agent.service", O_CREAT | O_EXCL, unit)
        || symlink("../dayfly-agent.service", LAYERS "/new/run/systemd/system/default.target.wants/dayfly-agent.service"))
        FAIL(FAILED_INIT, "cannot install the agent's service");
}

/* The kernel gives no standard streams where the initial console is missing; what is opened later must not land there. */
static void fill_standard_streams(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd < 3)
        ;
    if (fd >= 3)
        close(fd);
}

void boot(void)
{
    struct options options = {0};
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    fill_standard_streams();
    umask(0);
    say("starting, version " AGENT_VERSION);
    if (read_file("/proc/cmdline", cmdline, sizeof cmdline) < 0)
        say("cannot read the kernel command line: %s", strerror(errno)); /* then dayfly.root is missing, which is told */
    load_modules();
    parse_options(&options);
    mount_root(&options);
    if (options.system)
        install_service();
    switch_root();
    if (options.system) {
        umask(022);
        say("handing over to /sbin/init");
        execl("/sbin/init", "/sbin/init", (char *)NULL); /* the port closes with it */
        FAIL(FAILED_INIT, "/sbin/init");
    }
    furnish();
    stay_alive();
    say("ready");
    serve(port);
    power_off();
}

void service(bool alone)
{
    uint8_t frame[FRAME_HEADER + 1];
    say("started as a service");
    umask(0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    stay_alive();
    if ((port = port_wait(PORT_SECONDS)) < 0)
        say("no port named org.dayfly.agent");
    else {
        if (alone) {
            hello(port);
            write_all(port, frame, encode_stage(frame, STAGE_ROOT));
        }
        serve(port);
    }
    power_off();
}
