//! Compiles the .proto files with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["federation", "transfer", "operator"].map(|name| format!("proto/consilium/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    // bytes::Bytes for chunk data: a chunk is passed on without a copy.
    tonic_prost_build::configure()
        .bytes(".consilium.v1.DownloadResponse.data")
        .bytes(".consilium.v1.UploadRequest.data")
        .compile_fds(descriptors)?;
    Ok(())
}
