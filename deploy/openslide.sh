#!/bin/sh
# Fetches the OpenSlide library, through which Consilium reads slides of Hamamatsu (NDPI, VMS), 3DHISTECH (MRXS), Leica
# (SCN), Ventana (BIF), Zeiss (CZI), Philips, Trestle and Sakura. Consilium runs without it and reads the other formats.
#
#   deploy/openslide.sh [FOLDER]          into FOLDER, by default ./openslide; needs python3 with pip and the network
#
# What comes is the published wheel `openslide-bin` for this system (one library of about 6 MB, LGPL 2.1) and nothing
# else; it needs no administrator's rights. For a machine without network run this on one of the same kind that has it,
# copy FOLDER, and run it again there with the copy: it then fetches nothing and only checks and prints what to set. A
# FOLDER named `openslide` beside the Consilium program is found without setting anything.
#
# Exit: 0 the library is there; 64 wrong arguments; 69 it could not be fetched.
set -eu

if [ "$#" -gt 1 ] || [ "${1-}" = "-h" ] || [ "${1-}" = "--help" ]; then
    echo "usage: $0 [FOLDER]" >&2
    exit 64
fi
folder=${1:-./openslide}

# Prints the library in the folder, if there is one.
library() {
    for file in "$folder"/libopenslide.so.1 "$folder"/libopenslide.1.dylib "$folder"/libopenslide-1.dll \
        "$folder"/openslide_bin/libopenslide.so.1 "$folder"/openslide_bin/libopenslide.1.dylib \
        "$folder"/openslide_bin/libopenslide-1.dll; do
        if [ -f "$file" ]; then
            echo "$file"
            return 0
        fi
    done
    return 1
}

if ! library >/dev/null; then
    if ! command -v python3 >/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
        echo "python3 with pip is needed to fetch the library; install it, or copy a folder that was fetched elsewhere" >&2
        exit 69
    fi
    mkdir -p "$folder"
    if ! python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$folder" openslide-bin; then
        echo "openslide-bin could not be fetched; check the network and pip's proxy, or copy a folder from elsewhere" >&2
        exit 69
    fi
fi

if ! file=$(library); then
    echo "$folder holds no OpenSlide library; remove it and run this again" >&2
    exit 69
fi
path=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")
echo "OpenSlide is in $path"
echo "Set one of these:"
echo "  in site.toml:        openslide_library = \"$path\""
echo "  in the environment:  CONSILIUM_OPENSLIDE=$path"
