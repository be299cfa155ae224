//! The formulas. `p_m` is the softmax of member m, `pbar` the mean over the M members, eps = 1e-8.
//!
//! UGA's uncertainty: `U = (1/M) sum_m [ -sum_c pbar_c ln(p_mc + eps) ]`, the mean cross-entropy of the members against
//! their mean, which is `H(pbar)` plus the mean of `KL(pbar || p_m)`: total entropy and disagreement in one figure.
//! Where the ensemble's convention is to average logits, `p_m` is the softmax of member m's logits all the same; the label
//! and the reported probabilities are then those of the mean logits, as nnU-Net v2 has them.
//! Sums are in f64 and results in f32. As `sum_m ln a_m = ln prod_m a_m`, one logarithm a class is enough for
//! [`FACTORS`] members, whose product stays above 1e-256, far inside f64.

use consilium_common::bundle::Averaging;

/// UGA's guard against the logarithm of zero.
pub const EPSILON: f64 = 1e-8;
/// Factors of one product.
const FACTORS: usize = 32;

/// Where the results of one run of pixels go; all slices but the last have its length.
#[derive(Debug)]
pub struct RowOutput<'a> {
    /// Most probable class; the lower index wins a tie.
    pub labels: &'a mut [u8],
    /// UGA's uncertainty, nats.
    pub uncertainty: &'a mut [f32],
    /// Entropy of the mean, nats.
    pub entropy: &'a mut [f32],
    /// The ensemble's probability of the foreground classes, class 1 first: `classes - 1` runs, one after the other.
    pub probabilities: &'a mut [f32],
}

/// Turns the members' probabilities of a run of pixels into labels and maps. Keeps its working memory between runs.
#[derive(Clone, Debug)]
pub struct Combiner {
    members: usize,
    classes: usize,
    averaging: Averaging,
    mean: Vec<f64>,
    product: Vec<f64>,
    /// Logarithms of the products before the last; empty where there is one.
    logs: Vec<f64>,
    /// Sums of logits, then the softmax of their mean; empty where probabilities are averaged.
    pooled: Vec<f64>,
}

impl Combiner {
    /// For so many members and classes.
    pub fn new(members: usize, classes: usize, averaging: Averaging) -> Self {
        Self {
            members,
            classes,
            averaging,
            mean: Vec::new(),
            product: Vec::new(),
            logs: Vec::new(),
            pooled: Vec::new(),
        }
    }

    /// `plane(member, class)` gives one value a pixel, which times `scale` is a probability or a logit, whichever is
    /// averaged. Pixels where `wanted` is 0 are left as they are in `out`.
    pub fn run<'p>(
        &mut self,
        plane: impl Fn(usize, usize) -> &'p [f32],
        scale: &[f32],
        wanted: &[u8],
        out: &mut RowOutput<'_>,
    ) {
        let pixels = scale.len();
        self.logs.clear();
        if self.members > FACTORS {
            self.logs.resize(self.classes * pixels, 0.0);
        }
        match self.averaging {
            Averaging::Probabilities => self.gather(plane, scale),
            Averaging::Logits => self.gather_logits(plane, scale),
        }
        let inverse = 1.0 / self.members as f64;
        for x in (0..pixels).filter(|&x| wanted[x] != 0) {
            let (mut label, mut best, mut cross, mut entropy) = (0, f64::NEG_INFINITY, 0.0, 0.0);
            for class in 0..self.classes {
                let p = self.mean[class * pixels + x] * inverse;
                let log = self.product[class * pixels + x].ln() + self.logs.get(class * pixels + x).unwrap_or(&0.0);
                cross -= p * log * inverse;
                entropy -= plogp(p);
                let p = self.pooled.get(class * pixels + x).copied().unwrap_or(p);
                if class > 0 {
                    out.probabilities[(class - 1) * pixels + x] = p.min(1.0) as f32;
                }
                if p > best {
                    (label, best) = (class, p);
                }
            }
            // A class index is below MAX_CLASSES = 64.
            out.labels[x] = label as u8;
            // Rounding, and eps itself, can bring a certain pixel to -1e-8.
            out.uncertainty[x] = cross.max(0.0) as f32;
            out.entropy[x] = entropy.max(0.0) as f32;
        }
    }

    /// The same from logits, and the softmax of the mean logits.
    fn gather_logits<'p>(&mut self, plane: impl Fn(usize, usize) -> &'p [f32], scale: &[f32]) {
        let (pixels, classes) = (scale.len(), self.classes);
        for (plane, start) in [(&mut self.mean, 0.0), (&mut self.product, 1.0), (&mut self.pooled, 0.0)] {
            plane.clear();
            plane.resize(classes * pixels, start);
        }
        let mut own = vec![0.0; classes];
        for member in 0..self.members {
            let planes: Vec<&[f32]> = (0..classes).map(|class| plane(member, class)).collect();
            for x in 0..pixels {
                own.iter_mut().zip(&planes).for_each(|(logit, plane)| *logit = f64::from(plane[x] * scale[x]));
                own.iter().enumerate().for_each(|(class, logit)| self.pooled[class * pixels + x] += logit);
                softmax(&mut own);
                for (class, p) in own.iter().enumerate() {
                    self.mean[class * pixels + x] += p;
                    self.product[class * pixels + x] *= p + EPSILON;
                }
            }
            if (member + 1).is_multiple_of(FACTORS) && member + 1 < self.members {
                close(&mut self.product, &mut self.logs);
            }
        }
        let inverse = 1.0 / self.members as f64;
        for x in 0..pixels {
            own.iter_mut().enumerate().for_each(|(class, mean)| *mean = self.pooled[class * pixels + x] * inverse);
            softmax(&mut own);
            own.iter().enumerate().for_each(|(class, p)| self.pooled[class * pixels + x] = *p);
        }
    }

    /// Sums over members of the probabilities, and their products.
    fn gather<'p>(&mut self, plane: impl Fn(usize, usize) -> &'p [f32], scale: &[f32]) {
        let pixels = scale.len();
        self.mean.clear();
        self.mean.resize(self.classes * pixels, 0.0);
        self.product.clear();
        self.product.resize(self.classes * pixels, 1.0);
        for class in 0..self.classes {
            let mean = &mut self.mean[class * pixels..][..pixels];
            let product = &mut self.product[class * pixels..][..pixels];
            for member in 0..self.members {
                let values = plane(member, class);
                for x in 0..pixels {
                    let p = f64::from(values[x] * scale[x]);
                    mean[x] += p;
                    product[x] *= p + EPSILON;
                }
                if (member + 1).is_multiple_of(FACTORS) && member + 1 < self.members {
                    close(product, &mut self.logs[class * pixels..][..pixels]);
                }
            }
        }
    }
}

