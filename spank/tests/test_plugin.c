/* The plugin without Slurm, under sanitizers. */
#include "slurm.h"

static char *large(size_t length, char first)
{
	char *text = malloc(length + 1);
	memset(text, 'x', length);
	text[0] = first;
	text[length] = 0;
	return text;
}

static void test_values(void)
{
	static const struct {
		int which;
		const char *value;
		bool right;
	} cases[] = {
		{IMAGE, "debian:12", true},	   {IMAGE, "user/a+b.c_d-e@sha256:00", true}, {IMAGE, "none", true},
		{IMAGE, "", false},		   {IMAGE, NULL, false},		      {IMAGE, "a b", false},
		{IMAGE, "a;b", false},		   {IMAGE, "a\nb", false},		      {IMAGE, "\xc3\xb6", false},
		{BOOT, "agent", true},		   {BOOT, "system", true},		      {BOOT, "agents", false},
		{NETWORK, "nat", true},		   {NETWORK, "none", true},		      {NETWORK, "bridge", false},
		{SHARE, "/a,/b:ro", true},	   {SHARE, "/with space", true},	      {SHARE, "relative", false},
		{SHARE, "/a\n/b", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int before = slurm.complaints;
		*chosen[cases[i].which] = 0;
		assert((take(cases[i].which, cases[i].value, 0) == ESPANK_SUCCESS) == cases[i].right);
		assert(cases[i].right ? strcmp(chosen[cases[i].which], cases[i].value) == 0 : slurm.complaints == before + 1);
	}
	char *fits = large(VALUE_MOST - 1, '/'), *not = large(VALUE_MOST, '/');
	assert(take(SHARE, fits, 1) == ESPANK_SUCCESS && take(SHARE, not, 1) == ESPANK_BAD_ARG);
	assert(strcmp(chosen[SHARE], fits) == 0);
	free(fits), free(not);
	memset(chosen, 0, sizeof chosen);
}

static void test_lists(void)
{
	assert(listed("*", "any") && listed("a", "a") && listed("a:b", "b") && listed("b:a:c", "a") && listed("ab:a", "a"));
	assert(!listed("", "a") && !listed("a", "") && !listed("ab", "a") && !listed("a", "ab") && !listed("x:ab:y", "b"));
	assert(!listed(":", "a") && !listed("::", "a") && listed("::a", "a") && listed("a:", "a"));
}

static void test_options(void)
{
	const spank_context_t contexts[] = {S_CTX_LOCAL, S_CTX_ALLOCATOR, S_CTX_REMOTE, S_CTX_SLURMD, S_CTX_JOB_SCRIPT};
	for (int i = 0; i < 5; i++) {
		slurm.context = contexts[i], slurm.registered = 0;
		assert(slurm_spank_init(NULL, 0, NULL) == ESPANK_SUCCESS && slurm.registered == (i < 3 ? OPTIONS : 0));
	}
	slurm.context = S_CTX_LOCAL, slurm.registered = 0, slurm.refused = 3;
	assert(slurm_spank_init(NULL, 0, NULL) == ESPANK_ERROR);
	slurm.refused = 0;
	assert(take(IMAGE, "debian:12", 0) == ESPANK_SUCCESS && slurm_spank_init_post_opt(NULL, 0, NULL) == ESPANK_SUCCESS);
	assert(strcmp(done.sent[IMAGE], "debian:12") == 0 && !*done.sent[BOOT]);
	slurm.context = S_CTX_REMOTE;
	memset(chosen, 0, sizeof chosen);
}

/* What becomes of a task: 0: it stays Slurm's; 1: the job shell's; 2: it is ended. */
static int task(char **arguments, int count)
{
	memset(chosen, 0, sizeof chosen);
	memset(&done, 0, sizeof done);
	word_count = 0;
	int became = setjmp(end);
	return became ? became : slurm_spank_task_init(NULL, count, arguments) == ESPANK_SUCCESS ? 0 : -1;
}

static void test_tasks(void)
{
	char *arguments[] = {"dayfly=/opt/dayfly", "settings=/s.toml", "partitions=always:other", "task_prolog=/p"};
	char *command[] = {"./job", "a b", "", "--image=x"}, *environment[] = {"A=1", "ODD=\x01\n=", "B=", NULL};
	slurm.context = S_CTX_REMOTE, slurm.argv = command, slurm.argc = 4, slurm.environment = environment;
	slurm.partition = "request", slurm.memory = 600, slurm.cpus = 2, slurm.tasks = 1;
	assert(task(arguments, 3) == 0);

	slurm.partition = "always";
	assert(task(arguments, 4) == 1);
	const char *wanted[] = {"/opt/dayfly", "job-shell", "slurm", NULL, "settings=/s.toml", "task_prolog=/p", "memory_mib=600", "cpus_per_task=2",
				"tasks_here=1", "--", "./job", "a b", "", "--image=x"};
	for (int i = 0; i < 14; i++)
		assert(i == 3 || strcmp(done.argv[i], wanted[i]) == 0);
	assert(!done.argv[14]);
	assert(done.environment_length == 15 && memcmp(done.environment, "A=1\0ODD=\x01\n=\0B=", 15) == 0);

	slurm.partition = NULL, slurm.image = "debian:12", slurm.memory = 0;
	assert(task(arguments, 3) == 1 && strcmp(done.argv[7], "image=debian:12") == 0);
	slurm.step = (uint32_t)EXTERN_STEP;
	assert(task(arguments, 3) == 0);
	slurm.step = (uint32_t)INTERACTIVE_STEP;
	assert(task(arguments, 3) == 0);
	slurm.step = 0;

	environment[0] = NULL;
	assert(task(arguments, 0) == 1 && done.environment_length == 0 && strcmp(done.argv[0], "/usr/bin/dayfly") == 0);
	char *missing[] = {"dayfly=/none/dayfly"};
	assert(task(missing, 1) == 2 && done.status == OWN_FAILURE);

	slurm.image = large(VALUE_MOST, 'x'); /* which no option of ours could have sent */
	assert(task(arguments, 3) == 0);
}

int main(void)
{
	setenv("SLURM_CONF", "/of/slurmd", 1);
	test_values();
	test_lists();
	test_options();
	test_tasks();
	puts("the plugin: ok");
	return 0;
}
