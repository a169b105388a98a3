#!/bin/bash -p
# Made by `dayfly batch setup htcondor`: HTCondor's USER_JOB_WRAPPER, which gets the job's program and its arguments.
# A job without a request for a machine costs a shell and no more; all else is the job shell's to decide.
always=ALWAYS
queue=$(command -p sed -n 's/^DayflyQueue *= *"\([^"]*\)"$/\1/Ip' -- "$_CONDOR_MACHINE_AD" 2>/dev/null | command -p head -n 1)
if command -p grep -qsiE '^VM(Image|Boot|Network|Share) *=' -- "$_CONDOR_JOB_AD" || [[ " $always " == *" $queue "* && -n $queue || $always == "*" ]]; then
	HAND_OVER \
		PROGRAM job-shell htcondor environment=3 settings=SETTINGS -- "$@"
fi
exec -- "$@"
