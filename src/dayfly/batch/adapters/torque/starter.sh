#!/bin/bash -p
# Made by `dayfly batch setup torque`: pbs_mom's job starter, which gets the job's shell and its arguments.
# A job without a request for a machine costs a shell and no more; all else is the job shell's to decide.
always=ALWAYS
if [ -n "$DAYFLY_IMAGE$DAYFLY_BOOT$DAYFLY_NETWORK$DAYFLY_SHARE" ] || [[ " $always " == *" $PBS_QUEUE "* || $always == "*" ]]; then
	HAND_OVER \
		PROGRAM job-shell torque environment=3 settings=SETTINGS "image=$DAYFLY_IMAGE" "boot=$DAYFLY_BOOT" \
		"network=$DAYFLY_NETWORK" "share=$DAYFLY_SHARE" -- "$@"
fi
exec -- "$@"
