//! A member as a graph for ONNX Runtime, built in memory: the one walk over the layers that this engine knows.
//!
//! Input `tiles` `[n, channels, height, width]`, RGB / 255; output `logits` `[n, classes, height, width]`. All of `n`,
//! `height` and `width` may vary from run to run.

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::memory::Allocator;
use ort::operator::Attribute;
use ort::value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType};

use crate::network::folded::{Folded, FoldedBlock, FoldedConv, FoldedLinear, FoldedStage};
use crate::network::norm::EPSILON;
use crate::network::weights::LEAKY_SLOPE;

/// Name of the input.
const INPUT: &str = "tiles";
/// Name of the output.
const OUTPUT: &str = "logits";
/// The operators' version: the oldest with all that are used, which every library that we take knows.
const OPSET: u32 = 17;

/// The graph of a member.
pub(super) fn model(folded: &Folded, channels: usize, classes: usize) -> ort::Result<Model> {
    let mut writer = Writer { graph: Graph::new()?, nodes: 0 };
    writer.graph.set_inputs([images(INPUT, channels)])?;
    writer.graph.set_outputs([images(OUTPUT, classes)])?;
    let mut skips = Vec::new();
    let mut z = INPUT.to_owned();
    if let Some(stem) = &folded.stem {
        z = writer.conv(stem, &z)?;
    }
    for stage in &folded.encoder {
        z = match stage {
            FoldedStage::Convs(layers) => writer.convs(layers, z)?,
            FoldedStage::Blocks(blocks) => writer.blocks(blocks, z)?,
        };
        skips.push(z.clone());
    }
    // The deepest stage's output is no skip: it is where the decoder begins.
    skips.pop();
    for level in &folded.decoder {
        z = writer.raise(&level.up, &z)?;
        if let Some(skip) = skips.pop() {
            z = writer.node("Concat", &[&z, &skip], vec![Attribute::new("axis", 1i64)?])?;
        }
        z = writer.convs(&level.convs, z)?;
    }
    let head = &folded.head;
    let shape = [head.outputs, head.inputs, 1, 1];
    let z = writer.weighted("Conv", &z, &head.weight, shape, head.bias.as_deref(), Vec::new())?;
    writer.graph.add_node(Node::new("Identity", ONNX_DOMAIN, "output", [z.as_str()], [OUTPUT], [])?)?;
    let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
    model.set_graph(writer.graph)?;
    Ok(model)
}

/// `[n, channels, height, width]` with only the channels fixed.
fn images(name: &str, channels: usize) -> Outlet {
    let symbols = ["n", "", "height", "width"].map(String::from);
    let shape = Shape::new([-1, channels as i64, -1, -1]);
    let dimension_symbols = SymbolicDimensions::new(symbols);
    Outlet::new(name, ValueType::Tensor { ty: TensorElementType::Float32, shape, dimension_symbols })
}

/// Adds nodes; each method returns the name of its output.
struct Writer {
    graph: Graph,
    nodes: usize,
}

impl Writer {
    /// The convolutions of one stage.
    fn convs(&mut self, layers: &[FoldedConv], mut z: String) -> ort::Result<String> {
        for layer in layers {
            z = self.conv(layer, &z)?;
        }
        Ok(z)
    }

    /// The residual blocks of one stage.
    fn blocks(&mut self, blocks: &[FoldedBlock], mut z: String) -> ort::Result<String> {
        for block in blocks {
            let inner = self.conv(&block.first, &z)?;
            let inner = self.conv(&block.second, &inner)?;
            if block.first.stride > 1 {
                let sides = vec![block.first.stride as i64; 2];
                let attributes =
                    vec![Attribute::new("kernel_shape", sides.clone())?, Attribute::new("strides", sides)?];
                z = self.node("AveragePool", &[&z], attributes)?;
            }
            if let Some(projection) = &block.projection {
                z = self.conv(projection, &z)?;
            }
            let sum = self.node("Add", &[&inner, &z], Vec::new())?;
            z = self.node("LeakyRelu", &[&sum], vec![Attribute::new("alpha", LEAKY_SLOPE)?])?;
        }
        Ok(z)
    }

    fn conv(&mut self, layer: &FoldedConv, z: &str) -> ort::Result<String> {
        let (kernel, stride) = (layer.kernel, layer.stride as i64);
        let attributes = vec![
            Attribute::new("kernel_shape", vec![kernel as i64; 2])?,
            Attribute::new("pads", vec![(kernel / 2) as i64; 4])?,
            Attribute::new("strides", vec![stride; 2])?,
        ];
        let shape = [layer.outputs, layer.inputs, kernel, kernel];
        let mut z = self.weighted("Conv", z, &layer.weight, shape, layer.bias.as_deref(), attributes)?;
        if let Some((gamma, beta)) = &layer.image_norm {
            let (gamma, beta) = (self.tensor(gamma, &[gamma.len()])?, self.tensor(beta, &[beta.len()])?);
            let epsilon = Attribute::new("epsilon", EPSILON as f32)?;
            z = self.node("InstanceNormalization", &[&z, &gamma, &beta], vec![epsilon])?;
        }
        if layer.slope != 1.0 {
            z = self.node("LeakyRelu", &[&z], vec![Attribute::new("alpha", layer.slope)?])?;
        }
        Ok(z)
    }

    /// A transposed convolution whose kernel is its stride.
    fn raise(&mut self, layer: &FoldedLinear, z: &str) -> ort::Result<String> {
        let (stride, side) = (layer.stride, layer.stride as i64);
        let attributes =
            vec![Attribute::new("kernel_shape", vec![side; 2])?, Attribute::new("strides", vec![side; 2])?];
        let shape = [layer.inputs, layer.outputs, stride, stride];
        self.weighted("ConvTranspose", z, &layer.weight, shape, layer.bias.as_deref(), attributes)
    }

    fn weighted(
        &mut self,
        operator: &str,
        z: &str,
        weight: &[f32],
        shape: [usize; 4],
        bias: Option<&[f32]>,
        attributes: Vec<Attribute>,
    ) -> ort::Result<String> {
        let weight = self.tensor(weight, &shape)?;
        match bias {
            None => self.node(operator, &[z, &weight], attributes),
            Some(bias) => {
                let bias = self.tensor(bias, &[bias.len()])?;
                self.node(operator, &[z, &weight, &bias], attributes)
            }
        }
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<Attribute>) -> ort::Result<String> {
        let name = self.name(operator);
        self.graph.add_node(Node::new(operator, ONNX_DOMAIN, &name, inputs, [name.as_str()], attributes)?)?;
        Ok(name)
    }

    /// A tensor of the member, in memory of ONNX Runtime.
    fn tensor(&mut self, values: &[f32], shape: &[usize]) -> ort::Result<String> {
        let mut tensor = Tensor::<f32>::new(&Allocator::default(), shape)?;
        let (_, place) = tensor.extract_tensor_mut();
        if place.len() != values.len() {
            return Err(ort::Error::new(format!("{} values for a tensor of {shape:?}", values.len())));
        }
        place.copy_from_slice(values);
        let name = self.name("tensor");
        self.graph.add_initializer(&name, tensor, false)?;
        Ok(name)
    }

    fn name(&mut self, what: &str) -> String {
        self.nodes += 1;
        format!("{what}{}", self.nodes)
    }
}
