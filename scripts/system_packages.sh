#!/usr/bin/env bash
# Find the system packages that drawing on a virtual screen needs and that are missing here:
# Xvfb, Mesa's software OpenGL, and the libraries of Qt's xcb platform. Say which; install
# them when run by root on Debian or Ubuntu, else print the command and fail.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0

# What must be there (a command, a shared library, an OpenGL driver), and its Debian package.
needs=(
    "command Xvfb xvfb"
    "command xvfb-run xvfb"
    "command xauth xauth"
    "library libGL.so.1 libgl1"
    "library libGLX_mesa.so.0 libglx-mesa0"
    "library libEGL.so.1 libegl1"
    "library libOpenGL.so.0 libopengl0"
    "driver swrast_dri.so libgl1-mesa-dri"
    "library libxkbcommon-x11.so.0 libxkbcommon-x11-0"
    "library libxcb-cursor.so.0 libxcb-cursor0"
    "library libxcb-icccm.so.4 libxcb-icccm4"
    "library libxcb-image.so.0 libxcb-image0"
    "library libxcb-keysyms.so.1 libxcb-keysyms1"
    "library libxcb-randr.so.0 libxcb-randr0"
    "library libxcb-render-util.so.0 libxcb-render-util0"
    "library libxcb-shape.so.0 libxcb-shape0"
    "library libxcb-xinerama.so.0 libxcb-xinerama0"
    "library libdbus-1.so.3 libdbus-1-3"
    "library libfontconfig.so.1 libfontconfig1"
    "library libgthread-2.0.so.0 libglib2.0-0"
)

PATH="$PATH:/usr/sbin:/sbin"
libraries=$(ldconfig -p)

is_there() {
    case "$1" in
        command) command -v "$2" ;;
        library) grep -qF "$2 " <<<"$libraries" ;;
        driver) compgen -G "/usr/lib*/dri/$2" || compgen -G "/usr/lib/*/dri/$2" ;;
    esac
}

missing=()
for need in "${needs[@]}"; do
    read -r kind what package <<<"$need"
    if ! is_there "$kind" "$what" >/dev/null && [[ " ${missing[*]:-} " != *" $package "* ]]; then
        missing+=("$package")
    fi
done

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
echo "Missing system packages: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "Install what your system calls them, then run this again." >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "Type: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "Installing them"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
