//! What a comparison computes: its arms under its plan, and, where settings are varied, the arms that were named under a
//! plan that differs in one of them. The first ensemble is the same, so nothing may be varied that it hangs on.

use consilium_common::Plan;
use serde_json::Value;

use super::arms::{Arm, Kind};
use crate::experiment::ExperimentError;

/// An arm under a plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    /// The arm's name, and what is other than in the comparison's plan.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) plan: Plan,
}

impl Trial {
    /// Whether boxes are chosen by features of a network, or left out by them.
    pub(super) fn needs_features(&self) -> bool {
        let of_rule = matches!(&self.kind, Kind::Rule(method) if method.rule.needs_features());
        of_rule || (self.kind != Kind::Full && self.plan.acquisition.min_feature_distance > 0.0)
    }
}

/// Tables of a plan of which neither the first ensemble nor what it sees depends.
const TABLES: [&str; 4] = ["fine_tuning", "rehearsal", "aggregation", "acquisition"];
/// What in them is an arm or a budget, or gives other patches to all of the figures.
const FIXED: [&str; 4] =
    ["acquisition.score", "acquisition.budget", "acquisition.patch_px", "acquisition.control_share"];
/// The longest value.
const LONGEST: usize = 40;

/// All arms under the plan; those of `named` also under each of the plans that `vary` gives, which are texts like
/// `fine_tuning.iterations=30,60`.
pub(super) fn trials(
    plan: &Plan,
    arms: &[Arm],
    named: &[String],
    vary: &[String],
) -> Result<Vec<Trial>, ExperimentError> {
    let under = |arm: &Arm, plan: &Plan, other: &str| Trial {
        name: format!("{}{other}", arm.name),
        kind: arm.kind.clone(),
        plan: plan.clone(),
    };
    let mut all: Vec<Trial> = arms.iter().map(|arm| under(arm, plan, "")).collect();
    // What learns from every field is no rule.
    let is_varied = |arm: &&Arm| named.contains(&arm.name) && arm.kind != Kind::Full;
    let varied: Vec<&Arm> = arms.iter().filter(is_varied).collect();
    if !vary.is_empty() && varied.is_empty() {
        let why = "--vary needs --acquisition, which names the rules whose plan is varied";
        return Err(ExperimentError::Usage(why.into()));
    }
    for text in vary {
        let wrong = |why: &str| ExperimentError::Usage(format!("--vary {text}: {why}"));
        let (key, values) = text.split_once('=').unwrap_or((text, ""));
        // No two settings of these tables end alike.
        let short = key.rsplit('.').next().unwrap_or(key);
        let mut others = Vec::new();
        for value in values.split(',') {
            let other = with(plan, key, value).map_err(|why| wrong(&why))?;
            // The plan's own value is there already.
            if other != *plan {
                others.push((value, other));
            }
        }
        if others.is_empty() {
            return Err(wrong("this is what the plan says"));
        }
        for (value, other) in others {
            let more = varied.iter().map(|arm| under(arm, &other, &format!(" {short}={value}")));
            let more: Vec<Trial> = more.filter(|trial| !all.contains(trial)).collect();
            all.extend(more);
        }
    }
    Ok(all)
}

