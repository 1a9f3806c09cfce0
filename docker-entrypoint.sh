#!/bin/sh
# Start flipsearch in a container: `docker-entrypoint.sh ARGUMENTS OF run_study.py`.
set -eu
umask 077

fail() {
    echo "error: $*" >&2
    exit 2
}

# The database's password, from a secret file to the only place where libpq looks for one that is neither a command
# line nor the environment: a file that nobody else may read.
if [ -n "${FLIPSEARCH_PASSWORD_FILE:-}" ]; then
    password=$(head -n 1 "$FLIPSEARCH_PASSWORD_FILE" 2>/dev/null) ||
        fail "the password file $FLIPSEARCH_PASSWORD_FILE cannot be read: it has to be readable for user $(id -u)."
    [ -n "$password" ] || fail "the password file $FLIPSEARCH_PASSWORD_FILE is empty."
    PGPASSFILE=$(mktemp)
    export PGPASSFILE
    printf '*:*:*:*:%s\n' "$(printf '%s' "$password" | sed 's/[\\:]/\\&/g')" >"$PGPASSFILE"
    unset password
fi

# Docker gives the containers of a scaled service the same GPUs: "count: 1" would be the first one for all of them.
# So each is given all of them, and takes one for itself: the first whose lock nobody holds. The lock is this
# process's, and goes with it.
if [ -n "${FLIPSEARCH_GPU_LOCKS:-}" ] && command -v nvidia-smi >/dev/null; then
    mkdir -p "$FLIPSEARCH_GPU_LOCKS"
    for gpu in $(nvidia-smi --query-gpu=uuid --format=csv,noheader); do
        exec 9>"$FLIPSEARCH_GPU_LOCKS/$gpu.lock"
        if flock --nonblock 9; then
            export CUDA_VISIBLE_DEVICES="$gpu"
            break
        fi
        exec 9>&-
    done
    [ -n "${CUDA_VISIBLE_DEVICES:-}" ] ||
        fail "every GPU of this machine has its worker already: --scale worker=N takes as many as it has GPUs."
fi

umask 022
exec python "$(dirname "$0")/run_study.py" "$@"
