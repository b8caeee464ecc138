#!/usr/bin/env bash
# Measure a trained run: Fréchet distance, precision, recall, coverage of the classes.
#
#   sbatch --gpus=1 slurm/evaluate.sh runs/celeba-hq --count 10000
#   sbatch --dependency=afterok:JOB slurm/evaluate.sh runs/celeba-hq        # once a training job has its whole length
#
# All arguments are those of `bigan evaluate`; the card lies in the run's evaluation.json too. Without --gpus, on CPUs.
#
#SBATCH --job-name=bigan-evaluate
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail

if [[ $# -lt 1 || $1 == -* ]]; then
  echo "usage: sbatch [--gpus=1] slurm/evaluate.sh RUN [--count N] [--seed N] [--data FOLDER]" >&2
  exit 2
fi
if [[ -x .venv/bin/bigan ]]; then # as `make` sets it up, where the job was submitted
  PATH=$PWD/.venv/bin:$PATH
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
# In place of this shell, so that Slurm's signals reach it.
exec bigan evaluate "$@"
