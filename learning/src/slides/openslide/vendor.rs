//! Which files are read through OpenSlide: vendor formats that are recognised here, and files that no reader of ours
//! takes and OpenSlide knows.
//!
//! Some vendors' slides are TIFF files that a plain TIFF reader would misread: their tiles overlap or lie elsewhere than
//! in a TIFF, or the spacing is in a document of the vendor's own. They are told by tags of their first image. A MIRAX
//! slide is a folder beside a JPEG, which is never read as one.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use consilium_common::limits;

use super::library;
use crate::native::LibraryError;
use crate::slides::{SlideError, file};

const MIRAX: &str = "3DHISTECH MIRAX";
/// Entries of one list of tags; the longest of real slides has about 60.
const MAX_TAGS: u64 = 4096;
/// Endings of formats that only OpenSlide reads, for what is said when it is missing.
const ENDINGS: [(&str, &str); 8] = [
    ("ndpi", "Hamamatsu NDPI"),
    ("vms", "Hamamatsu VMS"),
    ("vmu", "Hamamatsu VMU"),
    ("mrxs", MIRAX),
    ("scn", "Leica SCN"),
    ("bif", "Ventana BIF"),
    ("czi", "Zeiss CZI"),
    ("svslide", "Sakura"),
];

/// A slide through OpenSlide where its format asks for that, else what `own` makes of it, else through OpenSlide if that
/// knows what `own` refused.
///
/// # Errors
/// What `own` says; or that the format needs OpenSlide and why that cannot be used.
pub(in crate::slides) fn open_or<T>(
    path: &Path,
    own: impl FnOnce() -> Result<T, SlideError>,
    through: impl FnOnce() -> Result<T, SlideError>,
) -> Result<T, SlideError> {
    file::refuse_device(path)?;
    if vendor_file(path).is_some() {
        return through();
    }
    let refusal = match own() {
        Err(refusal) if may_help(&refusal) => refusal,
        decided => return decided,
    };
    match library::loaded() {
        Ok(loaded) if loaded.api.vendor(&super::c_path(path)?).is_some_and(|vendor| !is_ours(&vendor)) => through(),
        Ok(_) => Err(refusal),
        Err(why) => Err(without(path, refusal, why)),
    }
}

/// Formats of which we read all that is sound: what we refuse there, OpenSlide opens without a look and fails later.
fn is_ours(vendor: &str) -> bool {
    matches!(vendor, "generic-tiff" | "dicom")
}

/// What is said of a refused file where OpenSlide cannot be used: the refusal alone, unless the file's ending says that
/// OpenSlide would help.
pub(super) fn without(path: &Path, refusal: SlideError, why: LibraryError) -> SlideError {
    let Some(vendor) = ending(path) else { return refusal };
    let refusal = format!("{refusal}; OpenSlide reads {vendor} slides");
    SlideError::NeedsOpenSlide { refusal, why: Box::new(why) }
}

/// Whether OpenSlide may read what was refused: an unknown format or coding, not a damaged file.
fn may_help(refusal: &SlideError) -> bool {
    matches!(refusal, SlideError::UnknownFormat { .. } | SlideError::Unsupported { .. } | SlideError::Striped { .. })
}

fn ending(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| ending == **known).map(|(_, vendor)| *vendor)
}

/// The vendor of a file that must not be read as what its first bytes are.
pub(super) fn vendor_file(path: &Path) -> Option<&'static str> {
    let file = File::open(path).ok()?;
    if ending(path) == Some(MIRAX) {
        // The file itself is a JPEG of the glass, label and all; the slide is in the folder.
        return Some(MIRAX);
    }
    // No TIFF has no such tags; the ending still says what the file should be.
    let tags = FirstTags::read(BufReader::new(file)).unwrap_or_default();
    let starts = |text: &[u8], with: &str| text.starts_with(with.as_bytes());
    let holds = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
    if tags.hamamatsu || ending(path) == Some("Hamamatsu NDPI") {
        Some("Hamamatsu NDPI")
    } else if holds(&tags.description, "http://www.leica-microsystems.com/scn/") {
        Some("Leica SCN")
    } else if holds(&tags.xmp, "<iScan") || holds(&tags.xmp, "<EncodeInfo") {
        Some("Ventana BIF")
    } else if starts(&tags.software, "Philips") && holds(&tags.description, "DPUfsImport") {
        Some("Philips TIFF")
    } else if starts(&tags.software, "MedScan") {
        Some("Trestle TIFF")
    } else {
        None
    }
}

