#!/bin/sh
# install PACKAGE SERVICE: installs a package of Debian, whose service is not started.
set -eu

package=$1
service=$2
policy=/usr/sbin/policy-rc.d
mark="written by cargo xtask servers, safe to remove"

# Maintainer scripts ask this program whether they may start a service. One that is there already
# is somebody's decision and stays, unless it is ours from a run that was killed.
may_start=
if [ ! -e "$policy" ] || grep -q "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
elif "$policy" "$service" start; [ $? -ne 101 ]; then
    may_start=yes
fi

install() {
    DEBIAN_FRONTEND=noninteractive timeout --kill-after 10 600 \
        apt-get install -y --no-install-recommends "$package"
}
# The lists may name versions that are gone.
install || { timeout --kill-after 10 120 apt-get update && install; } || exit 1

# Nobody asked for the service. One that cannot have been started is not stopped: to look for it,
# RabbitMQ's script would start an epmd.
[ -z "$may_start" ] || timeout --kill-after 10 60 service "$service" stop || true
