"""The words of the generated world."""

from __future__ import annotations

CLASS_WORDS: dict[str, tuple[str, ...]] = {
    "airport": ("an airport", "an airfield", "part of an airport", "an aerodrome"),
    "beach": ("a beach", "a sandy shore", "a stretch of coast", "the seaside"),
    "bridge": ("a bridge over a river", "a river crossing", "a bridge"),
    "commercial area": (
        "a commercial area",
        "a business district",
        "a downtown block",
        "a city centre",
    ),
    "dense residential area": (
        "a dense residential area",
        "a crowded neighbourhood",
        "a packed housing estate",
        "a densely built suburb",
    ),
    "desert": ("a desert", "a barren desert", "an arid wasteland", "a dry, empty landscape"),
    "farmland": (
        "farmland",
        "cultivated land",
        "an agricultural landscape",
        "a patchwork of farmland",
    ),
    "forest": ("a forest", "dense woodland", "thick woods", "a wooded area"),
    "golf course": ("a golf course", "a golf club", "part of a golf course"),
    "harbour": ("a harbour", "a port", "a dock area", "a waterfront with berths"),
    "industrial area": (
        "an industrial area",
        "a factory site",
        "an industrial estate",
        "a manufacturing zone",
    ),
    "interchange": (
        "a highway interchange",
        "a motorway junction",
        "an interchange",
        "a cloverleaf junction",
    ),
    "lake": ("a lake", "a body of still water", "an inland lake"),
    "park": ("a park", "a public garden", "a city park", "a green park"),
    "parking lot": ("a parking lot", "a car park", "a parking area"),
    "playground": (
        "a playground",
        "a sports ground",
        "a school sports field",
        "an athletics ground",
    ),
    "railway": ("a railway", "a railroad corridor", "a set of train lines", "a rail yard"),
    "river": ("a river", "a winding river", "a waterway", "a watercourse"),
    "solar farm": ("a solar farm", "a photovoltaic plant", "a solar power station"),
    "sparse residential area": (
        "a sparse residential area",
        "a scattered settlement",
        "a rural hamlet",
        "a loosely built neighbourhood",
    ),
    "stadium": ("a stadium", "an arena", "a large sports stadium"),
    "storage tanks": (
        "a tank farm",
        "a group of storage tanks",
        "an oil depot",
        "a fuel storage site",
    ),
}
"""What each class is called in a sentence."""

Noun = tuple[str, str]


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _nouns(words: str) -> tuple[Noun, ...]:
    """Read `car, jetty, wharf/wharves, water/`: singular and plural, an empty one for none."""
    pairs = [word.partition("/") for word in words.split(", ")]
    return tuple((one, many if slash else _plural(one)) for one, slash, many in pairs)


_NOUNS: dict[str, str] = {
    "building": "building, structure",
    "tree": "tree",
    "vehicle": "car, vehicle, automobile",
    "wagon": "rail car, railway carriage, train car",
    "container": "container, cargo box, shipping container",
    "tank": "tank, storage tank, round tank, cylindrical tank",
    "plane": "plane, airplane, jet, airliner",
    "ship": "ship, vessel, freighter, cargo ship",
    "boat": "boat, yacht, small boat",
    "court": "court, sports court, ball court",
    "soccer field": "soccer field, football pitch",
    "running track": "running track, athletics track",
    "stadium": "stadium, arena",
    "solar panel": "row of panels/rows of panels, "
        "row of solar panels/rows of solar panels, solar array",
    "swimming pool": "swimming pool, pool",
    "umbrella": "parasol, umbrella, sunshade",
    "road": "road, street",
    "path": "path, trail, dirt track",
    "ramp": "ramp, slip road",
    "highway": "highway, motorway, expressway",
    "bridge": "bridge",
    "runway": "runway, landing strip",
    "taxiway": "taxiway",
    "pier": "pier, jetty",
    "railway": "railway track, rail line, track",
    "forest": "forest/, woodland/",
    "field": "field, plot, crop field",
    "circular field": "circular field, irrigated circle",
    "clearing": "clearing, glade",
    "stream": "stream, brook, creek",
    "river": "river",
    "lake": "lake",
    "pond": "pond",
    "sea": "sea/, ocean/",
    "water": "water/",
    "beach": "beach, strip of sand/strips of sand",
    "island": "island, islet",
    "sandbank": "sandbank, gravel bar",
    "dunes": "dune field",
    "rocks": "rocky outcrop, patch of rocks/patches of rocks",
    "lawn": "lawn, stretch of grass/stretches of grass",
    "square": "paved square, plaza",
    "apron": "apron, tarmac/",
    "quay": "quay, wharf/wharves",
    "parking lot": "parking lot, car park",
    "platform": "platform",
    "bunker": "bunker, sand trap",
    "fairway": "fairway",
    "putting green": "putting green",
    "schoolyard": "schoolyard, paved yard",
    "yard": "paved yard, yard",
    "sand": "sand/",
    "gravel": "gravel/",
    "fenced area": "fenced area, enclosure",
    "farmyard": "farmyard",
}  # fmt: skip

