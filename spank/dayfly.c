/* Dayfly's plugin for Slurm: takes the --vm-… options and puts the job shell in front of a task's command.
 *
 * * It makes no decisions: `dayfly job-shell slurm` decides whether the task gets a machine, and runs it there.
 * See slurm/spank.h for the contexts. Arguments in plugstack.conf:
 *
 *   dayfly=PATH       the program to execute (/usr/bin/dayfly)
 *   settings=PATH     the site's settings, instead of /etc/dayfly/settings.toml
 *   task_prolog=PATH  the site's TaskProlog, which Slurm does not run where the job shell is
 *   partitions=A:B    partitions whose tasks go to the job shell whether they asked for a machine or not; * for all of them
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <slurm/spank.h>

SPANK_PLUGIN(dayfly, 1)

enum { IMAGE, BOOT, NETWORK, SHARE, OPTIONS };
enum { EXTERN_STEP = -4, INTERACTIVE_STEP = -6 };        /* slurm.h's SLURM_EXTERN_CONT and SLURM_INTERACTIVE_STEP, as int */
enum { VALUE_MOST = 4096, WORDS = OPTIONS + 6, OWN_FAILURE = 125 };

static int take(int which, const char *value, int remote);

static struct spank_option options[] = {
	{"vm-image", "IMAGE", "run in a fresh virtual machine of this image, like debian:12; none: run without one", 1, IMAGE, take},
	{"vm-boot", "agent|system", "what is init in the machine", 1, BOOT, take},
	{"vm-network", "none|nat", "the machine's network", 1, NETWORK, take},
	{"vm-share", "PATH[:ro][,...]", "folders to share with the machine, beside the working directory", 1, SHARE, take},
	SPANK_OPTIONS_TABLE_END};

/* The options are passed on with the job under these names: SLURM_SPANK_… in its environment, SPANK_… in prolog and epilog. sbatch's own way of
 * sending options is an environment variable that --export=NONE leaves behind. */
static const char *const carried[OPTIONS] = {"DAYFLY_IMAGE", "DAYFLY_BOOT", "DAYFLY_NETWORK", "DAYFLY_SHARE"};
static const char *const words[OPTIONS] = {"image", "boot", "network", "share"};

static char chosen[OPTIONS][VALUE_MOST];

static bool only(const char *value, const char *others)
{
	for (; *value; value++)
		if (!isalnum((unsigned char)*value) && !strchr(others, *value))
			return false;
	return true;
}

/* What is wrong with an option's value; NULL: nothing. Whether the image exists is checked on the node. */
static const char *mistake(int which, const char *value)
{
	if (!value || !*value || strlen(value) >= VALUE_MOST)
		return "is empty or too long";
	if (which == IMAGE && !only(value, "._:/@+-"))
		return "is not an image's name or digest (write it like debian:12)";
	if (which == BOOT && strcmp(value, "agent") != 0 && strcmp(value, "system") != 0)
		return "is neither agent nor system";
	if (which == NETWORK && strcmp(value, "none") != 0 && strcmp(value, "nat") != 0)
		return "is neither none nor nat";
	if (which == SHARE && (*value != '/' || strchr(value, '\n')))
		return "is not an absolute path (write it as PATH, PATH:ro or PATH,PATH)";
	return NULL;
}

static int take(int which, const char *value, int remote)
{
	const char *wrong = mistake(which, value);
	if (wrong) {
		slurm_error("dayfly: --%s %s %s", options[which].name, value ? value : "", wrong);
		return ESPANK_BAD_ARG;
	}
	(void)remote;
	strcpy(chosen[which], value);
	return ESPANK_SUCCESS;
}

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
	(void)count, (void)arguments;
	spank_context_t context = spank_context();
	if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR && context != S_CTX_REMOTE)
		return ESPANK_SUCCESS;
	for (struct spank_option *option = options; option->name; option++)
		if (spank_option_register(spank, option) != ESPANK_SUCCESS) {
			slurm_error("dayfly: another plugin has an option --%s already", option->name);
			return ESPANK_ERROR;
		}
	return ESPANK_SUCCESS;
}

int slurm_spank_init_post_opt(spank_t spank, int count, char **arguments)
{
	(void)count, (void)arguments;
	if (spank_context() == S_CTX_REMOTE)
		return ESPANK_SUCCESS;
	for (int which = 0; which < OPTIONS; which++)
		if (*chosen[which] && spank_job_control_setenv(spank, carried[which], chosen[which], 1) != ESPANK_SUCCESS) {
			slurm_error("dayfly: --%s cannot be sent with the job", options[which].name);
			return ESPANK_ERROR;
		}
	return ESPANK_SUCCESS;
}

/* The value of an argument NAME=VALUE of the plugin. */
static const char *argument(int count, char **arguments, const char *name, const char *otherwise)
{
	size_t length = strlen(name);
	for (int i = 0; i < count; i++)
		if (strncmp(arguments[i], name, length) == 0 && arguments[i][length] == '=')
			return arguments[i] + length + 1;
	return otherwise;
}

static bool listed(const char *list, const char *name)
{
	size_t length = strlen(name);
	if (strcmp(list, "*") == 0)
		return true;
	for (const char *at = list; length && at; at = strchr(at, ':')) {
		at += *at == ':';
		if (strncmp(at, name, length) == 0 && (at[length] == ':' || !at[length]))
			return true;
	}
	return false;
}

