# Sourced by bench/*/peers.sh: makes the peers' environments, each its own.
#
# Can be called again: what is complete is left alone. A peer that does not install is told in one
# line, which also stands in NAME.txt, and the others go on; NAME.log holds all that pip said.
set -u
FOLDER=${EDGELOOP_PEERS:-"$(cd "$(dirname "$0")/../.." && pwd)/build/peers"}
PYTHON=${PYTHON:-python3}
# First and by version, as in the Makefile: nothing that comes after it may pull a build for GPUs.
TORCH=${TORCH:-torch==2.13.0}

# Ends with an error, and a reason for the log, where pip would bring CUDA along with torch.
without_cuda() {
    plan=$("$1" -m pip install --quiet --dry-run --ignore-installed --report - "$TORCH") || return 1
    case $plan in
    *'"name": "nvidia'* | *'"name":"nvidia'*)
        echo "$TORCH would bring CUDA: point pip at an index of CPU builds, or name one in TORCH"
        return 1
        ;;
    esac
}

# make NAME MODULES PACKAGE...: MODULES are what the peer must be able to import.
make() {
    make_with "$TORCH" "$@"
}

# make_without_torch NAME MODULES PACKAGE...
make_without_torch() {
    make_with "" "$@"
}

make_with() {
    torch=$1 name=$2 modules=$3
    shift 3
    bin=$FOLDER/$name/bin
    log=$FOLDER/$name.log
    if [ -e "$FOLDER/$name/.ready" ]; then
        echo "$name: ready"
        return
    fi
    rm -rf "${FOLDER:?}/$name" "$FOLDER/$name.txt"
    if "$PYTHON" -m venv "$FOLDER/$name" >"$log" 2>&1 &&
        { [ -z "$torch" ] || without_cuda "$bin/python" >>"$log" 2>&1; } &&
        { [ -z "$torch" ] || "$bin/python" -m pip install "$torch" >>"$log" 2>&1; } &&
        "$bin/python" -m pip install ${torch:+"$torch"} "$@" >>"$log" 2>&1 &&
        HF_HUB_OFFLINE=1 OLIVE_DISABLE_TELEMETRY=1 "$bin/python" -c "import $modules" >>"$log" 2>&1
    then
        touch "$FOLDER/$name/.ready"
        echo "$name: installed"
    else
        # pip's first error says what clashed; anything else says why it stopped in its last line.
        reason=$(grep -m 1 '^ERROR' "$log" || grep -v '^WARNING' "$log" | grep -v '^ *$' | tail -n 1)
        echo "$name: not installed: ${reason:-see $log}" | tee "$FOLDER/$name.txt"
    fi
}
