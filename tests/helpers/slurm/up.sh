#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: partitions cpu and gpu, emulated GPUs. Needs root and Debian's packages, which
# it installs if they are missing. Usage: up.sh STATE_FOLDER [CPUS] [GPUS]; down.sh stops it.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin  # runuser and the daemons, where a user's path has only bin
state=${1:?a folder for the state}
cpus=${2:-4}
gpus=${3:-2}
host=$(hostname -s)
memory=$(awk '/^MemTotal/ {print int($2 * 0.8 / 1024)}' /proc/meminfo)

command -v slurmctld slurmd munged >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 \
    slurm-wlm slurm-wlm-basic-plugins munge
}
mkdir -p "$state"/{controller,node,log,devices,before} /etc/slurm
for file in slurm.conf gres.conf cgroup.conf; do
  [ ! -e "/etc/slurm/$file" ] || grep -q "tests/slurm/up.sh" "/etc/slurm/$file" || mv "/etc/slurm/$file" "$state/before/"
done

# a device per GPU: the null device, so nothing that asks for a GPU finds one that works
for ((i = 0; i < gpus; i++)); do
  [ -e "$state/devices/gpu$i" ] || mknod "$state/devices/gpu$i" c 1 3
done

cat >/etc/slurm/slurm.conf <<CONF
# written by tests/slurm/up.sh
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits this many seconds
AuthInfo=cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldPidFile=$state/controller.pid
SlurmdPidFile=$state/node.pid
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldLogFile=$state/log/controller.log
SlurmdLogFile=$state/log/node.log
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,bf_continue
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
MinJobAge=3600
KillWait=5
SlurmctldTimeout=60
SlurmdTimeout=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$memory Gres=gpu:test:$gpus
PartitionName=cpu Nodes=$host Default=YES DefMemPerCPU=500 DefaultTime=10 MaxTime=2:00:00 State=UP
PartitionName=gpu Nodes=$host DefMemPerCPU=500 DefaultTime=10 MaxTime=2:00:00 State=UP
CONF
cat >/etc/slurm/gres.conf <<CONF
# written by tests/slurm/up.sh
NodeName=$host Name=gpu Type=test File=$state/devices/gpu[0-$((gpus - 1))]
CONF
cat >/etc/slurm/cgroup.conf <<CONF
# written by tests/slurm/up.sh
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=no
CONF

if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
  install -d -o munge -g munge -m 0755 /run/munge
  install -d -o munge -g munge -m 0700 /var/log/munge /var/lib/munge
  runuser -u munge -- munged
  touch "$state/munge-started"
  sleep 1
fi
slurmctld -c
sleep 1
slurmd -c -N "$host"
for _ in $(seq 40); do
  sinfo --noheader --format %T 2>/dev/null | grep -q idle && exit 0
  sleep 0.5
done
echo "the node did not come up; see $state/log" >&2
exit 1
