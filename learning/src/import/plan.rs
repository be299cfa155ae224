//! Plans as nested values, whether from JSON (v2) or from a pickle (v1), and reading them with one sentence for each fault.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::ImportError;
use crate::checkpoint::{Array, Numbers, Value};

/// A part of the plans of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) path: &'a Path,
    pub(super) value: &'a Json,
}

impl<'a> Part<'a> {
    pub(super) fn new(path: &'a Path, value: &'a Json) -> Self {
        Self { path, value }
    }

    pub(super) fn wrong(&self, why: impl Into<String>) -> ImportError {
        ImportError::plans(self.path, why)
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> ImportError {
        ImportError::unsupported(self.path, what)
    }

    /// What is under a key, null counting as nothing.
    pub(super) fn find(&self, key: &str) -> Option<Self> {
        self.value.get(key).filter(|value| !value.is_null()).map(|value| Self { value, ..*self })
    }

    pub(super) fn get(&self, key: &str) -> Result<Self, ImportError> {
        self.find(key).ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str, ImportError> {
        self.get(key)?.value.as_str().ok_or_else(|| self.wrong(format!("`{key}` is no text")))
    }

    pub(super) fn whole(&self, key: &str) -> Result<usize, ImportError> {
        self.get(key)?.number().ok_or_else(|| self.wrong(format!("`{key}` is no whole number")))
    }

    /// The whole number that this is, a float without a fraction too.
    pub(super) fn number(&self) -> Option<usize> {
        let whole = |v: f64| (v.fract() == 0.0 && (0.0..1e9).contains(&v)).then_some(v as usize);
        self.value.as_u64().and_then(|v| usize::try_from(v).ok()).or_else(|| self.value.as_f64().and_then(whole))
    }

    /// A list of whole numbers; one number stands for `count` equal ones.
    pub(super) fn wholes(&self, key: &str, count: usize) -> Result<Vec<usize>, ImportError> {
        let part = self.get(key)?;
        let numbers = match part.value {
            Json::Array(values) => values.iter().map(|value| Self { value, ..part }.number()).collect(),
            _ => part.number().map(|number| vec![number; count]),
        };
        numbers.ok_or_else(|| self.wrong(format!("`{key}` is no list of whole numbers")))
    }

    /// A list of sizes, one number or one a dimension of the plane each, all sides equal.
    pub(super) fn squares(&self, key: &str, count: usize) -> Result<Vec<usize>, ImportError> {
        let part = self.get(key)?;
        let entries = match part.value {
            Json::Array(values) => values.iter().map(|value| Self { value, ..part }).collect(),
            _ => vec![part; count],
        };
        entries.iter().map(|entry| entry.square(key)).collect()
    }

    /// Width and height of the patches of a stage or configuration.
    pub(super) fn patch(&self) -> Result<(u32, u32), ImportError> {
        match self.wholes("patch_size", 2)?.as_slice() {
            &[height, width] => u32::try_from(width).ok().zip(u32::try_from(height).ok()),
            _ => None,
        }
        .ok_or_else(|| self.wrong("`patch_size` is no width and height"))
    }

    /// Refuses convolutions of another size than 3x3.
    pub(super) fn only_three(&self, key: &str, count: usize) -> Result<(), ImportError> {
        match self.squares(key, count)?.into_iter().find(|&side| side != 3) {
            Some(side) => Err(self.unsupported(format!("a convolution of {side}x{side}"))),
            None => Ok(()),
        }
    }

    fn square(&self, key: &str) -> Result<usize, ImportError> {
        let sides: Option<Vec<usize>> = match self.value {
            Json::Array(values) => values.iter().map(|value| Self { value, ..*self }.number()).collect(),
            _ => self.number().map(|side| vec![side; 2]),
        };
        match sides.as_deref() {
            Some(&[a, b]) if a == b => Ok(a),
            Some([_, _]) => Err(self.unsupported(format!("{key} {} with unequal sides", self.value))),
            Some([_, _, _]) => Err(self.unsupported(format!("{key} {} of a 3D network", self.value))),
            _ => Err(self.wrong(format!("`{key}` is no list of sizes"))),
        }
    }
}

/// A pickle's value as JSON: keys become texts, arrays lists; what JSON has no form for becomes null.
pub(super) fn json(value: &Value) -> Json {
    let all = |values: &[Value]| Json::Array(values.iter().map(json).collect());
    let key = |key: &Value| match key {
        Value::Int(number) => number.to_string(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    match value {
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) | Value::Path(text) => Json::String(text.clone()),
        Value::List(values) | Value::Tuple(values) | Value::Set(values) => all(values),
        Value::Dict(entries) => Json::Object(entries.iter().map(|(k, v)| (key(k), json(v))).collect::<Map<_, _>>()),
        Value::Array(array) => nested(array),
        Value::None | Value::Bytes(_) | Value::Tensor(_) | Value::Named { .. } => Json::Null,
    }
}

fn nested(array: &Array) -> Json {
    let flat: Vec<Json> = match &array.numbers {
        Numbers::Ints(values) => values.iter().map(|&v| v.into()).collect(),
        Numbers::Floats(values) => values.iter().map(|&v| v.into()).collect(),
    };
    let levels = array.shape.iter().skip(1).rev();
    levels.fold(Json::Array(flat), |rows, &length| match rows {
        Json::Array(values) if length > 0 => {
            Json::Array(values.chunks(length).map(|row| Json::Array(row.to_vec())).collect())
        }
        other => other,
    })
}
