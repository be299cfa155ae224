//! PlainConvUNet and ResidualEncoderUNet as data, the way nnU-Net plans them, and the names and shapes of their tensors.
//!
//! Names are those of nnU-Net v2 (`encoder.stages.0.0.convs.0.conv.weight` ...), so that a member opens there too. The
//! list is the whole contract for a member file and for an update: exactly these float32 tensors.

use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::limits;

/// Normalisation layer after each convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Batch normalisation with running statistics, eps 1e-5, affine.
    Batch,
    /// Instance normalisation, eps 1e-5, affine.
    Instance,
}

/// What an encoder stage is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoder {
    /// Convolutions, one after the other (PlainConvUNet).
    #[default]
    Plain,
    /// A convolution before the first stage, then blocks of two convolutions around which the input is added again; where
    /// a block changes the size, the input is averaged over the stride, and where it changes the features, it passes a
    /// 1x1 convolution without bias and a normalisation (ResidualEncoderUNet).
    Residual,
}

impl Encoder {
    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}

/// A U-Net of nnU-Net. Kernels are 3x3, LeakyReLU slope 0.01, down-sampling by the first convolution of a stage,
/// up-sampling by a transposed convolution whose kernel is the stride, one 1x1 segmentation layer a decoder stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The kind of encoder; the decoder is always plain.
    #[serde(default, skip_serializing_if = "Encoder::is_plain")]
    pub encoder: Encoder,
    /// Input channels, 3 for RGB.
    pub input_channels: usize,
    /// Output classes, background included.
    pub classes: usize,
    /// Features of each encoder stage, finest first.
    pub features: Vec<usize>,
    /// Stride of each encoder stage; the first is normally 1.
    pub strides: Vec<usize>,
    /// Convolutions, or residual blocks, of each encoder stage.
    pub convs: Vec<usize>,
    /// Convolutions of each decoder stage, deepest first; one fewer than encoder stages.
    pub decoder_convs: Vec<usize>,
    /// Normalisation.
    pub norm: Norm,
    /// Whether convolutions have a bias.
    pub bias: bool,
    /// Whether transposed convolutions have one; like the others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_bias: Option<bool>,
    /// Whether segmentation layers have one; like the others if not given. nnU-Net v2 always gives them one, v1 never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_bias: Option<bool>,
}

/// Name and shape of one float32 tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// Its nnU-Net v2 name.
    pub name: String,
    /// Its shape, outermost first.
    pub shape: Vec<usize>,
}

impl TensorShape {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Architecture {
    /// A net of two convolutions a stage, features doubling from `base`, stride 2 after the first stage, batch norm.
    pub fn plain(classes: usize, base: usize, stages: usize) -> Self {
        Self {
            encoder: Encoder::Plain,
            input_channels: 3,
            classes,
            features: (0..stages).map(|s| base << s).collect(),
            strides: (0..stages).map(|s| if s == 0 { 1 } else { 2 }).collect(),
            convs: vec![2; stages],
            decoder_convs: vec![2; stages.saturating_sub(1)],
            norm: Norm::Batch,
            bias: true,
            up_bias: None,
            head_bias: None,
        }
    }

    /// Encoder stages.
    pub fn stages(&self) -> usize {
        self.features.len()
    }

    /// The factor between input and bottleneck; a tile's side must be a multiple of it.
    pub fn total_stride(&self) -> u32 {
        let product = self.strides.iter().try_fold(1u32, |acc, &s| acc.checked_mul(u32::try_from(s).ok()?));
        product.unwrap_or(u32::MAX)
    }

    /// Checks counts and sizes against each other and against the limits.
    pub fn validate(&self) -> Result<(), Invalid> {
        let stages = self.stages();
        let fail = |what: &str, why: String| Err(Invalid::new(format!("architecture.{what}"), why));
        if !(2..=limits::MAX_STAGES).contains(&stages) {
            return fail("features", format!("needs 2 to {} stages, has {stages}", limits::MAX_STAGES));
        }
        for (what, len, need) in [
            ("strides", self.strides.len(), stages),
            ("convs", self.convs.len(), stages),
            ("decoder_convs", self.decoder_convs.len(), stages - 1),
        ] {
            if len != need {
                return fail(what, format!("needs {need} entries for {stages} stages, has {len}"));
            }
        }
        if self.features.iter().any(|f| !(1..=limits::MAX_FEATURES).contains(f)) {
            return fail("features", format!("each must be 1 to {}", limits::MAX_FEATURES));
        }
        if self.strides.iter().any(|s| !(1..=4).contains(s)) || self.strides.first() != Some(&1) {
            return fail("strides", "the first must be 1, the others 1 to 4".into());
        }
        let most = limits::MAX_CONVS;
        if self.convs.iter().chain(&self.decoder_convs).any(|c| !(1..=most).contains(c)) {
            return fail("convs", format!("a stage has 1 to {most} convolutions or blocks"));
        }
        if !(2..=limits::MAX_CLASSES).contains(&self.classes) {
            return fail("classes", format!("needs 2 to {}", limits::MAX_CLASSES));
        }
        if !(1..=16).contains(&self.input_channels) {
            return fail("input_channels", "needs 1 to 16 (3 for RGB)".into());
        }
        Ok(())
    }

