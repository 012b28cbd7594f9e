#!/usr/bin/env bash
# Apache Kafka on loopback, with its own measuring tools: one broker (KRaft), nothing replicated.
#
#   KAFKA_HOME=/path/to/kafka_2.13-4.x benches/peers/kafka.sh [DIR]
#
# DIR is where its log lies (default: a temporary directory here); it is removed in the end.
# What is missing is said, and nothing is measured then. RECORDS, DURABLE_RECORDS and ROUNDS can be set.

set -euo pipefail

skip() {
    echo "SKIPPED Apache Kafka: $1"
    exit 0
}

command -v java >/dev/null || skip "no java on the PATH"
[[ -n "${KAFKA_HOME:-}" ]] || skip "KAFKA_HOME isn't set"
for tool in kafka-storage kafka-server-start kafka-topics kafka-producer-perf-test kafka-consumer-perf-test; do
    [[ -x "$KAFKA_HOME/bin/$tool.sh" ]] || skip "no $KAFKA_HOME/bin/$tool.sh"
done
compgen -G "$KAFKA_HOME/libs/kafka_*.jar" >/dev/null || skip "no jars in $KAFKA_HOME/libs"

bin="$KAFKA_HOME/bin"
rounds="${ROUNDS:-3}"
records="${RECORDS:-2000000}"
durable_records="${DURABLE_RECORDS:-5000}"
dir="$(mktemp -d "${1:-.}/kafka-peer-XXXXXX")"
dir="$(cd "$dir" && pwd)"
port=19092
controller_port=19093
server=127.0.0.1:$port
broker=

clean_up() {
    if [[ -n "$broker" ]]; then
        kill "$broker" 2>/dev/null || true
        wait "$broker" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap clean_up EXIT

cat >"$dir/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://$server,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://$server
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
END

export LOG_DIR="$dir/logs"
export KAFKA_HEAP_OPTS="${KAFKA_HEAP_OPTS:--Xms1g -Xmx1g}"
"$bin/kafka-storage.sh" format -t "$("$bin/kafka-storage.sh" random-uuid)" -c "$dir/server.properties" >"$dir/format.out" 2>&1 || {
    cat "$dir/format.out" >&2
    exit 1
}
"$bin/kafka-server-start.sh" "$dir/server.properties" >"$dir/broker.out" 2>&1 &
broker=$!
for _ in $(seq 60); do
    "$bin/kafka-topics.sh" --bootstrap-server "$server" --list >/dev/null 2>&1 && break
    kill -0 "$broker" 2>/dev/null || {
        tail -20 "$dir/broker.out" >&2
        exit 1
    }
    sleep 1
done

# topic NAME PARTITIONS [CONFIG]
topic() {
    "$bin/kafka-topics.sh" --bootstrap-server "$server" --create --topic "$1" --partitions "$2" \
        --replication-factor 1 ${3:+--config "$3"} >/dev/null
}

# produce NAME RECORDS BYTES PROPERTY... : the last line of the tool
produce() {
    local name=$1 count=$2 bytes=$3
    shift 3
    "$bin/kafka-producer-perf-test.sh" --topic "$name" --num-records "$count" --record-size "$bytes" --throughput -1 \
        --producer-props bootstrap.servers="$server" compression.type=none "$@" 2>/dev/null | tail -1
}

echo "Apache Kafka, $(basename "$(compgen -G "$KAFKA_HOME/libs/kafka_*.jar" | grep -v -e sources -e javadoc -e test | head -1)"); $(java -version 2>&1 | head -1)"
echo "acks=1 is *written* (the broker syncs nothing by itself); flush.messages=1 makes it *synced*."
fast=(acks=1 batch.size=262144 linger.ms=5 buffer.memory=67108864)
for round in $(seq "$rounds"); do
    echo "round $round"
    for bytes in 100 1024; do
        name="append-$bytes-$round"
        count=$((bytes == 100 ? records : records / 8))
        topic "$name" 1
        echo "  append $bytes B, written: $(produce "$name" "$count" "$bytes" "${fast[@]}")"
        echo "  replay $bytes B: $("$bin/kafka-consumer-perf-test.sh" --bootstrap-server "$server" --topic "$name" \
            --messages "$count" 2>/dev/null | tail -1) (its columns: start, end, MB, MB/s, records, records/s, ...)"
    done
    for partitions in 8 600; do
        topic "partitions-$partitions-$round" "$partitions"
        echo "  $partitions partitions, 100 B, written: $(produce "partitions-$partitions-$round" "$records" 100 "${fast[@]}")"
        "$bin/kafka-topics.sh" --bootstrap-server "$server" --delete --topic "partitions-$partitions-$round" >/dev/null
    done
    topic "durable-$round" 1 flush.messages=1
    echo "  durable, one in flight: $(produce "durable-$round" "$durable_records" 100 \
        acks=all linger.ms=0 batch.size=0 max.in.flight.requests.per.connection=1)"
done
