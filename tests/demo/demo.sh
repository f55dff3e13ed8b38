#!/usr/bin/env bash
# The demo: a gateway with its defaults, stock Beeline, and a small ETL in SQL on a real Spark. It exits 0 only when the
# rows are right, and leaves no process behind.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { echo "demo: $*" >&2; exit 1; }

work=$(mktemp -d)
gateway=
finish() {
  if [ -n "$gateway" ] && kill -TERM "$gateway" 2>/dev/null; then wait "$gateway" || true; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null || die "Java is missing: install a JDK 17 or newer (Debian: apt-get install openjdk-17-jdk-headless)"
spark=${SPARK_HOME:-}
if [ -z "$spark" ]; then
  say "Looking for Spark (fetched once, by pip)"
  spark=$(bin/sluice spark install)
fi

say "Starting the gateway"
export SLUICE_DATA_DIR=$work/data SLUICE_LISTEN_THRIFT=127.0.0.1:0 SLUICE_LISTEN_HTTP=127.0.0.1:0
bin/sluice gateway >"$work/gateway.log" 2>&1 & gateway=$!
for _ in $(seq 300); do
  [ ! -s "$work/data/endpoints.json" ] || break
  kill -0 "$gateway" 2>/dev/null || { cat "$work/gateway.log" >&2; die "the gateway did not start"; }
  sleep 0.1
done
address=$(sed -n 's/.*"thrift": *"\([^"]*\)".*/\1/p' "$work/data/endpoints.json")
[ -n "$address" ] || { cat "$work/gateway.log" >&2; die "the gateway does not say where it listens"; }

beeline() { "$java" -cp "$spark/jars/*" org.apache.hive.beeline.BeeLine -u "jdbc:hive2://$address/default" -n demo "$@"; }

say "A small ETL over jdbc:hive2://$address with stock Beeline (the first statement starts an engine)"
beeline --showHeader=true --outputformat=table -f tests/demo/etl.sql || die "Beeline failed; the gateway's log: $(tail -n 20 "$work/gateway.log")"

say "Checking the rows"
rows=$(beeline --silent=true --showHeader=false --outputformat=csv2 -e 'SELECT * FROM demo.revenue ORDER BY region' 2>"$work/beeline.err") ||
  { cat "$work/beeline.err" >&2; die "Beeline failed"; }
rows=$(sed 's/^0: jdbc:[^>]*> //' <<<"$rows" | grep .) # Beeline prints its prompt even when it is told to be silent
wanted=$(cat tests/demo/expected.csv)
[ "$rows" = "$wanted" ] || { diff <(echo "$wanted") <(echo "$rows") >&2 || true; die "the rows are not right"; }

say "Stopping"
kill -TERM "$gateway"; wait "$gateway" || { cat "$work/gateway.log" >&2; die "the gateway did not stop cleanly"; }
gateway=
left=$(pgrep -f -- "$work/data" || true)
[ -z "$left" ] || die "processes were left behind: $left"

cat <<END

The rows are right. Go on:
  make run                                                      serves on 127.0.0.1:10009 until Ctrl-C
  $java -cp '$spark/jars/*' org.apache.hive.beeline.BeeLine -u jdbc:hive2://127.0.0.1:10009/default -n \$USER
  README.md                                                     Python, DBeaver and the rest
END
