#!/usr/bin/env bash
# Train on one machine: a process a GPU, or as many as PROCS says.
#
#   launch/one_machine.sh configs/digits.yaml [KEY=VALUE]... [--resume auto|none|PATH]
#   PROCS=2 launch/one_machine.sh configs/digits.yaml name=two
#
# PROCS: processes (the GPUs, or 1 where there is none). MAX_RESTARTS: restarts after a fault (3). OMP_NUM_THREADS: threads a
# process (the machine's cores, divided). Ctrl-C, SIGTERM and SIGUSR1 end the run after the round, with a save.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  echo "usage: [PROCS=N] launch/one_machine.sh CONFIG [KEY=VALUE]... [--resume auto|none|PATH]"
}
ask_for_help "$@"
check_run "$@"
check_count PROCS "$(devices)"
share_cores "$PROCS"
exec torchrun --max-restarts="${MAX_RESTARTS:-3}" --signals-to-handle="$SIGNALS" --shutdown-timeout="${GRACE:-240}" \
  --standalone --nproc-per-node="$PROCS" -m bigan train "$@"