/// Begins new products.
fn close(products: &mut [f64], logs: &mut [f64]) {
    for (product, log) in products.iter_mut().zip(logs) {
        *log += product.ln();
        *product = 1.0;
    }
}

/// Softmax of the values of one pixel, in place.
fn softmax(values: &mut [f64]) {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|v| *v = (*v - most).exp());
    let total: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= total);
}

fn plogp(p: f64) -> f64 {
    if p > 0.0 { p * p.ln() } else { 0.0 }
}

/// UGA's uncertainty of probabilities laid out as `[members, classes, pixels]`.
pub fn uncertainty(probabilities: &[f32], members: usize, classes: usize) -> Vec<f32> {
    combine(probabilities, members, classes).0
}

/// Entropy of the mean, `H(pbar)`, of probabilities laid out as `[members, classes, pixels]`.
pub fn predictive_entropy(probabilities: &[f32], members: usize, classes: usize) -> Vec<f32> {
    combine(probabilities, members, classes).1
}

/// Mutual information of prediction and member (BALD, Houlsby et al. 2011): `H(pbar) - mean_m H(p_m)`, of probabilities
/// laid out as `[members, classes, pixels]`.
pub fn mutual_information(probabilities: &[f32], members: usize, classes: usize) -> Vec<f32> {
    let pixels = pixels_of(probabilities, members, classes);
    let mut own = vec![0.0; pixels];
    for plane in probabilities.chunks_exact(pixels.max(1)) {
        for (sum, &p) in own.iter_mut().zip(plane) {
            *sum -= plogp(f64::from(p));
        }
    }
    let total = predictive_entropy(probabilities, members, classes);
    let members = members.max(1) as f64;
    total.iter().zip(own).map(|(&h, o)| (f64::from(h) - o / members).max(0.0) as f32).collect()
}

fn pixels_of(probabilities: &[f32], members: usize, classes: usize) -> usize {
    probabilities.len().checked_div(members * classes).unwrap_or(0)
}

fn combine(probabilities: &[f32], members: usize, classes: usize) -> (Vec<f32>, Vec<f32>) {
    let n = pixels_of(probabilities, members, classes);
    let (mut labels, mut uncertainty, mut entropy) = (vec![0; n], vec![0.0; n], vec![0.0; n]);
    let mut means = vec![0.0; n * classes.saturating_sub(1)];
    let mut out = RowOutput {
        labels: &mut labels,
        uncertainty: &mut uncertainty,
        entropy: &mut entropy,
        probabilities: &mut means,
    };
    let plane = |member: usize, class: usize| &probabilities[(member * classes + class) * n..][..n];
    Combiner::new(members, classes, Averaging::Probabilities).run(plane, &vec![1.0; n], &vec![1; n], &mut out);
    (uncertainty, entropy)
}
