//! Numbers, lengths of time and times of day as people say them.

use super::answer::Answer;
use super::slots::{chance, one_of};
use crate::comparison::Random;

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// A number up to 100 in words.
pub(super) fn in_words(number: usize, random: &mut Random) -> String {
    match (number / 10, number % 10) {
        (0 | 1, _) => ONES[number].to_owned(),
        (10.., _) => one_of(&["a hundred", "one hundred", "hundred"], random).to_owned(),
        (tens, 0) => TENS[tens].to_owned(),
        (tens, ones) if chance(10, random) => format!("{}-{}", TENS[tens], ONES[ones]),
        (tens, ones) => format!("{} {}", TENS[tens], ONES[ones]),
    }
}

/// A number up to 100, in words or digits.
pub(super) fn spoken(number: usize, random: &mut Random) -> String {
    if chance(60, random) {
        in_words(number, random)
    } else {
        number.to_string()
    }
}

/// A number up to 100; round ones are likelier.
fn level_number(random: &mut Random) -> usize {
    match random.below(10) {
        0..=4 => 10 * random.below(11),
        5..=6 => 5 * random.below(21),
        _ => random.below(101),
    }
}

/// A number with its sign for percent, or without.
fn with_percent(number: usize, bare: usize, random: &mut Random) -> String {
    if chance(12, random) {
        return format!("{number}%");
    }
    let spoken = spoken(number, random);
    match random.below(100) {
        drawn if drawn < bare => spoken,
        drawn if drawn < bare + 5 => format!("{spoken} per cent"),
        _ => format!("{spoken} percent"),
    }
}

/// How bright, loud or open something is to be.
pub(super) fn level(answer: &mut Answer, random: &mut Random) -> String {
    if chance(10, random) {
        let (said, number) = one_of(
            &[
                ("half", 50),
                ("fifty fifty", 50),
                ("a quarter", 25),
                ("three quarters", 75),
                ("maximum", 100),
                ("full", 100),
                ("max", 100),
                ("a third", 33),
            ],
            random,
        );
        answer.set("level", number);
        return said.to_owned();
    }
    let number = level_number(random);
    answer.set("level", number);
    let said = with_percent(number, 22, random);
    roughly(said, random)
}

/// A number as it is, or with a word before it that changes nothing.
fn roughly(said: String, random: &mut Random) -> String {
    match random.below(25) {
        0 => format!(
            "{} {said}",
            one_of(&["about", "around", "roughly", "exactly", "just"], random)
        ),
        _ => said,
    }
}

/// By how much something is to change, in percent.
pub(super) fn percent(answer: &mut Answer, random: &mut Random) -> String {
    let number = match random.below(3) {
        0 => 1 + random.below(60),
        _ => 5 * (1 + random.below(12)),
    };
    answer.set("by", number);
    with_percent(number, 30, random)
}

/// A temperature in degrees Celsius.
pub(super) fn degrees(answer: &mut Answer, random: &mut Random) -> String {
    let whole = match random.below(5) {
        0 => 5 + random.below(26),
        _ => 15 + random.below(11),
    };
    if chance(12, random) {
        answer.set("temperature", whole as f64 + 0.5);
        let words = in_words(whole, random);
        let said = match random.below(4) {
            0 => format!("{whole}.5"),
            1 => format!("{words} point five"),
            2 => format!("{whole} and a half"),
            _ => format!("{words} and a half"),
        };
        return with_degrees(said, random);
    }
    answer.set("temperature", whole);
    if chance(6, random) {
        return format!("{whole}{}", one_of(&["°", "°c", "c", " °c"], random));
    }
    let said = spoken(whole, random);
    with_degrees(said, random)
}

fn with_degrees(said: String, random: &mut Random) -> String {
    let said = roughly(said, random);
    match random.below(20) {
        0..=4 => said,
        5 => format!("{said} celsius"),
        6 => format!("{said} degrees celsius"),
        _ => format!("{said} degrees"),
    }
}

/// By how many degrees.
pub(super) fn by_degrees(answer: &mut Answer, random: &mut Random) -> String {
    let number = 1 + random.below(5);
    answer.set("by", number);
    match number {
        1 => one_of(&["a degree", "one degree", "1 degree"], random).to_owned(),
        2 if chance(25, random) => "a couple of degrees".to_owned(),
        _ => format!("{} degrees", spoken(number, random)),
    }
}

