/* Small helpers: console, files, waiting for devices. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Opened each time: the console may be a device that comes late, and a full one must not stop the agent. */
void say(const char *format, ...)
{
    char line[700];
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    int n = snprintf(line, 64, "dayfly-agent: [%ld.%03ld] ", (long)now.tv_sec, now.tv_nsec / 1000000);
    va_list arguments;
    va_start(arguments, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 2, format, arguments);
    va_end(arguments);
    size_t length = strnlen(line, (size_t)(m < 0 ? n : n + m));
    line[length++] = '\n';
    int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    write_all(fd, line, length);
    close(fd);
}

void failure_set(struct failure *failure, int stage, int kind, int error, const char *format, ...)
{
    *failure = (struct failure){.stage = (uint8_t)stage, .kind = (uint8_t)kind, .error = (uint16_t)error};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    size_t n = strlen(failure->text);
    if (error && n + 3 < sizeof failure->text) {
        char *reason = failure->text + n + 2;
        snprintf(failure->text + n, sizeof failure->text - n, ": %s", strerror(error));
        if (*reason >= 'A' && *reason <= 'Z' && reason[1] >= 'a') /* "no such file", but "RPC failed" */
            *reason += 'a' - 'A';
    }
}

ssize_t read_file(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t have = 0;
    ssize_t n = 0;
    while (have < size - 1 && (n = read(fd, buffer + have, size - 1 - have)) > 0)
        have += (size_t)n;
    int error = errno;
    close(fd);
    errno = error;
    buffer[have] = 0;
    return n < 0 ? -1 : (ssize_t)have;
}

/* A word NAME=DEVICE:TYPE of the kernel's command line: the device's path and the filesystem's type. */
bool kernel_device(const char *name, char device[DEVICE_ROOM], char type[DEVICE_ROOM])
{
    char words[8192], *at = words;
    size_t length = strlen(name);
    if (read_file("/proc/cmdline", words, sizeof words) <= 0)
        return false;
    for (char *word; (word = strsep(&at, " \n"));) {
        char *colon = strchr(word, ':');
        if (strncmp(word, name, length) || word[length] != '=' || !colon)
            continue;
        *colon = 0;
        return snprintf(device, DEVICE_ROOM, "/dev/%s", word + length + 1) < DEVICE_ROOM && snprintf(type, DEVICE_ROOM, "%s", colon + 1) < DEVICE_ROOM;
    }
    return false;
}

int write_all(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

int write_file(const char *path, int flags, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
    if (fd < 0)
        return -1;
    int done = write_all(fd, text, strlen(text)), error = errno;
    close(fd);
    errno = error;
    return done;
}

void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int make_directories(const char *path)
{
    char part[4096];
    struct stat status;
    size_t length = strlen(path);
    if (stat(path, &status) == 0) {
        errno = ENOTDIR;
        return S_ISDIR(status.st_mode) ? 0 : -1;
    }
    if (length >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 1; i <= length; i++)
        if (path[i] == '/' || !path[i]) {
            memcpy(part, path, i);
            part[i] = 0;
            if (mkdir(part, 0755) && errno != EEXIST && (i == length || errno != EROFS))
                return -1;
        }
    return 0;
}

/* The kernel tells of new devices, and of their names, by uevents; each is a reason to look again. */
int wait_for_device(bool (*there)(void *), void *argument, int seconds)
{
    if (there(argument))
        return 0;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    struct pollfd events = {.fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT), .events = POLLIN};
    if (events.fd < 0 || bind(events.fd, (struct sockaddr *)&address, sizeof address)) {
        if (events.fd >= 0)
            close(events.fd);
        return -1;
    }
    char event[4096];
    time_t end = time(NULL) + seconds;
    bool found;
    while (!(found = there(argument)) && time(NULL) <= end)
        if (poll(&events, 1, 1000) > 0)
            while (recv(events.fd, event, sizeof event, 0) > 0)
                ;
    close(events.fd);
    errno = ENODEV;
    return found ? 0 : -1;
}
