#!/bin/sh
# Fetches ONNX Runtime, with which Consilium scans faster than with its own kernels. Consilium runs without it.
#
#   deploy/onnxruntime.sh [--cuda] [FOLDER]    into FOLDER, by default ./onnxruntime; needs python3 with pip and the network
#
# What comes is the published wheel `onnxruntime` for this system (one library of about 30 MB, MIT) and nothing else; it
# needs no administrator's rights. With --cuda it is `onnxruntime-gpu`, far larger, which also uses NVIDIA
# cards: the driver, CUDA and cuDNN must be on the machine and known to its loader (ldconfig or LD_LIBRARY_PATH).
# For a machine without network run this on one of the same kind that has it, copy FOLDER, and run it again there with the
# copy: it then fetches nothing and only checks and prints what to set. A FOLDER named `onnxruntime` beside the Consilium
# program is found without setting anything.
#
# Exit: 0 the library is there; 64 wrong arguments; 69 it could not be fetched.
set -eu

usage() {
    echo "usage: $0 [--cuda] [FOLDER]" >&2
    exit 64
}

wheel=onnxruntime
if [ "${1-}" = "--cuda" ]; then
    wheel=onnxruntime-gpu
    shift
fi
[ "$#" -le 1 ] || usage
case "${1-}" in -*) usage ;; esac
folder=${1:-./onnxruntime}

# Prints the library in the folder, if there is one (and, with --cuda, the part for the cards beside it).
library() {
    for inside in onnxruntime/capi capi lib .; do
        for file in "$folder/$inside"/libonnxruntime.so.[0-9]* "$folder/$inside"/libonnxruntime.so \
            "$folder/$inside"/libonnxruntime.[0-9]*.dylib "$folder/$inside"/libonnxruntime.dylib \
            "$folder/$inside"/onnxruntime.dll; do
            if [ -f "$file" ]; then
                if [ "$wheel" = onnxruntime-gpu ] && [ ! -f "$(dirname "$file")/libonnxruntime_providers_cuda.so" ]; then
                    continue
                fi
                echo "$file"
                return 0
            fi
        done
    done
    return 1
}

if ! library >/dev/null; then
    if ! command -v python3 >/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
        echo "python3 with pip is needed to fetch the library; install it, or copy a folder that was fetched elsewhere" >&2
        exit 69
    fi
    mkdir -p "$folder"
    if ! python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --upgrade \
        --only-binary :all: --target "$folder" "$wheel"; then
        echo "$wheel could not be fetched; check the network and pip's proxy, or copy a folder from elsewhere" >&2
        exit 69
    fi
fi

if ! file=$(library); then
    echo "$folder holds no ONNX Runtime library; remove it and run this again" >&2
    exit 69
fi
path=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")
echo "ONNX Runtime is in $path"
echo "Set one of these:"
echo "  in site.toml:        onnx_library = \"$path\""
echo "  in the environment:  CONSILIUM_ONNXRUNTIME=$path"
