"""The words captions are built from: synonyms per attribute, styles, and words that must change nothing."""

TIME_PHRASES = {
    "day": ("at noon", "at midday", "on a sunny day", "on a bright day", "in daylight", "by day", "in the afternoon", "on a clear summer day", "under a blue sky"),
    "sunset": ("at sunset", "at sunset", "at sunset", "at dusk", "in the evening", "at sundown", "during the golden hour", "at golden hour", "under a sunset sky", "in the orange light of sunset"),
    "dawn": ("at dawn", "at dawn", "at sunrise", "at sunrise", "at daybreak", "in the early morning", "in the morning", "under a pink morning sky"),
    "night": ("at night", "at night", "at midnight", "by night", "on a starry night", "under the stars", "under a starry sky", "in the moonlight", "in the dark of night"),
}  # fmt: skip
TIME_TAGS = {
    "day": ("day", "daytime", "noon", "sunny", "blue sky", "daylight"),
    "sunset": ("sunset", "sunset", "sunset", "dusk", "evening", "golden hour", "orange sky"),
    "dawn": ("dawn", "sunrise", "morning", "daybreak", "pink sky"),
    "night": ("night", "night", "midnight", "starry night", "stars", "dark night"),
}
TIME_ADJECTIVES = {"day": ("sunny", "sunlit", "bright"), "sunset": ("sunset", "evening"), "dawn": ("morning", "sunrise"), "night": ("moonlit", "starry", "nighttime")}
TIME_DETAILS = {
    "day": ("bright sunlight", "blue sky", "sunshine"),
    "sunset": ("golden light", "warm light", "orange sky", "red sky", "golden light filtering through clouds", "warm golden light", "glowing sky"),
    "dawn": ("soft pink light", "pale sky", "first light", "pastel sky"),
    "night": ("stars in the sky", "dark sky", "starry sky", "many stars"),
}  # fmt: skip
BACKGROUNDS = {
    "none": ("an open horizon", "a flat horizon", "no mountains"),
    "hills": ("hills", "rolling hills", "green hills", "low hills", "distant hills"),
    "mountains": ("mountains", "mountains", "mountains", "a mountain range", "distant mountains", "peaks", "tall mountains", "a mountain"),
    "snowy_mountains": ("snowy mountains", "snow-capped mountains", "snowy peaks", "snow covered mountains", "white mountains", "the alps"),
}  # fmt: skip
BACKGROUND_TAGS = {"none": ("flat horizon",), "hills": ("hills", "rolling hills"), "mountains": ("mountains", "mountain"), "snowy_mountains": ("snowy mountains", "snowy peaks")}
LANDSCAPES = {
    "none": ("open landscape",),
    "hills": ("hilly landscape", "hill landscape"),
    "mountains": ("mountain landscape", "mountain landscape", "mountain view", "mountain scene", "mountain scenery"),
    "snowy_mountains": ("snowy mountain landscape", "alpine landscape"),
}
GROUNDS = {
    "lake": ("a lake", "a lake", "a calm lake", "a still lake", "a clear lake", "a lake with reflections"),
    "sea": ("the sea", "the sea", "the ocean", "an ocean", "a calm sea", "the open sea"),
    "beach": ("a beach", "a beach", "a sandy beach", "the shore", "the coast", "a seaside"),
    "meadow": ("a meadow", "a meadow", "a green meadow", "a meadow with flowers", "grass", "a grassy valley", "green grass"),
    "field": ("a field", "a wheat field", "a field of wheat", "farmland", "golden fields", "farm fields"),
    "forest": ("a forest", "a forest", "a pine forest", "the woods", "a dense forest", "pine trees"),
    "desert": ("a desert", "a desert", "sand dunes", "desert dunes", "a sandy desert"),
    "snow": ("snow", "a snowy plain", "a snow field", "snow covered ground", "deep snow", "white snow"),
}
GROUND_TAGS = {
    "lake": ("lake", "lake"), "sea": ("sea", "ocean"), "beach": ("beach", "coast"), "meadow": ("meadow", "grass"), "field": ("field", "wheat field"),
    "forest": ("forest", "pine forest"), "desert": ("desert", "dunes"), "snow": ("snow", "snowy ground"),
}  # fmt: skip
GROUND_LANDSCAPES = {
    "lake": ("lake landscape", "lake view"), "sea": ("seascape", "ocean view", "sea view"), "beach": ("beach scene", "beach view"), "meadow": ("meadow landscape", "grassy landscape"),
    "field": ("field landscape", "farm landscape"), "forest": ("forest landscape", "forest scene"), "desert": ("desert landscape", "desert scene"), "snow": ("snowy landscape", "winter landscape"),
}  # fmt: skip
CLOUDS = {
    "none": ("clear sky", "no clouds", "a cloudless sky", "cloudless"),
    "few": ("a few clouds", "some clouds", "small clouds", "scattered clouds"),
    "many": ("many clouds", "cloudy sky", "dramatic clouds", "a cloudy sky", "lots of clouds"),
}
ANY_CLOUDS = ("clouds", "soft clouds", "clouds in the sky")
LIGHTS = {"sun": ("the sun", "a bright sun", "sun in the sky", "sun"), "moon": ("a full moon", "the moon", "moon", "a bright moon")}
THINGS = {
    "house": ("house", "house", "cabin", "cottage", "small house", "farmhouse"),
    "boat": ("sailboat", "boat", "sailing boat", "small boat"),
    "tree": ("tree", "lone tree", "single tree", "big tree"),
    "balloon": ("hot air balloon", "balloon", "hot-air balloon"),
}
ADJECTIVES = (
    "serene", "beautiful", "peaceful", "calm", "majestic", "stunning", "breathtaking", "quiet", "epic", "tranquil", "dreamy", "lovely",
    "picturesque", "vast", "magical", "scenic", "gorgeous", "idyllic", "wild", "remote", "wide", "amazing", "simple", "pretty", "nice",
)  # fmt: skip
OPENINGS = ("a photo of", "a picture of", "a painting of", "an illustration of", "a view of", "an image of", "photo of", "picture of", "a photograph of", "a drawing of")
STYLES = (
    "photorealistic", "photorealistic", "4k", "8k", "highly detailed", "detailed", "masterpiece", "digital art", "illustration", "flat design", "vector art",
    "concept art", "wallpaper", "cinematic", "soft light", "sharp focus", "high quality", "best quality", "beautiful lighting", "vibrant colors",
    "oil painting", "watercolor", "minimalist", "professional photography", "wide angle", "landscape photography", "hdr", "ultra realistic",
    "low poly", "award winning", "dramatic lighting", "trending", "high resolution", "realistic", "art", "atmospheric", "nature", "panorama", "colorful",
)  # fmt: skip
# Typical negative prompts: they name nothing the model can draw, so they must mean as little as "".
DEFECTS = (
    "blurry", "low quality", "bad quality", "ugly", "watermark", "text", "deformed", "noise", "jpeg artifacts", "distorted", "bad anatomy",
    "worst quality", "lowres", "grainy", "out of focus", "cropped", "signature", "logo", "oversaturated", "low resolution", "people",
)  # fmt: skip
# Things the model cannot draw; seen in training so that they disturb nothing.
STRANGERS = (
    "cat", "dog", "robot", "city", "car", "person", "woman", "man", "portrait", "horse", "bird", "dragon", "castle", "bridge", "road", "street",
    "girl", "boy", "astronaut", "spaceship", "flower", "garden", "river", "waterfall", "coffee", "cup", "table", "fox", "owl", "train", "plane",
    "building", "tower", "village", "island", "rain", "fog", "storm", "wizard", "knight", "food", "pizza", "book", "window", "door", "room",
    "neon", "cyberpunk", "anime", "cartoon", "fantasy", "retro", "sculpture", "glass", "gold", "wood", "metal", "stone", "fire", "ice",
)  # fmt: skip