/// A length of time, in the units it is said in.
pub(super) fn duration(answer: &mut Answer, random: &mut Random) -> String {
    let unit = |number: usize, name: &str, random: &mut Random| {
        let said = spoken(number, random);
        let plural = if number == 1 { "" } else { "s" };
        match (name, random.below(12)) {
            ("minute", 0) => format!("{said} min{plural}"),
            ("second", 0) => format!("{said} sec{plural}"),
            _ => format!("{said} {name}{plural}"),
        }
    };
    match random.below(20) {
        0 => {
            let (said, minutes) = one_of(
                &[
                    ("half an hour", 30),
                    ("a half hour", 30),
                    ("a quarter of an hour", 15),
                    ("quarter of an hour", 15),
                    ("three quarters of an hour", 45),
                ],
                random,
            );
            answer.set("minutes", minutes);
            said.to_owned()
        }
        1 => {
            answer.set("hours", 1);
            if chance(40, random) {
                answer.set("minutes", 30);
                return one_of(&["an hour and a half", "one and a half hours"], random).to_owned();
            }
            one_of(&["an hour", "one hour", "1 hour"], random).to_owned()
        }
        2 => {
            let hours = 1 + random.below(11);
            answer.set("hours", hours);
            answer.set("minutes", 30);
            let said = spoken(hours, random);
            one_of(&["# and a half hours", "# hours and a half"], random).replace('#', &said)
        }
        3 => {
            let minutes = 1 + random.below(30);
            answer.set("minutes", minutes);
            answer.set("seconds", 30);
            let said = spoken(minutes, random);
            one_of(&["# and a half minutes", "# minutes and a half"], random).replace('#', &said)
        }
        4 => {
            answer.set("minutes", 1);
            one_of(&["a minute", "one minute", "1 minute"], random).to_owned()
        }
        5 | 6 => {
            let (hours, minutes) = (1 + random.below(12), 1 + random.below(59));
            let minutes = if chance(60, random) {
                5 * (1 + minutes / 6)
            } else {
                minutes
            };
            answer.set("hours", hours);
            answer.set("minutes", minutes);
            let (hours, minutes) = (unit(hours, "hour", random), unit(minutes, "minute", random));
            format!("{hours} {}{minutes}", one_of(&["and ", ""], random))
        }
        7 => {
            let (minutes, seconds) = (1 + random.below(20), 5 * (1 + random.below(11)));
            answer.set("minutes", minutes);
            answer.set("seconds", seconds);
            let minutes = unit(minutes, "minute", random);
            let seconds = unit(seconds, "second", random);
            format!("{minutes} {}{seconds}", one_of(&["and ", ""], random))
        }
        8 | 9 => {
            let seconds = match random.below(2) {
                0 => 5 * (1 + random.below(20)),
                _ => 1 + random.below(99),
            };
            answer.set("seconds", seconds);
            unit(seconds, "second", random)
        }
        10 | 11 => {
            let hours = 1 + random.below(24);
            answer.set("hours", hours);
            unit(hours, "hour", random)
        }
        _ => {
            let minutes = match random.below(2) {
                0 => 5 * (1 + random.below(18)),
                _ => 1 + random.below(99),
            };
            answer.set("minutes", minutes);
            unit(minutes, "minute", random)
        }
    }
}

/// A time of day. Without «am», «pm» or a part of the day, the hour is what is said.
pub(super) fn time(answer: &mut Answer, random: &mut Random) -> String {
    let mut set = |hour: usize, minute: usize| {
        answer.set("time", format!("{:02}:{minute:02}", hour % 24));
    };
    if chance(4, random) {
        let (said, hour) = one_of(&[("noon", 12), ("midnight", 0), ("midday", 12)], random);
        set(hour, 0);
        return said.to_owned();
    }
    let minute = match random.below(20) {
        0..=7 => 0,
        8..=11 => 30,
        12..=13 => 15,
        14..=15 => 45,
        16..=18 => 5 * random.below(12),
        _ => random.below(60),
    };
    // On the clock of 24 hours.
    if chance(12, random) {
        let hour = random.below(24);
        set(hour, minute);
        return match minute {
            0 if chance(50, random) => format!("{} o'clock", spoken(hour, random)),
            0 => format!("{hour}:00"),
            _ if hour > 0 && minute > 9 && chance(30, random) => {
                format!("{} {}", in_words(hour, random), in_words(minute, random))
            }
            _ => format!("{hour}:{minute:02}"),
        };
    }
    let hour = 1 + random.below(12);
    let afternoon = match random.below(10) {
        0..=3 => None,
        4..=6 => Some(false),
        _ => Some(true),
    };
    set(
        match afternoon {
            None => hour,
            Some(false) => hour % 12,
            Some(true) => hour % 12 + 12,
        },
        minute,
    );
    let said = clock(hour, minute, random);
    let part = match afternoon {
        None if minute == 0 && chance(35, random) => " o'clock",
        None => "",
        Some(false) => one_of(&[" am", " a.m.", " in the morning", "am"], random),
        Some(true) => match hour {
            12 | 1..=5 => one_of(&[" pm", " p.m.", " in the afternoon", "pm"], random),
            6..=8 => one_of(&[" pm", " p.m.", " in the evening", "pm"], random),
            _ => one_of(&[" pm", " p.m.", " in the evening", " at night"], random),
        },
    };
    // «sevenpm» is not how it is written.
    let apart = if said.ends_with(|c: char| c.is_ascii_digit()) || part.starts_with(' ') {
        ""
    } else {
        " "
    };
    format!("{said}{apart}{part}").trim_end().to_owned()
}

/// An hour of 1 to 12 and a minute.
fn clock(hour: usize, minute: usize, random: &mut Random) -> String {
    let next = hour % 12 + 1;
    let digits = format!("{hour}:{minute:02}");
    match minute {
        0 if chance(30, random) => digits,
        0 => spoken(hour, random),
        _ if chance(35, random) => digits,
        30 if chance(60, random) => format!("half past {}", spoken(hour, random)),
        15 if chance(60, random) => {
            let a = one_of(&["", "a "], random);
            let past = one_of(&["past", "after"], random);
            format!("{a}quarter {past} {}", spoken(hour, random))
        }
        45 if chance(60, random) => {
            let a = one_of(&["", "a "], random);
            let to = one_of(&["to", "to", "before"], random);
            format!("{a}quarter {to} {}", spoken(next, random))
        }
        5 | 10 | 20 | 25 if chance(50, random) => {
            format!("{} past {}", spoken(minute, random), spoken(hour, random))
        }
        35 | 40 | 50 | 55 if chance(50, random) => {
            let before = spoken(60 - minute, random);
            format!("{before} to {}", spoken(next, random))
        }
        1..=9 => format!("{} oh {}", in_words(hour, random), in_words(minute, random)),
        _ => format!("{} {}", in_words(hour, random), in_words(minute, random)),
    }
}