/// The plan with one setting otherwise.
fn with(plan: &Plan, key: &str, value: &str) -> Result<Plan, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let (table, setting) = key.split_once('.').unwrap_or((key, ""));
    if setting.is_empty() || value.is_empty() || value.len() > LONGEST || !value.chars().all(plain) {
        return Err("say TABLE.KEY=VALUE,VALUE... with a setting of the plan and plain values".into());
    }
    if !TABLES.contains(&table) || FIXED.contains(&key) {
        let tables = TABLES.join(", ");
        return Err(format!("what can be varied are the settings of {tables}, but not {}", FIXED.join(", ")));
    }
    let mut whole = serde_json::to_value(plan).map_err(|error| error.to_string())?;
    let mut place = &mut whole;
    for part in key.split('.') {
        if !(place.is_object() || place.is_null()) {
            return Err(format!("{part} is no table's setting"));
        }
        place = &mut place[part];
    }
    *place = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let other: Plan = serde_json::from_value(whole).map_err(|error| error.to_string())?;
    match other.problems().first() {
        Some(problem) => Err(problem.to_string()),
        None if key.starts_with("rehearsal.")
            && !key.ends_with(".replay")
            && other.rehearsal.is_off()
            && plan.rehearsal.is_off() =>
        {
            Err("the plan rehearses nothing; vary rehearsal.patches".into())
        }
        None => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::from_toml(include_str!("../../../deploy/plan.toml")).unwrap()
    }

    fn arms(names: &[&str]) -> Vec<Arm> {
        names.iter().map(|name| Arm::named(name).unwrap()).collect()
    }

    #[test]
    fn named_arms_are_varied_one_setting_at_a_time() {
        let (plan, vary) =
            (plan(), ["fine_tuning.iterations=7,9", "fine_tuning.augmentation.hed=0.2"].map(str::to_owned));
        let all = trials(&plan, &arms(&["random", "uga", "clasp-pe"]), &["clasp-pe".to_owned()], &vary).unwrap();
        let names: Vec<&str> = all.iter().map(|trial| trial.name.as_str()).collect();
        let of = |text: &str| format!("clasp-pe {text}");
        let varied = ["iterations=7", "iterations=9", "hed=0.2"].map(of);
        assert_eq!(names[..3], ["random", "uga", "clasp-pe"]);
        assert_eq!(names[3..], varied);
        assert_eq!((all[3].plan.fine_tuning.iterations, all[4].plan.fine_tuning.iterations), (7, 9));
        assert_eq!(all[5].plan.fine_tuning.augmentation.hed, 0.2);
        assert_eq!(all[5].plan.fine_tuning.iterations, plan.fine_tuning.iterations, "one at a time");
        let same = |trial: &Trial| trial.plan == plan;
        assert!(all[..3].iter().all(same) && !all[3..].iter().any(same));
    }

    #[test]
    fn names_are_short_and_nothing_is_tried_twice() {
        let named = ["random".to_owned()];
        let names = |vary: &[&str]| -> Vec<String> {
            let vary: Vec<String> = vary.iter().map(|text| (*text).to_owned()).collect();
            let all = trials(&plan(), &arms(&["random"]), &named, &vary).unwrap();
            all.into_iter().map(|trial| trial.name).collect()
        };
        assert_eq!(
            names(&["fine_tuning.iterations=7,7", "fine_tuning.iterations=7"]),
            ["random", "random iterations=7"]
        );
        let two = names(&["acquisition.min_tissue=0.2", "acquisition.min_sharpness=0.2", "rehearsal.patches=7"]);
        assert_eq!(two[1..], ["random min_tissue=0.2", "random min_sharpness=0.2", "random patches=7"]);
    }

    #[test]
    fn what_cannot_be_varied_is_said() {
        let said = |text: &str| {
            let named = ["random".to_owned()];
            trials(&plan(), &arms(&["random"]), &named, &[text.to_owned()]).unwrap_err().to_string()
        };
        assert!(said("fine_tuning").contains("say TABLE.KEY=VALUE"));
        assert!(said("fine_tuning.iterations=").contains("say TABLE.KEY=VALUE"));
        assert!(said("fine_tuning.iterations=../x").contains("say TABLE.KEY=VALUE"));
        assert!(said("initial_training.iterations=5").contains("what can be varied"));
        assert!(said("acquisition.budget=5").contains("but not acquisition.score"));
        assert!(said("fine_tuning.iterations.more=5").contains("no table"));
        assert!(said("fine_tuning.steps=5").contains("unknown field"));
        assert!(said("fine_tuning.iterations=many").contains("invalid type"));
        assert!(said("fine_tuning.learning_rate=-1").contains("learning_rate"));
        assert!(said("rehearsal.max_entropy=0.3").contains("vary rehearsal.patches"));
        let there = plan().fine_tuning.iterations;
        assert!(said(&format!("fine_tuning.iterations={there}")).contains("is what the plan says"));
        let full = trials(&plan(), &arms(&["full"]), &["full".to_owned()], &["rehearsal.patches=5".to_owned()]);
        assert!(full.unwrap_err().to_string().contains("--vary needs --acquisition"));
        let error = trials(&plan(), &arms(&["random"]), &[], &["rehearsal.patches=5".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("--vary needs --acquisition"));
    }
}
