/* The agent in the machine: init of the initramfs, or a service of the image's own init; and a command that the host has it run. */
#include "agent.h"

#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "service") == 0)
        service(false);
    if (argc == 2 && strcmp(argv[1], "guest") == 0)
        service(true);
    if (argc > 2 && strcmp(argv[1], "capture") == 0)
        return capture(argv + 2, argc - 2);
    if (getpid() == 1)
        boot();
    static const char usage[] = "usage: this is the init of a Dayfly machine, `agent service` or `agent guest`, a service in it, "
                                "or `agent capture FOLDER`, a command\n";
    write_all(2, usage, sizeof usage - 1);
    return 2;
}
