//! Lets programs that are built with the feature `libtorch` find its libraries: in the folder `libtorch` beside the
//! program, and where they were when it was built. The other crates with programs build with this file too.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if std::env::var_os("CARGO_FEATURE_LIBTORCH").is_none() || !linux {
        return;
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/libtorch/lib");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