_BUILDINGS: dict[str, str] = {
    "airport": "terminal building, terminal, building",
    "dense residential area": "house, home, dwelling",
    "sparse residential area": "house, cottage, detached house",
    "industrial area": "factory hall, warehouse, industrial building",
    "commercial area": "office block, large building, building",
    "farmland": "barn, farm building",
    "forest": "hut, cabin",
    "park": "pavilion",
    "playground": "school building, building",
    "parking lot": "shop, supermarket, building",
}  # fmt: skip

NOUNS: dict[str, tuple[Noun, ...]] = {name: _nouns(words) for name, words in _NOUNS.items()}
"""(singular, plural) words for each name; those without a plural take no number."""

BUILDINGS: dict[str, tuple[Noun, ...]] = {n: _nouns(words) for n, words in _BUILDINGS.items()}
"""What buildings are called in a class of scene."""

SELF: dict[str, tuple[str, ...]] = {
    "beach": ("beach",),
    "bridge": ("bridge",),
    "forest": ("forest",),
    "lake": ("lake",),
    "parking lot": ("parking lot",),
    "river": ("river",),
    "stadium": ("stadium",),
}
"""What a class of scene need not be said to have."""

AT: frozenset[str] = frozenset(
    {"bridge", "interchange", "lake", "railway", "river", "storage tanks", "harbour", "stadium"}
)
"""Classes that things are `at`, not `in`."""

GROUND_WORDS: dict[str, tuple[str, ...]] = {
    "green grass": ("green grass", "fresh grass", "lush meadow"),
    "dry grass": ("dry grass", "withered grass", "yellowish meadow"),
    "bare soil": ("bare soil", "bare earth", "exposed ground"),
}

NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip

# words of quantity and the range of numbers for which each is true
AMOUNTS: tuple[tuple[str, int, int], ...] = (
    ("a few", 3, 5),
    ("some", 3, 12),
    ("several", 4, 9),
    ("a number of", 5, 12),
    ("around a dozen", 11, 13),
    ("many", 11, 10_000),
    ("numerous", 14, 10_000),
    ("lots of", 14, 10_000),
    ("plenty of", 12, 10_000),
    ("dozens of", 25, 10_000),
    ("countless", 60, 10_000),
)

# words of cover and the range of shares for which each is true
COVERS: tuple[tuple[str, float, float], ...] = (
    ("almost all", 0.88, 1.0),
    ("most", 0.6, 0.88),
    ("more than half", 0.56, 0.8),
    ("about half", 0.45, 0.55),
    ("about a third", 0.29, 0.38),
    ("roughly a quarter", 0.21, 0.285),
    ("a small part", 0.03, 0.12),
)

PLACES: dict[str, tuple[str, ...]] = {
    "top-left": ("in the top left corner", "in the upper left", "at the upper left"),
    "top-center": ("at the top", "near the upper edge", "in the upper middle"),
    "top-right": ("in the top right corner", "in the upper right", "at the upper right"),
    "center-left": ("on the left", "near the left edge", "on the left side"),
    "center-center": ("in the middle", "in the centre", "at the centre"),
    "center-right": ("on the right", "near the right edge", "on the right side"),
    "bottom-left": ("in the bottom left corner", "in the lower left", "at the lower left"),
    "bottom-center": ("at the bottom", "near the lower edge", "in the lower middle"),
    "bottom-right": ("in the bottom right corner", "in the lower right", "at the lower right"),
}

