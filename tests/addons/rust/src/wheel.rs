//! Wheels: zip archives whose files belong on Python's path (PyPA, "Binary distribution format").

use std::io::Cursor;

use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::FileKind;
use zip::ZipArchive;

/// A wheel is read whole: its table of contents is at its end.
const LARGEST: u64 = 64 << 20;

/// A wheel in the context.
pub struct Wheel {
    path: String,
}

/// The wheels of a directory, by name; none if there is no such directory.
pub fn find(context: &Tree, directory: &str) -> Result<Vec<Wheel>> {
    if context.stat(directory, true)?.is_none() {
        return Ok(Vec::new());
    }
    let mut wheels = Vec::new();
    for file in context.entries(directory)? {
        let path = format!("{directory}/{}", file.path);
        if file.kind != FileKind::Regular || !path.ends_with(".whl") {
            warn!("{path} is no wheel and is left out");
        } else if path.ends_with("-none-any.whl") {
            wheels.push(Wheel { path });
        } else {
            let message = format!("{path} is for one kind of machine, and only wheels for any are taken");
            return Err(
                Error::unsupported(message).hint("get it with `pip download --platform any --only-binary :all:`")
            );
        }
    }
    wheels.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(wheels)
}

impl Wheel {
    /// The name of the file.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Its files as a tree.
    pub fn unpack(&self, context: &Tree) -> Result<Tree> {
        let wrong = |error: zip::result::ZipError| Error::invalid_input(format!("{} is no wheel: {error}", self.path));
        let mut archive = ZipArchive::new(Cursor::new(context.read_file(&self.path, LARGEST)?)).map_err(wrong)?;
        let mut layer = LayerWriter::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).map_err(wrong)?;
            if file.is_dir() {
                continue;
            }
            let mode = if file.unix_mode().unwrap_or(0) & 0o111 == 0 { 0o644 } else { 0o755 };
            let (name, size) = (file.name().to_owned(), file.size());
            layer.file_from(&name, mode, size, &mut file)?;
        }
        layer.finish()
    }
}
