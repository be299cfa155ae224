use super::*;

pub(crate) fn sample() -> Plan {
    Plan {
        schema: SCHEMA,
        title: "tumour".into(),
        seed: 7,
        rounds: 3,
        members: 5,
        task: Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(4.0).unwrap() },
        architecture: Architecture::plain(2, 8, 4),
        scan: ScanSettings { tile_px: 128, ..ScanSettings::default() },
        acquisition: Acquisition::new(Score::UgaMean, 5, 96, 0.5),
        initial_training: Training::new(100, 4, 96, 0.01),
        fine_tuning: Training::new(20, 4, 96, 0.01),
        rehearsal: Default::default(),
        aggregation: Aggregation::default(),
        quorum: Quorum { min_sites: 1, deadline_s: None },
        gate: Gate::default(),
    }
}

#[test]
fn toml_and_canonical_bytes_round_trip() {
    let plan = sample();
    assert_eq!(Plan::from_toml(&plan.to_toml().unwrap()).unwrap(), plan);
    let bytes = plan.canonical_bytes().unwrap();
    assert_eq!(Plan::from_canonical(&bytes).unwrap(), plan);
    assert_eq!(plan.digest().unwrap(), Digest::of(&bytes));
}

#[test]
fn every_contradiction_is_named_at_once() {
    let mut plan = sample();
    plan.architecture.classes = 3;
    plan.scan.tile_px = 100;
    plan.initial_training.snapshots = 3;
    plan.fine_tuning.patch_px = 128;
    plan.fine_tuning.proximal = -0.1;
    plan.initial_training.proximal = 0.1;
    plan.members = 0;
    plan.acquisition.control_share = 1.5;
    plan.rehearsal = Rehearsal { patches: 1, max_entropy: -0.1, ..Rehearsal::default() };
    let text = Plan::from_toml(&plan.to_toml().unwrap()).unwrap_err().to_string();
    for part in [
        "architecture.classes",
        "scan.tile_px",
        "fine_tuning.patch_px",
        "fine_tuning.proximal",
        "initial_training.proximal",
        "members",
        "initial_training.snapshots",
        "acquisition.control_share",
        "rehearsal.max_entropy",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn parts_must_divide_a_batch() {
    for parts in [0, 3] {
        let mut plan = sample();
        (plan.fine_tuning.batch_size, plan.fine_tuning.accumulation) = (4, parts);
        assert!(plan.problems().iter().any(|problem| problem.to_string().contains("fine_tuning.accumulation")));
    }
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let text = sample().to_toml().unwrap().replace("rounds = 3", "rounds = 3\nruonds = 4");
    assert!(Plan::from_toml(&text).unwrap_err().to_string().contains("ruonds"));
}

#[test]
fn tensors_are_those_of_plain_conv_unet() {
    let tensors = Architecture::plain(2, 4, 3).tensors();
    let names: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.shape.clone())).collect();
    for (name, shape) in [
        ("encoder.stages.0.0.convs.0.conv.weight", vec![4, 3, 3, 3]),
        ("encoder.stages.2.0.convs.1.norm.running_var", vec![16]),
        ("decoder.transpconvs.0.weight", vec![16, 8, 2, 2]),
        ("decoder.stages.0.convs.0.conv.weight", vec![8, 16, 3, 3]),
        ("decoder.seg_layers.1.bias", vec![2]),
    ] {
        assert!(names.contains(&(name, shape.clone())), "{name} {shape:?}");
    }
    // 6 encoder and 4 decoder convolutions of 6 tensors, 2 transposed and 2 segmentation layers of 2.
    assert_eq!(tensors.len(), 10 * 6 + 4 * 2);
}