# S and O are noun phrases; <s:…|…> agrees with S, <o:…|…> with O
RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": (
        "S <s:is|are> next to O", "S <s:is|are> beside O", "S <s:is|are> close to O",
        "S <s:is|are> found right by O", "S <s:borders|border> O", "S <s:is|are> adjacent to O",
    ),
    "around": (
        "S <s:surrounds|surround> O", "O <o:is|are> surrounded by S", "O <o:is|are> ringed by S",
        "S <s:encircles|encircle> O", "S <s:lies|lie> all around O",
    ),
    "along": (
        "S <s:lines|line> O", "S <s:is|are> arranged along O", "O <o:is|are> lined with S",
        "S <s:follows|follow> O", "S <s:extends|extend> alongside O",
    ),
    "through": (
        "S <s:winds|wind> through O", "S <s:runs|run> through O", "S <s:cuts|cut> through O",
        "S <s:passes|pass> through O",
    ),
    "across": ("S <s:runs|run> across O", "S <s:crosses|cross> O", "S <s:leads|lead> across O"),
    "inside": (
        "S <s:is|are> inside O", "O <o:contains|contain> S", "S <s:lies|lie> within O",
        "S <s:is|are> enclosed by O",
    ),
    "on": ("S <s:is|are> on O", "S <s:rests|rest> on O", "S <s:occupies|occupy> O"),
    "behind": ("S <s:lies|lie> behind O", "behind O <s:is|are> S", "S <s:begins|begin> behind O"),
    "between": (
        "S <s:lies|lie> between O", "S <s:separates|separate> O", "S <s:is|are> set between O",
        "between O <s:is|are> S",
    ),
    "over": ("S <s:crosses|cross> O", "S <s:spans|span> O", "S <s:passes|pass> over O",
             "S <s:leads|lead> over O"),
}  # fmt: skip

# {scene} a class, {things} a counted noun phrase (two: {things2}), {is}/{is2} its verb, {relation}
# and {cover} sentences, {only}/{place} a single thing and where it is, {ground} the ground,
# {more}/{less} two kinds, {absent} a kind that is not there
PLANS: tuple[str, ...] = (
    "{things} can be seen {in} {scene}",
    "{scene} with {things}",
    "{scene} with {things} and {things2}",
    "there {is} {things} {in} {scene}",
    "this is {scene}",
    "this picture shows {scene} on {ground}",
    "the image shows {scene}, where {relation}",
    "{relation}",
    "{relation}, and there {is} {things}",
    "{scene} in which {relation}",
    "an aerial view of {scene}: {relation}",
    "{cover}",
    "{cover}, and {relation}",
    "it is {scene}; {cover}",
    "{only} {is_only} {place}",
    "{place} of {scene} there {is_only} {only}",
    "{scene} seen from above, with {only} {place}",
    "there are more {more} than {less} {in} {scene}",
    "{things} {is} visible, but no {absent}",
    "{scene} without any {absent}",
    "a bird's-eye view of {scene}. {things}, {things2} and {ground} are visible",
    "the scene is {scene}. {relation}. {cover}",
    "we look down on {scene}. {things} and {things2} {are} visible, and {relation}",
    "{scene} amid {ground}, containing {things}",
    "besides {ground} there {is} {things}",
    "{things} and {things2} belong to {scene}",
    "a satellite photo of {scene} showing {things}, {things2} and {ground}",
    "{relation}. {only} {is_only} {place}",
    "here {is} {things}; {cover}",
    "{scene}, photographed from the air. {cover}, {relation} and there {is} {things}",
    "{things} and {things2}, with {only} {place}",
    "{things}, {things2}, {ground}",
    "part of {scene}: {things}, {things2} and {things3}",
    "{things} {is} visible {in} {scene}",
    "{things} and {things2} {in} {scene}",
    "{scene}: {things}, {things2}",
    "{things} can be made out, together with {things2}",
    "{only} {is_only} {place}; one also sees {things}",
)

HELD_OUT_PLANS: tuple[str, ...] = (
    "what one sees here is nothing but {scene}",
    "{scene}, captured from overhead",
    "what one sees here is {scene}, including {things}",
    "from overhead, {things} {is} noticeable {in} {scene}",
    "looking straight down, we find {scene}; {relation}",
    "{scene} is depicted, and {cover}",
    "in this overhead shot of {scene}, {relation}",
    "captured by a satellite: {scene} having {things} plus {things2}",
    "one can count {things}, alongside {things2}",
    "notice how {relation}",
    "the view, taken from high up, features {scene}; {place} {is_only} {only}",
    "{more} outnumber {less} {in} {scene}",
    "{scene} that has {things}, yet not a single {absent1} anywhere",
    "the land is {ground}, and {things} {is} part of {scene}",
    "{cover}; moreover, {relation}",
    "remarkably, {scene} appears here with {things}, while {relation}",
)
"""Wordings that only evaluation uses (`wording="held_out"`)."""
