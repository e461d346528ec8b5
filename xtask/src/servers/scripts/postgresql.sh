#!/bin/sh
# inside DIR PORT: PostgreSQL, in namespaces that `run` made for it. This shell is their first
# process: when it ends, so does everything in them.
set -eu

dir=$1
port=$2
programs=/usr/lib/postgresql/15/bin

as_postgres="setpriv --reuid postgres --regid postgres --init-groups
    env -i PATH=$programs:/usr/bin:/bin HOME=/srv LANG=C.UTF-8"

# It is this shell that is signalled, not the server's own first process: that one would wait for
# its clients to leave when told SIGTERM, and its children would outlive it for a moment when killed.
server=
stopping=
stop() {
    stopping=yes
    [ -z "$server" ] || kill -INT "$server"
}
trap stop TERM
# By /proc, which is still the one of outside, this is the id there.
read -r pid _ </proc/self/stat
echo "$pid" >"$dir/pid.new"
mv "$dir/pid.new" "$dir/pid"
mount -t proc proc /proc
# Shared memory of a killed server is gone with this.
mount -t tmpfs tmpfs /dev/shm

# PostgreSQL refuses to run as root, and its user may not be allowed to pass through DIR's parents:
# hence /srv. A data directory that was not finished has another name.
if [ ! -d "$dir/data" ]; then
    rm -rf "$dir/data.new"
    mkdir "$dir/data.new"
    chown postgres: "$dir/data.new"
    mount --bind "$dir/data.new" /srv
    $as_postgres initdb --pgdata /srv --username postgres --auth trust --encoding UTF8 \
        --locale C.UTF-8 --no-sync
    mv "$dir/data.new" "$dir/data"
else
    mount --bind "$dir/data" /srv
fi
[ -z "$stopping" ] || exit 0

$as_postgres postgres -D /srv -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c shared_buffers=32MB &
server=$!
[ -z "$stopping" ] || stop
# A signal ends `wait`, but not the server.
while :; do
    status=0
    wait "$server" || status=$?
    kill -0 "$server" 2>/dev/null || break
done
exit "$status"
