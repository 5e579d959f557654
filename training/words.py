"""The words captions are built from: synonyms per attribute, styles, and words that must change nothing."""


def _phrases(text: str) -> tuple[str, ...]:
    """Split at commas; a phrase that stands twice is drawn twice as often."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


TIME_PHRASES = {
    "day": _phrases(
        """
        at noon, at midday, on a sunny day, on a bright day, in daylight, by day, in the afternoon, on a clear
        summer day, under a blue sky
        """
    ),
    "sunset": _phrases(
        """
        at sunset, at sunset, at sunset, at dusk, in the evening, at sundown, during the golden hour, at golden
        hour, under a sunset sky, in the orange light of sunset
        """
    ),
    "dawn": _phrases(
        """
        at dawn, at dawn, at sunrise, at sunrise, at daybreak, in the early morning, in the morning, under a
        pink morning sky
        """
    ),
    "night": _phrases(
        """
        at night, at night, at midnight, by night, on a starry night, under the stars, under a starry sky, in
        the moonlight, in the dark of night
        """
    ),
}
TIME_TAGS = {
    "day": _phrases("day, daytime, noon, sunny, blue sky, daylight"),
    "sunset": _phrases("sunset, sunset, sunset, dusk, evening, golden hour, orange sky"),
    "dawn": _phrases("dawn, sunrise, morning, daybreak, pink sky"),
    "night": _phrases("night, night, midnight, starry night, stars, dark night"),
}
TIME_ADJECTIVES = {
    "day": _phrases("sunny, sunlit, bright"),
    "sunset": _phrases("sunset, evening"),
    "dawn": _phrases("morning, sunrise"),
    "night": _phrases("moonlit, starry, nighttime"),
}
TIME_DETAILS = {
    "day": _phrases("bright sunlight, blue sky, sunshine"),
    "sunset": _phrases(
        """
        golden light, warm light, orange sky, red sky, golden light filtering through clouds, warm golden light,
        glowing sky
        """
    ),
    "dawn": _phrases("soft pink light, pale sky, first light, pastel sky"),
    "night": _phrases("stars in the sky, dark sky, starry sky, many stars"),
}
BACKGROUNDS = {
    "none": _phrases("an open horizon, a flat horizon, no mountains"),
    "hills": _phrases("hills, rolling hills, green hills, low hills, distant hills"),
    "mountains": _phrases(
        """
        mountains, mountains, mountains, a mountain range, distant mountains, peaks, tall mountains, a mountain
        """
    ),
    "snowy_mountains": _phrases(
        """
        snowy mountains, snow-capped mountains, snowy peaks, snow covered mountains, white mountains, the alps
        """
    ),
}
BACKGROUND_TAGS = {
    "none": _phrases("flat horizon"),
    "hills": _phrases("hills, rolling hills"),
    "mountains": _phrases("mountains, mountain"),
    "snowy_mountains": _phrases("snowy mountains, snowy peaks"),
}
LANDSCAPES = {
    "none": _phrases("open landscape"),
    "hills": _phrases("hilly landscape, hill landscape"),
    "mountains": _phrases("mountain landscape, mountain landscape, mountain view, mountain scene, mountain scenery"),
    "snowy_mountains": _phrases("snowy mountain landscape, alpine landscape"),
}
GROUNDS = {
    "lake": _phrases("a lake, a lake, a calm lake, a still lake, a clear lake, a lake with reflections"),
    "sea": _phrases("the sea, the sea, the ocean, an ocean, a calm sea, the open sea"),
    "beach": _phrases("a beach, a beach, a sandy beach, the shore, the coast, a seaside"),
    "meadow": _phrases(
        "a meadow, a meadow, a green meadow, a meadow with flowers, grass, a grassy valley, green grass"
    ),
    "field": _phrases("a field, a wheat field, a field of wheat, farmland, golden fields, farm fields"),
    "forest": _phrases("a forest, a forest, a pine forest, the woods, a dense forest, pine trees"),
    "desert": _phrases("a desert, a desert, sand dunes, desert dunes, a sandy desert"),
    "snow": _phrases("snow, a snowy plain, a snow field, snow covered ground, deep snow, white snow"),
}
GROUND_TAGS = {
    "lake": _phrases("lake, lake"),
    "sea": _phrases("sea, ocean"),
    "beach": _phrases("beach, coast"),
    "meadow": _phrases("meadow, grass"),
    "field": _phrases("field, wheat field"),
    "forest": _phrases("forest, pine forest"),
    "desert": _phrases("desert, dunes"),
    "snow": _phrases("snow, snowy ground"),
}
GROUND_LANDSCAPES = {
    "lake": _phrases("lake landscape, lake view"),
    "sea": _phrases("seascape, ocean view, sea view"),
    "beach": _phrases("beach scene, beach view"),
    "meadow": _phrases("meadow landscape, grassy landscape"),
    "field": _phrases("field landscape, farm landscape"),
    "forest": _phrases("forest landscape, forest scene"),
    "desert": _phrases("desert landscape, desert scene"),
    "snow": _phrases("snowy landscape, winter landscape"),
}
CLOUDS = {
    "none": _phrases("clear sky, no clouds, a cloudless sky, cloudless"),
    "few": _phrases("a few clouds, some clouds, small clouds, scattered clouds"),
    "many": _phrases("many clouds, cloudy sky, dramatic clouds, a cloudy sky, lots of clouds"),
}
ANY_CLOUDS = _phrases("clouds, soft clouds, clouds in the sky")
LIGHTS = {
    "sun": _phrases("the sun, a bright sun, sun in the sky, sun"),
    "moon": _phrases("a full moon, the moon, moon, a bright moon"),
}
THINGS = {
    "house": _phrases("house, house, cabin, cottage, small house, farmhouse"),
    "boat": _phrases("sailboat, boat, sailing boat, small boat"),
    "tree": _phrases("tree, lone tree, single tree, big tree"),
    "balloon": _phrases("hot air balloon, balloon, hot-air balloon"),
}
ADJECTIVES = _phrases(
    """
    serene, beautiful, peaceful, calm, majestic, stunning, breathtaking, quiet, epic, tranquil, dreamy, lovely,
    picturesque, vast, magical, scenic, gorgeous, idyllic, wild, remote, wide, amazing, simple, pretty, nice
    """
)
OPENINGS = _phrases(
    """
    a photo of, a picture of, a painting of, an illustration of, a view of, an image of, photo of, picture of, a
    photograph of, a drawing of
    """
)
STYLES = _phrases(
    """
    photorealistic, photorealistic, 4k, 8k, highly detailed, detailed, masterpiece, digital art, illustration,
    flat design, vector art, concept art, wallpaper, cinematic, soft light, sharp focus, high quality, best
    quality, beautiful lighting, vibrant colors, oil painting, watercolor, minimalist, professional photography,
    wide angle, landscape photography, hdr, ultra realistic, low poly, award winning, dramatic lighting,
    trending, high resolution, realistic, art, atmospheric, nature, panorama, colorful
    """
)
# Typical negative prompts: they name nothing the model can draw, so they must mean as little as "".
DEFECTS = _phrases(
    """
    blurry, low quality, bad quality, ugly, watermark, text, deformed, noise, jpeg artifacts, distorted, bad
    anatomy, worst quality, lowres, grainy, out of focus, cropped, signature, logo, oversaturated, low
    resolution, people
    """
)
# Things the model cannot draw; seen in training so that they disturb nothing.
STRANGERS = _phrases(
    """
    cat, dog, robot, city, car, person, woman, man, portrait, horse, bird, dragon, castle, bridge, road, street,
    girl, boy, astronaut, spaceship, flower, garden, river, waterfall, coffee, cup, table, fox, owl, train,
    plane, building, tower, village, island, rain, fog, storm, wizard, knight, food, pizza, book, window, door,
    room, neon, cyberpunk, anime, cartoon, fantasy, retro, sculpture, glass, gold, wood, metal, stone, fire, ice
    """
)
