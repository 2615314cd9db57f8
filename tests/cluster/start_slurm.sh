#!/bin/sh
# Start a single-node Slurm for the tests: munge, controller and node, on the loopback alone. Needs root and
# Debian's packages: apt-get install slurm-wlm munge
#
#   tests/cluster/start_slurm.sh start DIR    its files lie in DIR; then: export SLURM_CONF=DIR/slurm.conf
#   tests/cluster/start_slurm.sh stop DIR     ends the daemons that it started
set -eu
command=${1:?start or stop}
dir=${2:?a folder for its files}

if [ "$command" = stop ]; then
    for file in "$dir"/slurmd.pid "$dir"/slurmctld.pid "$dir"/munged.pid; do
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do # it saves its state first
            [ -d "/proc/$pid" ] && ! grep -q zombie "/proc/$pid/status" || break
            sleep 0.2
        done
    done
    exit 0
fi

for program in munged slurmctld slurmd; do
    command -v $program >/dev/null || { echo "$program is not installed: apt-get install slurm-wlm munge" >&2; exit 3; }
done
mkdir -p "$dir/state" "$dir/spool"
dir=$(cd "$dir" && pwd)
host=$(hostname -s)

# munge: a key and a socket of its own, so that a munge of the machine is left alone
mkdir -p "$dir/munge"
chmod 700 "$dir/munge"
dd if=/dev/urandom of="$dir/munge/key" bs=128 count=8 2>/dev/null
chmod 400 "$dir/munge/key"
munged --force --socket="$dir/munge.socket" --key-file="$dir/munge/key" --log-file="$dir/munge/log" \
    --pid-file="$dir/munged.pid" --seed-file="$dir/munge/seed"

cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=46817
SlurmdPort=46818
AuthInfo=socket=$dir/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
KillWait=5
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

export SLURM_CONF="$dir/slurm.conf"
slurmctld
slurmd
for _ in $(seq 60); do
    if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then
        echo "export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 1
done
echo "Slurm did not become ready; see $dir/slurmctld.log and $dir/slurmd.log" >&2
sinfo >&2 || true
exit 1
