#!/usr/bin/env bash
# Pack a data set by an array job: every task makes its share of the shards, and the last to end puts the data set in place.
#
#   job=$(sbatch --parsable --array=0-31 slurm/pack.sh SOURCE OUT --size 256 --rgb)
#   sbatch --dependency=afterany:"$job" --array=0 slurm/pack.sh SOURCE OUT --size 256 --rgb
#
# All arguments are those of `bigan pack`; --grey or --rgb must be among them. The second command finishes what is missing:
# shards of a task that failed, or all of them there but seen too late over a network file system. It does nothing where the
# first one has finished. Both may be given again at any time, with any number of tasks: finished shards are kept.
#
#SBATCH --job-name=bigan-pack
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail

if [[ $# -lt 2 ]]; then
  echo "usage: sbatch --array=0-31 slurm/pack.sh SOURCE OUT --size 256 --rgb" >&2
  exit 2
fi
first=${SLURM_ARRAY_TASK_MIN:-0}
step=${SLURM_ARRAY_TASK_STEP:-1}
count=${SLURM_ARRAY_TASK_COUNT:-1}
part=$(((${SLURM_ARRAY_TASK_ID:-$first} - first) / step))
if [[ $(((${SLURM_ARRAY_TASK_MAX:-$first} - first) / step + 1)) -ne $count ]]; then
  echo "pack.sh: --array must be one range without gaps, such as 0-31; shards that are finished are kept anyway" >&2
  exit 2
fi

if [[ -x .venv/bin/bigan ]]; then # as `make` sets it up, where the job was submitted
  PATH=$PWD/.venv/bin:$PATH
fi
# In place of this shell, so that Slurm's signals reach it.
exec bigan pack "$@" --part "$part/$count" --workers "${SLURM_CPUS_PER_TASK:-1}"
