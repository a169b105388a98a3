#!/bin/bash
# Made by `dayfly batch setup gridengine`: a queue's suspend_method, resume_method and terminate_method.
# Usage: dayfly-method suspend|resume|terminate PID
pid=$2
[[ $pid =~ ^[1-9][0-9]*$ ]] && [ "$pid" -gt 1 ] || exit 1
in_machine() { tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qx job-shell; }
if in_machine; then
	case $1 in
	suspend) kill -TSTP "$pid" ;;
	resume) kill -CONT "$pid" ;;
	terminate)
		kill -CONT "$pid"
		kill -TERM "$pid"
		timeout GRACE tail --pid="$pid" --sleep-interval=0.2 -f /dev/null || kill -KILL "$pid"
		;;
	esac
else
	case $1 in
	suspend) kill -STOP -- "-$pid" ;;
	resume) kill -CONT -- "-$pid" ;;
	terminate) kill -KILL -- "-$pid" ;;
	esac
fi
exit 0
