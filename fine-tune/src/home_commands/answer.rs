//! The meaning of a command: an intent and its slots, as one line of JSON.

use serde_json::{Map, Value};

/// The order of slots in the JSON. One order only, so that an answer can be compared letter by letter.
const ORDER: [&str; 17] = [
    "intent",
    "room",
    "device",
    "door",
    "genre",
    "name",
    "scene",
    "level",
    "by",
    "temperature",
    "color",
    "speed",
    "hours",
    "minutes",
    "seconds",
    "time",
    "day",
];

/// The intent of what is no command. It has no slots.
const NONE: &str = "none";

/// A meaning that is being put together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    slots: Vec<(&'static str, Value)>,
}

impl Answer {
    /// An intent without slots.
    pub(super) fn new(intent: &str) -> Answer {
        Answer {
            slots: vec![(ORDER[0], Value::from(intent))],
        }
    }

    /// Sets a slot. What is no command keeps none.
    ///
    /// # Panics
    /// With a slot that has no place in the order, which only our own grammars could cause; a test reads them all.
    pub(super) fn set(&mut self, slot: &str, value: impl Into<Value>) {
        if self.slots.first().is_some_and(|(_, intent)| intent == NONE) {
            return;
        }
        let Some(slot) = ORDER.into_iter().find(|name| *name == slot) else {
            panic!("{slot} is no slot of an intent");
        };
        self.slots.retain(|(name, _)| *name != slot);
        self.slots.push((slot, value.into()));
    }

    /// `{"intent":…}` and the slots in their order.
    pub(super) fn json(&self) -> String {
        let place = |name: &str| ORDER.iter().position(|other| *other == name);
        let mut slots = self.slots.clone();
        slots.sort_by_key(|(name, _)| place(name));
        let object: Map<String, Value> = slots
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Value::Object(object).to_string()
    }
}
