#!/usr/bin/env bash
# Train on several machines without Slurm: the same command on each of them, within a minute.
#
#   launch/many_machines.sh 2 host1 configs/digits.yaml folder=/shared/runs [KEY=VALUE]... [--resume auto|none|PATH]
#
# NODES is their number, HEAD the first machine's name or address, at which the others reach it. The run's folder and the data
# must lie on a file system that all share.
# PROCS: processes a machine (its GPUs, or 1). PORT: where they meet (29400). ID: tells one launch from another (bigan).
# ADDRESS: this machine's own address, where the others cannot reach it by its name; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME
# name the interface. MAX_RESTARTS: restarts after a fault (3).
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
  echo "usage: [PROCS=N] [PORT=29400] launch/many_machines.sh NODES HEAD CONFIG [KEY=VALUE]... [--resume auto|none|PATH]"
}
ask_for_help "$@"
[[ $# -ge 3 ]] || refuse "NODES, HEAD and CONFIG are needed"
nodes=$1 head=$2
shift 2
[[ $nodes =~ ^[1-9][0-9]*$ ]] || refuse "$nodes: NODES is a number of machines, such as 2"
[[ $head =~ ^[A-Za-z0-9._-]+$ ]] || refuse "$head: HEAD is a host name or address, without a port (PORT=29400)"
check_run "$@"
check_count PROCS "$(devices)"
check_count PORT 29400
share_cores "$PROCS"
# torchrun guesses from names whether this is HEAD, and is wrong where a machine's name does not lead to the address given.
is_head=0
for address in $(getent ahosts "$head" | cut -d ' ' -f 1 | sort -u); do
  case " $(hostname --all-ip-addresses) 127.0.0.1 127.0.1.1 ::1 " in
    *" $address "*) is_head=1 ;;
  esac
done
where=(--rdzv-conf="is_host=$is_head")
if [[ -n ${ADDRESS:-} ]]; then
  where+=(--local-addr="$ADDRESS")
fi
exec torchrun --max-restarts="${MAX_RESTARTS:-3}" --signals-to-handle="$SIGNALS" --shutdown-timeout="${GRACE:-240}" \
  --nnodes="$nodes" --nproc-per-node="$PROCS" --rdzv-backend=c10d --rdzv-endpoint="$head:$PORT" \
  --rdzv-id="${ID:-bigan}" "${where[@]}" -m bigan train "$@"
