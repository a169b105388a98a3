#!/bin/bash
# Made by `dayfly batch setup gridengine`: a JSV of the server's, which reads a job's wish for a machine when it is submitted.
# What the node would refuse is refused here, so that the user hears of it at once; the wish goes on as variables of the job.
PATH=/bin:/usr/bin
. "INCLUDE"

always=ALWAYS
wishes="image boot network share"

jsv_on_start() {
	return
}

# In one line, which is what an answer of a JSV's has.
refuse() {
	jsv_reject "dayfly: ${1//[[:cntrl:]]/ }"
}

# Take what was asked for by -l vm_NAME out of the hard requests, and put it into the job's environment.
hand_over() {
	local value
	value=$(jsv_sub_get_param l_hard "vm_$1")
	jsv_sub_del_param l_hard "vm_$1"
	jsv_add_env "DAYFLY_${1^^}" "$value"
}

# Whether all jobs of a queue have machines. Which queue it will be is not known of a job that names none.
has_machines() {
	[ "$always" = "*" ] || [[ -n $1 && " $always " == *" $1 "* ]]
}

jsv_on_verify() {
	local wish words=() queue memory maps slots said
	for wish in $wishes; do
		if [ "$(jsv_sub_is_param l_soft "vm_$wish")" = true ]; then
			refuse "vm_$wish is asked for with -hard, which is what qsub does without -soft"
			return
		fi
		if [ "$(jsv_sub_is_param l_hard "vm_$wish")" = true ]; then
			words+=("$wish=$(jsv_sub_get_param l_hard "vm_$wish")")
		fi
	done
	queue=$(jsv_get_param q_hard)
	queue=${queue%%@*}
	memory=$(jsv_sub_get_param l_hard m_mem_free)
	maps=$(jsv_sub_get_param l_hard h_vmem)
	slots=$(jsv_get_param pe_max)
	if [ ${#words[@]} -eq 0 ] && ! has_machines "$queue"; then
		jsv_accept "no machine is asked for"
		return
	fi
	if ! said=$(PROGRAM batch check gridengine "${words[@]}" SETTINGS --queue "$queue" --memory "$memory" --address-space "$maps" --slots "${slots:-1}" 2>&1); then
		refuse "${said#dayfly: }"
		return
	fi
	[ -z "$memory" ] || jsv_add_env DAYFLY_MEMORY "$memory"
	for wish in $wishes; do
		[ "$(jsv_sub_is_param l_hard "vm_$wish")" = true ] && hand_over "$wish"
	done
	# What no queue has would wait for ever otherwise. (`qsub -w e` itself asks before we have our turn, and finds no vm_image.)
	jsv_set_param w e
	jsv_correct "the job runs in a machine"
}

jsv_main
