# Kafka: one node, broker and controller in one process. The lines of DIR/server.properties, if it is
# there, come after the ones below, and the later wins.

# Two listeners may have one port only if the address of one is of IPv6, so the controller's is
# written as one. To Java it is 127.0.0.2, even on a machine without IPv6.
#
# A killed node is let in again once its session is over: the shorter, the sooner. Internal topics
# have few partitions as each is a directory to be made. A member of a share group gets its first
# messages with its second heartbeat.
configure() {
    cat <<END
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://[::ffff:127.0.0.2]:$port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.2:$port
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=250
log.dirs=at/data
log.cleaner.dedupe.buffer.size=8388608
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
END
    # Older ones have no share groups.
    if ls libs/kafka-share-coordinator-*.jar >/dev/null 2>&1; then
        cat <<END
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.share.min.heartbeat.interval.ms=500
group.share.heartbeat.interval.ms=500
END
    fi
    if [ -f at/server.properties ]; then
        cat at/server.properties
    fi
}

# What it writes is the same for all nodes, but for their ids, and those of their directories, which
# they choose themselves where none is. A data directory that was not finished has another name.
format() {
    rm -rf at/data.new
    if [ -d kept/formatted ]; then
        cp -r kept/formatted at/data.new
    else
        sed 's,^log\.dirs=.*,log.dirs=at/data.new,' at/kafka.properties >at/format.properties
        (java -cp 'libs/*' kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qk \
            -c at/format.properties)
    fi
    [ ! -d at/keep ] || cp -r at/data.new at/keep/formatted
    id=$(sed -n 's/^node\.id *= *//p' at/kafka.properties | tail -n 1)
    sed -i "/^directory\.id=/d; s/^node\.id=.*/node.id=$id/" at/data.new/meta.properties
    mv at/data.new at/data
}

kafka() {
    configure >at/kafka.properties
    [ -d at/data ] || format
    # It would say all its settings, three times.
    java $archive $simple_log \
        -Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn \
        -cp 'libs/*' kafka.Kafka at/kafka.properties
}

serve kafka
