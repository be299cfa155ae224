//! Member and delta files in the blob folder: checked against an architecture, read in bands.
//!
//! A band is a range of elements counted over all tensors in the architecture's order. How a file lays its tensors out
//! does not matter to the reader; memory is that of one band, whatever the file's size.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use consilium_common::aggregation::check_finite;
use consilium_common::plan::TensorShape;
use consilium_common::{Invalid, tensors};

use crate::error::{Result, While};

/// Elements of a band: 4 MiB of float32.
pub(crate) const BAND: usize = 1 << 20;

/// A file whose header fits the architecture.
#[derive(Clone, Debug)]
pub(crate) struct MemberReader {
    path: PathBuf,
    /// Runs of elements that follow each other in the file: first element, number of elements, offset in the file.
    runs: Vec<(usize, usize, u64)>,
    elements: usize,
}

impl MemberReader {
    /// Reads the header and checks names, shapes, types and layout.
    pub(crate) fn open(path: &Path, expected: &[TensorShape]) -> Result<Self> {
        let doing = || format!("reading {}", path.display());
        let mut file = File::open(path).doing(doing)?;
        let len = file.metadata().doing(doing)?.len();
        if len < 8 {
            return Err(Invalid::new("member file", format!("is only {len} bytes long")).into());
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).doing(doing)?;
        let header_len = tensors::header_len(prefix)?;
        if header_len as u64 > len - 8 {
            return Err(Invalid::new("member file", "its header is longer than the file; it is cut off").into());
        }
        let mut header = vec![0; header_len];
        file.read_exact(&mut header).doing(doing)?;
        let spans = tensors::parse_header(&header, len, expected)?;
        let (mut runs, mut elements) = (Vec::<(usize, usize, u64)>::new(), 0);
        for span in &spans {
            match runs.last_mut() {
                Some((_, count, offset)) if *offset + 4 * *count as u64 == span.offset => *count += span.elements,
                _ => runs.push((elements, span.elements, span.offset)),
            }
            elements += span.elements;
        }
        Ok(Self { path: path.to_owned(), runs, elements })
    }

    /// Elements of all tensors together.
    pub(crate) fn elements(&self) -> usize {
        self.elements
    }

    /// Reads a band. The file is open only meanwhile, so that any number of sites needs few handles.
    pub(crate) fn read(&self, band: Range<usize>, buffer: &mut Vec<f32>) -> Result<()> {
        let doing = || format!("reading {}", self.path.display());
        let file = File::open(&self.path).doing(doing)?;
        buffer.resize(band.len(), 0.0);
        for &(first, count, offset) in &self.runs {
            let (begin, end) = (first.max(band.start), (first + count).min(band.end));
            if begin < end {
                let part = &mut buffer[begin - band.start..end - band.start];
                let at = offset + 4 * (begin - first) as u64;
                file.read_exact_at(bytemuck::cast_slice_mut(part), at).doing(doing)?;
            }
        }
        // Safetensors are little-endian; on such machines this does nothing.
        for value in buffer.iter_mut() {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
        Ok(())
    }

    /// The bands of a file of this many elements.
    pub(crate) fn bands(elements: usize) -> impl Iterator<Item = Range<usize>> {
        (0..elements).step_by(BAND).map(move |begin| begin..(begin + BAND).min(elements))
    }

    /// Checks every value.
    pub(crate) fn check_values(&self) -> Result<()> {
        let mut buffer = Vec::new();
        for band in Self::bands(self.elements) {
            self.read(band, &mut buffer)?;
            check_finite(&buffer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use consilium_common::plan::Architecture;

    use super::*;

    #[test]
    fn a_shuffled_layout_reads_the_same() {
        let expected = Architecture::plain(2, 4, 2).tensors();
        let mut shuffled = expected.clone();
        shuffled.reverse();
        let dir = tempfile::tempdir().unwrap();
        let value = |name: &str, i: usize| (name.len() * 1000 + i) as f32;
        let write = |tensors: &[TensorShape], name: &str| {
            let mut bytes = tensors::write_header(tensors);
            for t in tensors {
                bytes.extend((0..t.elements()).flat_map(|i| value(&t.name, i).to_le_bytes()));
            }
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            MemberReader::open(&path, &expected).unwrap()
        };
        let (a, b) = (write(&expected, "a"), write(&shuffled, "b"));
        assert_eq!(a.runs.len(), 1);
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for range in [0..a.elements(), 7..a.elements() - 3, 100..101] {
            a.read(range.clone(), &mut x).unwrap();
            b.read(range, &mut y).unwrap();
            assert_eq!(x, y);
        }
        assert!(a.check_values().is_ok());
    }

    #[test]
    fn not_a_number_and_torn_files_are_refused() {
        let expected = Architecture::plain(2, 4, 2).tensors();
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = tensors::write_header(&expected);
        bytes.resize(usize::try_from(tensors::file_len(&expected)).unwrap() - 4, 0);
        bytes.extend(f32::NAN.to_le_bytes());
        let path = dir.path().join("nan");
        std::fs::write(&path, &bytes).unwrap();
        let error = MemberReader::open(&path, &expected).unwrap().check_values().unwrap_err();
        assert!(error.to_string().contains("not finite"), "{error}");
        for len in [0, 5, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(MemberReader::open(&path, &expected).is_err(), "{len} bytes");
        }
    }
}
