//! What the tests of whole runs share.

use consilium_common::Plan;

const PLAN: &str = r#"
schema = 1
title = "as small as it gets"
seed = 1
rounds = 1
members = 1
[task]
classes = ["background", "tumour"]
spacing_um = 8.0
[architecture]
input_channels = 3
classes = 2
features = [4, 8]
strides = [1, 2]
convs = [1, 1]
decoder_convs = [1]
norm = "instance"
bias = true
[scan]
tile_px = 64
[acquisition]
score = "uga-mean"
budget = 2
patch_px = 32
min_tissue = 0.1
[initial_training]
iterations = 4
batch_size = 2
patch_px = 32
learning_rate = 0.02
[fine_tuning]
iterations = 2
batch_size = 2
patch_px = 32
learning_rate = 0.01
[quorum]
min_sites = 1
"#;

/// A plan for drawn centres whose networks learn in seconds.
pub(crate) fn small_plan() -> Plan {
    Plan::from_toml(PLAN).expect("the plan above is valid")
}
