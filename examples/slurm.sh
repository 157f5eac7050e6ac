#!/usr/bin/env bash
# Sim_k on a fifth of InfoVQA with the published LLaDA-V, on 2 nodes of 4 GPUs: sbatch examples/slurm.sh
# Killed or out of time? Submit it again: what is finished is kept, sample by sample.
#SBATCH --job-name=redvtp
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=160G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --output=redvtp-%j.log
set -euo pipefail

# Change these. All nodes must see the checkout (its data/runs is where the parts are kept), the weights and the data:
#   hf download GSAI-ML/LLaDA-V --local-dir weights/LLaDA-V
#   hf download lmms-lab/DocVQA --repo-type dataset --include 'InfographicVQA/validation-*' --local-dir sets/DocVQA
measurement=${1:-step_similarity} # or token_counts, which reads no weights, or layer_attention
weights=${WEIGHTS:-weights/LLaDA-V}
sets=${SETS:-sets}

cd -- "${SLURM_SUBMIT_DIR:-.}"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=8
export HF_HUB_OFFLINE=1 # everything is there; compute nodes often have no network

# One torchrun a node; it starts a process for each GPU and ends all of them where one dies.
srun --kill-on-bad-exit=1 python -m torch.distributed.run \
    --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-4}" \
    --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m "analysis.$measurement" --profile paper --data "$sets" --families infovqa --fraction 0.2 --seed 0 \
    --models "$weights"