#[test]
fn the_sample_plan_is_valid_and_shows_the_true_defaults() {
    let text = include_str!("../../../deploy/plan.toml");
    let plan = Plan::from_toml(text).unwrap();
    assert_eq!(plan.problems(), vec![]);
    let open = |line: &str| {
        let shown = line.strip_prefix("# ").filter(|rest| {
            let key = rest.split(" = ").next().unwrap_or_default();
            rest.contains(" = ") && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        });
        shown.unwrap_or(line).to_owned()
    };
    let opened: Vec<String> = text.lines().map(open).collect();
    assert!(opened.iter().any(|line| line.starts_with("deadline_s = ")), "the commented keys are found");
    let mut all = Plan::from_toml(&opened.join("\n")).unwrap();
    assert_eq!((all.quorum.deadline_s, all.gate.max_dice_drop), (Some(604_800), Some(0.05)), "what has no default");
    assert_eq!(all.scan.dropout, Some(Dropout { passes: 10, rate: 0.2 }), "what has no default");
    assert_eq!(all.acquisition.per_slide, Some(2), "what has no default");
    (all.quorum.deadline_s, all.gate.max_dice_drop, all.scan.dropout) = (None, None, None);
    all.acquisition.per_slide = None;
    assert_eq!(all, plan);
}

#[test]
fn rules_have_one_name() {
    for score in Score::ALL {
        assert_eq!(serde_json::to_value(score).unwrap(), score.name());
        assert_eq!(Score::named(score.name()), Some(score));
    }
    assert_eq!(Score::named("best"), None);
}

#[test]
fn plans_with_the_earlier_names_of_rules_are_read() {
    let text = sample().to_toml().unwrap();
    assert!(text.contains("\"uga-mean\""));
    for (earlier, score) in [("mean-uncertainty", Score::UgaMean), ("mean-entropy", Score::Entropy)] {
        assert_eq!(Plan::from_toml(&text.replace("uga-mean", earlier)).unwrap().acquisition.score, score);
    }
}

#[test]
fn control_patches_are_at_least_one() {
    let mut plan = sample();
    plan.acquisition.control_share = 0.05;
    assert!(plan.problems()[0].to_string().contains("acquisition.control_share"));
    plan.acquisition.control_share = 0.2;
    assert_eq!(plan.problems(), vec![]);
}

#[test]
fn near_duplicates_are_left_out_in_comparisons_only() {
    let text = sample().to_toml().unwrap();
    assert!(!text.contains("min_feature"), "plans of before keep their digest");
    let with = |value: &str| text.replace("[acquisition]", &format!("[acquisition]\nmin_feature_distance = {value}"));
    let plan = Plan::from_toml_for_comparison(&with("0.02")).unwrap();
    assert_eq!(plan.acquisition.min_feature_distance, 0.02);
    for refused in [Plan::from_toml(&with("0.02")), Plan::from_canonical(&plan.canonical_bytes().unwrap())] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("acquisition.min_feature_distance: is for comparisons only"), "{said}");
    }
    assert_eq!(Plan::from_toml(&with("0.0")).unwrap(), sample());
    let both = Plan::from_toml(&with("5").replace("rounds = 3", "rounds = 0")).unwrap_err().to_string();
    assert!(both.contains("rounds") && both.contains("for comparisons only") && !both.contains("cosine"), "{both}");
    for wrong in ["-0.1", "2.1", "nan"] {
        assert!(Plan::from_toml_for_comparison(&with(wrong)).unwrap_err().to_string().contains("a cosine distance"));
    }
}

#[test]
fn corrections_of_earlier_rounds_are_replayed_unless_a_plan_says_no() {
    let plan = sample();
    let text = plan.to_toml().unwrap();
    assert!(!text.contains("replay"), "plans of before keep their digest");
    let without = Plan::from_toml(&format!("{text}\n[rehearsal]\nreplay = false\n")).unwrap();
    assert_eq!((plan.rehearsal.replay, without.rehearsal.replay), (true, false));
    assert_eq!(Plan::from_toml(&without.to_toml().unwrap()).unwrap(), without);
    let rounds = |plan: &Plan| [1, 2, 3].map(|round| plan.rehearsal.learns_from(round, 2));
    assert_eq!((rounds(&plan), rounds(&without)), ([true, true, false], [false, true, false]));
}
