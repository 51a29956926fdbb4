use super::bootstrap::paired;
use super::*;
use crate::metrics::{ExactMatch, Metric, Sample, Table};

/// Answers that are right or wrong.
fn table(right: impl IntoIterator<Item = bool>) -> Table {
    let reference = ["x".to_owned()];
    let answers: Vec<&str> = right
        .into_iter()
        .map(|right| if right { "x" } else { "y" })
        .collect();
    let samples: Vec<Sample<'_>> = answers
        .iter()
        .map(|answer| Sample {
            answer,
            references: &reference,
            loss: None,
        })
        .collect();
    ExactMatch.measure(&samples)
}

/// For a mean, the bootstrap must come to what the normal approximation says: with `gains` lines better and `losses` worse of
/// `n`, the difference has the variance (p₊ + p₋ − (p₊ − p₋)²) / n.
#[test]
fn the_bootstrap_of_a_mean_is_what_theory_says() {
    let n = 400;
    let a = table((0..n).map(|i| i < 200));
    let b = table((0..n).map(|i| (20..270).contains(&i)));
    let outcome = paired(&ExactMatch, &a, &b, 10_000, 7).unwrap();
    let (better, worse) = (70.0 / 400.0, 20.0 / 400.0);
    let deviation = 100.0 * f64::sqrt((better + worse - f64::powi(better - worse, 2)) / 400.0);
    assert!((outcome.difference - 12.5).abs() < 1e-9);
    assert!((outcome.standard_error / deviation - 1.0).abs() < 0.03);
    assert!((outcome.interval.low - (12.5 - 1.96 * deviation)).abs() < 0.4);
    assert!((outcome.interval.high - (12.5 + 1.96 * deviation)).abs() < 0.4);
    assert!(outcome.p < 0.001 && outcome.b_better > 0.999);

    // 1.65 standard errors away, two-sided: p = 0.099.
    let b = table((0..n).map(|i| (20..220).contains(&i) || i == 399 || (300..310).contains(&i)));
    let outcome = paired(&ExactMatch, &a, &b, 10_000, 7).unwrap();
    let z = outcome.difference / outcome.standard_error;
    let normal = [
        (1.3, 0.194),
        (1.4, 0.162),
        (1.5, 0.134),
        (1.6, 0.110),
        (1.7, 0.089),
    ];
    let nearest = normal
        .iter()
        .min_by(|x, y| (x.0 - z).abs().total_cmp(&(y.0 - z).abs()))
        .unwrap();
    assert!(
        (outcome.p - nearest.1).abs() < 0.03,
        "z {z}, p {}",
        outcome.p
    );

    let count = Pairs::new(&ExactMatch, &a, &b).count();
    assert_eq!((count.wins, count.losses, count.ties), (31, 20, 349));
    let needed = sample_size::paired(outcome.difference, outcome.standard_error, n).unwrap();
    assert!((needed as f64 / (f64::powi(2.8016 / z, 2) * 400.0) - 1.0).abs() < 0.01);
}

#[test]
fn a_model_doesnt_differ_from_itself_and_a_seed_repeats() {
    let a = table((0..50).map(|i| i % 3 == 0));
    let same = paired(&ExactMatch, &a, &a, 1000, 1).unwrap();
    assert_eq!((same.difference, same.p, same.b_better), (0.0, 1.0, 0.0));
    assert_eq!(sample_size::paired(2.0, same.standard_error, 50), None);
    let b = table((0..50).map(|i| i % 2 == 0));
    let one = paired(&ExactMatch, &a, &b, 1000, 5);
    assert_eq!(one, paired(&ExactMatch, &a, &b, 1000, 5));
    assert_ne!(one, paired(&ExactMatch, &a, &b, 1000, 6));
    assert!(paired(&ExactMatch, &a, &table([true]), 10, 1).is_none());
    assert!(paired(&ExactMatch, &table([]), &table([]), 10, 1).is_none());
}

/// Values from the binomial distribution's tables.
#[test]
fn preferences_are_tested_by_the_sign_test() {
    let close =
        |found: f64, wanted: f64| assert!((found - wanted).abs() < 5e-5, "{found}, not {wanted}");
    close(binomial::sign_test(9, 10), 22.0 / 1024.0);
    close(binomial::sign_test(1, 10), 22.0 / 1024.0);
    close(binomial::sign_test(5, 10), 1.0);
    close(binomial::sign_test(0, 0), 1.0);
    close(binomial::sign_test(60, 100), 0.056_89);
    assert!(binomial::sign_test(600_000, 1_000_000) < 1e-300);
    let wilson = binomial::wilson(60.0, 100.0).unwrap();
    close(wilson.low, 0.502_00);
    close(wilson.high, 0.690_60);
    // The textbook's case: a share of 0.6 needs about 194.
    assert_eq!(sample_size::preferences(0.1), Some(194));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("verdicts.jsonl");
    let text = "{\"id\":1,\"winner\":\"b\"}\n{\"id\":\"2\",\"winner\":\"tie\"}\n{\"winner\":\"c\"}\n{\"id\":9,\"winner\":\"a\"}\n";
    std::fs::write(&path, text).unwrap();
    let known = ["1", "2"].map(str::to_owned).into();
    let preferences = preferences::read(&path, Some(&known)).unwrap();
    assert_eq!((preferences.a, preferences.b, preferences.ties), (0, 1, 1));
    assert_eq!(
        preferences
            .bad
            .iter()
            .map(|bad| bad.line)
            .collect::<Vec<_>>(),
        [3, 4]
    );
}
