"""The words captions are built from: synonyms per attribute, styles, and words that must change nothing."""


def _phrases(text: str) -> tuple[str, ...]:
    """Split at commas; a phrase that stands twice is drawn twice as often."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


def table(text: str) -> dict[str, tuple[str, ...]]:
    """One entry per line: the attribute's value, a colon, its phrases; a line without a colon goes on with the last."""
    result: dict[str, str] = {}
    for line in text.strip().splitlines():
        name, colon, phrases = line.rpartition(":")
        name = name.strip() if colon else list(result)[-1]
        result[name] = f"{result.get(name, '')} {phrases}"
    return {name: _phrases(phrases) for name, phrases in result.items()}


# When: as a phrase behind a sentence, as a tag, as an adjective, as a detail at the end.
TIME_PHRASES = table("""
    day: at noon, at midday, on a sunny day, on a bright day, in daylight, by day, in the afternoon, under a blue sky
    sunset: at sunset, at sunset, at sunset, at dusk, in the evening, at sundown, during the golden hour, at golden
        hour, under a sunset sky, in the orange light of sunset
    dawn: at dawn, at dawn, at sunrise, at sunrise, at daybreak, in the early morning, in the morning, under a pink
        morning sky
    night: at night, at night, at midnight, by night, on a starry night, under the stars, under a starry sky, in the
        moonlight, in the dark of night
    storm: in a storm, during a storm, in a thunderstorm, on a stormy day, under storm clouds, under a dark stormy
        sky, before the storm
    fog: in fog, in the fog, in thick fog, in the mist, on a foggy day, in morning mist, on a misty day
""")
TIME_TAGS = table("""
    day: day, daytime, noon, sunny, blue sky, daylight
    sunset: sunset, sunset, sunset, dusk, evening, golden hour, orange sky
    dawn: dawn, sunrise, morning, daybreak, pink sky
    night: night, night, midnight, starry night, stars, dark night
    storm: storm, stormy, thunderstorm, storm clouds, dark clouds
    fog: fog, foggy, mist, misty, haze
""")
TIME_ADJECTIVES = table("""
    day: sunny, sunlit, bright
    sunset: sunset, evening
    dawn: morning, sunrise
    night: moonlit, starry, nighttime
    storm: stormy
    fog: foggy, misty
""")
TIME_DETAILS = table("""
    day: bright sunlight, blue sky, sunshine
    sunset: golden light, warm light, orange sky, red sky, golden light filtering through clouds, warm golden light,
        glowing sky
    dawn: soft pink light, pale sky, first light, pastel sky
    night: stars in the sky, dark sky, starry sky, many stars
    storm: dark clouds, dramatic sky, grey sky, heavy clouds
    fog: grey light, low visibility, soft grey sky
""")
WEATHERS = table("""
    dry: dry weather
    rain: rain, in the rain, heavy rain, rainy, pouring rain
    snowfall: falling snow, snowfall, snowing, snowflakes
    rainbow: a rainbow, rainbow, a rainbow in the sky, with a rainbow
    lightning: lightning, a lightning bolt, with lightning, a flash of lightning
""")
SEASON_PHRASES = table("""
    summer: in summer, on a summer day
    spring: in spring, in springtime
    autumn: in autumn, in fall, in autumn
    winter: in winter, in winter
""")
SEASON_ADJECTIVES = table("""
    summer: summer, green
    spring: spring, springtime, blooming
    autumn: autumn, autumnal, fall
    winter: winter, wintry, frozen
""")
BACKGROUNDS = table("""
    none: an open horizon, a flat horizon, no mountains
    hills: hills, rolling hills, green hills, low hills, distant hills
    mountains: mountains, mountains, mountains, a mountain range, distant mountains, peaks, tall mountains, a mountain
    snowy_mountains: snowy mountains, snow-capped mountains, snowy peaks, snow covered mountains, white mountains,
        the alps
    city: a city, a city skyline, skyscrapers, a skyline, tall buildings, a big city
    waterfall: a waterfall, a waterfall, a tall waterfall, a cliff with a waterfall
""")
BACKGROUND_TAGS = table("""
    none: flat horizon
    hills: hills, rolling hills
    mountains: mountains, mountain
    snowy_mountains: snowy mountains, snowy peaks
    city: city, city skyline, skyline
    waterfall: waterfall
""")
LANDSCAPES = table("""
    none: open landscape
    hills: hilly landscape, hill landscape
    mountains: mountain landscape, mountain landscape, mountain view, mountain scene, mountain scenery
    snowy_mountains: snowy mountain landscape, alpine landscape
    city: cityscape, city view, city skyline
    waterfall: waterfall landscape, waterfall
""")
GROUNDS = table("""
    lake: a lake, a lake, a calm lake, a still lake, a clear lake, a lake with reflections
    sea: the sea, the sea, the ocean, an ocean, a calm sea, the open sea
    beach: a beach, a beach, a sandy beach, the shore, the coast, a seaside
    meadow: a meadow, a meadow, a green meadow, a meadow with flowers, grass, a grassy valley, green grass
    field: a field, a wheat field, a field of wheat, farmland, golden fields, farm fields
    forest: a forest, a forest, a pine forest, the woods, a dense forest, pine trees
    desert: a desert, a desert, sand dunes, desert dunes, a sandy desert
    snow: snow, a snowy plain, a snow field, snow covered ground, deep snow, white snow
    river: a river, a river, a winding river, a stream, a river valley, a blue river
    road: a road, a road, a country road, a long road, a straight road, a highway
""")
GROUND_TAGS = table("""
    lake: lake, lake
    sea: sea, ocean
    beach: beach, coast
    meadow: meadow, grass
    field: field, wheat field
    forest: forest, pine forest
    desert: desert, dunes
    snow: snow, snowy ground
    river: river, stream
    road: road, highway
""")
GROUND_LANDSCAPES = table("""
    lake: lake landscape, lake view
    sea: seascape, ocean view, sea view
    beach: beach scene, beach view
    meadow: meadow landscape, grassy landscape
    field: field landscape, farm landscape
    forest: forest landscape, forest scene
    desert: desert landscape, desert scene
    snow: snowy landscape, winter landscape
    river: river landscape, river view
    road: road scene, landscape with a road
""")
CLOUDS = table("""
    none: clear sky, no clouds, a cloudless sky, cloudless
    few: a few clouds, some clouds, small clouds, scattered clouds
    many: many clouds, cloudy sky, dramatic clouds, a cloudy sky, lots of clouds
""")
ANY_CLOUDS = _phrases("clouds, soft clouds, clouds in the sky")
LIGHTS = table("""
    sun: the sun, a bright sun, sun in the sky, sun, sun rays
    moon: a full moon, the moon, moon, a bright moon
""")
# Singular first; a plural is made by `captions.plural`.
THINGS = table("""
    house: house, house, cabin, cottage, small house, farmhouse, home
    castle: castle, castle, fortress, medieval castle
    church: church, church, chapel, small church
    lighthouse: lighthouse
    bridge: bridge, stone bridge, arched bridge
    boat: sailboat, boat, sailing boat, small boat, sailing ship
    ship: ship, ship, steamship, ferry, big ship
    balloon: hot air balloon, balloon, hot-air balloon
    aeroplane: aeroplane, airplane, plane, airliner
    car: car, car, automobile
    bird: bird, bird, flying bird
    cat: cat, cat, kitten, sitting cat
    dog: dog, dog, puppy
    horse: horse, horse, pony
    person: person, man, woman, child, boy, girl, figure
    tree: tree, lone tree, big tree, oak tree, oak
    pine: pine tree, fir tree, pine, fir, christmas tree
    palm: palm tree, palm
    flower: flower, flower, big flower, daisy
    apple: apple
    pear: pear
    banana: banana
    vase: vase of flowers, vase with flowers, bouquet, flower vase
""")
LINKS = table("""
    over: over, above, over
    on: on, on, in
    across: over, across
    by: by, in, in front of, near, on
""")
THING_LINKS = {"balloon": "over", "aeroplane": "over", "bird": "over", "boat": "on", "ship": "on", "bridge": "across"}
PLACES = table("""
    left: on the left, on the left side, to the left
    centre: in the centre, in the middle, in the center
    right: on the right, on the right side, to the right
    top: at the top, in the upper part
    bottom: at the bottom, in the lower part
""")
COUNTS = table("""
    one: a, one, a single
    two: two, two, a pair of, 2
    three: three, three, 3
""")
SIZES = table("""
    small: small, tiny, little
    medium: medium
    large: large, big, huge
""")
RELATIONS = table("""
    left: left of, to the left of
    right: right of, to the right of
    above: above, over
    below: below, under
""")
STYLE_OPENINGS = table("""
    photo: a photo of, a photograph of, photo of, a realistic picture of, a photorealistic picture of
    watercolour: a watercolour of, a watercolor painting of, watercolor of, a watercolour painting of
    oil: an oil painting of, oil painting of, a painting of, an impressionist painting of
    sketch: a pencil sketch of, a pencil drawing of, a sketch of, a drawing of, a black and white drawing of
    pixel: pixel art of, a pixel art picture of, an 8-bit picture of, pixel art of
    poster: a flat poster of, a poster of, a flat illustration of, a minimalist poster of
""")
STYLE_TAGS = table("""
    photo: photorealistic, photorealistic, realistic, ultra realistic, photo, photography, professional photography
    watercolour: watercolour, watercolor, watercolour painting, watercolor style
    oil: oil painting, oil on canvas, impressionist, painterly, van gogh style
    sketch: pencil sketch, pencil drawing, sketch, line drawing, graphite
    pixel: pixel art, 8-bit, pixelated, retro game style
    poster: flat poster, flat design, vector art, poster style, flat colors
""")
STILL_PLACES = _phrases("on a table, on a wooden table, on the table, still life, indoors, on a wooden desk")
ADJECTIVES = _phrases("""
    serene, beautiful, peaceful, calm, majestic, stunning, breathtaking, quiet, epic, tranquil, dreamy, lovely,
    picturesque, vast, magical, scenic, gorgeous, idyllic, wild, remote, wide, amazing, simple, pretty, nice,
    mysterious, romantic, lonely, enchanting, cozy
""")
OPENINGS = _phrases(
    "a picture of, an illustration of, a view of, an image of, picture of, image of, draw, show me, i want"
)
# Words about quality and mood: they may stand anywhere and must do no harm.
FILLERS = _phrases("""
    4k, 8k, highly detailed, detailed, masterpiece, digital art, illustration, concept art, wallpaper, cinematic,
    soft light, sharp focus, high quality, best quality, beautiful lighting, vibrant colors, wide angle,
    landscape photography, hdr, low poly, award winning, dramatic lighting, trending, high resolution, art,
    atmospheric, nature, panorama, colorful, trending on artstation, unreal engine, octane render, 35mm, bokeh,
    calm mood, peaceful mood, happy mood, melancholic, nostalgic, volumetric lighting, epic composition
""")
# Typical negative prompts: they name nothing the model can draw, so they must mean as little as "".
DEFECTS = _phrases("""
    blurry, low quality, bad quality, ugly, watermark, text, deformed, noise, jpeg artifacts, distorted, bad
    anatomy, worst quality, lowres, grainy, out of focus, cropped, signature, logo, oversaturated, low
    resolution, extra limbs, duplicate
""")
# Things the model cannot draw; seen in training so that they disturb nothing.
STRANGERS = _phrases("""
    robot, portrait, dragon, astronaut, spaceship, garden, coffee, cup, fox, owl, train, tower, village, island,
    wizard, knight, food, pizza, book, door, room, neon, cyberpunk, anime, cartoon, fantasy, retro, sculpture,
    glass, gold, wood, metal, stone, fire, ice, dinosaur, elephant, tiger, lion, fish, butterfly, guitar, piano,
    phone, computer, chair, lamp, king, queen, hat, sword, monster, alien, market, street, bicycle, motorcycle, cow,
    sheep, rabbit, bear, wolf, unicorn, jungle, cave, volcano, moon landing, space, planet, galaxy, windmill
""")
