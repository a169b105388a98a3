/* The agent in the machine: init of the initramfs, or a service of the image's own init. */
#include "agent.h"

#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "service") == 0)
        service(false);
    if (argc == 2 && strcmp(argv[1], "guest") == 0)
        service(true);
    if (getpid() == 1)
        boot();
    static const char usage[] = "usage: this is the init of a Dayfly machine, or `agent service` or `agent guest`, a service in it\n";
    write_all(2, usage, sizeof usage - 1);
    return 2;
}
