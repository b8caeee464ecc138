#!/usr/bin/env bash
# Train by DeepSpeed's launcher: on the machines of a hostfile, which it reaches by pdsh and ssh without a password.
#
#   launch/deepspeed.sh hostfile configs/digits.yaml folder=/shared/runs [KEY=VALUE]... [--resume auto|none|PATH]
#
# A hostfile has a line a machine, `host1 slots=8`: its name, and how many processes. `localhost slots=2` alone needs neither
# pdsh nor ssh. The repository, the environment, the run's folder and the data must lie at the same place on all of them.
# PORT: where the processes meet (29500). This launcher restarts nothing after a fault: run the same command again.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  echo "usage: [PORT=29500] launch/deepspeed.sh HOSTFILE CONFIG [KEY=VALUE]... [--resume auto|none|PATH]"
}
ask_for_help "$@"
[[ $# -ge 2 ]] || refuse "HOSTFILE and CONFIG are needed"
hostfile=$1
shift
[[ -f $hostfile ]] || refuse "$hostfile: is no file; a hostfile has lines such as 'localhost slots=2'"
mapfile -t hosts < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$hostfile")
for line in "${hosts[@]}"; do
  [[ $line =~ ^[[:space:]]*[^[:space:]]+[[:space:]]+slots=[1-9][0-9]*[[:space:]]*$ ]] ||
    refuse "$hostfile: '$line' is no line of a hostfile, such as 'host1 slots=8'"
done
[[ ${#hosts[@]} -gt 0 ]] || refuse "$hostfile: names no machine; a hostfile has lines such as 'localhost slots=2'"
check_run "$@"
check_count PORT 29500
share_cores "${hosts[0]##*=}"
launch=(--hostfile="$hostfile" --master_port="$PORT" --no_local_rank --module)
if [[ ${#hosts[@]} -eq 1 && ${hosts[0]%%[[:space:]]*} =~ ^(localhost|127\.0\.0\.1)$ ]]; then
  launch+=(--no_ssh --node_rank=0 --master_addr=127.0.0.1)
else
  command -v pdsh >/dev/null ||
    refuse "pdsh is not installed, by which DeepSpeed reaches other machines; or use launch/many_machines.sh"
  launch+=(--force_multi)
fi
exec deepspeed "${launch[@]}" bigan train "$@"
