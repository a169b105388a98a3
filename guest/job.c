/* The job's processes: their start as in START, signals, their end, and what they used. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CGROUPS /* tests that run outside a machine have none */
#define CGROUPS "/sys/fs/cgroup"
#endif
#define JOB_CGROUP CGROUPS "/dayfly.job"

enum { PIPE_SIZE = 1 << 20, TTY_GROUP = 5 };

/* Which step of the child before the command failed, and how; a child that reaches the command reports nothing. */
struct report { bool failed; uint8_t kind; int error; char step[24]; };

const struct job no_job = {
    .in = -1, .unread = -1, .out = {-1, -1, -1}, .terminal = -1, .cgroup = -1, .kill = -1, .events = -1, .cpu = -1, .peak = -1, .oom = -1,
};

static int adjustment = -1; /* the agent's own oom_score_adj, where it was lowered */

static void set_adjustment(const char *value)
{
    if (adjustment >= 0 && write_all(adjustment, value, strlen(value)))
        say("cannot set the out-of-memory adjustment: %s", strerror(errno));
}

void job_protect_agent(void)
{
    adjustment = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    set_adjustment("-1000");
}


static int open_figure(const struct job *job, const char *name)
{
    return openat(job->cgroup, name, O_RDONLY | O_CLOEXEC);
}

/* A number from a file of lines `key number`; without a key, from a file that is only the number. -1: not there. */
static int64_t number_of(int fd, const char *key)
{
    static char text[16384]; /* /proc/vmstat is the largest */
    ssize_t have = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (have <= 0)
        return -1;
    text[have] = 0;
    if (!key)
        return (int64_t)strtoull(text, NULL, 10);
    size_t length = strlen(key);
    for (char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return (int64_t)strtoull(line + length, NULL, 10);
    return -1;
}

static uint64_t oom_kills(const struct job *job)
{
    int64_t kills = number_of(job->oom, "oom_kill");
    return kills < 0 ? 0 : (uint64_t)kills;
}

/* The streams of a job without a terminal: pipes, of which one end is ours. They wait for START here. */
static int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};

static int our_end(int stream)
{
    return stream == 0 ? 1 : 0;
}

static void close_pipes(void)
{
    for (int stream = 0; stream < 3; stream++) {
        close_fd(&pipes[stream][0]);
        close_fd(&pipes[stream][1]);
    }
}

static void prepare_pipes(void)
{
    close_pipes();
    for (int stream = 0; stream < 3; stream++) {
        if (pipe2(pipes[stream], O_CLOEXEC)) {
            say("cannot make a pipe: %s", strerror(errno));
            return;
        }
        if (stream > 0)
            fcntl(pipes[stream][0], F_SETPIPE_SZ, PIPE_SIZE); /* only for speed; not for stdin, of which no more than needed is taken */
        fcntl(pipes[stream][our_end(stream)], F_SETFL, O_NONBLOCK);
    }
}

