//! What people say for a room, a lamp, a day, and what it is called in the answer.

use super::answer::Answer;
use super::grammar::Piece;
use super::numbers;
use crate::comparison::Random;

/// A name in the answer, and what people say for it.
type Names = &'static [(&'static str, &'static [&'static str])];

const ROOMS: Names = &[
    ("kitchen", &["kitchen"]),
    (
        "living room",
        &[
            "living room",
            "lounge",
            "sitting room",
            "front room",
            "family room",
        ],
    ),
    ("bedroom", &["bedroom", "master bedroom", "main bedroom"]),
    ("bathroom", &["bathroom", "toilet", "washroom"]),
    ("study", &["study"]),
    ("office", &["office", "home office"]),
    ("hallway", &["hallway", "hall", "corridor", "entrance hall"]),
    ("dining room", &["dining room"]),
    ("garage", &["garage"]),
    ("attic", &["attic", "loft"]),
    ("basement", &["basement", "cellar"]),
    ("nursery", &["nursery", "baby's room"]),
    (
        "guest room",
        &["guest room", "spare room", "guest bedroom", "spare bedroom"],
    ),
    (
        "kids room",
        &["kids room", "children's room", "kids' room", "kids bedroom"],
    ),
    ("laundry room", &["laundry room", "utility room", "laundry"]),
    ("garden", &["garden", "yard", "back yard"]),
    ("balcony", &["balcony"]),
    ("terrace", &["terrace", "patio", "deck"]),
    ("porch", &["porch"]),
    ("landing", &["landing"]),
    ("conservatory", &["conservatory", "sun room"]),
];
/// Said with «on», not «in».
const OPEN_ROOMS: [&str; 5] = ["balcony", "terrace", "porch", "landing", "conservatory"];
const FLOORS: [&str; 2] = ["upstairs", "downstairs"];
const EVERYWHERE: [&str; 7] = [
    "everywhere",
    "in the whole house",
    "in every room",
    "in all rooms",
    "in the house",
    "all over the house",
    "in all the rooms",
];
const LAMPS: Names = &[
    ("lamp", &["lamp"]),
    ("desk lamp", &["desk lamp", "desk light"]),
    ("floor lamp", &["floor lamp", "standing lamp"]),
    ("night light", &["night light", "nightlight"]),
    (
        "ceiling light",
        &["ceiling light", "ceiling lamp", "overhead light"],
    ),
    ("reading light", &["reading light", "reading lamp"]),
    ("bedside lamp", &["bedside lamp", "bedside light"]),
    ("table lamp", &["table lamp"]),
    ("fairy lights", &["fairy lights", "string lights"]),
];
const DEVICES: Names = &[
    (
        "coffee machine",
        &["coffee machine", "coffee maker", "espresso machine"],
    ),
    ("kettle", &["kettle"]),
    ("oven", &["oven"]),
    ("dishwasher", &["dishwasher"]),
    ("washing machine", &["washing machine", "washer"]),
    ("dryer", &["dryer", "tumble dryer"]),
    ("humidifier", &["humidifier"]),
    ("dehumidifier", &["dehumidifier"]),
    ("air purifier", &["air purifier", "air cleaner"]),
    (
        "air conditioning",
        &["air conditioning", "ac", "air conditioner", "aircon"],
    ),
    ("radio", &["radio"]),
    ("computer", &["computer", "pc"]),
    ("printer", &["printer"]),
    ("sprinkler", &["sprinkler", "sprinklers"]),
    ("iron", &["iron"]),
    ("microwave", &["microwave"]),
    ("toaster", &["toaster"]),
    ("projector", &["projector", "beamer"]),
    ("electric blanket", &["electric blanket"]),
    ("hot tub", &["hot tub", "jacuzzi"]),
    ("fountain", &["fountain"]),
    ("charger", &["charger"]),
];
const COLORS: Names = &[
    ("red", &["red"]),
    ("green", &["green"]),
    ("blue", &["blue"]),
    ("yellow", &["yellow"]),
    ("orange", &["orange"]),
    ("purple", &["purple", "violet"]),
    ("pink", &["pink", "magenta"]),
    ("white", &["white"]),
    ("turquoise", &["turquoise", "cyan", "teal"]),
    ("warm white", &["warm white"]),
    ("cool white", &["cool white", "cold white"]),
    ("gold", &["gold", "amber"]),
];
const GENRES: Names = &[
    ("jazz", &["jazz"]),
    ("rock", &["rock"]),
    ("pop", &["pop"]),
    ("classical", &["classical"]),
    ("hip hop", &["hip hop", "hip-hop", "rap"]),
    ("techno", &["techno"]),
    ("electronic", &["electronic"]),
    ("country", &["country"]),
    ("blues", &["blues"]),
    ("reggae", &["reggae"]),
    ("folk", &["folk"]),
    ("metal", &["metal", "heavy metal"]),
    ("soul", &["soul"]),
    ("funk", &["funk"]),
    ("latin", &["latin", "salsa"]),
    (
        "relaxing",
        &["relaxing", "chill", "calm", "soothing", "relaxed"],
    ),
    ("christmas", &["christmas"]),
    ("disco", &["disco"]),
    ("punk", &["punk"]),
    ("opera", &["opera"]),
];
const SPEEDS: Names = &[
    ("low", &["low", "slow", "the lowest", "minimum", "low"]),
    ("medium", &["medium", "middle", "medium"]),
    (
        "high",
        &["high", "fast", "the highest", "maximum", "full", "high"],
    ),
];
const TIMERS: Names = &[
    ("pasta", &["pasta", "spaghetti", "noodles"]),
    ("egg", &["egg", "eggs"]),
    ("pizza", &["pizza"]),
    ("tea", &["tea"]),
    ("laundry", &["laundry"]),
    ("cake", &["cake"]),
    ("rice", &["rice"]),
    ("bread", &["bread"]),
    ("potatoes", &["potatoes", "potato"]),
    ("chicken", &["chicken"]),
    ("workout", &["workout", "exercise"]),
    ("nap", &["nap"]),
    ("homework", &["homework"]),
    ("meeting", &["meeting"]),
    ("soup", &["soup"]),
];
const DOORS: Names = &[
    ("front", &["front", "main", "entrance"]),
    ("back", &["back", "rear"]),
    ("side", &["side"]),
    ("patio", &["patio", "terrace"]),
    ("cellar", &["cellar", "basement"]),
    ("balcony", &["balcony"]),
];
const GATES: Names = &[
    ("garage", &["garage", "garage door", "garage door"]),
    (
        "gate",
        &["gate", "driveway gate", "front gate", "garden gate"],
    ),
];
const SCENES: Names = &[
    ("movie", &["movie", "film", "cinema"]),
    ("dinner", &["dinner", "supper"]),
    ("bedtime", &["bedtime", "sleep", "night"]),
    ("morning", &["morning", "wake up"]),
    ("party", &["party"]),
    ("reading", &["reading"]),
    ("away", &["away", "vacation", "holiday"]),
    ("romantic", &["romantic", "romance"]),
    ("work", &["work", "working", "focus"]),
    ("relax", &["relax", "relaxing", "relaxation"]),
    ("breakfast", &["breakfast"]),
    ("cooking", &["cooking"]),
    ("gaming", &["gaming"]),
];
const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const NAMES: [&str; 12] = [
    "computer",
    "jarvis",
    "house",
    "buddy",
    "robin",
    "max",
    "furlong",
    "hal",
    "assistant",
    "emma",
    "butler",
    "friday",
];

