#!/usr/bin/env bash
# Train one run a task of an array: over seeds, or over the lines of a file; each is preempted and comes back by itself.
#
#   sbatch --array=0-3 slurm/sweep.sh                         # seeds 0 to 3: runs/celeba-hq-seed0 …
#   sbatch --array=0-3 slurm/sweep.sh game.critic.width=32    # the same, with a key that all of them share
#   SWEEP=sweep.txt sbatch --array=1-12%4 slurm/sweep.sh      # line N of the file, four at a time: runs/celeba-hq-line1 …
#
# A line holds assignments, such as `optimizer.lr=1e-4 game.penalties.0.weight=4`; values hold no spaces. Lines count from 1.
# Whatever slurm/train_celeba_hq.sh reads from the environment (DATA, CONFIG, NAME, RUNS, …) holds here too; so do its flags and --resume.
#
#SBATCH --job-name=bigan-sweep
#SBATCH --array=0-3
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

task=${SLURM_ARRAY_TASK_ID:-}
if [[ -z $task ]]; then
  echo "usage: [SWEEP=FILE] sbatch --array=0-3 slurm/sweep.sh [KEY=VALUE]... [--resume auto|none|PATH]" >&2
  exit 2
fi
name=$(basename "${CONFIG:-celeba_hq}" .yaml)
name=${NAME:-${name//_/-}}
assignments=("seed=$task")
export NAME=$name-seed$task
if [[ -n ${SWEEP:-} ]]; then
  lines=()
  if [[ -f $SWEEP ]]; then
    mapfile -t lines <"$SWEEP"
  fi
  if [[ $task -lt 1 || $task -gt ${#lines[@]} ]]; then
    echo "sweep.sh: $SWEEP: has no line $task; lines count from 1, as --array=1-${#lines[@]} does" >&2
    exit 2
  fi
  read -ra assignments <<<"${lines[task - 1]}"
  export NAME=$name-line$task
fi
# In place of this shell, so that Slurm's signals reach it.
exec slurm/train_celeba_hq.sh "$@" "${assignments[@]}"