/* All that can be opened and read before START is: each file's way through the kernel costs more than the number in it. */
void job_prepare(struct job *job)
{
    *job = no_job;
    if (access(CGROUPS "/cgroup.controllers", F_OK) == 0) { /* else a system with the old hierarchies: everything has another way */
        write_file(CGROUPS "/cgroup.subtree_control", 0, "+memory");
        if (mkdir(JOB_CGROUP, 0755) && errno != EEXIST)
            say("cannot make the job's cgroup: %s", strerror(errno));
        else
            job->cgroup = open(JOB_CGROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (job->cgroup >= 0) {
        job->kill = openat(job->cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC);
        job->events = open_figure(job, "cgroup.events");
        job->cpu = open_figure(job, "cpu.stat");
        job->peak = open_figure(job, "memory.peak");
        job->oom = open_figure(job, "memory.events");
    }
    if (job->oom < 0)
        job->oom = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
    job->oom_before = oom_kills(job);
    prepare_pipes();
}

void job_forget(struct job *job)
{
    int *const all[] = {
        &job->in, &job->unread, &job->out[0], &job->out[1], &job->out[2], &job->terminal, &job->kill, &job->events, &job->cpu, &job->peak, &job->oom, &job->cgroup,
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        close_fd(all[i]);
    if (rmdir(JOB_CGROUP) && errno != ENOENT)
        say("cannot remove the job's cgroup: %s", strerror(errno));
    *job = no_job;
}

struct child { const struct start *start; int fds[3]; struct report *report; bool join; };

static void __attribute__((noreturn)) give_up(const struct child *child, uint8_t kind, const char *step)
{
    struct report *report = child->report;
    report->error = errno;
    report->kind = kind;
    snprintf(report->step, sizeof report->step, "%s", step);
    report->failed = true;
    _exit(127);
}

static void join_cgroup(void)
{
    write_file(JOB_CGROUP "/cgroup.procs", 0, "0");
}

static void take_identity(const struct child *child)
{
    const struct start *s = child->start;
    for (size_t i = 0; i < s->limit_count; i++) {
        /* the system call itself: its numbers are 64 bits and its "unlimited" is all ones, as in the protocol */
        uint64_t values[2] = {s->limits[i].soft, s->limits[i].hard};
        if (syscall(SYS_prlimit64, 0, s->limits[i].resource, values, NULL))
            give_up(child, KIND_IDENTITY, "limit");
    }
    if (setgroups(s->group_count, s->groups))
        give_up(child, KIND_IDENTITY, "groups");
    if (setresgid(s->gid, s->gid, s->gid))
        give_up(child, KIND_IDENTITY, "group");
    if (setresuid(s->uid, s->uid, s->uid))
        give_up(child, KIND_IDENTITY, "user");
}

/* Signals are ignored and blocked as they were for the caller, and none of them otherwise. */
static void set_signals(const struct start *s)
{
    for (int signal = 1; signal <= 64; signal++) {
        /* the system call itself, for the C library keeps two signals to itself: its struct is the kernel's */
        struct { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; } action = {.handler = s->ignored >> (signal - 1) & 1 ? SIG_IGN : SIG_DFL};
        syscall(SYS_rt_sigaction, signal, &action, NULL, sizeof action.mask); /* fails for those that nobody can change */
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &s->blocked, NULL, sizeof s->blocked); /* its set is 64 bits, as in the protocol */
}

/* execvp's rules, with the PATH of the job and not the agent's: the C library takes it from environ. */
static void execute(char **argv, char **envp)
{
    static char *standard[] = {"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    environ = envp;
    if (!getenv("PATH"))
        environ = standard;
    execvpe(argv[0], argv, envp);
}

static uint8_t kind_of_exec(int error)
{
    switch (error) {
    case ENOENT: case ENOTDIR: return KIND_NOT_FOUND;
    case ENOMEM: case EAGAIN: case ENFILE: return KIND_RESOURCES;
    default: return KIND_NOT_EXECUTABLE;
    }
}

static void __attribute__((noreturn)) child_main(const struct child *child)
{
    const struct start *s = child->start;
    if (child->join)
        join_cgroup();
    setsid();
    if (s->terminal && ioctl(child->fds[0], TIOCSCTTY, 0))
        give_up(child, KIND_RESOURCES, "terminal");
    for (int i = 0; i < 3; i++)
        if (s->closed >> i & 1 ? close(i) && errno != EBADF : dup2(child->fds[i], i) < 0)
            give_up(child, KIND_RESOURCES, "streams");
    setpriority(PRIO_PROCESS, 0, 0);
    umask(s->has_umask ? s->umask : 022);
    take_identity(child);
    if (chdir(s->directory))
        give_up(child, KIND_DIRECTORY, "");
    set_signals(s);
    execute(s->argv, s->envp);
    int error = errno;
    bool orphan = error == ENOENT && strchr(s->argv[0], '/') && access(s->argv[0], F_OK) == 0;
    errno = error;
    give_up(child, kind_of_exec(error), orphan ? "interpreter" : "");
}

/* As vfork(2), for to copy the agent's memory is half of a fork: the agent sleeps, and the child has its memory and its stack, with frames below this one's
   and the 128 bytes under it that the compiler may use. Not through syscall(3), from whose frame the child would return before the agent does. When the
   child takes the job's identity, the kernel forbids the job's user to look into this memory (it is not dumpable any more). */
static pid_t clone_beside(const struct clone_args *arguments, struct child *child)
{
    long pid;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "lea -256(%%rsp), %%rsp\n\t"
                     "and $-16, %%rsp\n\t"
                     "mov %[child], %%rdi\n\t"
                     "call *%[main]\n"
                     "1:"
                     : "=a"(pid)
                     : "a"(SYS_clone3), "D"(arguments), "S"(sizeof *arguments), [child] "r"(child), [main] "r"(child_main)
                     : "rcx", "r11", "cc", "memory");
    errno = pid < 0 ? (int)-pid : 0;
    return pid < 0 ? -1 : (pid_t)pid;
}

/* Returns when the command runs, or the child has said why it does not (CLONE_VFORK). Straight into the cgroup where the kernel can (5.7): moving a
   process there later waits for an RCU grace period. */
static pid_t fork_into(int cgroup, struct child *child)
{
    struct clone_args arguments = {.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    if (cgroup >= 0) {
        pid_t pid = clone_beside(&arguments, child);
        if (pid >= 0 || errno == EAGAIN || errno == ENOMEM)
            return pid;
        child->join = true;
    }
    return (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* Both ends of each belong to the job's user; otherwise it could not open /dev/stdout etc. by name. */
static bool take_pipes(struct job *job, const struct start *s, int fds[3])
{
    for (int stream = 0; stream <= (s->merged ? 1 : 2); stream++) {
        int *ours = stream == 0 ? &job->in : &job->out[stream], end = our_end(stream);
        if (fchown(pipes[stream][0], s->uid, s->gid))
            return false;
        *ours = pipes[stream][end];
        fds[stream] = pipes[stream][1 - end];
        pipes[stream][0] = pipes[stream][1] = -1;
    }
    if (s->merged)
        fds[2] = fcntl(fds[1], F_DUPFD_CLOEXEC, 3);
    return fds[2] >= 0;
}

static bool make_terminal(struct job *job, const struct start *s, int fds[3])
{
    int unlock = 0;
    unsigned number;
    char path[32];
    job->terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (job->terminal < 0 || ioctl(job->terminal, TIOCSPTLCK, &unlock))
        return false;
    job_window(job, &s->window);
    if (ioctl(job->terminal, TIOCGPTN, &number))
        return false;
    snprintf(path, sizeof path, "/dev/pts/%u", number);
    fds[0] = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fds[0] < 0 || fchown(fds[0], s->uid, TTY_GROUP) || fchmod(fds[0], 0620))
        return false;
    fds[1] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
    fds[2] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
    job->in = fcntl(job->terminal, F_DUPFD_CLOEXEC, 3);
    job->out[1] = fcntl(job->terminal, F_DUPFD_CLOEXEC, 3);
    return fds[1] >= 0 && fds[2] >= 0 && job->in >= 0 && job->out[1] >= 0;
}

/* More open files than the kernel's own bound can be asked for: a host's bound is often higher than a fresh kernel's. */
static void raise_file_bound(const struct start *s)
{
    char text[24];
    for (size_t i = 0; i < s->limit_count; i++)
        if (s->limits[i].resource == RLIMIT_NOFILE && s->limits[i].hard > 1 << 20) {
            snprintf(text, sizeof text, "%llu", (unsigned long long)(s->limits[i].hard < 2147483584 ? s->limits[i].hard : 2147483584) & ~63ull);
            write_file("/proc/sys/fs/nr_open", 0, text);
        }
}

static void explain(struct failure *why, const struct start *s, const struct report *report)
{
    const char *command = s->argv[0];
    if (report->kind == KIND_DIRECTORY)
        failure_set(why, FAILED_START, report->kind, report->error, "%.400s", s->directory);
    else if (strcmp(report->step, "interpreter") == 0)
        failure_set(why, FAILED_START, report->kind, report->error, "%.400s: its interpreter", command);
    else if (*report->step)
        failure_set(why, FAILED_START, report->kind, report->error, "%s", report->step);
    else if (report->error == ENOENT && !strchr(command, '/'))
        failure_set(why, FAILED_START, report->kind, 0, "%.400s: command not found", command);
    else
        failure_set(why, FAILED_START, report->kind, report->error, "%.400s", command);
    why->error = (uint16_t)report->error;
}

bool job_spawn(struct job *job, const struct start *s, struct failure *why)
{
    static struct report *report; /* shared, since a child that was forked has memory of its own */
    struct child child = {.start = s, .fds = {-1, -1, -1}};
    char **ours = environ;
    if (!report)
        report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    raise_file_bound(s);
    child.report = report;
    bool ready = report != MAP_FAILED && (s->terminal ? make_terminal(job, s, child.fds) : take_pipes(job, s, child.fds));
    close_pipes(); /* what a terminal, or merged streams, leave of them */
    if (ready)
        report->failed = false;
    set_adjustment("0"); /* the child inherits it: to open a file of its own in /proc would cost as much as half a fork. The agent has it until exec only */
    pid_t pid = ready ? fork_into(job->cgroup, &child) : -1;
    if (pid == 0)
        child_main(&child);
    int error = errno;
    environ = ours; /* the child sets it, in the same memory */
    set_adjustment("-1000");
    if (pid < 0)
        failure_set(why, FAILED_START, KIND_RESOURCES, error, "cannot start a process");
    else if (report->failed)
        explain(why, s, report);
    for (int i = 0; i < 3; i++)
        close_fd(&child.fds[i]);
    job->pid = pid > 0 ? pid : 0;
    return pid > 0 && !report->failed;
}

void job_window(const struct job *job, const struct window *window)
{
    struct winsize size = {window->rows, window->columns, window->width, window->height};
    if (job->terminal >= 0)
        ioctl(job->terminal, TIOCSWINSZ, &size);
}

void job_signal(const struct job *job, int signal)
{
    kill(-job->pid, signal); /* no error if the group is gone */
    /* What a fork bomb has put into other groups dies too: the cgroup's kill leaves no gap to fork through. */
    if (signal == SIGKILL)
        job_kill_all(job);
}

bool job_reap(struct job *job)
{
    struct rusage usage;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        timeradd(&job->usage.ru_utime, &usage.ru_utime, &job->usage.ru_utime);
        timeradd(&job->usage.ru_stime, &usage.ru_stime, &job->usage.ru_stime);
        if (usage.ru_maxrss > job->usage.ru_maxrss)
            job->usage.ru_maxrss = usage.ru_maxrss;
        if (pid == job->pid) {
            job->ended = true;
            job->status = status;
        }
    }
    return pid < 0 && errno == ECHILD;
}

/* For kernels without cgroup.kill (before 5.14): what is in the cgroup, one by one; called again at each child's end until nothing is left. */
static bool kill_members(void)
{
    FILE *members = fopen(JOB_CGROUP "/cgroup.procs", "re");
    if (!members)
        return false;
    for (int pid; fscanf(members, "%d", &pid) == 1;)
        if (pid > 1)
            kill(pid, SIGKILL);
    fclose(members);
    return true;
}

/* Without cgroups, as a service: whatever is our child. Orphans become our children (PR_SET_CHILD_SUBREAPER), so that nothing is missed in the end. */
static void kill_children(void)
{
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
        char path[300], text[512];
        int parent;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        if (*entry->d_name < '1' || *entry->d_name > '9' || read_file(path, text, sizeof text) <= 0)
            continue;
        char *after = strrchr(text, ')'); /* a process' name may hold anything */
        if (after && sscanf(after, ") %*c %d", &parent) == 1 && parent == getpid())
            kill(atoi(entry->d_name), SIGKILL);
    }
    if (processes)
        closedir(processes);
}

void job_kill_all(const struct job *job)
{
    if (getpid() == 1)
        kill(-1, SIGKILL); /* as init: everything but ourselves is the job's, also what root has moved to another cgroup; nothing is forked meanwhile */
    else if (job->kill >= 0 && write(job->kill, "1", 1) == 1)
        return;
    else if (job->cgroup < 0 || !kill_members())
        kill_children();
}

bool job_alone(const struct job *job, bool no_child)
{
    char text[256];
    if (no_child)
        return true;
    ssize_t n = job->events < 0 ? -1 : pread(job->events, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = 0;
    return strstr(text, "populated 0") != NULL;
}

static uint64_t microseconds(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

/* The cgroup's own figures; without it, sums over the children reaped, and as the peak the largest single process. */
void job_account(const struct job *job, struct exited *exited)
{
    int64_t user = number_of(job->cpu, "user_usec"), system = number_of(job->cpu, "system_usec"), peak = number_of(job->peak, NULL);
    exited->signalled = WIFSIGNALED(job->status);
    exited->value = (uint8_t)(exited->signalled ? WTERMSIG(job->status) : WEXITSTATUS(job->status));
    exited->oom_kills = (uint32_t)(oom_kills(job) - job->oom_before);
    exited->user_us = user >= 0 ? (uint64_t)user : microseconds(&job->usage.ru_utime);
    exited->system_us = system >= 0 ? (uint64_t)system : microseconds(&job->usage.ru_stime);
    exited->peak_bytes = peak >= 0 ? (uint64_t)peak : (uint64_t)job->usage.ru_maxrss * 1024;
}
