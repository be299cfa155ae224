//! `slides.csv`: what a site says about its slides. Comma or semicolon, any further columns.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use consilium_common::{Mpp, limits};

use super::{DatasetError, Problem, Split, find};

/// What the table says about one slide.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) mpp: Option<Mpp>,
    pub(super) split: Option<Split>,
    pub(super) stage: Option<String>,
}

/// The table of one data folder.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<String, Row>,
    pub(super) problems: Vec<Problem>,
}

impl Table {
    /// The folder's own table, else its parent's for this folder's name, else an empty one.
    pub(super) fn of(root: &Path) -> Result<Self, DatasetError> {
        let own = root.join("slides.csv");
        if let Some(text) = read(&own)? {
            return Self::parse(&own, &text, None);
        }
        // `.` and `..` have no name of their own.
        let Ok(full) = root.canonicalize() else { return Ok(Self::default()) };
        let (Some(parent), Some(site)) = (full.parent(), full.file_name().and_then(|n| n.to_str())) else {
            return Ok(Self::default());
        };
        let shared = parent.join("slides.csv");
        match read(&shared)? {
            Some(text) => Self::parse(&shared, &text, Some(site)),
            None => Ok(Self::default()),
        }
    }

    fn parse(path: &Path, text: &str, site: Option<&str>) -> Result<Self, DatasetError> {
        let bad = |why: String| DatasetError::Table { path: path.to_owned(), why };
        let first = text.lines().next().unwrap_or_default();
        let delimiter = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let headers = reader.headers().map_err(|e| bad(e.to_string()))?.clone();
        let column = |name: &str| headers.iter().position(|h| h.eq_ignore_ascii_case(name));
        let mut table = Self::default();
        if site.is_some() && column("site").is_none() {
            // A table in the parent folder that is not about sites is about something else.
            return Ok(table);
        }
        let slide_column = column("slide").ok_or_else(|| bad("it has no column `slide`".to_owned()))?;
        for record in reader.records() {
            let record = record.map_err(|e| bad(e.to_string()))?;
            let field = |column: Option<usize>| column.and_then(|c| record.get(c)).filter(|text| !text.is_empty());
            if site.is_some_and(|site| field(column("site")) != Some(site)) {
                continue;
            }
            let Some(slide) = field(Some(slide_column)) else { continue };
            let slide = without_ending(slide).to_owned();
            let row = row(field(column("mpp")), field(column("split")), field(column("stage")));
            if table.rows.contains_key(&slide) {
                let why = "slides.csv names this slide twice; keep one line".to_owned();
                table.problems.push(Problem { slide, why });
                continue;
            }
            match row {
                Ok(row) => drop(table.rows.insert(slide, row)),
                Err(why) => table.problems.push(Problem { slide, why }),
            }
        }
        Ok(table)
    }
}

fn read(path: &Path) -> Result<Option<String>, DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
        Ok(about) if about.len() > limits::MAX_DOCUMENT_BYTES as u64 => {
            let why = format!("it has {} bytes, more than a table may have", about.len());
            return Err(DatasetError::Table { path: path.to_owned(), why });
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn row(mpp: Option<&str>, split: Option<&str>, stage: Option<&str>) -> Result<Row, String> {
    let mpp = mpp.map(parse_mpp).transpose()?;
    let split = match split.map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("train") => Some(Split::Train),
        Some("pool") => Some(Split::Pool),
        Some("test") => Some(Split::Test),
        Some(other) => return Err(format!("slides.csv gives it the split `{other}`; use train, pool or test")),
    };
    let stage = stage.map(parse_stage).transpose()?;
    Ok(Row { mpp, split, stage })
}

fn parse_stage(text: &str) -> Result<String, String> {
    let most = limits::MAX_STAGE_CHARS;
    if text.chars().count() <= most && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "slides.csv gives it a stage that is no word or two; use up to {most} characters on one line, such as micro"
    ))
}

fn parse_mpp(text: &str) -> Result<Mpp, String> {
    // Spreadsheets of some languages write a decimal comma.
    let number = text.replace(',', ".").parse::<f64>().ok();
    number.and_then(|um| Mpp::new(um).ok()).ok_or_else(|| {
        format!("slides.csv gives it the mpp `{text}`; use micrometres per pixel between 0.01 and 1000, such as 0.25")
    })
}

/// People write NAME or NAME.svs.
fn without_ending(slide: &str) -> &str {
    match slide.rsplit_once('.') {
        Some((name, ending)) if ending.eq_ignore_ascii_case("zarr") => name.strip_suffix(".ome").unwrap_or(name),
        Some((name, ending)) if find::is_ending(ending) => name,
        _ => slide,
    }
}
