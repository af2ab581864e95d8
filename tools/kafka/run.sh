#!/bin/sh
# A real Apache Kafka on this machine, in the foreground: KRaft, one node, data under .engines/kafka/data.
#
#   tools/kafka/run.sh [--fresh] [--port N] [--data DIR]   run it (--fresh: empty the data first)
#   tools/kafka/run.sh --install                           only fetch the jars
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
libs=$root/.engines/kafka/libs
data=$root/.engines/kafka/data
port=29092
fresh=no
install_only=no
while [ $# -gt 0 ]; do
  case $1 in
    --fresh) fresh=yes ;;
    --install) install_only=yes ;;
    --port) port=$2; shift ;;
    --data) data=$2; shift ;;
    *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
  esac
  shift
done

stamp=$libs/.pom.sum
sum=$(cksum < "$root/tools/kafka/pom.xml")
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$sum" ]; then
  command -v mvn > /dev/null || { echo "Maven is missing; install it (Debian: apt-get install maven) to fetch the jars of Kafka" >&2; exit 1; }
  rm -rf "$libs"
  mvn -q -B -f "$root/tools/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" -DincludeScope=runtime
  echo "$sum" > "$stamp"
fi
[ $install_only = yes ] && exit 0
command -v java > /dev/null || { echo "Java is missing; install version 17 or newer (Debian: apt-get install openjdk-17-jre-headless)" >&2; exit 1; }

[ $fresh = yes ] && rm -rf "$data"
mkdir -p "$data"
controller=$((port + 1))
cat > "$data/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/logs
num.partitions=4
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
EOF
kafka() {
  class=$1
  shift
  exec java -Xmx512m -XX:TieredStopAtLevel=1 -cp "$libs/*" -Dlog4j2.configurationFile="$root/tools/kafka/log4j2.properties" "$class" "$@"
}
if [ ! -f "$data/logs/meta.properties" ]; then
  (kafka kafka.tools.StorageTool format -t bWVrb25nLWthZmthLXJlYQ -c "$data/server.properties" > /dev/null)
fi
echo "Apache Kafka listens on 127.0.0.1:$port; Ctrl-C stops it"
kafka kafka.Kafka "$data/server.properties"
