#!/bin/sh
# Prepares libtorch, PyTorch's library in C++, with which Consilium fine-tunes faster than with its own kernels.
# Consilium runs without it; a program that uses it must be built for it:
#
#   deploy/libtorch.sh [--cuda] [FOLDER]       into FOLDER, by default ./libtorch; needs python3 with pip and the network
#   LIBTORCH=FOLDER cargo build -p consilium-site-client --features libtorch
#
# Without --cuda only the parts for the processor are read from the published wheel `torch` (160 MB of it, 490 MB on disk;
# x86-64 Linux, and a C compiler for one empty library). With --cuda the whole wheel is installed with NVIDIA's libraries
# (5 GB); the driver must be on the machine. Nothing needs an administrator's rights.
# For a machine without network copy the program and FOLDER: it is found as `libtorch` beside the program.
#
# Exit: 0 it is there; 64 wrong arguments; 69 it could not be prepared.
set -eu

version=2.13.0

usage() {
    echo "usage: $0 [--cuda] [FOLDER]" >&2
    exit 64
}

cuda=no
if [ "${1-}" = "--cuda" ]; then
    cuda=yes
    shift
fi
[ "$#" -le 1 ] || usage
case "${1-}" in -*) usage ;; esac
folder=${1:-./libtorch}

there() {
    [ "$(cat "$1/build-version" 2>/dev/null)" = "$version" ] && [ -f "$1/lib/libtorch_cpu.so" ]
}

fail() {
    echo "$1" >&2
    exit 69
}

whole() {
    python3 -m pip install --quiet --disable-pip-version-check --no-compile --upgrade --only-binary :all: \
        --target "$folder/packages" "torch==$version" || return 1
    # The libraries find NVIDIA's by where they lie, so they stay there.
    for part in lib include; do
        ln -sfn "packages/torch/$part" "$folder/$part"
    done
    echo "$version" >"$folder/build-version"
}

# Reads the members of the wheels that are needed, by ranges: the rest of them is larger by far.
parts() {
    python3 - "$folder" "$version" <<'PYTHON'
import io, os, re, shutil, subprocess, sys, urllib.parse, urllib.request, zipfile

out, version = os.path.abspath(sys.argv[1]), sys.argv[2]


def index():
    """The package index that pip is set up with."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    if not said.stdout.strip():
        from pip._internal.models.index import PyPI
        return PyPI.simple_url.rstrip("/") + "/"
    return said.stdout.strip().rstrip("/") + "/"


class Remote(io.RawIOBase):
    """A file on the index, read by ranges of at least 8 MiB."""

    def __init__(self, url):
        self.url, self.at, self.buffer, self.start = url, 0, b"", 0
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as reply:
            self.size = int(reply.headers["Content-Length"])

    def seekable(self):
        return True

    def readable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=0):
        self.at = (0, self.at, self.size)[whence] + offset
        return self.at

    def readinto(self, into):
        n = min(self.size - self.at, len(into))
        if n <= 0:
            return 0
        if not (self.start <= self.at and self.at + n <= self.start + len(self.buffer)):
            want = min(max(n, 8 << 20), self.size - self.at)
            ask = urllib.request.Request(self.url, headers={"Range": f"bytes={self.at}-{self.at + want - 1}"})
            with urllib.request.urlopen(ask) as reply:
                self.buffer, self.start = reply.read(), self.at
        first = self.at - self.start
        into[:n] = self.buffer[first:first + n]
        self.at += n
        return n


def wheel(package, pattern):
    page = urllib.parse.urljoin(index(), package + "/")
    with urllib.request.urlopen(page) as reply:
        html = reply.read().decode()
    for href, name in re.findall(r'href="([^"#]+)[^"]*"[^>]*>\s*([^<]+?)\s*<', html):
        if re.fullmatch(pattern, name):
            return urllib.parse.urljoin(page, href)
    sys.exit(f"the package index has no wheel of {package} like {pattern}")


def take(url, wanted, place):
    archive = zipfile.ZipFile(io.BufferedReader(Remote(url), 1 << 20))
    for member in sorted(archive.infolist(), key=lambda m: m.header_offset):
        if not member.is_dir() and wanted(member.filename):
            path = place(member.filename)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 8 << 20)


keep = {"torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1"}
take(wheel("torch", rf"torch-{re.escape(version)}-cp311-cp311-manylinux_2_28_x86_64\.whl"),
     lambda f: f in keep or f.startswith("torch/include/"), lambda f: out + f[len("torch"):])
# The part for the processor is linked to two libraries of CUDA, which it does not use.
for package, pattern, library in [
        ("nvidia-cuda-cupti", r"nvidia_cuda_cupti-13\.0\.85-.*manylinux.*x86_64\.whl", "libcupti.so.13"),
        ("nvidia-cuda-runtime", r"nvidia_cuda_runtime-13\.0\.96-.*manylinux.*x86_64\.whl", "libcudart.so.13")]:
    take(wheel(package, pattern), lambda f: f.endswith("lib/" + library), lambda f: f"{out}/lib/{library}")
if not os.path.lexists(f"{out}/lib/libgomp.so"):
    os.symlink("libgomp.so.1", f"{out}/lib/libgomp.so")
# The wheel's libtorch.so only names the others, that of CUDA among them.
subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", "-o", f"{out}/lib/libtorch.so", "-Wl,-soname,libtorch.so"], check=True)
with open(f"{out}/build-version", "w") as file:
    file.write(version + "\n")
PYTHON
}

if ! there "$folder"; then
    if ! command -v python3 >/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
        fail "python3 with pip is needed to fetch the library; install it, or copy a folder that was prepared elsewhere"
    fi
    mkdir -p "$folder"
    if [ "$cuda" = yes ]; then
        whole || fail "torch $version could not be installed; check the network and pip's proxy, or copy a folder from elsewhere"
    else
        [ "$(uname -sm)" = "Linux x86_64" ] || fail "only for x86-64 Linux; elsewhere use --cuda, which installs the whole wheel"
        parts || fail "libtorch $version could not be fetched; check the network and pip's proxy, or copy a folder from elsewhere"
    fi
fi
there "$folder" || fail "$folder holds no libtorch $version; remove it and run this again"
if [ "$cuda" = yes ] && [ ! -f "$folder/lib/libtorch_cuda.so" ]; then
    fail "$folder holds libtorch without CUDA; remove it and run this again"
fi
path=$(cd "$folder" && pwd)
echo "libtorch $version is in $path"
echo "Build with it:  LIBTORCH=$path cargo build -p consilium-site-client --features libtorch"
