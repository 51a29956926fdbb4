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
fn no_phrasing_to_measure_by_is_one_to_learn_from() {
    let phrases = |split, seed| {
        let mut commands = Commands::new(split, seed);
        let phrases: HashSet<Vec<Piece>> = (0..700).map(|_| commands.phrase().0).collect();
        phrases
    };
    let of_test = phrases(Split::Test, 3);
    let of_valid = phrases(Split::Valid, 3);
    assert!(of_test.len() > 150, "{} phrasings", of_test.len());
    let valid = Grammar::of(Split::Valid);
    assert!(of_test.iter().all(|phrase| !valid.derives(phrase)));
    for split in [Split::Train, Split::Varied] {
        let learnt = Grammar::of(split);
        assert!(of_test.union(&of_valid).all(|p| !learnt.derives(p)));
        // The look at the grammar sees what the grammar really says.
        assert!(phrases(split, 4).iter().all(|p| learnt.derives(p)));
    }
}

#[test]
fn fillers_to_measure_by_are_none_to_learn_from() {
    let fillers = |split| {
        let grammar = Grammar::of(split);
        let mut random = crate::comparison::Random::new(7, 0);
        let mut seen = HashSet::new();
        for pattern in [&grammar.neutral, &grammar.request, &grammar.after] {
            for _ in 0..4000 {
                seen.insert(super::grammar::expanded(pattern, &mut random));
            }
        }
        seen
    };
    let [train, varied, valid, test] = Split::ALL.map(fillers);
    let learnt: HashSet<_> = train.union(&varied).cloned().collect();
    assert!(
        learnt.is_disjoint(&test),
        "{:?}",
        learnt.intersection(&test)
    );
    assert!(learnt.is_disjoint(&valid) && valid.is_disjoint(&test));
}

#[test]
fn every_intent_is_in_every_split_and_the_same_words_mean_the_same() {
    let [train, varied, valid, test] = Split::ALL.map(Grammar::of);
    assert_eq!(train.intents(), varied.intents());
    assert!(test.intents().is_subset(&train.intents()));
    assert!(valid.intents().is_subset(&train.intents()));
    let missing: BTreeSet<_> = train
        .intents()
        .difference(&test.intents())
        .cloned()
        .collect();
    assert!(missing.is_empty(), "{missing:?} is not in the test split");
    let mut meanings: HashMap<String, String> = HashMap::new();
    for split in [Split::Train, Split::Varied] {
        for Command { prompt, completion } in Commands::new(split, 0).take(10_000) {
            parsed(&completion);
            let known = meanings
                .entry(prompt.to_lowercase())
                .or_insert_with(|| completion.clone());
            assert_eq!(*known, completion, "{prompt}");
        }
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
        let mut digest = Sha256::new();
        let mut texts = Vec::with_capacity(count);
        for command in Commands::new(split, file["seed"].as_u64().unwrap()).take(count) {
            digest.update(serde_json::to_vec(&command).unwrap());
            digest.update(b"\n");
            let text = command.prompt.to_lowercase();
            texts.push(text.trim_end_matches(['.', '!', '?']).to_owned());
        }
        let digest: Vec<String> = digest
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(file["sha256"], digest.concat(), "{}", split.name());
        // What is measured on is, whatever its phrasing, no text of a split before it.
        if matches!(split, Split::Valid | Split::Test) {
            let twice: Vec<_> = texts
                .iter()
                .filter(|text| earlier.contains(*text))
                .collect();
            assert!(twice.is_empty(), "{}: {twice:?}", split.name());
        }
        earlier.extend(texts);
    }
    let card = include_str!("../../../targets/linux/models/home-commands/model-card.md");
    // The card names what the last training learnt from and what was measured on.
    for file in [&recipe[1], &recipe[3]] {
        assert!(card.contains(file["sha256"].as_str().unwrap()), "{file}");
    }
}

#[test]
fn hand_written_commands_mean_what_a_grammar_can_say() {
    let commands: Vec<Command> = HAND_WRITTEN
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(commands.len(), 200);
    let train = Grammar::of(Split::Train);
    let prompts: HashSet<&str> = commands.iter().map(|c| c.prompt.as_str()).collect();
    assert_eq!(prompts.len(), commands.len());
    for Command { completion, .. } in &commands {
        let value = parsed(completion);
        let intent = value["intent"].as_str().unwrap();
        assert!(train.intents().contains(intent), "{intent}");
    }
}
