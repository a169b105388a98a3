/* The interface between the parts of the agent that do I/O. */
#ifndef DAYFLY_AGENT_H
#define DAYFLY_AGENT_H

#define _GNU_SOURCE /* so this header comes first everywhere */

#include "frames.h"
#include "start.h"

#include <sys/resource.h>

#ifndef AGENT_VERSION
#define AGENT_VERSION "0.1"
#endif

#define AGENT_PATH "/run/dayfly/agent"

/* io.c: small helpers. Those that can fail return -1 (or false) and leave errno. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a line on the console */
void failure_set(struct failure *failure, int stage, int kind, int error, const char *format, ...) __attribute__((format(printf, 5, 6)));
ssize_t read_file(const char *path, char *buffer, size_t size); /* a C string of at most size - 1 bytes */
int write_file(const char *path, int flags, const char *text); /* flags: those of open(2), such as O_CREAT; mode 0644 */
void close_fd(int *fd); /* where there is one */
int make_directories(const char *path); /* as mkdir -p */
int write_all(int fd, const void *bytes, size_t length);
enum { DEVICE_ROOM = 80 };
bool kernel_device(const char *name, char device[DEVICE_ROOM], char type[DEVICE_ROOM]);
int wait_for_device(bool (*there)(void *), void *argument, int seconds);

/* port.c: the virtio-serial port */
int port_open(void); /* -1: not there (yet) */
int port_wait(int seconds);

/* identity.c: what differs between this machine and other clones of its template */
void own_prepare(void); /* before START */
void own(const struct start *start);

/* surroundings.c: the other settings of the machine in START; the end of the shared folders */
void surroundings_prepare(void); /* before START */
bool surroundings_apply(const struct start *start, struct failure *why);
void sync_shares(const struct start *start); /* the host has got all that the job wrote */
void release_shares(const struct start *start);
void set_clock(uint64_t nanoseconds);

/* net.c */
int loopback_up(void);
void network_prepare(void); /* before START */
int network_configure(const struct ipv4 *network, const uint8_t *mac); /* either may be NULL */

/* job.c: the job's processes */
struct job {
    pid_t pid; /* of the main process; it stays set after its end */
    int in, out[3]; /* our ends of the streams; -1: closed. out[0] is not used */
    int unread; /* after the end of stdin: a reader of its pipe, to find out how much the job has left in it; or -1 */
    int terminal; /* the pseudo-terminal's master, or -1 */
    int cgroup, kill, events, cpu, peak, oom; /* the cgroup and files of it, see job_prepare(); -1 where the kernel has none */
    bool ended; /* the main process was reaped: status is set */
    int status;
    struct rusage usage; /* the sum over all children reaped (maxrss: the maximum) */
    uint64_t oom_before;
};
extern const struct job no_job;
void job_prepare(struct job *job); /* makes the cgroup, with all figures at zero */
bool job_spawn(struct job *job, const struct start *start, struct failure *why);
void job_signal(const struct job *job, int signal);
void job_window(const struct job *job, const struct window *window);
bool job_reap(struct job *job); /* true: no child is left */
void job_kill_all(const struct job *job);
bool job_alone(const struct job *job, bool no_child);
void job_account(const struct job *job, struct exited *exited);
void job_forget(struct job *job); /* removes its streams and its cgroup */
void job_protect_agent(void); /* from the out-of-memory killer; jobs are not protected */

/* loop.c: from STAGE ready to DONE; returns when the machine may be powered off */
void serve(int port);
/* Sends FAILED and waits for DONE (or for ever: the host ends the machine). */
void serve_failure(int port, const struct failure *failure);

/* capture.c: `agent capture FOLDER [parents:PATTERN | made:PATH]...`, the folder's files as an archive on stdout. "parents:" are the files that are taken from the image's
   own root instead, "made:" a folder that is included only if it has content. Returns the exit status. */
int capture(char **arguments, int count);

/* init.c */
void boot(void) __attribute__((noreturn));
void service(bool alone) __attribute__((noreturn)); /* alone: of a system that was not started by boot() */

#endif
