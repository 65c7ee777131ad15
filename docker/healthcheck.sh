#!/usr/bin/env bash
# Healthy: nodes of edge_vision run, and have used processor time since the last check (each reports once a second, so one that
# stands still hangs). Reads /proc alone: joining the ROS graph would take seconds of a Raspberry Pi at every check.
set -u

state=${EDGE_VISION_HEALTH_FILE:-/tmp/edge_vision_health}
nodes=${EDGE_VISION_PREFIX:-/opt/edge_vision}/lib/edge_vision/
count=0 ticks=0
for folder in /proc/[0-9]*; do
  command=$(tr '\0' ' ' 2>/dev/null < "$folder/cmdline") || continue
  case $command in *"$nodes"*) ;; *) continue ;; esac
  read -r line 2>/dev/null < "$folder/stat" || continue
  # After the name in brackets: the state, and as 12th and 13th ticks in user and kernel mode (proc(5)).
  read -r -a fields <<< "${line##*) }"
  [ "${fields[0]}" != Z ] || continue
  count=$((count + 1)) ticks=$((ticks + fields[11] + fields[12]))
done
if [ "$count" -eq 0 ]; then rm -f "$state"; echo "no node of edge_vision runs"; exit 1; fi
before=$(cat "$state" 2>/dev/null)
echo "$ticks" > "$state"
if [ "$ticks" = "$before" ]; then echo "$count node process(es), which have done nothing since the last check"; exit 1; fi
echo "$count node process(es), $ticks ticks"
