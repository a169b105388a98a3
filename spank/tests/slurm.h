/* The edge of Slurm for tests of the plugin alone: what slurmstepd, srun and sbatch would answer, and what the plugin did.
 * That a real Slurm answers so is for tests/batch. */
#define _GNU_SOURCE
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

static int fake_execve(const char *path, char *const argv[], char *const environment[]);
static void fake_exit(int status) __attribute__((noreturn));
#define execve fake_execve
#define _exit fake_exit
#include "../dayfly.c"
#undef execve
#undef _exit

static struct {
	spank_context_t context;
	const char *image, *partition;                  /* in the job's environment; NULL: not there */
	char **argv, **environment;
	int argc, refused, registered, complaints;
	uint32_t step, cpus, tasks;
	uint64_t memory;
} slurm;

static struct {
	char sent[OPTIONS][VALUE_MOST];
	char **argv;
	char *environment;
	size_t environment_length;
	int status;
} done;
static jmp_buf end;

spank_context_t spank_context(void)
{
	return slurm.context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
	(void)spank, (void)option;
	return ++slurm.registered == slurm.refused ? ESPANK_ERROR : ESPANK_SUCCESS;
}

spank_err_t spank_job_control_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank, (void)overwrite;
	for (int which = 0; which < OPTIONS; which++)
		if (strcmp(name, carried[which]) == 0)
			strcpy(done.sent[which], value);
	return ESPANK_SUCCESS;
}

spank_err_t spank_getenv(spank_t spank, const char *name, char *value, int length)
{
	(void)spank;
	const char *found = strcmp(name, "SLURM_SPANK_DAYFLY_IMAGE") == 0 ? slurm.image
			  : strcmp(name, "SLURM_JOB_PARTITION") == 0	  ? slurm.partition
									  : NULL;
	if (!found)
		return ESPANK_ENV_NOEXIST;
	if (strlen(found) >= (size_t)length)
		return ESPANK_NOSPACE;
	strcpy(value, found);
	return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	(void)spank;
	va_list places;
	va_start(places, item);
	switch (item) {
	case S_JOB_STEPID:
		*va_arg(places, uint32_t *) = slurm.step;
		break;
	case S_STEP_ALLOC_MEM:
		*va_arg(places, uint64_t *) = slurm.memory;
		break;
	case S_STEP_CPUS_PER_TASK:
		*va_arg(places, uint32_t *) = slurm.cpus;
		break;
	case S_JOB_LOCAL_TASK_COUNT:
		*va_arg(places, uint32_t *) = slurm.tasks;
		break;
	case S_JOB_ARGV:
		*va_arg(places, int *) = slurm.argc;
		*va_arg(places, char ***) = slurm.argv;
		break;
	case S_JOB_ENV:
		*va_arg(places, char ***) = slurm.environment;
		break;
	default:
		abort();
	}
	va_end(places);
	return ESPANK_SUCCESS;
}

void slurm_error(const char *format, ...)
{
	char text[2 * VALUE_MOST];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	slurm.complaints++;
}

/* Keeps what would have been executed. A path that begins with /none is not there. */
static int fake_execve(const char *path, char *const argv[], char *const environment[])
{
	assert(strncmp(environment[0], "PATH=/usr/local/sbin:", 21) == 0);
	assert(strstr(environment[0], ":/sbin:/bin:/") && strcmp(strrchr(environment[0], '/'), "/bin") == 0);
	assert(strcmp(environment[2], "PYTHONNOUSERSITE=1") == 0 && strcmp(environment[3], "PYTHONSAFEPATH=1") == 0);
	assert(strcmp(environment[4], "SLURM_CONF=/of/slurmd") == 0 && !environment[5]);
	if (strncmp(path, "/none", 5) == 0) {
		errno = ENOENT;
		return -1;
	}
	done.argv = (char **)argv;
	for (int i = 0; argv[i]; i++)
		if (strncmp(argv[i], "environment=", 12) == 0) {
			int file = atoi(argv[i] + 12);
			done.environment_length = lseek(file, 0, SEEK_END);
			done.environment = malloc(done.environment_length + 1);
			assert(pread(file, done.environment, done.environment_length, 0) == (ssize_t)done.environment_length);
			close(file);
		}
	longjmp(end, 1);
}

static void fake_exit(int status)
{
	done.status = status;
	longjmp(end, 2);
}