/* Whether the job shell runs this task; completes `chosen`. */
static bool concerned(spank_t spank, const char *partitions)
{
	bool asked = false;
	char name[64 + sizeof "SLURM_SPANK_"], partition[256] = "";
	for (int which = 0; which < OPTIONS; which++) {
		snprintf(name, sizeof name, "SLURM_SPANK_%s", carried[which]);
		if (!*chosen[which] && spank_getenv(spank, name, chosen[which], VALUE_MOST) != ESPANK_SUCCESS)
			*chosen[which] = 0;
		asked = asked || *chosen[which];
	}
	spank_getenv(spank, "SLURM_JOB_PARTITION", partition, sizeof partition);
	return asked || listed(partitions, partition);
}

/* The job's environment in a file without a name. It is the job's: nothing in it may reach the interpreter of the job shell. */
static int sealed(char **environment)
{
	int file = memfd_create("environment", 0);
	FILE *stream = file < 0 ? NULL : fdopen(dup(file), "w");
	if (!stream)
		return -1;
	for (; *environment; environment++)
		fwrite(*environment, strlen(*environment) + 1, 1, stream);
	return fclose(stream) == 0 ? file : -1;
}

/* Words of the job shell's command line, NULL at the end. */
static char *word[WORDS + 1];
static int word_count;

static bool say(const char *name, const char *value)
{
	return word_count < WORDS && asprintf(&word[word_count++], "%s=%s", name, value) > 0;
}

static bool say_number(const char *name, uint64_t value)
{
	char digits[32];
	snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
	return !value || say(name, digits);
}

/* What Slurm gave the task, from its credential rather than from variables that a user can set. */
static bool say_allocation(spank_t spank)
{
	uint64_t memory = 0;
	uint32_t cpus = 0, tasks = 0;
	spank_get_item(spank, S_STEP_ALLOC_MEM, &memory);
	spank_get_item(spank, S_STEP_CPUS_PER_TASK, &cpus);
	spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &tasks);
	return say_number("memory_mib", memory) && say_number("cpus_per_task", cpus) && say_number("tasks_here", tasks);
}

/* The job shell's environment: nothing of the job's. Slurm's commands are looked for beside this slurmstepd, in ../bin, and its
 * configuration is the one that slurmd has. */
static char **clean(void)
{
	static char path[PATH_MAX + 128], *variables[] = {path, "LANG=C.UTF-8", "PYTHONNOUSERSITE=1", "PYTHONSAFEPATH=1", NULL, NULL};
	static char program[PATH_MAX], configuration[PATH_MAX + sizeof "SLURM_CONF="];
	const char *conf = getenv("SLURM_CONF");
	ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
	char *slash = length > 0 ? strrchr(program, '/') : NULL;
	if (slash)
		*slash = 0;
	slash = slash ? strrchr(program, '/') : NULL;
	snprintf(path, sizeof path, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin%s%.*s%s", slash ? ":" : "",
		 slash ? (int)(slash - program) : 0, program, slash ? "/bin" : "");
	if (conf && snprintf(configuration, sizeof configuration, "SLURM_CONF=%s", conf) < (int)sizeof configuration)
		variables[4] = configuration;
	return variables;
}

/* Execute `dayfly job-shell slurm WORD=VALUE… -- COMMAND`. Returns only on failure. */
static const char *become(spank_t spank, const char *dayfly, const char *settings, const char *prolog)
{
	char **command, **environment;
	int length, at = 0;
	if (spank_get_item(spank, S_JOB_ARGV, &length, &command) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ENV, &environment) != ESPANK_SUCCESS)
		return "Slurm does not tell the task's command";
	int file = sealed(environment);
	bool said = file >= 0 && say_number("environment", file) && (!*settings || say("settings", settings)) &&
		    (!*prolog || say("task_prolog", prolog)) && say_allocation(spank);
	for (int which = 0; which < OPTIONS; which++)
		said = said && (!*chosen[which] || say(words[which], chosen[which]));
	if (!said)
		return "no memory for the task's environment";
	char **argv = calloc(length + word_count + 5, sizeof *argv);
	if (!argv)
		return "no memory for the task's command";
	argv[at++] = (char *)dayfly;
	argv[at++] = "job-shell";
	argv[at++] = "slurm";
	for (int i = 0; i < word_count; i++)
		argv[at++] = word[i];
	argv[at++] = "--";
	memcpy(argv + at, command, length * sizeof *argv);
	execve(dayfly, argv, clean());
	return strerror(errno);
}

int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
	uint32_t step = 0;
	const char *dayfly = argument(count, arguments, "dayfly", "/usr/bin/dayfly");
	spank_get_item(spank, S_JOB_STEPID, &step);
	if ((int)step == EXTERN_STEP || (int)step == INTERACTIVE_STEP)
		return ESPANK_SUCCESS;
	if (!concerned(spank, argument(count, arguments, "partitions", "")))
		return ESPANK_SUCCESS;
	const char *wrong = become(spank, dayfly, argument(count, arguments, "settings", ""),
				   argument(count, arguments, "task_prolog", ""));
	dprintf(STDERR_FILENO, "dayfly: %s: %s (plugstack.conf names the program, it has to be on every node)\n", dayfly, wrong);
	_exit(OWN_FAILURE);
}
