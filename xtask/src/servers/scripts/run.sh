#!/bin/sh
# run DIR PORT: one server in the foreground, on 127.0.0.1:PORT, with all it keeps in DIR.
#
#   DIR/pid         the process to signal, for as long as the server runs: SIGTERM stops it
#                   cleanly, SIGKILL kills it and all that belongs to it
#   DIR/output.log  what it printed
#
# SIGTERM to this script is passed on; SIGKILL to it kills the server. Started again with the
# same DIR it goes on with the same data. Written by `cargo xtask servers`.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 DIR PORT" >&2
    exit 64
fi
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$1"
dir=$(readlink -f "$1")
port=$2

# Whatever is started below inherits the lock, so it is free once the last process of an earlier
# server is gone, and not before.
exec 9>>"$dir/lock"
if ! flock --wait 60 9; then
    echo "$0: a server still runs in $dir; stop it, or name another directory" >&2
    exit 75
fi
rm -f "$dir/pid"

# Erlang loses a signal that comes while it starts, hence more than one.
insist() {
    while kill -TERM "$1"; do
        setpriv --pdeathsig KILL sleep 3
    done
}

child=
insisting=
stop() {
    if [ -n "$insisting" ]; then
        return
    elif [ -s "$dir/pid" ]; then
        insist "$(cat "$dir/pid")" >/dev/null 2>&1 </dev/null 9>&- &
        insisting=$!
    elif [ -n "$child" ]; then
        # Not even begun: there is nothing to be saved.
        kill -KILL "$child"
    else
        exit 143
    fi
}
trap stop TERM INT HUP

# Namespaces of its own: what is mounted is seen by this server alone, and when its first process
# ends, the kernel kills all others. Without root, one pretends to be root.
pretend=
[ "$(id -u)" -eq 0 ] || pretend=--map-root-user
setpriv --pdeathsig KILL \
    setsid unshare $pretend --mount --pid --ipc --fork --kill-child \
    "$here/inside" "$dir" "$port" >>"$dir/output.log" 2>&1 </dev/null &
child=$!

# A signal ends `wait`, but not the server.
while :; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
done
[ -z "$insisting" ] || kill -KILL "$insisting" 2>/dev/null || true
rm -f "$dir/pid"
exit "$status"
