# What the launchers share. They source it; each defines usage() first.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for them
readonly SIGNALS=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
venv=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin
if [[ -x $venv/torchrun ]]; then # as `make` sets it up
  PATH=$(cd "$venv" && pwd):$PATH
fi

# Say in one line what is wrong, and end.
refuse() {
  echo "$(basename "$0"): $1" >&2
  exit 2
}

ask_for_help() {
  case ${1:-} in
    --help | -h)
      usage
      exit 0
      ;;
    "")
      usage >&2
      exit 2
      ;;
  esac
}

# CONFIG [KEY=VALUE]... [--resume auto|none|PATH]
check_run() {
  [[ $# -gt 0 ]] || refuse "CONFIG is missing, such as configs/digits.yaml"
  [[ -f $1 ]] || refuse "$1: is no file; give the run's YAML file, such as configs/digits.yaml"
  shift
  while [[ $# -gt 0 ]]; do
    if [[ $1 == --resume ]]; then
      [[ -n ${2:-} ]] || refuse "--resume: auto, none or a path must follow"
      shift
    elif [[ ! $1 =~ ^(--resume|[A-Za-z_][^=]*)= ]]; then
      refuse "$1: is no assignment such as batch=64, nor --resume"
    fi
    shift
  done
}

# check_count NAME DEFAULT: set the variable where it is not, and insist on a number.
check_count() {
  local value=${!1:-$2}
  [[ $value =~ ^[1-9][0-9]*$ ]] || refuse "$1=$value: must be a number of 1 or more"
  printf -v "$1" %s "$value"
}

# The GPUs that a process would see, or one process where there is none.
devices() {
  local list=()
  if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
    IFS=, read -ra list <<<"$CUDA_VISIBLE_DEVICES"
  elif command -v nvidia-smi >/dev/null; then
    mapfile -t list < <(nvidia-smi --list-gpus)
  fi
  echo $((${#list[@]} > 0 ? ${#list[@]} : 1))
}

# share_cores PROCESSES: the machine's cores are divided, unless the user says how many threads a process has.
share_cores() {
  local cores
  cores=$(nproc)
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > $1 ? cores / $1 : 1))}
}
