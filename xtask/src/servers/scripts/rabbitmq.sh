#!/bin/sh
# inside DIR PORT: RabbitMQ, in namespaces that `run` made for it. This shell is their first
# process: when it ends, so does everything in them. DIR/rabbitmq.conf and DIR/enabled_plugins are
# its configuration, if they are there; it sees DIR as /srv. With an address in DIR/address it
# listens there, for clients and for the other members of a cluster, as rabbit@ADDRESS: it has a
# network namespace to itself then.
set -eu

here=$(dirname "$(readlink -f "$0")")
dir=$1
port=$2
# RabbitMQ from another release of Debian has a root of its own.
root=$here/root
[ -d "$root" ] || root=/

# The same path for every server: DIR may be anywhere, with any name.
mount --bind "$dir" "$root/srv"

address=127.0.0.1 name=rabbit@localhost is_member=false
if [ -f "$dir/address" ]; then
    read -r address <"$dir/address"
    name=rabbit@$address is_member=true
fi

# An epmd for this server alone, and a port for Erlang's distribution. The kernel chooses both, and
# nobody can take them in between: epmd is handed a socket that listens already, and keeps open a
# second one that holds the other port. That one does not listen, and as it has SO_REUSEADDR, the
# Erlang machine may. Members of a cluster look for each other's epmd on the port of their own, and
# have all ports to themselves.
ports=$(chroot "$root" perl -MSocket -e '
    $^F = 4;    # leaves 3 and 4 open for epmd, which expects the socket to listen on in 3
    $is_member = shift eq "true";
    for $s ($epmd, $distribution) {
        $place = $is_member ? sockaddr_in(4369 + $n++, INADDR_ANY) : sockaddr_in(0, INADDR_LOOPBACK);
        socket($s, PF_INET, SOCK_STREAM, 0) && setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1)
            && bind($s, $place) or die "no free port: $!";
        push @ports, (sockaddr_in(getsockname($s)))[0];
    }
    listen($epmd, 64) && fileno($epmd) == 3 or die "no socket for epmd: $!";
    if (fork) { print "@ports"; exit }
    open STDOUT, ">&", STDERR;
    @ENV{qw(LISTEN_FDS LISTEN_PID ERL_EPMD_PORT)} = (1, $$, $ports[0]);
    exec qw(epmd -systemd);
' "$is_member")

# RUNNING_UNDER_SYSTEMD has RabbitMQ's script become the Erlang machine instead of waiting for it,
# as it does in containers; so the process below remains the same one to the end.
(
    # By /proc, which is still the one of outside, this is the id there.
    read -r pid _ </proc/self/stat
    echo "$pid" >"$dir/pid.new"
    mv "$dir/pid.new" "$dir/pid"
    mount -t proc proc "$root/proc"
    exec chroot "$root" env -i \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/srv LANG=C.UTF-8 \
        RUNNING_UNDER_SYSTEMD=true \
        ERL_EPMD_PORT="${ports% *}" ERL_EPMD_ADDRESS="$address" \
        ERL_CRASH_DUMP=/srv/erl_crash.dump \
        RABBITMQ_NODENAME="$name" RABBITMQ_USE_LONGNAME="$is_member" \
        RABBITMQ_NODE_IP_ADDRESS="$address" RABBITMQ_NODE_PORT="$port" \
        RABBITMQ_DIST_PORT="${ports#* }" \
        RABBITMQ_MNESIA_BASE=/srv/data RABBITMQ_LOG_BASE=/srv/log \
        RABBITMQ_CONF_ENV_FILE=/srv/none RABBITMQ_CONFIG_FILE=/srv/rabbitmq \
        RABBITMQ_ADVANCED_CONFIG_FILE=/srv/none \
        RABBITMQ_ENABLED_PLUGINS_FILE=/srv/enabled_plugins \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="\
            -kernel inet_dist_use_interface {$(echo "$address" | tr . ,)} \
            +S 1:1 +SDcpu 1:1 +SDio 1" \
        /usr/lib/rabbitmq/bin/rabbitmq-server
) &
wait "$!"
