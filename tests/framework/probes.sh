# What a job can see of its surroundings. Run natively and in a machine: each section is the same, or is in the table of
# differences (tests/machine/test_as_natively.py). $$ is the job itself: what it is given is read of it, before a child changes it.
# An emulated machine takes a sixth of a second to start a program: one stat does for many files.
section() { printf '\n== %s\n' "$1"; }
section arguments; tr '\0' '\n' </proc/$$/cmdline
section environment; tr '\0' '\n' </proc/$$/environ | sort
section signals; grep -E '^Sig(Blk|Ign):' /proc/self/status
section ids; grep -E '^(Uid|Gid|Groups|NoNewPrivs):' /proc/$$/status; id
section umask; umask
section limits; sed 's/  */ /g' /proc/$$/limits
section descriptors; ls /proc/$$/fd
section directory; pwd; pwd -P; printf '%s\n' "$PWD"; ls -d "$PWD"
section locale; locale 2>&1; date -d @0 +%c; printf 'b\nA\na\nB\n' | sort | tr '\n' ' '
section terminal; tty </dev/tty 2>&1; [ -t 0 ]; echo $?; [ -t 1 ]; echo $?; [ -t 2 ]; echo $?
section nice; nice
section scheduling; awk '{ print $41 }' /proc/$$/stat; cat /proc/$$/oom_score_adj /proc/$$/personality
section devices
set --
for name in null zero full random urandom tty ptmx console fuse net/tun loop-control fd stdin stdout stderr shm pts; do set -- "$@" /dev/$name; done
stat -c '%n %F %a %t:%T' "$@"
section folders; stat -c '%n %a %U %G' / /tmp /var/tmp /dev/shm /run /run/lock /root /home /proc /sys
section system; uname -s -m -o; getconf PAGESIZE CLK_TCK
section stdin; (cat; echo status $?) 2>&1
