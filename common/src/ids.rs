//! Identities: sites, studies, rounds and generations. Names are short, lower case and safe in a path, a URI and a log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::limits;

fn check_name(kind: &str, text: &str) -> Result<(), Invalid> {
    let ok_chars = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let ok_ends = !text.starts_with('-') && !text.ends_with('-');
    if text.is_empty() || text.len() > limits::MAX_NAME_LEN || !ok_chars || !ok_ends {
        let shown: String = text.chars().take(limits::MAX_NAME_LEN).collect();
        return Err(Invalid::new(
            kind,
            format!("`{shown}` is not a name; use 1 to 63 of a-z, 0-9 and -, with - only inside"),
        ));
    }
    Ok(())
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                check_name($kind, text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                check_name($kind, &text)?;
                Ok(Self(text))
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// One hospital's client, as in the URI SAN of its certificate (`consilium://site/NAME`).
    SiteId,
    "site"
);
name_id!(
    /// One learning effort on one coordinator.
    StudyId,
    "study"
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_id!(
    /// A round of a study. Round 0 evaluates generation 0 and collects no updates; learning starts with round 1.
    RoundNumber
);
number_id!(
    /// A numbered version of the ensemble. Generation 0 is the one the study started from.
    GenerationNumber
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths() {
        for good in ["a", "hospital-a", "site-07", &"x".repeat(63)] {
            assert_eq!(good.parse::<SiteId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "../x", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<SiteId>().is_err(), "{bad} must be refused");
        }
        assert!(serde_json::from_str::<StudyId>("\"../etc\"").is_err());
    }
}
