#!/usr/bin/env bash
# Train CelebA-HQ at 256 px, or any other run, on whole nodes; preempted or out of time, it comes back and goes on exactly.
#
#   bigan pack CelebA-HQ data/celeba-hq-256 --size 256 --rgb              # or slurm/pack.sh, once
#   sbatch slurm/train_celeba_hq.sh                                       # one node, with all its GPUs and CPUs
#   sbatch --nodes=4 --time=2-00:00:00 slurm/train_celeba_hq.sh batch=256 seed=1
#   sbatch --oversubscribe --gpus-per-node=2 --cpus-per-task=16 --mem=64G slurm/train_celeba_hq.sh        # a part of a node
#   DATA=/shards/ffhq NAME=ffhq RUNS=/scratch/runs sbatch slurm/train_celeba_hq.sh game.generator.latent=512
#
# Arguments are assignments to keys of the config and --resume, as `bigan train` takes them: `--resume runs/other` begins where
# that run ends, and once there are checkpoints of its own goes on with them; `none` ends a job that comes back.
# Environment variables, all optional:
#   DATA          the packed shards, a folder or a URL       (data/celeba-hq-256)
#   CONFIG        the run's YAML file                        (configs/celeba_hq.yaml)
#   NAME, RUNS    the run lies in $RUNS/$NAME                (the config's file name with dashes; runs)
#   GPUS          how many of a node's GPUs to use           (all that the job was given)
#   PROCS         processes a node                           (one a GPU, or one where there is none)
#   MAX_RESTARTS  restarts of failed processes in place, by torchrun            (3)
#   MAX_REQUEUES  how often the job may come back                               (100)
#   GRACE         seconds for the last save; torchrun kills what takes longer   (240)
#   HEAD, PORT    where the processes meet                   (the first node as Slurm reaches it; from the job's number)
#
# Submit from the repository's folder, on a file system that all nodes share. docs/clusters.md says what happens on faults.
#
#SBATCH --job-name=bigan-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

fail() {
  echo "train_celeba_hq.sh: $1" >&2
  exit 2
}

if [[ -z ${SLURM_JOB_ID:-} || ${1:-} == --help ]]; then
  echo "usage: sbatch [--nodes=N] [--time=T] [FLAGS] slurm/train_celeba_hq.sh [KEY=VALUE]... [--resume auto|none|PATH]" >&2
  exit 2
fi
follows= # what the argument before asks for
for argument in "$@"; do
  case $follows$argument in
    --resume) follows="--resume " ;;
    "--resume "-* | "--resume ") fail "--resume: auto, none or a path must follow" ;;
    "--resume "*) follows= ;;
    name=* | folder=*) fail "$argument: set NAME or RUNS, which this script too must know" ;;
    --resume=* | [!-]*=*) ;;
    *) fail "$argument: arguments are assignments such as batch=64, and --resume; the config is named by CONFIG" ;;
  esac
done
[[ -z $follows ]] || fail "--resume: auto, none or a path must follow"
data=${DATA:-data/celeba-hq-256}
config=${CONFIG:-configs/celeba_hq.yaml}
name=$(basename "${config%.*}")
name=${NAME:-${name//_/-}}
runs=${RUNS:-runs}
gpus=${GPUS:-${SLURM_GPUS_ON_NODE:-0}}
procs=${PROCS:-$((gpus > 0 ? gpus : 1))}
restarts=${SLURM_RESTART_COUNT:-0}
[[ -f $config ]] || fail "$config: is no file; submit from the repository's folder, or set CONFIG"
[[ $data == *://* || -f $data/manifest.json ]] || fail "$data: holds no packed shards (manifest.json); pack them, or set DATA"

if [[ -x .venv/bin/torchrun ]]; then # as `make` sets it up, where the job was submitted
  PATH=$PWD/.venv/bin:$PATH
fi
command -v torchrun >/dev/null || fail "torchrun is not on the PATH; run make, or activate the environment before sbatch"

# The address by which Slurm itself reaches this node, the first of the job: its name need not resolve. Another port after a
# requeue, so that what the last start may have left on a lost node cannot join.
node=$(scontrol --oneliner show node "$SLURMD_NODENAME")
[[ $node =~ NodeAddr=([^ ]+) ]] && address=${BASH_REMATCH[1]}
head=${HEAD:-${address:-$(hostname)}}
port=${PORT:-$((10000 + (SLURM_JOB_ID * 16 + restarts) % 20000))}

cpus=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cpus > procs ? cpus / procs : 1))}
step=(--nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait="${GRACE:-240}")
if [[ $gpus -gt 0 ]]; then # a step is not given what a whole node brings unless it asks
  step+=(--gpus-per-node="$gpus")
fi
launch=(
  --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$procs" --max-restarts="${MAX_RESTARTS:-3}"
  --rdzv-backend=c10d --rdzv-endpoint="$head:$port" --rdzv-id="$SLURM_JOB_ID.$restarts"
  --signals-to-handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1" --shutdown-timeout="${GRACE:-240}"
)

# Slurm warns this shell alone, and a shell handles a signal only when it does not wait for a program in the foreground.
asked=
training=
# shellcheck disable=SC2317 # a trap calls it
forward() {
  asked=$1
  echo "train_celeba_hq.sh: SIG$1 came; saving"
  if [[ -n $training ]]; then # as USR1, which srun passes on; a TERM makes it kill the step
    kill -s USR1 "$training" 2>/dev/null || true
  fi
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM
echo "train_celeba_hq.sh: job $SLURM_JOB_ID, start $((restarts + 1)): $runs/$name on $SLURM_JOB_NUM_NODES node(s) x $procs"
# shellcheck disable=SC2016 # the number of the node is known there
srun "${step[@]}" bash -c 'exec torchrun --rdzv-conf="is_host=$((SLURM_NODEID == 0)),read_timeout=180" "$@"' torchrun \
  "${launch[@]}" -m bigan train "$config" name="$name" folder="$runs" data.real.path="$data" "$@" &
training=$!
if [[ -n $asked ]]; then # before there was anything to forward it to
  forward "$asked"
fi
while kill -0 "$training" 2>/dev/null; do # a signal ends `wait`, not the training
  wait "$training" || true
done

# torchrun ends with 1 after a save as after a fault, so the run's own word decides. `running` is the word of what was killed.
# The word of an earlier start, which stands there when this one was refused, decides nothing.
status=none
if [[ -f $runs/$name/STATUS ]]; then
  mapfile -t told <"$runs/$name/STATUS"
  if [[ ${told[2]:-} == "job $SLURM_JOB_ID.$restarts" ]]; then
    status=${told[0]}
  fi
fi
say() {
  echo "train_celeba_hq.sh: $runs/$name: $status; $1"
}
case $status,$asked in
  complete,*)
    say "the run has its whole length"
    exit 0
    ;;
  preempted,* | none,?* | running,?*) ;;
  *)
    say "not complete, and not to be run again as it is"
    exit 1
    ;;
esac
# Slurm puts what it preempts back into the queue by itself, and what a user has cancelled shall stay so.
state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
if [[ $state != RUNNING ]]; then
  say "not complete; Slurm calls the job ${state:-gone}"
elif [[ $restarts -ge ${MAX_REQUEUES:-100} ]]; then
  say "not complete after ${restarts} requeues; submit it again to go on"
else
  say "not complete; back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit 1
