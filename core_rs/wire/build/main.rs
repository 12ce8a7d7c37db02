//! Owns what is made from the protos at build time: the message types, and the checks of the rules
//! that are declared on request fields.
//!
//! Must not hold a rule of its own: the declaration in the proto is the only source, and a rule
//! that is not understood here stops the build. Next: `rules.rs`, `emit.rs`.

mod emit;
mod pattern;
mod rules;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files that declare services; everything else comes along as an import.
const SERVICE_FILES: [&str; 4] = [
    "lastunit/stock/v1/stock_service.proto",
    "lastunit/stock/v1/stock_admin_service.proto",
    "lastunit/stock/v1/journal_service.proto",
    "lastunit/stock/v1/rehearsal_service.proto",
];

/// Whose services the native front serves, or lets another answer.
const REFLECTED_FOLDERS: [&str; 2] = ["lastunit/stock/v1", "lastunit/admission/v1"];

fn main() -> Result<(), Box<dyn Error>> {
    let proto_root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed={}", proto_root.display());
    println!("cargo:rerun-if-changed=build");

    let mut compiler = protox::Compiler::new([&proto_root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(SERVICE_FILES)?;

    // Tests walk the declaration itself, so that a new field cannot go untested.
    fs::write(
        out.join("contract.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let reflected = out.join("reflection.bin");
    fs::write(reflected, reflected_files(&proto_root)?)?;
    let checks = emit::emit_checks(&compiler.descriptor_pool(), "lastunit.stock.v1")?;
    fs::write(out.join("checks.rs"), checks)?;

    // Ordered maps: the same message must always give the same bytes.
    prost_build::Config::new()
        .btree_map(["."])
        .out_dir(&out)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The files that reflection shows, with their imports and without their comments.
fn reflected_files(proto_root: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([proto_root])?;
    compiler.include_imports(true);
    for folder in REFLECTED_FOLDERS {
        let mut files = Vec::new();
        for entry in fs::read_dir(proto_root.join(folder))? {
            files.push(Path::new(folder).join(entry?.file_name()));
        }
        // The order of a folder is the machine's; what is built must not depend on it.
        files.sort();
        compiler.open_files(files)?;
    }
    Ok(compiler.encode_file_descriptor_set())
}
