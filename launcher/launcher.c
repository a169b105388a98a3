/* The command `dayfly`: does what cannot be done any more when Python runs, and executes `dayfly-main` next to it.

   Python forgets whether SIGPIPE and SIGXFSZ were ignored, obeys variables of its own that are meant for the job, and does not start at all with a folder
   as stdin. dayfly.inherited, the other half, restores the caller's state for the job. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAIN "dayfly-main"
#define IGNORED "DAYFLY_IGNORED_SIGNALS="
#define HIDDEN "DAYFLY_CALLERS_" /* the prefix of a variable that Python would use */

extern char **environ;

static void __attribute__((noreturn)) fail(const char *what)
{
    fprintf(stderr, "dayfly: %s: %s (is Dayfly installed as a whole?)\n", what, strerror(errno));
    exit(125);
}

/* As in /proc/PID/status: bit n - 1 is signal n. */
static unsigned long long ignored_signals(void)
{
    unsigned long long mask = 0;
    struct sigaction action;
    for (int number = 1; number <= 64; number++)
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            mask |= 1ull << (number - 1);
    return mask;
}

static char **environment(void)
{
    size_t count = 0;
    while (environ[count])
        count++;
    char **all = calloc(count + 2, sizeof *all), **next = all;
    if (!all || asprintf(next++, IGNORED "%016llx", ignored_signals()) < 0)
        fail("environment");
    for (char **variable = environ; *variable; variable++) {
        if (strncmp(*variable, IGNORED, strlen(IGNORED)) == 0)
            continue;
        if (strncmp(*variable, "PYTHON", strlen("PYTHON")))
            *next++ = *variable;
        else if (asprintf(next++, HIDDEN "%s", *variable) < 0)
            fail("environment");
    }
    return all;
}

static void replace_folder_as_stdin(void)
{
    struct stat status;
    if (fstat(0, &status) == 0 && S_ISDIR(status.st_mode)) {
        close(0);
        if (open("/dev/null", O_RDONLY) != 0)
            fail("/dev/null");
    }
}

int main(int argc, char **argv)
{
    char path[PATH_MAX + sizeof MAIN];
    (void)argc;
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length <= 0)
        fail("/proc/self/exe");
    path[length] = 0;
    strcpy(strrchr(path, '/') + 1, MAIN);
    replace_folder_as_stdin();
    execve(path, argv, environment());
    fail(path);
}
