#!/bin/sh
# inside DIR PORT: a server that Java runs, in namespaces that `run` made for it. This shell is their
# first process: when it ends, so does everything in them. What follows this part is the server's own.
# The server logs to DIR/log/server.log.
#
# With a directory DIR/keep, the server is run for what saves time at other starts: that is put
# there, and is looked for in `kept` beside this script.
set -eu

here=$(dirname "$(readlink -f "$0")")
dir=$1
port=$2

# The same paths for every server, and relative ones: lists of directories and of jars are set apart
# by characters that names may have.
cd "$here"
mkdir -p at
mount --bind "$dir" at
mkdir -p at/log at/tmp

# Loaded classes as an archive are half the time of a start. Java ignores one that does not fit.
archive=
if [ -d at/keep ]; then
    archive=-XX:ArchiveClassesAtExit=at/keep/classes.jsa
elif [ -f kept/classes.jsa ]; then
    archive=-XX:SharedArchiveFile=kept/classes.jsa
fi

# With what starts quickly and takes little memory. Java's files of performance data are outside of
# the namespaces, where servers with the same id would share them.
java() {
    exec env -i PATH="$PATH" LANG=C.UTF-8 java -Xms64m -Xmx256m \
        -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
        -XX:ErrorFile=at/log/crash.log -Djava.io.tmpdir=at/tmp "$@"
}

# slf4j-simple's settings.
simple_log="-Dorg.slf4j.simpleLogger.showDateTime=true
    -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"

# Runs a function that ends as the server.
serve() {
    (
        # By /proc, which is still the one of outside, this is the id there.
        read -r pid _ </proc/self/stat
        echo "$pid" >"$dir/pid.new"
        mv "$dir/pid.new" "$dir/pid"
        mount -t proc proc /proc
        "$@"
    ) >>at/log/server.log 2>&1 &
    status=0
    wait "$!" || status=$?
    # Other users may run what root has prepared.
    [ ! -d at/keep ] || chmod -R a+rX at/keep
    # If nobody ended it, what it said last is of interest.
    case $status in
    0 | 137 | 143) ;;
    *) tail -n 30 at/log/server.log ;;
    esac
    exit "$status"
}

