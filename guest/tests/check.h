#ifndef DAYFLY_CHECK_H
#define DAYFLY_CHECK_H

#include <stdio.h>
#include <stdlib.h>

/* The tests' parts of the agent call this instead of sethostname(2): the machine's name is not theirs to change. */
int no_sethostname(const char *name, size_t length);
int no_sethostname(const char *name, size_t length)
{
    (void)name;
    return length <= 64 ? 0 : -1;
}

#define CHECK(condition) do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#endif
