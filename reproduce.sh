#!/usr/bin/env bash
# One command from a clean checkout to every figure and table: finds Python, installs once, hands over to
# analysis/reproduce.py. ./reproduce.sh --help lists the options.
set -euo pipefail

fail() {
    printf 'reproduce.sh: %s\n' "$1" >&2
    exit "${2-1}"
}

# The checkout, also when this script is called through a symbolic link. CDPATH would make cd print.
unset CDPATH
script=${BASH_SOURCE[0]}
while [ -L "$script" ]; do
    folder=$(cd -P -- "$(dirname -- "$script")" && pwd)
    script=$(readlink -- "$script")
    [[ $script == /* ]] || script=$folder/$script
done
root=$(cd -P -- "$(dirname -- "$script")" && pwd)
cd -- "$root"

venv=.venv
candidates='python3.13 python3.12 python3.11 python3 python'
extras='.[notebooks,dev]'
lists=constraints.txt
unavailable=1 # exit code where the environment cannot be made
lmms=no
here=no
informs=no
arguments=()
for argument in "$@"; do
    case $argument in
        --here) here=yes candidates='python python3' ;; # an active environment is called python
        --lmms) lmms=yes ;;
        *) arguments+=("$argument") ;;
    esac
done
if [ "${arguments[0]-}" != test ]; then
    for argument in ${arguments[@]+"${arguments[@]}"}; do
        case $argument in -h | --help | --list) informs=yes ;; esac
    done
fi

if [ $lmms = yes ]; then
    [ "${arguments[0]-}" = test ] || fail "--lmms goes with test: ./reproduce.sh test --lmms [ARGUMENTS]"
    venv=.venv-lmms lists='constraints.txt constraints-lmms.txt'
    unavailable=69 # .ci/run tells it from tests that fail
fi

# Prints "3.11.7" for an interpreter that runs, nothing for one that does not.
version_of() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Sets python to the first of the candidates that is new enough and, with "venv", can make environments.
find_python() {
    local found='' candidate version
    for candidate in $candidates; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        version=$(version_of "$candidate")
        [ -n "$version" ] || continue
        if ! new_enough "$candidate"; then
            found="$found, $candidate is $version"
        elif [ "${1-}" = venv ] && ! "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            found="$found, $candidate is $version without venv (on Debian: apt install python3-venv)"
        else
            python=$candidate
            return
        fi
    done
    found=${found#, }
    fail "Python 3.11 or newer is needed; found: ${found:-none}"
}

# What the installation depends on. The folder counts because an environment does not survive being moved.
stamp_of() {
    # shellcheck disable=SC2086 # a list of names
    "$1" - "$root" $lists <<'PY'
import hashlib, sys
state = hashlib.sha256(repr((sys.version, sys.argv[1])).encode())
for name in (*sys.argv[2:], "pyproject.toml"):
    with open(name, "rb") as file:
        state.update(file.read())
print(state.hexdigest())
PY
}

install() {
    local stamp=$venv/redvtp.stamp log=$venv/install.log wanted
    if ! new_enough "$venv/bin/python"; then
        wanted=$(version_of "$venv/bin/python")
        [ -z "$wanted" ] || fail "$venv holds Python $wanted, but 3.11 or newer is needed: move it away"
        find_python venv
        printf 'making %s with Python %s\n' "$venv" "$(version_of "$python")"
        "$python" -m venv --clear "$venv" || fail "could not make $venv with $python" $unavailable
    fi
    python=$venv/bin/python
    wanted=$(stamp_of "$python")
    [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && return
    # The stamp goes first and comes back last, so an installation that was cut short is done again.
    rm -f "$stamp"
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
    printf 'installing the tested versions into %s, once; this takes some minutes\n' "$venv"
    if ! packages 2>&1 | tee "$log" | progress; then
        tail -n 12 "$log" >&2
        fail "the installation failed; all of it is in $log" $unavailable
    fi
    printf '%s\n' "$wanted" >"$stamp"
    printf 'installed\n'
}

packages() {
    local pip=("$python" -m pip install --disable-pip-version-check --progress-bar off)
    if [ $lmms = no ]; then
        "${pip[@]}" -c constraints.txt -e "$extras"
        return
    fi
    local own theirs
    own=$(awk '/^lmms-eval==/' constraints-lmms.txt)
    theirs=$(awk '/^[^#]/ && !/^lmms-eval==/' constraints-lmms.txt)
    # shellcheck disable=SC2086 # a list of packages
    "${pip[@]}" -c constraints.txt -e . pytest scipy matplotlib $theirs && "${pip[@]}" --no-deps "$own"
}

# Of pip's output, the lines that take a while: large files, and the installation itself.
progress() {
    awk '/^ *Downloading .*\(([0-9]+[0-9]\.[0-9]+|[0-9][0-9]+) MB\)/ { print "  downloading " $2, $3, $4; fflush() }
         /^Installing collected packages/ { print "  installing " (NF - 3) " packages"; fflush() }'
}

# The active environment must have what an installation would have brought.
check_here() {
    local lacking needed='torch transformers safetensors tokenizers numpy PIL jinja2 scipy pandas yaml matplotlib'
    if [ $lmms = yes ]; then
        needed="$needed lmms_eval accelerate datasets pytest"
        extras='.[lmms]'
    else
        needed="$needed seaborn papermill ipykernel nbformat pytest"
    fi
    lacking=$(NEEDED=$needed "$python" - <<'PY'
import importlib.util, os
print(", ".join(name for name in os.environ["NEEDED"].split() if importlib.util.find_spec(name) is None))
PY
    )
    [ -z "$lacking" ] || fail "the active environment ($python $(version_of "$python")) lacks $lacking: $python -m pip install -c constraints.txt -e '$extras'"
}

# What a profile needs and this machine lacks is said before anything is installed.
check_profile() {
    local profile='' last='' argument
    for argument in ${arguments[@]+"${arguments[@]}"}; do
        case $argument in
            --from-reference) return 0 ;;
            --profile=*) profile=${argument#--profile=} ;;
            *) [ "$last" != --profile ] || profile=$argument ;;
        esac
        last=$argument
    done
    case $profile in speed | paper) ;; *) return 0 ;; esac
    if [ $here = no ] && new_enough "$venv/bin/python"; then
        python=$venv/bin/python
    else
        find_python
    fi
    "$python" -B -m analysis.needs "$profile" || exit 1
}

if [ $informs = no ] && [ "${arguments[0]-}" != test ]; then
    check_profile
fi
if [ $informs = yes ]; then
    find_python
elif [ $here = yes ]; then
    find_python
    check_here
else
    install
fi

if [ $lmms = yes ]; then
    exec "$python" -m pytest tests/lmms ${arguments[@]+"${arguments[@]:1}"}
fi
if [ "${arguments[0]-}" = test ]; then
    exec "$python" -m pytest ${arguments[@]+"${arguments[@]:1}"}
fi
exec "$python" -m analysis.reproduce ${arguments[@]+"${arguments[@]}"}
