#!/bin/bash
# The hook that Spark sets before an executor's end: the JVM moves its blocks away and ends, and so does this.
pid=$(pgrep -o java) || exit 0
kill -s PWR "$pid"
tail --pid="$pid" -f /dev/null
