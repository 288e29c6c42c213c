"""Captioned pictures from OpenStreetMap and aerial imagery, as SkyScript was made.

`osm` reads objects of a PBF file, `tags` says which of their tags can be seen from above and how
fine a picture must be for it, `select` draws objects on a grid, `imagery` cuts a picture for each,
`surroundings` finds what else is in it, `captions` words both, `writer` writes shards.
"""