/// Words that say nothing about what is wanted.
const COMMON_WORDS: [&str; 87] = [
    "i", "you", "we", "he", "she", "they", "my", "your", "our", "dear", "friend", "sir", "if",
    "when", "as", "because", "since", "while", "before", "after", "soon", "possible", "trouble",
    "moment", "would", "could", "will", "can", "may", "might", "must", "have", "has", "had", "get",
    "got", "go", "come", "leave", "be", "is", "was", "been", "it", "that", "this", "there", "here",
    "so", "such", "very", "really", "quite", "much", "more", "some", "any", "yes", "good", "nice",
    "kind", "lovely", "great", "fine", "like", "love", "want", "need", "wish", "hope", "think",
    "know", "wonder", "say", "ask", "mind", "forget", "help", "thing", "way", "people", "with",
    "without", "from", "at", "for", "do",
];

/// One of some things.
pub(super) fn one_of<T: Copy>(things: &[T], random: &mut Random) -> T {
    things[random.below(things.len())]
}

/// True in `percent` of a hundred times.
pub(super) fn chance(percent: usize, random: &mut Random) -> bool {
    random.below(100) < percent
}

/// Whether a grammar may use this slot.
pub(super) fn is_known(slot: &str) -> bool {
    SLOTS.iter().any(|(name, _)| *name == slot)
}

/// The words of a phrase, its slots filled; what they mean goes into `answer`.
pub(super) fn fill(phrase: &[Piece], answer: &mut Answer, random: &mut Random) -> String {
    let mut spoken = Vec::new();
    for piece in phrase {
        match piece {
            Piece::Word(word) => spoken.push(word.clone()),
            Piece::Slot(slot) => {
                if let Some((_, say)) = SLOTS.iter().find(|(name, _)| name == slot) {
                    spoken.push(say(answer, random));
                }
            }
        }
    }
    // A name may be said with its «'s», and a comma may stand behind a choice.
    spoken.join(" ").replace(" 's", "'s").replace(" ,", ",")
}

type Say = fn(&mut Answer, &mut Random) -> String;

