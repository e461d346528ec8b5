# Artemis: AMQP and STOMP at the one port, for anybody, and for the user admin with the password admin.

# Its own script would load the classes in a way that no archive of them helps.
artemis() {
    java $archive --add-opens java.base/jdk.internal.misc=ALL-UNNAMED \
        -Djava.security.auth.login.config=at/broker/etc/login.config \
        -Dlog4j2.configurationFile=at/broker/etc/log4j2.properties -Dlog4j2.disableJmx=true \
        -Dartemis.home="$here/libs" -cp 'libs/lib/*' "$@"
}

# The instance knows where it was made, but is not asked. One that was not finished has another name.
create() {
    rm -rf at/broker.new
    if [ -d kept/broker ]; then
        cp -r kept/broker at/broker.new
    else
        (archive=
        artemis org.apache.activemq.artemis.cli.Artemis create at/broker.new \
            --user admin --password admin --allow-anonymous --no-autotune --no-web --nio \
            --host 127.0.0.1 --default-port "$port" --no-amqp-acceptor --no-stomp-acceptor \
            --no-mqtt-acceptor --no-hornetq-acceptor)
        sed -i 's,configuration="file:[^"]*",configuration="${artemis.URI.instance}/etc/broker.xml",' \
            at/broker.new/etc/bootstrap.xml
        # By itself it takes nothing more once the disk is 90 % full.
        sed -i 's,<max-disk-usage>[0-9]*<,<max-disk-usage>100<,; s,protocols=[A-Z\,]*,protocols=AMQP\,STOMP,' \
            at/broker.new/etc/broker.xml
    fi
    [ ! -d at/keep ] || cp -r at/broker.new at/keep/broker
    mv at/broker.new at/broker
}

broker() {
    [ -d at/broker ] || create
    sed -i "s,>tcp://127\.0\.0\.1:[0-9]*?,>tcp://127.0.0.1:$port?," at/broker/etc/broker.xml
    artemis -Dartemis.instance="$here/at/broker" -Dartemis.instance.etc="$here/at/broker/etc" \
        org.apache.activemq.artemis.cli.Artemis run
}

serve broker
