#!/bin/sh
# Apache Kafka's jars from Maven (tools/kafka/pom.xml) into .engines/kafka/libs: for the tests and for make kafka-real.
set -eu
. "$(dirname "$0")/lib.sh"

pom=$ROOT/tools/kafka/pom.xml
want=$(cksum <"$pom")
libs=$ENGINES_DIR/kafka/libs
current "$libs/.pom.sum" "$want" && exit 0
need java "java was not found: Apache Kafka needs Java 17 or newer (on Debian and Ubuntu: apt-get install openjdk-17-jre-headless)."
need mvn "mvn was not found: Apache Kafka's jars are fetched with Maven (on Debian and Ubuntu: apt-get install maven)."
exclusive "$ENGINES_DIR/kafka/.lock"
current "$libs/.pom.sum" "$want" && exit 0
say "fetching Apache Kafka into .engines/kafka/libs (44 MB) …"
new=$ENGINES_DIR/kafka/.incoming
rm -rf "$new"
retry mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$new" -DincludeScope=runtime ||
	die "Maven could not fetch Apache Kafka (its messages are above): check the network or Maven's settings.xml, then run this again."
printf '%s\n' "$want" >"$new/.pom.sum"
rm -rf "$libs"
mv "$new" "$libs"
