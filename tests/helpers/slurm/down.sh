#!/usr/bin/env bash
# Stops what up.sh started, by its process numbers, and puts SLURM's settings back. Usage: down.sh STATE_FOLDER
state=${1:?the folder given to up.sh}
scancel --user "$(id -un)" 2>/dev/null
sleep 1
for file in "$state"/node.pid "$state"/controller.pid; do
  [ -s "$file" ] || continue
  process=$(cat "$file")
  kill "$process" 2>/dev/null
  for _ in $(seq 50); do
    # gone, or only waiting for its parent to notice
    grep -qs "^State:[[:space:]]*[^Z]" "/proc/$process/status" || break
    sleep 0.2
  done
done
[ -e "$state/munge-started" ] && [ -s /run/munge/munged.pid ] && kill "$(cat /run/munge/munged.pid)" 2>/dev/null
for file in slurm.conf gres.conf cgroup.conf; do
  grep -q "tests/slurm/up.sh" "/etc/slurm/$file" 2>/dev/null && rm "/etc/slurm/$file"
  [ -e "$state/before/$file" ] && mv "$state/before/$file" /etc/slurm/
done
exit 0
