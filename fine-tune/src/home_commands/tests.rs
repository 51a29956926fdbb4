//! What the splits promise.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::grammar::{Grammar, Piece};
use super::{Command, Commands, HAND_WRITTEN, Split};

/// The JSON of a completion, after a look at its form.
fn parsed(completion: &str) -> Value {
    let value: Value = serde_json::from_str(completion).unwrap();
    // One form only: no spaces, and the order that the parser keeps.
    assert_eq!(value.to_string(), completion);
    value
}

#[test]
fn no_phrasing_is_in_two_splits() {
    let phrases = |split, seed, count| {
        let mut commands = Commands::new(split, seed);
        let phrases: HashSet<Vec<Piece>> = (0..count).map(|_| commands.phrase().0).collect();
        phrases
    };
    let [train, valid, test, blind] =
        Split::ALL.map(|split| phrases(split, 3, if split == Split::Train { 20_000 } else { 700 }));
    assert!(test.len() > 500, "{} phrasings", test.len());
    assert!(blind.len() > 150, "{} phrasings", blind.len());
    assert!(train.is_disjoint(&valid) && train.is_disjoint(&test) && valid.is_disjoint(&test));
    let learnt = Split::Train.recognisers();
    assert!(
        blind
            .iter()
            .all(|p| !learnt.iter().any(|grammar| grammar.derives(p)))
    );
    // The look at the grammars sees what they really say.
    assert!(
        test.iter()
            .all(|p| learnt.iter().any(|grammar| grammar.derives(p)))
    );
}

#[test]
fn fillers_of_the_blind_grammar_are_none_to_learn_from() {
    let fillers = |split: Split| {
        let mut random = crate::comparison::Random::new(7, 0);
        let mut seen = HashSet::new();
        for (_, grammar) in split.grammars() {
            for pattern in [&grammar.neutral, &grammar.request, &grammar.after] {
                for _ in 0..4000 {
                    seen.insert(super::grammar::expanded(pattern, &mut random));
                }
            }
        }
        seen
    };
    let (learnt, blind) = (fillers(Split::Train), fillers(Split::Blind));
    assert!(
        learnt.is_disjoint(&blind),
        "{:?}",
        learnt.intersection(&blind)
    );
}

#[test]
fn every_intent_is_in_every_grammar_and_the_same_words_mean_the_same() {
    let intents = |grammar: &Grammar| -> BTreeSet<String> {
        grammar.intents().into_iter().map(str::to_owned).collect()
    };
    let mut grammars = Split::Train.grammars();
    grammars.extend(Split::Blind.grammars());
    let all = intents(&grammars[0].1);
    for (_, grammar) in &grammars {
        assert_eq!(intents(grammar), all);
    }
    let mut meanings: HashMap<String, String> = HashMap::new();
    for Command { prompt, completion } in Commands::new(Split::Train, 0).take(20_000) {
        parsed(&completion);
        let known = meanings
            .entry(prompt.to_lowercase())
            .or_insert_with(|| completion.clone());
        assert_eq!(*known, completion, "{prompt}");
    }
}

#[test]
fn commands_repeat_with_their_seed() {
    let some = |seed| {
        let commands: Vec<Command> = Commands::new(Split::Test, seed).take(50).collect();
        commands
    };
    assert_eq!(some(5), some(5));
    assert_ne!(some(5), some(6));
}

/// What the built-in model was trained and measured on can be made again, so the figures in its card are about these grammars. When a
/// grammar changes, this fails until `cargo xtask home-model` has trained anew and data.json has the new digests.
#[test]
fn the_recipe_makes_the_data_of_the_built_in_model() {
    let recipe: Value =
        serde_json::from_str(include_str!("../../recipes/home-commands/data.json")).unwrap();
    let mut earlier: HashSet<String> = HashSet::new();
    for (split, file) in Split::ALL.into_iter().zip(recipe.as_array().unwrap()) {
        assert_eq!(file["name"], split.name());
        let count = usize::try_from(file["count"].as_u64().unwrap()).unwrap();
        let commands = Commands::new(split, file["seed"].as_u64().unwrap())
            .without(earlier.iter().map(String::as_str));
        let mut digest = Sha256::new();
        let mut texts = Vec::with_capacity(count);
        for command in commands.take(count) {
            digest.update(serde_json::to_vec(&command).unwrap());
            digest.update(b"\n");
            texts.push(command.prompt);
        }
        let digest: Vec<String> = digest
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(file["sha256"], digest.concat(), "{}", split.name());
        earlier.extend(texts);
    }
    let card = include_str!("../../../targets/linux/models/home-commands/model-card.md");
    // The card names what training learnt from and what was measured on.
    for file in [&recipe[0], &recipe[2]] {
        assert!(card.contains(file["sha256"].as_str().unwrap()), "{file}");
    }
}

#[test]
fn texts_to_leave_out_are_left_out() {
    let all: Vec<Command> = Commands::new(Split::Blind, 1).take(200).collect();
    let shouted: Vec<String> = all
        .iter()
        .take(100)
        .map(|command| format!("{}!", command.prompt.to_uppercase()))
        .collect();
    let rest = Commands::new(Split::Blind, 1).without(shouted.iter().map(String::as_str));
    assert_eq!(rest.take(100).collect::<Vec<_>>(), all[100..]);
}

#[test]
fn hand_written_commands_mean_what_a_grammar_can_say() {
    let commands: Vec<Command> = HAND_WRITTEN
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(commands.len(), 200);
    let grammars = Split::Train.grammars();
    let intents = grammars[0].1.intents();
    let prompts: HashSet<&str> = commands.iter().map(|c| c.prompt.as_str()).collect();
    assert_eq!(prompts.len(), commands.len());
    for Command { completion, .. } in &commands {
        let value = parsed(completion);
        let intent = value["intent"].as_str().unwrap();
        assert!(intents.contains(intent), "{intent}");
    }
}