/// All slots and how they are said.
const SLOTS: &[(&str, Say)] = &[
    ("room", |answer, random| match chance(6, random) {
        true => floor(answer, random),
        false => named("room", ROOMS, answer, random).to_owned(),
    }),
    ("the-room", the_room),
    ("in-room", in_room),
    ("lamp", |answer, random| {
        named("device", LAMPS, answer, random).to_owned()
    }),
    ("device", |answer, random| {
        named("device", DEVICES, answer, random).to_owned()
    }),
    ("color", |answer, random| {
        named("color", COLORS, answer, random).to_owned()
    }),
    ("genre", |answer, random| {
        named("genre", GENRES, answer, random).to_owned()
    }),
    ("speed", |answer, random| {
        named("speed", SPEEDS, answer, random).to_owned()
    }),
    ("timer", |answer, random| {
        named("name", TIMERS, answer, random).to_owned()
    }),
    ("door", |answer, random| {
        named("door", DOORS, answer, random).to_owned()
    }),
    ("gate", |answer, random| {
        named("door", GATES, answer, random).to_owned()
    }),
    ("scene", |answer, random| {
        named("scene", SCENES, answer, random).to_owned()
    }),
    ("level", numbers::level),
    ("percent", numbers::percent),
    ("degrees", numbers::degrees),
    ("by-degrees", numbers::by_degrees),
    ("duration", numbers::duration),
    ("time", numbers::time),
    ("day", day),
    ("bare-day", bare_day),
    ("number", |_, random| {
        let number = random.below(101);
        numbers::spoken(number, random)
    }),
    ("name", |_, random| match chance(50, random) {
        true => one_of(&NAMES, random).to_owned(),
        false => made_up_word(random),
    }),
    ("word", |_, random| made_up_word(random)),
    ("junk", |_, random| {
        let words = 2 + random.below(4);
        let words: Vec<String> = (0..words)
            .map(|_| match chance(15, random) {
                true => made_up_word(random),
                false => one_of(&COMMON_WORDS, random).to_owned(),
            })
            .collect();
        words.join(" ")
    }),
    ("nonsense", |_, random| {
        let words = 1 + random.below(5);
        let words: Vec<String> = (0..words).map(|_| made_up_word(random)).collect();
        words.join(" ")
    }),
];

fn named(slot: &str, names: Names, answer: &mut Answer, random: &mut Random) -> &'static str {
    let (name, spoken) = one_of(names, random);
    answer.set(slot, name);
    // The plain name is what most people say.
    if chance(50, random) {
        spoken[0]
    } else {
        one_of(spoken, random)
    }
}

fn floor(answer: &mut Answer, random: &mut Random) -> String {
    let floor = one_of(&FLOORS, random);
    answer.set("room", floor);
    floor.to_owned()
}

fn the_room(answer: &mut Answer, random: &mut Random) -> String {
    let room = named("room", ROOMS, answer, random);
    match random.below(20) {
        0 | 1 => room.to_owned(),
        2 => format!("my {room}"),
        3 => format!("our {room}"),
        _ => format!("the {room}"),
    }
}

fn in_room(answer: &mut Answer, random: &mut Random) -> String {
    match random.below(20) {
        0 => {
            answer.set("room", "all");
            one_of(&EVERYWHERE, random).to_owned()
        }
        1 => floor(answer, random),
        _ => {
            let room = named("room", ROOMS, answer, random);
            let open = OPEN_ROOMS.contains(&room) || ["patio", "deck"].contains(&room);
            let before = match random.below(20) {
                0 => "in",
                1 => "in my",
                2 => "in our",
                _ if open => "on the",
                _ => "in the",
            };
            format!("{before} {room}")
        }
    }
}

fn bare_day(answer: &mut Answer, random: &mut Random) -> String {
    let day = match random.below(10) {
        0..=3 => "tomorrow",
        4 => "today",
        _ => one_of(&WEEKDAYS, random),
    };
    answer.set("day", day);
    day.to_owned()
}

fn day(answer: &mut Answer, random: &mut Random) -> String {
    let (said, day) = match random.below(20) {
        0..=6 => ("tomorrow".to_owned(), "tomorrow"),
        7 | 8 => ("today".to_owned(), "today"),
        9 => (
            one_of(&["on weekdays", "every weekday", "on work days"], random).to_owned(),
            "weekdays",
        ),
        10 => (
            one_of(&["on the weekend", "at the weekend", "on weekends"], random).to_owned(),
            "weekend",
        ),
        11 => (
            one_of(&["every day", "daily", "each day"], random).to_owned(),
            "every day",
        ),
        _ => {
            let day = one_of(&WEEKDAYS, random);
            let before = one_of(&["on ", "on ", "on ", "", "next ", "for "], random);
            (format!("{before}{day}"), day)
        }
    };
    answer.set("day", day);
    said
}

/// A word that nobody knows: a name, or what speech recognition makes of a noise.
fn made_up_word(random: &mut Random) -> String {
    const STARTS: [&str; 20] = [
        "b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s",
        "st", "t", "w",
    ];
    const MIDDLES: [&str; 8] = ["a", "e", "i", "o", "u", "ea", "oo", "ai"];
    const ENDS: [&str; 10] = ["", "n", "r", "l", "m", "s", "t", "x", "nd", "ck"];
    (0..1 + random.below(3))
        .map(|_| {
            let end = one_of(&ENDS, random);
            format!(
                "{}{}{end}",
                one_of(&STARTS, random),
                one_of(&MIDDLES, random)
            )
        })
        .collect()
}