    /// Every tensor of a member file, sorted by name. `num_batches_tracked`, an int64 scalar that PyTorch keeps beside
    /// batch statistics, is not among them: it takes no part in inference or in our training.
    pub fn tensors(&self) -> Vec<TensorShape> {
        let mut out = Vec::new();
        match self.encoder {
            Encoder::Plain => self.push_plain(&mut out),
            Encoder::Residual => self.push_residual(&mut out),
        }
        for level in 0..self.stages() - 1 {
            let below = self.features[self.stages() - 1 - level];
            let skip = self.features[self.stages() - 2 - level];
            let stride = self.strides[self.stages() - 1 - level];
            let shape = vec![below, skip, stride, stride];
            let up_bias = self.up_bias.unwrap_or(self.bias);
            push(&mut out, &format!("decoder.transpconvs.{level}"), shape, up_bias.then_some(skip));
            for conv in 0..self.decoder_convs[level] {
                let prefix = format!("decoder.stages.{level}.convs.{conv}");
                self.push_conv(&mut out, &prefix, if conv == 0 { 2 * skip } else { skip }, skip);
            }
            let shape = vec![self.classes, skip, 1, 1];
            let head_bias = self.head_bias.unwrap_or(self.bias);
            push(&mut out, &format!("decoder.seg_layers.{level}"), shape, head_bias.then_some(self.classes));
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    fn push_plain(&self, out: &mut Vec<TensorShape>) {
        let mut input = self.input_channels;
        for stage in 0..self.stages() {
            for conv in 0..self.convs[stage] {
                let prefix = format!("encoder.stages.{stage}.0.convs.{conv}");
                self.push_conv(out, &prefix, input, self.features[stage]);
                input = self.features[stage];
            }
        }
    }

    fn push_residual(&self, out: &mut Vec<TensorShape>) {
        let mut input = self.features[0];
        self.push_conv(out, "encoder.stem.convs.0", self.input_channels, input);
        for stage in 0..self.stages() {
            let features = self.features[stage];
            for block in 0..self.convs[stage] {
                let prefix = format!("encoder.stages.{stage}.blocks.{block}");
                self.push_conv(out, &format!("{prefix}.conv1"), input, features);
                self.push_conv(out, &format!("{prefix}.conv2"), features, features);
                if let Some(name) = self.projection(stage, block) {
                    push(out, &format!("{name}.conv"), vec![features, input, 1, 1], None);
                    self.push_norm(out, &name, features);
                }
                input = features;
            }
        }
    }

    /// Name of the 1x1 convolution and normalisation through which the input of a residual block is added again, if the
    /// block changes the number of features.
    pub fn projection(&self, stage: usize, block: usize) -> Option<String> {
        let before = if stage == 0 { self.features[0] } else { self.features[stage - 1] };
        // Averaging, where there is a stride, comes first and has no tensors.
        let place = usize::from(self.strides[stage] > 1);
        (block == 0 && before != self.features[stage])
            .then(|| format!("encoder.stages.{stage}.blocks.{block}.skip.{place}"))
    }

    fn push_conv(&self, out: &mut Vec<TensorShape>, prefix: &str, from: usize, to: usize) {
        push(out, &format!("{prefix}.conv"), vec![to, from, 3, 3], self.bias.then_some(to));
        self.push_norm(out, prefix, to);
    }

    fn push_norm(&self, out: &mut Vec<TensorShape>, prefix: &str, to: usize) {
        let running: &[&str] = if self.norm == Norm::Batch { &["running_mean", "running_var"] } else { &[] };
        for field in ["weight", "bias"].iter().chain(running) {
            out.push(TensorShape { name: format!("{prefix}.norm.{field}"), shape: vec![to] });
        }
    }
}

fn push(out: &mut Vec<TensorShape>, prefix: &str, shape: Vec<usize>, bias: Option<usize>) {
    out.push(TensorShape { name: format!("{prefix}.weight"), shape });
    out.extend(bias.map(|length| TensorShape { name: format!("{prefix}.bias"), shape: vec![length] }));
}
