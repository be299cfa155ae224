"""Checks outlines and pyramids of a scan with readers that were not written here.

    python3 -m venv venv && venv/bin/pip install numpy shapely tifffile imagecodecs openslide-python openslide-bin \
        geojson geojson-validator
    cargo run -p consilium-learning --example outputs_speed -- DIR
    venv/bin/python tests/peers/outlines.py DIR

DIR holds the files of one scan (NAME-labels.tif, NAME-labels.geojson, ...), spacing 0.5 um/px, a label pixel spanning
2 x 2 pixels of the slide. Every polygon must be valid, closed and named; areas must be those of the labels; the
pyramids must open in OpenSlide and tifffile with the same values.
"""

import json
import pathlib
import sys

import geojson
import geojson_validator
import numpy
import openslide
import shapely
import shapely.geometry
import tifffile

LEVEL0_PX = 2
SPACING_UM = 0.5
# Simplified outlines may lose or gain this share of the area of all objects together.
AREA_WITHIN = 0.02


def check_outlines(path, labels):
    text = path.read_text()
    collection = geojson.loads(text)
    assert collection.is_valid, collection.errors()
    features = json.loads(text)["features"]
    polygons = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert shapely.is_valid(polygons).all(), "shapely says that a polygon is not valid"
    assert all(polygon.geom_type == "Polygon" and polygon.exterior.is_ccw for polygon in polygons)
    assert not any(ring.is_ccw for polygon in polygons for ring in polygon.interiors)
    assert all(ring[0] == ring[-1] for f in features for ring in f["geometry"]["coordinates"])
    assert len({feature["id"] for feature in features}) == len(features)
    assert all(len(f["properties"]["classification"]["color"]) == 3 for f in features)
    # Some of them: the validator is slow. It takes coordinates for degrees, of which a slide has too many.
    few = {"type": "FeatureCollection", "features": features[:1000]}
    assert not geojson_validator.validate_structure(few)
    wrong = ("self_intersection", "duplicate_nodes", "inner_and_exterior_ring_intersect", "3d_coordinates")
    found = geojson_validator.validate_geometries(few, criteria_problematic=wrong)
    assert not found["invalid"] and not found["problematic"], found
    drawn = sum(polygon.area for polygon in polygons) / LEVEL0_PX**2
    stated = sum(f["properties"]["measurements"]["Area um^2"] for f in features) / SPACING_UM**2
    counted = int((labels > 0).sum())
    assert stated <= counted + 1
    assert abs(drawn / stated - 1) < AREA_WITHIN, (drawn, stated)
    holes = sum(len(polygon.interiors) for polygon in polygons)
    print(f"{path.name}: {len(polygons)} valid polygons, {holes} holes; area {drawn:.0f} px drawn, {stated:.0f} stated, "
          f"{counted} in the labels")


def check_pyramid(path):
    """The same values in tifffile and OpenSlide, at every level; returns level 0."""
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels] if len(tiff.series) == 1 else [
            page.asarray() for page in tiff.pages]
        palette = tiff.pages[0].colormap
    slide = openslide.OpenSlide(str(path))
    assert abs(float(slide.properties["openslide.mpp-x"]) - SPACING_UM) < 1e-6
    assert [(a.shape[1], a.shape[0]) for a in levels] == list(slide.level_dimensions)
    for number, level in enumerate(levels):
        height, width = level.shape[:2]
        width, height = min(width, 3000), min(height, 3000)
        seen = numpy.asarray(slide.read_region((0, 0), number, (width, height)))[..., :3]
        stored = level[:height, :width]
        expected = (palette.T // 257)[stored] if palette is not None else numpy.repeat(stored[..., None], 3, 2)
        assert (seen == expected).all(), (path, number)
    print(f"{path.name}: {len(levels)} levels, the same in OpenSlide and tifffile")
    return levels[0]


def main():
    folder = pathlib.Path(sys.argv[1])
    for path in sorted(folder.glob("*.tif")):
        check_pyramid(path)
    for path in sorted(folder.glob("*-labels.geojson")):
        check_outlines(path, tifffile.imread(path.with_suffix(".tif"), key=0))


if __name__ == "__main__":
    main()
