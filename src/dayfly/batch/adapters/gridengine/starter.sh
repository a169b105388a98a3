#!/bin/bash -p
# Made by `dayfly batch setup gridengine`: the starter_method of queues whose jobs may run in machines.
# For a job without a request this costs only a shell; the job shell decides everything else.
always=ALWAYS
requests="$DAYFLY_IMAGE$DAYFLY_BOOT$DAYFLY_NETWORK$DAYFLY_SHARE"
if [ -n "$requests" ] || [[ " $always " == *" $QUEUE "* || $always == "*" ]]; then
	# The job's variables must not affect the job shell, as PYTHONHOME would.
	HAND_OVER \
		PROGRAM job-shell gridengine environment=3 "settings=SETTINGS" "image=$DAYFLY_IMAGE" "boot=$DAYFLY_BOOT" \
		"network=$DAYFLY_NETWORK" "share=$DAYFLY_SHARE" -- "$@"
fi
shell=${SGE_STARTER_SHELL_PATH:-/bin/sh}
login=
[ "$SGE_STARTER_USE_LOGIN_SHELL" = true ] && login=-l
command -p grep -qsx handle_as_binary=1 "$SGE_JOB_SPOOL_DIR/config" && exec -- "$@"
if [ "$SGE_STARTER_SHELL_START_MODE" = unix_behavior ]; then
	[ "$(command -p head -c 2 -- "$1" 2>/dev/null)" = "#!" ] && exec -- "$@"
fi
case ${shell##*/} in bash | dash | ksh | sh | zsh) exec "$shell" $login "$@" ;; esac
exec "$shell" "$@"
