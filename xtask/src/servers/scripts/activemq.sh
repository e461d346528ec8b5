# ActiveMQ Classic: AMQP, and STOMP at the same port of 127.0.0.2. DIR/amqp.options, if it is there, is put
# behind the address of AMQP, such as `transport.transformer=jms`.

options=
[ ! -f at/amqp.options ] || options="?$(cat at/amqp.options)"

# STOMP comes first, so that it is there once AMQP is.
broker() {
    java $archive $simple_log -cp 'libs/*' \
        org.apache.activemq.console.command.ShellCommand start \
        "broker:(stomp://127.0.0.2:$port,amqp://127.0.0.1:$port$options)/broker?persistent=true&useJmx=false&dataDirectory=at/data&schedulerSupport=true"
}

serve broker
