#!/usr/bin/env python3
"""Collects the images that weights/hotad-lite0.safetensors was distilled on, from packages of Debian 12 (bookworm).

    python3 weights/distill/collect.py SOURCES IMAGES

Downloads the packages to SOURCES (apt-get download), reads the photographs and textures in them, archives within packages
too, and writes them to IMAGES as JPEG files of at most 640 pixels a side. Left out are icons, images with transparency, maps of
normals, gloss and the like, images that are flat, smaller than 128 pixels or nearly equal to one before. Needs Pillow and
NumPy. Packages, licences and the number of images of each are in weights/README.md.
"""

import hashlib
import io
import pathlib
import subprocess
import sys
import zipfile

import numpy
from PIL import Image

# Package: at most this many of its images, evenly from the sorted list.
PACKAGES = {
    "gnome-backgrounds": 400,
    "mate-backgrounds": 400,
    "plasma-workspace-wallpapers": 400,
    "lomiri-wallpapers-16.04": 400,
    "lomiri-wallpapers-20.04": 400,
    "ukui-wallpapers": 400,
    "colobot-common-textures": 200,
    "openarena-081-textures": 500,
    "openarena-data": 200,
    "warzone2100-data": 300,
    "trigger-rally-data": 200,
    "extremetuxracer-data": 100,
    "ufoai-textures": 900,
    "supertuxkart-data": 1200,
    "0ad-data": 1500,
}
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".tga", ".dds", ".bmp"}
ARCHIVES = {".pk3", ".zip", ".wz"}
# Parts of names that tell what is no picture of a surface.
LEFT_OUT = (
    "normal norm_ _norm _nm. _nm_ _n. _bump _spec _s. _gloss _glow _height _ao. _mask icon /gui /ui/ menu font cursor flag "
    "emblem logo screenshot preview lightmap _local _em. particle /fx sprite effect hud minimap banner portrait _tcmask _gm. "
    "levelshots _blend. /pics/ /session /art/textures/ui /selection overlay /cubemaps alpha_ heightmap"
).split()
SMALLEST, LARGEST, TILE = 128, 640, 512


def fetch(package, sources):
    if not list(sources.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=sources, check=True)
    folder = sources / package
    if not folder.is_dir():
        deb = next(sources.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    return folder


def files(folder):
    """Names and bytes of all image files of a package, in order of their names."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        name = str(path.relative_to(folder))
        if path.suffix.lower() in ENDINGS:
            yield name, path.read_bytes
        elif path.suffix.lower() in ARCHIVES and zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            for inner in sorted(archive.namelist()):
                if pathlib.PurePath(inner).suffix.lower() in ENDINGS:
                    yield f"{name}/{inner}", lambda archive=archive, inner=inner: archive.read(inner)


def opened(data):
    """The image in RGB, or nothing where it is transparent, flat, small or a map of normals."""
    try:
        image = Image.open(io.BytesIO(data))
        if min(image.size) < SMALLEST or max(image.size) > 8 * min(image.size):
            return None
        image.load()
    except Exception:  # Pillow raises many kinds for formats that it does not know
        return None
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if numpy.asarray(image.getchannel("A").resize((64, 64), Image.Resampling.BOX)).mean() < 250:
            return None
    image = image.convert("RGB")
    small = numpy.asarray(image.resize((64, 64), Image.Resampling.BOX), dtype=float)
    red, green, blue = small.mean((0, 1))
    if blue > 190 and 100 < red < 160 and 100 < green < 160:
        return None
    return image if small.mean(2).std() > 4 else None


def fingerprint(image):
    """Signs of the differences between neighbours in an image of 17 x 16 pixels."""
    gray = numpy.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=int)
    return (gray[:, 1:] > gray[:, :-1]).ravel()


def reduced(image):
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image


def parts(image):
    """The image, reduced; of a large photograph also the quarters of its middle at their own scale."""
    whole = image.copy()
    if min(image.size) >= 2 * TILE + 64:
        x, y = (image.width - 2 * TILE) // 2, (image.height - 2 * TILE) // 2
        for dx, dy in ((0, 0), (TILE, 0), (0, TILE), (TILE, TILE)):
            yield image.crop((x + dx, y + dy, x + dx + TILE, y + dy + TILE))
    yield reduced(whole)


def main():
    sources, images = map(pathlib.Path, sys.argv[1:3])
    sources.mkdir(parents=True, exist_ok=True)
    seen = numpy.zeros((0, 256), dtype=bool)
    for package, most in PACKAGES.items():
        found = [f for f in files(fetch(package, sources)) if not any(part in f"/{f[0].lower()}" for part in LEFT_OUT)]
        step = max(1.0, len(found) / most)
        chosen = [found[int(i * step)] for i in range(min(most, len(found)))]
        out, count = images / package, 0
        out.mkdir(parents=True, exist_ok=True)
        for name, read in chosen:
            image = opened(read())
            for part in parts(image) if image else ():
                own = fingerprint(part)
                if len(seen) and (seen != own).sum(1).min() < 24:
                    continue
                if numpy.asarray(part.convert("L"), dtype=float).std() < 5:
                    continue
                seen = numpy.vstack([seen, own])
                part.save(out / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-{count:04}.jpg", quality=92)
                count += 1
        print(package, len(found), "files,", count, "images", flush=True)


if __name__ == "__main__":
    main()
