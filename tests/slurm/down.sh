#!/usr/bin/env bash
# Stops what up.sh started, by its own process numbers. Usage: down.sh STATE_FOLDER
state=${1:?the folder given to up.sh}
scancel --user "$(id -un)" 2>/dev/null
sleep 1
for file in "$state"/node.pid "$state"/controller.pid; do
  [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
done
exit 0
