#!/bin/bash
# Made by `dayfly batch setup gridengine`: a server JSV, which reads a job's request for a machine at submission.
# It refuses what the node would refuse, so that the user is told at once, and passes the request on as variables of the job.
PATH=/bin:/usr/bin
. "INCLUDE"

always=ALWAYS
requests="image boot network share"

jsv_on_start() {
	return
}

# In one line, since a JSV's answer is one line.
refuse() {
	jsv_reject "dayfly: ${1//[[:cntrl:]]/ }"
}

# Move a request by -l vm_NAME from the hard requests to the job's environment.
hand_over() {
	local value
	value=$(jsv_sub_get_param l_hard "vm_$1")
	jsv_sub_del_param l_hard "vm_$1"
	jsv_add_env "DAYFLY_${1^^}" "$value"
}

# Whether all jobs of a queue have machines. For a job that names no queue, this is not known.
has_machines() {
	[ "$always" = "*" ] || [[ -n $1 && " $always " == *" $1 "* ]]
}

jsv_on_verify() {
	local request words=() queue memory maps slots said
	for request in $requests; do
		if [ "$(jsv_sub_is_param l_soft "vm_$request")" = true ]; then
			refuse "vm_$request must be a hard request: use it without -soft"
			return
		fi
		if [ "$(jsv_sub_is_param l_hard "vm_$request")" = true ]; then
			words+=("$request=$(jsv_sub_get_param l_hard "vm_$request")")
		fi
	done
	queue=$(jsv_get_param q_hard)
	queue=${queue%%@*}
	memory=$(jsv_sub_get_param l_hard m_mem_free)
	maps=$(jsv_sub_get_param l_hard h_vmem)
	slots=$(jsv_get_param pe_max)
	if [ ${#words[@]} -eq 0 ] && ! has_machines "$queue"; then
		jsv_accept "no machine is requested"
		return
	fi
	if ! said=$(PROGRAM batch check gridengine "${words[@]}" SETTINGS --queue "$queue" --memory "$memory" --address-space "$maps" --slots "${slots:-1}" 2>&1); then
		refuse "${said#dayfly: }"
		return
	fi
	[ -z "$memory" ] || jsv_add_env DAYFLY_MEMORY "$memory"
	for request in $requests; do
		[ "$(jsv_sub_is_param l_hard "vm_$request")" = true ] && hand_over "$request"
	done
	# Without this, a job that no queue can run would wait for ever. (`qsub -w e` itself checks before the JSV, and finds no vm_image.)
	jsv_set_param w e
	jsv_correct "the job runs in a machine"
}

jsv_main
