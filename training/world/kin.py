"""What people ask for that this world does not hold, and what of it is nearest: `nearest: words of others`."""

from training.world.words import table

# The left side is made of words that the model draws; a word stands on the right side once.
_KIN = table("""
    dog: fox, wolf, bear, coyote, hound, retriever, corgi, terrier, poodle, husky, labrador, dachshund, pup, hedgehog
    cat: tiger, lion, leopard, panther, lynx, cheetah, rabbit, bunny, squirrel, mouse, hamster, raccoon, panda, monkey
    horse: cow, sheep, goat, deer, donkey, zebra, camel, elephant, giraffe, unicorn, pig, bull, moose, dinosaur, stag
    bird: owl, eagle, parrot, duck, swan, chicken, penguin, dragon, butterfly, bat, crow, raven, seagull, hawk, bee,
        hummingbird, flamingo, peacock, phoenix, pigeon
    person: robot, astronaut, wizard, knight, king, queen, portrait, princess, prince, warrior, alien, monster, face,
        people, lady, soldier, dancer, samurai, ninja, angel, elf, baby, couple, hero, superhero, doctor, chef, pirate,
        witch, vampire, zombie, skeleton, selfie, human, android, cyborg, guy, gentleman, mother, father, friends,
        children, men, women, cowboy, fisherman, farmer, musician, statue, sculpture, character, model, fairy, mermaid
    house: cafe, café, library, shop, hut, barn, restaurant, bakery, hotel, village, room, kitchen, bedroom, tent, inn,
        mansion, villa, mill, windmill, treehouse, garage, station, market, school, igloo, store, bar, diner, shed,
        building, bungalow, interior, windowsill, window, door
    castle: palace, ruins, ruin, kingdom, citadel, fantasy, fort, tower
    church: temple, mosque, cathedral, pagoda, monastery, shrine, steeple
    city: town, street, cyberpunk, downtown, metropolis, tokyo, paris, london, york, neon, futuristic, urban,
        skyscraper, alley, rooftop
    bridge: aqueduct, viaduct, pier
    car: truck, bus, taxi, motorcycle, motorbike, bicycle, bike, train, jeep, tractor, vehicle, ferrari, porsche,
        tank, locomotive, tram
    boat: canoe, kayak, yacht, raft, gondola, sail
    ship: submarine, cruise, galleon, vessel, whale, shark, dolphin, fish
    plane: spaceship, rocket, jet, helicopter, drone, ufo, spacecraft, satellite, shuttle
    balloon: kite, zeppelin, blimp, parachute, airship
    tree: bush, maple, willow, birch, cherry, sakura, bonsai, leaves, plant,  mushroom, bamboo, orchard
    palm: cactus, coconut, tropical, oasis
    forest: jungle, rainforest, swamp, grove, wood
    meadow: garden, park, hillside, lawn, savanna, prairie, pasture
    lake: pond, pool, lagoon, marsh
    sea: underwater, waves, wave, bay, fjord, harbour, harbor, port
    beach: island, seashore, coastline, dock, coastal
    desert: canyon, mars, wasteland, gobi, sahara
    mountain: volcano, cave, cliffs, everest, fuji, summit, rock, rocks
    waterfall: cascade, fountain
    snow: ice, frost, glacier, iceberg, arctic, antarctica, icy
    snowfall: blizzard, snowstorm
    road: path, trail, lane, avenue, bridleway, motorway
    flower: rose, roses, tulip, tulips, sunflower, sunflowers, lily, orchid, lavender, petals, blossom, blossoms, poppy
    apple: peach, tomato, strawberry, fruit, fruits, food, pizza, bread, cake, burger, lemon, grapes, berries, donut
    vase: cup, bottle, bowl, teapot, coffee, tea, mug, lamp, ramen, noodles, soup, wine, beer, candle, lantern
    stars: space, galaxy, planet, nebula, universe, cosmos, aurora, constellation, comet
    storm: tornado, hurricane, typhoon, thunder, tempest
    dusk: twilight, nightfall
    poster: anime, cartoon, comic, manga, ghibli, disney, pixar, graffiti, logo, sticker, banner, sign
    sketch: ink, charcoal, engraving, doodle, etching, lineart
    oil: acrylic, renaissance, baroque, impasto, monet, rembrandt
    watercolour: gouache, pastels
    pixel: minecraft, voxel, lego, isometric
    circle: ball, sphere, ring, disc, wheel, dot
    square: cube, box, rectangle, block
    triangle: pyramid, cone, arrow
""")

NEAREST: dict[str, str] = {stranger: known for known, strangers in _KIN.items() for stranger in strangers}
