//! Builds the XDP program, so that the `lb` binary carries it.
//!
//! The crate's source finds the object file at `env!("LB_XDP_OBJECT")`. Packagers who build the program apart name it in
//! `LB_XDP_OBJECT_FILE`. With the feature `bench`, `env!("LB_BENCH_OBJECT")` is the object that measures it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use xtask_toolchain::{BENCH, LB, Toolchain, source_files};

fn main() -> ExitCode {
    match objects() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo prints what comes on stderr as it is, under the name of this package.
            eprintln!("\n{error}\n");
            ExitCode::FAILURE
        }
    }
}

fn objects() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-env=LB_XDP_OBJECT={}", object()?.display());
    if env::var_os("CARGO_FEATURE_BENCH").is_some() {
        println!("cargo::rustc-env=LB_BENCH_OBJECT={}", build(BENCH)?.display());
    }
    Ok(())
}

fn object() -> Result<PathBuf, Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=LB_XDP_OBJECT_FILE");
    if let Some(prebuilt) = env::var_os("LB_XDP_OBJECT_FILE") {
        let prebuilt = fs::canonicalize(&prebuilt)
            .map_err(|error| format!("LB_XDP_OBJECT_FILE={}: {error}", prebuilt.display()))?;
        println!("cargo::rerun-if-changed={}", prebuilt.display());
        return Ok(prebuilt);
    }
    build(LB)
}

/// Builds a binary of lb-ebpf and copies it to where nobody overwrites it while rustc reads it.
fn build(binary: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=LB_BPF_LINKER");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    for source in source_files(&workspace) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo set no OUT_DIR")?);
    let built = Toolchain::find()?.build_xdp(&workspace, &xdp_target_dir(&out_dir), binary)?;
    let object = out_dir.join(binary);
    fs::copy(&built, &object)
        .map_err(|error| format!("{} → {}: {error}", built.display(), object.display()))?;
    Ok(object)
}

/// `target/xdp`, so that the program is built once for all profiles; in our own folder where there is no such place.
fn xdp_target_dir(out_dir: &Path) -> PathBuf {
    let target_dir = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target_dir.unwrap_or(out_dir).join("xdp")
}
