/* The files that make a machine itself, in a folder that stands for its root. */
#include "agent.h"
#include "check.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ETC ROOT "/etc"
#define JOURNALS ROOT "/var/log/journal"
#define SEED ROOT "/var/lib/systemd/random-seed"

static char content[9000];

static const char *in(const char *path)
{
    CHECK(read_file(path, content, sizeof content) >= 0);
    return content;
}

static void set(const char *path, const char *text)
{
    CHECK(write_file(path, O_CREAT | O_TRUNC, text) == 0);
}

static bool is(const char *path, const char *text)
{
    if (strcmp(in(path), text))
        fprintf(stderr, "%s: %s", path, content);
    return strcmp(content, text) == 0;
}

static void start(char *name, char *id)
{
    struct start start = {.hostname = name, .machine_id = id};
    own(&start);
}

static ino_t number_of(const char *path)
{
    struct stat status;
    CHECK(stat(path, &status) == 0);
    return status.st_ino;
}

#define ID "0123456789abcdef0123456789abcdef"
#define NO_ID "00000000000000000000000000000000"

static void test_missing_files(void)
{
    unlink(ETC "/hosts");
    unlink(ETC "/hostname");
    unlink(ETC "/machine-id");
    own_prepare();
    CHECK(is(ETC "/hostname", "dayfly-0000000000\n") && is(ETC "/machine-id", NO_ID "\n"));
    CHECK(is(ETC "/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tdayfly-0000000000\n"));
    ino_t hosts = number_of(ETC "/hosts"), id = number_of(ETC "/machine-id");
    start("dayfly-0123456789", ID);
    CHECK(is(ETC "/hostname", "dayfly-0123456789\n") && is(ETC "/machine-id", ID "\n"));
    CHECK(is(ETC "/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tdayfly-0123456789\n"));
    CHECK(number_of(ETC "/hosts") == hosts && number_of(ETC "/machine-id") == id);
}

static void test_again_with_other_lengths(void)
{
    static char *const names[] = {"short", "dayfly-9876543210", "a.long.name.with.dots.example.org", "dayfly-abcdefabcd"};
    set(ETC "/hosts", "127.0.0.1 localhost\n# no newline");
    set(ETC "/machine-id", "uninitialized\n");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        own_prepare();
        CHECK(is(ETC "/hosts", "127.0.0.1 localhost\n# no newline\n127.0.1.1\tdayfly-0000000000\n"));
        CHECK(is(ETC "/hostname", "dayfly-0000000000\n") && is(ETC "/machine-id", NO_ID "\n"));
        start(names[i], ID);
        char expected[200];
        snprintf(expected, sizeof expected, "127.0.0.1 localhost\n# no newline\n127.0.1.1\t%s%s\n", names[i], i == 2 ? " a" : "");
        CHECK(is(ETC "/hosts", expected) && is(ETC "/machine-id", ID "\n"));
        snprintf(expected, sizeof expected, "%s\n", names[i]);
        CHECK(is(ETC "/hostname", expected));
    }
}

/* What a job, or a service of the image, does to the files meanwhile. */
static void test_replaced_and_cut(void)
{
    set(ETC "/hosts", "127.0.0.1 localhost\n");
    own_prepare();
    set(ETC "/new", "10.0.0.1 other\n");
    CHECK(rename(ETC "/new", ETC "/hosts") == 0 && truncate(ETC "/hostname", 3) == 0 && unlink(ETC "/machine-id") == 0);
    start("dayfly-0123456789", ID);
    CHECK(is(ETC "/hosts", "10.0.0.1 other\n127.0.1.1\tdayfly-0123456789\n"));
    CHECK(is(ETC "/hostname", "dayfly-0123456789\n") && is(ETC "/machine-id", ID "\n"));
    set(ETC "/hosts", "127.0.1.1\tdayfly-0123456789\n192.0.2.1 job\n");
    truncate(ETC "/hostname", 0);
    own_prepare();
    CHECK(is(ETC "/hosts", "192.0.2.1 job\n127.0.1.1\tdayfly-0000000000\n") && is(ETC "/hostname", "dayfly-0000000000\n"));
}

static void test_large_hosts(void)
{
    char *large = content;
    memset(large, 0, sizeof content);
    for (int i = 0; i < 4080 / 16; i++) /* the line will cross a page */
        strcat(large, "0.0.0.0 ad.test\n");
    char *copy = strdup(large);
    set(ETC "/hosts", copy);
    own_prepare();
    start("dayfly-0123456789", NULL);
    CHECK(strncmp(in(ETC "/hosts"), copy, 4080) == 0 && !strcmp(content + 4080, "127.0.1.1\tdayfly-0123456789\n"));
    free(copy);
}

static void test_own_machine_id_stays(void)
{
    unlink(ETC "/machine-id");
    own_prepare();
    start("a", ID);
    own_prepare();
    CHECK(is(ETC "/machine-id", NO_ID "\n"));
}

/* Before any other START: a machine-id that was given is not kept. journald keeps to the one that it was started with. */
static void test_journal(void)
{
    static const char before[] = "fedcba9876543210fedcba9876543210";
    char target[64] = "";
    CHECK(make_directories(JOURNALS "/fedcba9876543210fedcba9876543210") == 0);
    set(ETC "/machine-id", "fedcba9876543210fedcba9876543210\n");
    own_prepare();
    start("a", ID);
    CHECK(readlink(JOURNALS "/" ID, target, sizeof target - 1) == (ssize_t)strlen(before) && !strcmp(target, before));
    own_prepare();
    start("a", "00112233445566778899aabbccddeeff"); /* as after the rehearsal of a template */
    CHECK(access(JOURNALS "/" ID, F_OK) && readlink(JOURNALS "/00112233445566778899aabbccddeeff", target, sizeof target - 1) == (ssize_t)strlen(before));
    own_prepare();
    CHECK(access(JOURNALS "/00112233445566778899aabbccddeeff", F_OK));
}

static void test_random_seed(void)
{
    uint8_t bytes[32] = {1};
    struct start request = {.seed = bytes, .seed_length = sizeof bytes};
    char before[512];
    memset(before, 'x', sizeof before - 1);
    before[sizeof before - 1] = 0;
    CHECK(make_directories(ROOT "/var/lib/systemd") == 0);
    set(SEED, before);
    own_prepare();
    own(&request);
    CHECK(read_file(SEED, content, sizeof content) == sizeof before - 1 && memcmp(content, before, sizeof before - 1));
    unlink(SEED); /* it is not mapped any more */
    set(SEED, before);
    own(&request);
    CHECK(read_file(SEED, content, sizeof content) == sizeof before - 1 && memcmp(content, before, sizeof before - 1));
    unlink(SEED);
    own(&request);
    CHECK(access(SEED, F_OK));
}

int main(void)
{
    CHECK(make_directories(ETC) == 0);
    test_journal();
    test_missing_files();
    test_again_with_other_lengths();
    test_replaced_and_cut();
    test_large_hosts();
    test_own_machine_id_stays();
    test_random_seed();
    puts("what makes a machine itself: ok");
    return 0;
}