/// Refuses a MIRAX slide whose file was copied without its folder.
pub(super) fn check_parts(path: &Path) -> Result<(), SlideError> {
    let folder = path.with_extension("");
    if ending(path) != Some(MIRAX) || !path.is_file() || folder.join("Slidedat.ini").is_file() {
        return Ok(());
    }
    let name = folder.file_name().unwrap_or_default().display();
    Err(SlideError::damaged(path, format!("its folder {name}/ with Slidedat.ini is missing: copy it beside the file")))
}

/// The tags of a TIFF's first image that name its vendor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FirstTags {
    /// Tag 65420 is there: Hamamatsu's, whose offsets are not those of TIFF either.
    hamamatsu: bool,
    description: Vec<u8>,
    software: Vec<u8>,
    xmp: Vec<u8>,
}

impl FirstTags {
    /// Reads classic TIFF and BigTIFF of either byte order; no text longer than [`limits::MAX_DOCUMENT_BYTES`].
    pub(super) fn read<R: Read + Seek>(mut file: R) -> io::Result<Self> {
        let mut order = [0; 4];
        file.read_exact(&mut order)?;
        let (little, big) = match &order {
            b"II*\0" => (true, false),
            b"MM\0*" => (false, false),
            b"II+\0" => (true, true),
            b"MM\0+" => (false, true),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut input = Numbers { file, little };
        if big {
            // Width of offsets, which is 8, and a zero.
            input.number(4)?;
        }
        let list = input.number(if big { 8 } else { 4 })?;
        input.file.seek(SeekFrom::Start(list))?;
        let entries = input.number(if big { 8 } else { 2 })?.min(MAX_TAGS);
        let (width, count_bytes) = if big { (20, 8) } else { (12, 4) };
        let mut table = vec![0; entries as usize * width];
        input.file.read_exact(&mut table)?;
        let mut tags = Self::default();
        for entry in table.chunks_exact(width) {
            let count = input.value(&entry[4..4 + count_bytes]);
            let field = &entry[4 + count_bytes..];
            match input.value(&entry[..2]) {
                270 => tags.description = input.text(count, field)?,
                305 => tags.software = input.text(count, field)?,
                700 => tags.xmp = input.text(count, field)?,
                65420 => tags.hamamatsu = true,
                _ => {}
            }
        }
        Ok(tags)
    }
}

/// A file of numbers in one byte order.
struct Numbers<R> {
    file: R,
    little: bool,
}

impl<R: Read + Seek> Numbers<R> {
    fn value(&self, bytes: &[u8]) -> u64 {
        let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) }
    }

    fn number(&mut self, bytes: usize) -> io::Result<u64> {
        let mut buffer = [0; 8];
        self.file.read_exact(&mut buffer[..bytes])?;
        Ok(self.value(&buffer[..bytes]))
    }

    /// A text of `count` bytes, in the field itself if it fits there. What is absurdly long is no text.
    fn text(&mut self, count: u64, field: &[u8]) -> io::Result<Vec<u8>> {
        if count > limits::MAX_DOCUMENT_BYTES as u64 {
            return Ok(Vec::new());
        }
        let count = count as usize;
        if let Some(text) = field.get(..count) {
            return Ok(text.to_vec());
        }
        let mut text = vec![0; count];
        self.file.seek(SeekFrom::Start(self.value(field)))?;
        self.file.read_exact(&mut text)?;
        Ok(text)
    }
}
