#!/bin/sh
# Leaves nothing of the cluster in RUN behind once the test process, which holds the other end of the input, has ended, in
# whatever way. NET is the control plane's network namespace: all that tests started is in it.
read -r line
for again in $(seq 100); do
  left=
  for link in /proc/[0-9]*/ns/net; do
    [ "$(readlink "$link" 2>/dev/null)" = "$NET" ] || continue
    pid=${link#/proc/}; left=yes; kill -9 "${pid%%/*}" 2>/dev/null
  done
  [ "$left" ] || break
  sleep 0.1
done
for again in $(seq 100); do
  find /sys/fs/cgroup/*/"$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null
  ls -d /sys/fs/cgroup/*/"$CGROUP" >/dev/null 2>&1 || break
  sleep 0.1
done
if [ "$line" = done ]; then exec rm -rf "$RUN"; fi
find "$RUN" -mindepth 1 -maxdepth 1 ! -name log ! -name 'node[0-9]*' -exec rm -rf {} +
find "$RUN" -mindepth 2 -maxdepth 2 -path '*/node*' ! -name log -exec rm -rf {} +
