//! Prints what a checkpoint or a pickle holds as one JSON object, for comparison with PyTorch and Python.
//!
//! `cargo run -p consilium-learning --example checkpoint [--pickle] FILE` names each value by its kind; a number with a
//! fraction is given by the bits of its 64-bit form, a tensor by shape, type and the BLAKE3 digest of its 32-bit values.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use consilium_learning::checkpoint::{Array, Checkpoint, CheckpointError, Numbers, Tensor, Value};
use consilium_learning::checkpoint::{read_checkpoint, read_pickle};
use serde_json::{Value as Json, json};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match read(&arguments) {
        Ok(shown) => {
            println!("{shown}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<Json, Box<dyn Error>> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--pickle", file] => Ok(show(&read_pickle(Path::new(file))?, None)?),
        [file] => {
            let checkpoint = read_checkpoint(Path::new(file))?;
            Ok(show(checkpoint.root(), Some(&checkpoint))?)
        }
        _ => Err("usage: checkpoint [--pickle] FILE".into()),
    }
}

fn show(value: &Value, checkpoint: Option<&Checkpoint>) -> Result<Json, CheckpointError> {
    let all = |values: &[Value]| values.iter().map(|v| show(v, checkpoint)).collect::<Result<Vec<_>, _>>();
    Ok(match value {
        Value::None => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(number) => json!(number),
        Value::Float(number) => json!({ "float": bits(*number) }),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!({ "bytes": bytes }),
        Value::List(values) => json!(all(values)?),
        Value::Tuple(values) => json!({ "tuple": all(values)? }),
        Value::Set(values) => json!({ "set": all(values)? }),
        Value::Dict(entries) => {
            let pair = |(key, value): &(Value, Value)| Ok(json!([show(key, checkpoint)?, show(value, checkpoint)?]));
            json!({ "dict": entries.iter().map(pair).collect::<Result<Vec<_>, CheckpointError>>()? })
        }
        Value::Array(array) => shown_array(array),
        Value::Tensor(tensor) => shown_tensor(tensor, checkpoint)?,
        Value::Path(path) => json!({ "path": path }),
        Value::Named { name, arguments } => json!({ "name": name, "arguments": all(arguments)? }),
    })
}

fn shown_array(Array { shape, numbers }: &Array) -> Json {
    match numbers {
        Numbers::Ints(values) => json!({ "shape": shape, "ints": values }),
        Numbers::Floats(values) => {
            json!({ "shape": shape, "floats": values.iter().map(|v| bits(*v)).collect::<Vec<_>>() })
        }
    }
}

fn shown_tensor(tensor: &Tensor, checkpoint: Option<&Checkpoint>) -> Result<Json, CheckpointError> {
    let Some(checkpoint) = checkpoint else { return Ok(json!({ "shape": tensor.shape() })) };
    let read = checkpoint.values(tensor)?;
    let bytes: Vec<u8> = read.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let digest = blake3::hash(&bytes).to_hex().to_string();
    Ok(json!({ "shape": read.shape, "type": tensor.element_type().name(), "blake3": digest }))
}

fn bits(number: f64) -> String {
    format!("{:016x}", number.to_bits())
}
