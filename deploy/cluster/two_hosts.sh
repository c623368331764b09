#!/bin/bash
# On each of two machines, with the same data in place and the first one's address:
#   two_hosts.sh 0 10.0.0.1 train cifar10-quick --out runs/two     # on 10.0.0.1
#   two_hosts.sh 1 10.0.0.1 train cifar10-quick --out runs/two     # on the other
# RESTARTS: how often each starts again after a fault; PROCESSES: on each machine.
set -euo pipefail

[[ $# -ge 3 ]] || { sed -n '2,5s/^# \?//p' "$0" >&2; exit 2; }
rank=$1 main=$2
shift 2
[[ $1 != train ]] || set -- "$@" --resume-if-exists
attempt=0
until torchrun --nnodes 2 --node-rank "$rank" --nproc-per-node "${PROCESSES:-1}" \
  --master-addr "$main" --master-port "${PORT:-29500}" -m resnetlab "$@"; do
  ((attempt++ < ${RESTARTS:-0})) || exit 1
  echo "two_hosts.sh: starting again ($attempt of $RESTARTS) in 10 s" >&2
  sleep 10
done
