//! The one table of limits for everything that comes from outside, each with its reasoning.

/// Longest site or study name: a DNS label, so that it fits a certificate, a path and a Kubernetes name.
pub const MAX_NAME_LEN: usize = 63;
/// Finest spacing: ten times finer than any slide scanner.
pub const MIN_MPP: f64 = 0.01;
/// Coarsest spacing: one pixel a millimetre, coarser than any thumbnail.
pub const MAX_MPP: f64 = 1000.0;
/// Members of an ensemble: five is normal, beyond 32 disagreement gains nothing and transfers hurt.
pub const MAX_MEMBERS: usize = 32;
/// Classes of a task, background included; label maps are 8-bit and 255 means "not labelled".
pub const MAX_CLASSES: usize = 64;
/// Characters of a slide's stage in slides.csv: a word or two, such as `micro` or `pT2a pN1`, that heads a column of a report.
pub const MAX_STAGE_CHARS: usize = 40;
/// Encoder stages: nnU-Net plans at most 9 for 2D patches up to 2048 px.
pub const MAX_STAGES: usize = 12;
/// Features of one stage: nnU-Net caps at 512; room for large residual encoders.
pub const MAX_FEATURES: usize = 4096;
/// Convolutions or residual blocks of one stage: nnU-Net plans at most 6, its larger presets too.
pub const MAX_CONVS: usize = 16;
/// Largest side of a tile or patch, in pixels.
pub const MAX_TILE_PX: u32 = 4096;
/// Sites of one study.
pub const MAX_SITES: usize = 4096;
/// Updates of which a study's status tells, the newest whole rounds: a message of 4 MiB holds many more.
pub const MAX_STATUS_UPDATES: usize = 5_000;
/// Rounds of one study.
pub const MAX_ROUNDS: u32 = 10_000;
/// Patches that one round may ask of one site: far beyond what a pathologist corrects in a day.
pub const MAX_BUDGET: u32 = 10_000;
/// Answers of one network under dropout: more change hardly anything.
pub const MAX_DROPOUT_PASSES: u32 = 64;
/// Bytes of a plan or manifest document: text of a few kilobytes in practice.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Bytes of the plans of an nnU-Net: a list of some ten thousand training cases is in them.
pub const MAX_PLANS_BYTES: u64 = 64 << 20;
/// Bytes of one blob: one member of the largest published 2D nnU-Net is about 0.6 GB.
pub const MAX_BLOB_BYTES: u64 = 16 << 30;
/// Bytes of one transfer chunk: gRPC messages stay far below the usual 4 MiB ceiling.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of the header of a safetensors file; the format's own limit is 100 MB, ours needs 100 bytes a tensor.
pub const MAX_TENSOR_HEADER_BYTES: u64 = 8 << 20;
/// Tensors of one member file.
pub const MAX_TENSORS: usize = 10_000;
/// Largest weight that a site may ask for: a million patches.
pub const MAX_UPDATE_WEIGHT: f64 = 1e6;
/// Largest absolute value of a weight or a delta; anything beyond is a diverged training.
pub const MAX_ABS_WEIGHT: f32 = 1e6;
/// Seconds for which the coordinator holds a long poll before it answers "wait".
pub const LONG_POLL_S: u64 = 30;
/// Characters of a reason or a message that people read.
pub const MAX_REASON_LEN: usize = 500;
/// Pixels of a flat (not tiled) image that is decoded whole: 16k x 16k.
pub const MAX_FLAT_IMAGE_PX: u64 = 1 << 28;
/// Level-0 side of a slide in pixels: four times the largest scanner output.
pub const MAX_SLIDE_SIDE_PX: u32 = 1 << 20;
/// Side of a TIFF tile in pixels; scanners use 240 to 1024.
pub const MAX_TIFF_TILE_PX: u32 = 4096;
/// Tiles of a slide, all levels and planes together: the largest slide in tiles of 256 px, 256 MiB of positions.
pub const MAX_SLIDE_TILES: u64 = 1 << 24;
/// Bytes of a TIFF description: Bio-Formats writes several MiB of OME-XML for stacks of thousands of planes.
pub const MAX_TIFF_DESCRIPTION_BYTES: usize = 16 << 20;
/// Tiles of a slide that may be damaged: a thousand of 256 px are 4 mm2 at 0.25 um/px; beyond, the copy is bad.
pub const MAX_SLIDE_HOLES: usize = 1000;
/// Levels of a slide pyramid.
pub const MAX_LEVELS: usize = 64;
/// Bytes of a DICOM instance before its pixels: a million frames with functional groups of 250 bytes each.
pub const MAX_DICOM_HEADER_BYTES: u64 = 256 << 20;
/// Bytes of one value that is read from a DICOM header: identifiers and numbers, 64 bytes at most by the standard.
pub const MAX_DICOM_VALUE_BYTES: u64 = 1024;
/// Depth of sequences inside each other in a DICOM header; slides use four.
pub const MAX_DICOM_DEPTH: usize = 16;
/// Frames of one DICOM instance: a slide of 500,000 x 500,000 px in tiles of 256 px.
pub const MAX_DICOM_FRAMES: u64 = 1 << 22;
/// DICOM instances of one slide, each an open file: ten levels in twenty parts each.
pub const MAX_DICOM_INSTANCES: usize = 256;
/// Entries of a folder that are looked at: a hospital's whole archive in one folder is a mistake.
pub const MAX_FOLDER_ENTRIES: usize = 100_000;
/// Bytes of one decoded Zarr chunk: 4096 x 4096 RGB pixels.
pub const MAX_CHUNK_BYTES: u64 = 48 << 20;
/// Dimensions of a Zarr array; OME-Zarr has five.
pub const MAX_ZARR_DIMENSIONS: usize = 8;
/// Pixels of a tissue mask: a whole glass slide of 75 x 25 mm at 8 um/px is 29 million.
pub const MAX_TISSUE_MASK_PX: u64 = 1 << 25;
/// Bytes of a GeoJSON file: the outlines of a million cells are about 200 MB.
pub const MAX_GEOJSON_BYTES: u64 = 256 << 20;
/// Objects of a GeoJSON file, features and geometries counted: a million outlined cells are rare.
pub const MAX_GEOJSON_OBJECTS: usize = 4_000_000;
/// Points of all outlines of a GeoJSON file: 160 MB in memory.
pub const MAX_GEOJSON_POINTS: usize = 10_000_000;
/// Mask pixels and crossings looked at while outlines are filled: some ten seconds, and 60 times a whole glass slide.
pub const MAX_OUTLINE_WORK: u64 = 1 << 31;
/// Bytes of one pickle (the structure of a checkpoint, without its tensors): nnU-Net's are below 10 MB.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Values that wait on a pickle's stack at once: picklers write lists in parts of a thousand, tuples whole.
pub const MAX_PICKLE_STACK: usize = 1 << 20;
/// Bytes of memory for the values, texts, arrays and memo of one pickle: millions of numbers, far beyond any plans file.
pub const MAX_PICKLE_MEMORY: usize = 256 << 20;
/// Depth of values inside each other in a pickle; nnU-Net's settings use ten.
pub const MAX_PICKLE_DEPTH: usize = 64;
/// Entries of a checkpoint's archive: weights and two optimiser states of ten thousand tensors, and room for aliases.
pub const MAX_CHECKPOINT_ENTRIES: u64 = 100_000;
/// Bytes of the directory of a checkpoint's archive: some 100 an entry.
pub const MAX_CHECKPOINT_DIRECTORY_BYTES: u64 = 16 << 20;
/// Dimensions of a stored tensor or array; a convolution's weights have five at most.
pub const MAX_TENSOR_DIMENSIONS: usize = 8;
/// Elements of one tensor that are read: 1 GiB as 32-bit numbers, a hundred times the largest layer of nnU-Net.
pub const MAX_TENSOR_ELEMENTS: usize = 1 << 28;
