/* Finding the agent's virtio-serial port. */
#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define PORT_NAME "org.dayfly.agent"

int port_open(void)
{
    DIR *ports = opendir(PORTS);
    if (!ports)
        return -1;
    int fd = -1;
    for (struct dirent *entry; fd < 0 && (entry = readdir(ports));) {
        char path[sizeof PORTS + sizeof entry->d_name + 8], name[64];
        snprintf(path, sizeof path, PORTS "/%s/name", entry->d_name);
        if (entry->d_name[0] == '.' || read_file(path, name, sizeof name) < 0)
            continue;
        name[strcspn(name, "\n")] = 0;
        if (strcmp(name, PORT_NAME))
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    closedir(ports);
    return fd;
}

static bool opened(void *fd)
{
    return (*(int *)fd = port_open()) >= 0;
}

int port_wait(int seconds)
{
    int fd = -1;
    wait_for_device(opened, &fd, seconds);
    return fd;
}
